"""What the page on scans shows is a policy, and its numbers are those of the code."""

import re
import tomllib
from pathlib import Path

from oathbound.core.shape import Recordings, ScanNet
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


def test_networks_are_as_large_as_the_page_says():
    seen = Recordings.parse(shown()["recordings"], what="recordings")
    said = re.findall(r"\[([0-9, ]+)\]`\s+(?:are )?([0-9,]+)(?: weights)?", PAGE.replace("widths = ", ""))
    sizes = {tuple(map(int, widths.split(","))): int(weights.replace(",", "")) for widths, weights in said}
    assert len(sizes) == 3
    for widths, weights in sizes.items():
        assert ScanNet(name="scan-net", widths=widths, seed=1).weights(seen) == weights
