import os, pathlib
from oathbound.report.page import render
from oathbound.core.canonical import digest
def test_dump(passed, refused, undecided):
    out = pathlib.Path(os.environ["DUMP"])
    for n, v in [("passed", passed), ("refused", refused), ("undecided", undecided)]:
        (out / f"{n}.html").write_text(render(v, bundle_digest=digest(n.encode())), encoding="utf-8")
