"""`demo`: the whole chain on real people; every stage is the verb that a hospital would run."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from oathbound.core.errors import NotAuthentic, OathboundError, WrongInput
from oathbound.core.exits import Exit
from oathbound.core.gates import EVERYWHERE, Claim, Judgement, Verdict
from oathbound.evidence.keys import Secret
from oathbound.evidence.predicates import Admission, Exclusion
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import verify
from oathbound.workflow.admit import admit_site
from oathbound.workflow.audit import audit_site
from oathbound.workflow.folders import SiteFolder, StudyFolder, read_file, write_file
from oathbound.workflow.init import SITES, write_simulated_consents, write_study, write_trust
from oathbound.workflow.join import join, secret_in
from oathbound.workflow.oath import swear
from oathbound.workflow.release import release
from oathbound.workflow.report import write_report
from oathbound.workflow.train import train
from oathbound.workflow.watch import Watch

PARTS = "4,3,3"
"""The shares of the cohort's people that the three simulated hospitals hold."""

MARKER = ".oathbound-demo"
"""Tells a demo's folder from somebody's own study, which `demo` must not touch."""

STUDIES = {"plain": {Verdict.FAIL}, "private": {Verdict.PASS, Verdict.INCONCLUSIVE}}
"""The two studies, and the verdicts that each may end in."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One line of the demo: a verb, and what came of it."""

    verb: str
    said: str


Bar = Callable[[str], AbstractContextManager[Watch]]
"""Opens a progress bar of that title."""


class DemoFailed(OathboundError):
    """A stage of the demo did not end as it should."""


def demo(path: Path, *, now: int, bar: Bar) -> Iterator[Stage]:
    """Run the demo in a folder, or finish one that was interrupted, and yield each stage as it ends.

    Raises `WrongInput` for a folder that holds something else, and `DemoFailed` when a stage ends otherwise
    than it should.
    """
    if path.is_dir() and any(path.iterdir()) and not (path / MARKER).is_file():
        raise WrongInput(
            f"{path} holds something else than a demo", hint="name a new folder: oathbound demo DIR"
        )
    write_file(path / MARKER, b"This folder was made by `oathbound demo`; nothing in it is anybody's own.\n")
    members = list(_sites(path, now))
    coordinator = secret_in(path / "plain" / "keys" / "coordinator.key", "coordinator")
    for name in STUDIES:
        _keep(coordinator, path / name / "keys")
        write_study(path / name, f"demo-{name}.toml", members, folder="../sites")
    write_trust(path / "trust.toml", StudyFolder.open(path / "plain"))
    yield Stage("join", "17,549 real people (NAFLD cohort), divided by hash among three simulated hospitals")
    for name, allowed in STUDIES.items():
        study = StudyFolder.open(path / name)
        yield Stage("study", f"{name}: privacy {_privacy(study)}")
        yield from _study(study, path, allowed, now, bar)


def _sites(path: Path, now: int) -> Iterator[tuple[str, str]]:
    for part, name in enumerate(SITES, start=1):
        folder = path / "sites" / name
        party = join(folder, name, source="nafld", options={"parts": PARTS, "part": str(part)})
        write_simulated_consents(SiteFolder.open(folder), now=now)
        yield party.name, party.fingerprint


def _keep(secret: Secret, folder: Path) -> None:
    """Give both studies one coordinator, so that one trust file serves both."""
    if not (folder / "coordinator.key").exists():
        folder.mkdir(mode=0o700, parents=True)
        secret.save(folder / "coordinator.key")


def _privacy(study: StudyFolder) -> str:
    budget = study.policy.budget
    if budget is None:
        return "none, a small cohort, trained until the model has memorised it"
    return f"epsilon {budget.epsilon}, delta {budget.delta:.0e}, per patient"


def _study(study: StudyFolder, path: Path, allowed: set[Verdict], now: int, bar: Bar) -> Iterator[Stage]:
    name = study.policy.study
    for site in SITES:
        swear(study, site)
    yield Stage("oath", f"{', '.join(SITES)} swore to {study.policy.digest[:23]}...")
    for site in SITES:
        yield from _admitted(admit_site(study, site, now=now))
    with bar(f"train {name}") as watch:
        trained = train(study, now=now, watch=watch)
    spent = "no bound holds" if trained.epsilon is None else f"epsilon {trained.epsilon} spent"
    yield Stage("train", f"{trained.steps} steps in {trained.attempts} attempts; {spent}; aggregator trusted")
    with bar(f"audit {name}") as watch:
        for done, site in enumerate(SITES):
            watch(done, len(SITES), site)
            audit_site(study, study.model, site)
    released = release(study, study.model, path / f"{name}.oath", now=now)
    judgement = released.verified.judgement
    shown = (claim for claim in judgement.claims if claim.site == EVERYWHERE or claim.estimate is None)
    yield from (Stage("audit", _claimed(claim)) for claim in shown)
    yield Stage("release", judgement.sentence)
    if judgement.verdict not in allowed:
        raise DemoFailed(f"the study {name} ended in {judgement.verdict.value}, which it should not")
    trust = Trust.load(path / "trust.toml")
    verify(read_file(path / f"{name}.oath"), trust, at=now)
    yield Stage("verify", f"{name}.oath is authentic: exit {_exit(judgement)}")
    yield Stage("verify", f"one byte flipped: {_tampered(released.bundle, trust, now)}")
    write_report(released.bundle, trust, path / f"{name}.html", now=now)
    yield Stage("report", str(path / f"{name}.html"))


def _exit(judgement: Judgement) -> str:
    return f"{judgement.verdict.exit.value}, {judgement.verdict.exit.meaning}"


def _admitted(admission: Admission) -> Iterator[Stage]:
    drawn = f"{admission.members:,} members, {admission.held_out:,} held out"
    yield Stage("admit", f"{admission.site:<6} {drawn}, of {admission.considered:,} people")
    consent = [each for each in admission.excluded if ": " in each.reason]
    others = [each for each in admission.excluded if ": " not in each.reason]
    for title, exclusions in (("consent says no", consent), ("not taken", others)):
        said = ", ".join(
            f"{each.reason.partition(': ')[2] or each.reason} {_shown(each)}" for each in exclusions
        )
        if said:
            yield Stage("", f"       {title}: {said}")


def _shown(exclusion: Exclusion) -> str:
    return "<10" if exclusion.patients is None else f"{exclusion.patients:,}"


def _claimed(claim: Claim) -> str:
    if claim.estimate is None:
        return f"{claim.test} at {claim.site}: {claim.note}"
    return (
        f"{claim.test} {claim.score}: {claim.estimate} [{claim.lower}, {claim.upper}], gate {claim.gate}: "
        f"{claim.state.value}"
    )


def _tampered(bundle: bytes, trust: Trust, now: int) -> str:
    """Return what `verify` says of the bundle with one byte of a signed statement flipped."""
    middle = len(bundle) // 2
    flipped = bundle[:middle] + bytes([bundle[middle] ^ 1]) + bundle[middle + 1 :]
    try:
        verify(flipped, trust, at=now)
    except NotAuthentic as error:
        return f"exit {Exit.NOT_AUTHENTIC.value}, step {error.step}: {error.message}"
    raise DemoFailed("a bundle with a flipped byte was accepted")
