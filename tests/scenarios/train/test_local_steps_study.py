"""A study with local steps, of three invented hospitals: trained, killed, resumed, released and verified."""

import re
from itertools import count

import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.core.claims import Verdict
from oathbound.core.event import Unbounded
from oathbound.data.store import SiteStore
from oathbound.evidence.trust import Trust
from oathbound.workflow.admit import admit_site
from oathbound.workflow.audit import audit_site
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.init import init_example
from oathbound.workflow.oath import swear
from oathbound.workflow.release import release
from oathbound.workflow.report import write_report
from oathbound.workflow.train import train

NOW = 1_800_000_000
SITES = ("north", "east", "south")
PLAIN = (
    ('privacy = "patient-dp"', 'privacy = "none"'),
    (r"(?s)\n\[policy\.budget\].*?\n\n", "\n"),
    (r"(?s)\[policy\.audit\.sensitive\].*?\n\n", ""),
    (r'(?s)\[\[policy\.gates\]\][^\[]*"sensitive-disclosure".*?\n\n', ""),
    (r"\nsteps = 60", "\nsteps = 6"),
    (r"\nattempts = 64", "\nattempts = 8"),
    (r"\nround_steps = 30", "\nround_steps = 4"),
)
LOCAL = (
    (r'learning_rate = "0.01"', 'learning_rate = "1"'),
    (r"\nwarmup = 5", "\nwarmup = 0"),
    (
        r"\[policy\.audit\]",
        '[policy.training.local]\nalgorithm = "fedavg"\nsteps = 3\nlearning_rate = "0.5"\n\n[policy.audit]',
    ),
)


def study_of(folder, *changes):
    """Return an example study with changes to its file, which every site has sworn to and admitted for."""
    init_example(folder, now=NOW)
    text = (folder / "study.toml").read_text()
    for old, new in changes:
        text, times = re.subn(old, new, text)
        assert times == 1, old
    (folder / "study.toml").write_text(text)
    study = StudyFolder.open(folder)
    for site in SITES:
        swear(study, site)
        admit_site(study, site, now=NOW)
    return study


def charged(study):
    counts = set()
    for site in SITES:
        with SiteStore.open(study.site(site).state) as store:
            counts.add((store.charged(study.policy.study).count, store.charged(study.policy.study).highest))
    return counts


def test_it_is_killed_and_goes_on_and_is_unbounded_everywhere(tmp_path):
    study, clock, said = study_of(tmp_path / "study", *PLAIN, *LOCAL), count(NOW), []

    def die_after_two(done, _total, words):
        said.append(words)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(study, clock=lambda: next(clock), watch=die_after_two)
    assert charged(study) == {(2, 2)}
    trained = train(study, clock=lambda: next(clock), watch=lambda _done, _total, words: said.append(words))
    assert (trained.steps, trained.attempts, trained.epsilon) == (6, 6, None)
    assert charged(study) == {(6, 6)}
    losses = [
        float(re.fullmatch(r"no bound holds · 3 of 3 sites · loss (\d\.\d{3})", each)[1]) for each in said
    ]
    assert len(losses) == 6
    # of 41 tokens, at first all alike: 3.7 nats, over a random draw
    assert losses[-1] < losses[0] < 6

    now = next(clock)
    for site in SITES:
        audit_site(study, study.model, site, now=now)
    released = release(study, study.model, tmp_path / "a.oath", now=now)
    trust = Trust.load(tmp_path / "study" / "trust.toml")
    verified = write_report(released.bundle, trust, tmp_path / "a.html", now=now)
    assert verified.judgement.verdict in {Verdict.PASS, Verdict.INCONCLUSIVE}
    assert verified.epsilon is None
    assert {charge.event for charge in verified.charges} == {Unbounded(mechanism="unbounded", attempts=6)}
    assert verified.policy.training.local.steps == 3
    page = (tmp_path / "a.html").read_text()
    assert "Privacy is unbounded." in page
    assert "fedavg, 3 steps at each site between two sums" in page
