"""The specification's numbered steps, the code's comments and the names of tests are the same list."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def steps_of(pattern, *paths):
    return {step for path in paths for step in re.findall(pattern, path.read_text())}


def test_every_step_is_in_the_code_and_has_a_test():
    specified = steps_of(r"(?m)^- ([A-Z]\d+)\. ", ROOT / "spec/secure-sum.md")
    code = steps_of(r"# ([A-Z]\d+)\b", *(ROOT / "src/oathbound/train/secure_sum").glob("*.py"))
    names = steps_of(r"def test_(\w+)\(", *Path(__file__).parent.glob("*.py"))
    tested = {step.upper() for name in names for step in re.findall(r"(?:^|_)([ksaoc]\d+)(?=_)", name)}
    assert len(specified) == 9 + 8 + 8 + 12 + 7
    assert code == specified
    assert tested >= specified
