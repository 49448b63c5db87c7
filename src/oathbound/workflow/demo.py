"""`demo`: the whole chain on real people; every stage is the verb that a hospital would run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from oathbound.core.claims import EVERYWHERE, Claim, Verdict
from oathbound.core.errors import NotAuthentic, OathboundError, WrongInput
from oathbound.core.exits import Exit
from oathbound.core.gates import Judgement
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

MARKER = ".oathbound-demo"
"""Tells a demo's folder from somebody's own study, which `demo` must not touch."""

MARK = "This folder was made by `oathbound demo --cohort {cohort}`; nothing in it is anybody's own.\n"


@dataclass(frozen=True, slots=True)
class People:
    """A cohort to run the demo on: the kind of its source, and the source's options at each site.

    `templates` begins the names of its study files.
    """

    told: str
    source: str
    sites: Mapping[str, Mapping[str, str]]
    templates: str


COHORTS = {
    "nafld": People(
        told="17,549 real people (NAFLD cohort), divided by hash among three simulated hospitals",
        source="nafld",
        sites={name: {"parts": "4,3,3", "part": str(part)} for part, name in enumerate(SITES, start=1)},
        templates="demo",
    ),
    "heart": People(
        told="920 real people (UCI heart disease) of four real hospitals; their consents are simulated",
        source="heart",
        sites={name: {"site": name} for name in ("cleveland", "hungary", "switzerland", "va")},
        templates="demo-heart",
    ),
    "nodules": People(
        told="outlines of 875 real people's lung nodules (LIDC-IDRI), on simulated sites by slice thickness",
        source="nodules",
        sites={name: {"site": name} for name in ("slices-1-25", "slices-2-5", "slices-other")},
        templates="demo-nodules",
    ),
}
"""The cohorts of the demo; the first is the usual one."""

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


def demo(path: Path, cohort: str, *, now: int, bar: Bar) -> Iterator[Stage]:
    """Run the demo of a cohort in a folder, or finish one that was interrupted; yield each stage as it ends.

    Raises `WrongInput` for an unknown cohort and for a folder that holds something else, and `DemoFailed`
    when a stage ends otherwise than it should.
    """
    people = COHORTS.get(cohort)
    if people is None:
        raise WrongInput(f"the demo has no cohort {cohort}", hint=f"one of: {', '.join(COHORTS)}")
    mark = MARK.format(cohort=cohort).encode()
    if path.is_dir() and any(path.iterdir()) and not _marked(path, mark):
        raise WrongInput(
            f"{path} holds something else than this demo", hint="name a new folder: oathbound demo DIR"
        )
    write_file(path / MARKER, mark)
    members = list(_sites(path, people, now))
    coordinator = secret_in(path / "plain" / "keys" / "coordinator.key", "coordinator")
    for name in STUDIES:
        _keep(coordinator, path / name / "keys")
        write_study(path / name, f"{people.templates}-{name}.toml", members, folder="../sites")
    write_trust(path / "trust.toml", StudyFolder.open(path / "plain"))
    yield Stage("join", people.told)
    for name, allowed in STUDIES.items():
        study = StudyFolder.open(path / name)
        yield Stage("study", f"{name}: privacy {_privacy(study)}")
        yield from _study(study, path, allowed, now, bar)


def _marked(path: Path, mark: bytes) -> bool:
    return (path / MARKER).is_file() and read_file(path / MARKER) == mark


def _sites(path: Path, people: People, now: int) -> Iterator[tuple[str, str]]:
    for name, options in people.sites.items():
        folder = path / "sites" / name
        party = join(folder, name, source=people.source, options=options)
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
    name, sites = study.policy.study, [site.name for site in study.policy.sites]
    for site in sites:
        swear(study, site)
    yield Stage("oath", f"{', '.join(sites)} swore to {study.policy.digest[:23]}...")
    for site in sites:
        yield from _admitted(admit_site(study, site, now=now), max(map(len, sites)))
    with bar(f"train {name}") as watch:
        trained = train(study, clock=lambda: now, watch=watch)
    spent = "no bound holds" if trained.epsilon is None else f"epsilon {trained.epsilon} spent"
    yield Stage("train", f"{trained.steps} steps in {trained.attempts} attempts; {spent}; secure sum")
    with bar(f"audit {name}") as watch:
        for done, site in enumerate(sites):
            watch(done, len(sites), site)
            audit_site(study, study.model, site, now=now)
    released = release(study, study.model, path / f"{name}.oath", now=now)
    judgement = released.verified.judgement
    shown = (claim for claim in judgement.claims if claim.site not in sites or claim.estimate is None)
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


def _admitted(admission: Admission, width: int) -> Iterator[Stage]:
    drawn = f"{admission.members:,} members, {admission.held_out:,} held out"
    yield Stage("admit", f"{admission.site:<{width + 1}} {drawn}, of {admission.considered:,} people")
    consent = [each for each in admission.excluded if ": " in each.reason]
    others = [each for each in admission.excluded if ": " not in each.reason]
    for title, exclusions in (("consent says no", consent), ("not taken", others)):
        said = ", ".join(
            f"{each.reason.partition(': ')[2] or each.reason} {_shown(each)}" for each in exclusions
        )
        if said:
            yield Stage("", f"{'':<{width + 1}} {title}: {said}")


def _shown(exclusion: Exclusion) -> str:
    return "<10" if exclusion.patients is None else f"{exclusion.patients:,}"


def _claimed(claim: Claim) -> str:
    if claim.estimate is None:
        return f"{claim.test} at {claim.site}: {claim.note}"
    where = "" if claim.site == EVERYWHERE else f" at {claim.site}"
    return (
        f"{claim.test} {claim.score}{where}: {claim.estimate} [{claim.lower}, {claim.upper}], "
        f"gate {claim.gate}: {claim.state.value}"
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
