"""What the page on scans shows is a policy, and its numbers are those of the code."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from string import Template

import pytest

from oathbound.core.errors import WrongInput
from oathbound.core.shape import Recordings, ScanNet
from oathbound.core.study import Policy
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "scans.md").read_text()


def shown():
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    return tomllib.loads(block)["policy"]


def test_what_is_shown_is_a_policy():
    secrets = [Secret.generate(name) for name in ("coordinator", "north", "east")]
    gates = [{"test": "membership", "metric": "auc", "at_most": "0.55"}]
    audit = {"alpha": "0.05", "minimum_patients": 20}
    policy = policy_for(secrets, vocabulary=None, audit=audit, gates=gates, **shown())
    assert isinstance(policy.model, ScanNet)
    assert isinstance(policy.seen, Recordings)


@pytest.mark.parametrize("left", ["", "[policy.audit.sensitive]", "[policy.vocabulary]"])
def test_the_template_becomes_a_policy_on_scans_when_what_the_page_names_is_gone(left):
    text = (files("oathbound.workflow") / "templates" / "study.toml").read_text()
    sites = "".join(
        f'[[policy.sites]]\nname = "{name}"\nfingerprint = "sha256:{number:064}"\n\n'
        for number, name in enumerate(("north", "east", "south"), start=1)
    )
    text = Template(text).substitute(
        study="study", coordinator="sha256:" + 64 * "0", sites=sites, folder="sites"
    )
    for start, end in (
        ("[policy.vocabulary]", "[policy.training]"),
        ("[policy.audit.sensitive]", "[[policy.gates]]"),
    ):
        if start != left:
            text = text[: text.index(start)] + text[text.index(end) :]
    policy = tomllib.loads(text)["policy"]
    policy["gates"] = [gate for gate in policy["gates"] if gate["test"] == "membership"]
    policy |= shown()
    if left:
        with pytest.raises(WrongInput):
            Policy.parse(policy, what="policy")
    else:
        assert isinstance(Policy.parse(policy, what="policy").seen, Recordings)


def test_networks_are_as_large_as_the_page_says():
    seen = Recordings.parse(shown()["recordings"], what="recordings")
    said = re.findall(r"\[([0-9, ]+)\]`\s+(?:are )?([0-9,]+)(?: weights)?", PAGE.replace("widths = ", ""))
    sizes = {tuple(map(int, widths.split(","))): int(weights.replace(",", "")) for widths, weights in said}
    assert len(sizes) == 3
    for widths, weights in sizes.items():
        assert ScanNet(name="scan-net", widths=widths, seed=1).weights(seen) == weights
