"""`verify` needs no extension: what a test measures stands in the policy, which every site signed."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from oathbound.core.canonical import digest
from oathbound.core.errors import NotAcceptable
from oathbound.core.finding import Auc, Finding, Measured, Threat, audit_seed
from oathbound.evidence.verify import verify
from oathbound.testing.consortium import NOW, Consortium

TEST, SCORE = "neighbourhood", "near"
EXTENSION = {
    "group": "audits",
    "name": TEST,
    "distribution": "not-installed-here",
    "version": "1.0",
    "digest": digest(b"code"),
    "measures": {"auc": [SCORE]},
}
VERIFY = (sys.executable, "-m", "oathbound.cli", "verify")
GATES = [{"test": TEST, "metric": "auc", "at_most": "0.6"}]


def audited(**changes) -> Consortium:
    """Return a consortium whose sites ran the membership test, and an extension's."""
    consortium = Consortium.of(extensions=[EXTENSION], gates=GATES)
    consortium.swear().admit().start().train().make().audit()
    auc = Auc(
        kind="auc",
        score=changes.pop("score", SCORE),
        estimate=Decimal("0.5"),
        standard_error=Decimal("0.015"),
        members=500,
        held_out=215,
    )
    for site in consortium.sites:
        model = consortium.found[site][0].finding.model
        facts = {"policy": consortium.policy.digest, "model": model, "test": TEST, "site": site}
        finding = Finding(
            test=TEST,
            version=changes.get("version", 1),
            site=site,
            model=model,
            seed=audit_seed(nonce=consortium.nonce(site), **facts),
            threat=Threat(sees="everything", knows="everything"),
            outcome=Measured(kind="measured", measures=(auc,), tokens=0),
        )
        last = consortium.found[site][0]
        found = last.model_copy(update={"finding": finding})
        consortium.found[site].append(found)
        consortium.say(found)
    return consortium


def test_a_bundle_whose_test_an_extension_brought(tmp_path: Path):
    consortium = audited().decide()
    trust = "".join(
        f'[[party]]\nname = "{party.name}"\nfingerprint = "{party.fingerprint}"\n'
        for party in consortium.trust().party
    )
    (tmp_path / "trust.toml").write_text('format = "oathbound/trust/v1"\n' + trust)
    (tmp_path / "a.oath").write_bytes(consortium.bundle())
    ran = subprocess.run(
        [*VERIFY, tmp_path / "a.oath", "--trust", tmp_path / "trust.toml", "--at", "2027-06-01"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"{TEST} auc {SCORE}" in ran.stdout


@pytest.mark.parametrize("change", [{"score": "loss"}, {"version": 2}])
def test_a_finding_that_is_not_what_the_policy_says_it_measures(change):
    consortium = audited(**change).decide()
    with pytest.raises(NotAcceptable, match="not all that the test measures") as caught:
        verify(consortium.bundle(), consortium.trust(), at=NOW + 1000)
    assert caught.value.step == 13
