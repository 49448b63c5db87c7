"""Kill a verb at its effects, finish it in another process, and check that nothing was lost or used twice.

A program of its own, not a test: it forks, so it must hold no thread, and pytest's process may.

    sweep.py prepare STATES                                    a tiny study, before each verb
    sweep.py kill STATES VERB [--stride N] [--first N] [--at REGEX] [--twice N] [--fault NAME]
    sweep.py fill STATES VERB [the same]                       the same on a full disk, which has space again
    sweep.py list STATES VERB                                  the effects of a verb

`kill` and `fill` print one JSON object: how many effects, how many crashes, and what went wrong.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.func

from oathbound.core import accounting
from oathbound.data.store import SiteStore, StudyLedger
from oathbound.evidence.bundle import read_bundle
from oathbound.evidence.envelope import Signed, open_envelope
from oathbound.evidence.keys import Party
from oathbound.evidence.predicates import Admission, Audited, Charged, Found, ModelMade, Oath, Predicate
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import verify
from oathbound.models.model import flat
from oathbound.testing.crash import ChildFailed, Point, effects, fill, kill
from oathbound.train.messages import STEP_MAGIC, Step
from oathbound.train.node import Node
from oathbound.train.plan import Plan
from oathbound.workflow import init, notary
from oathbound.workflow.admit import admit_site
from oathbound.workflow.audit import audit_site
from oathbound.workflow.families import family_of
from oathbound.workflow.folders import StudyFolder, read_file, write_file
from oathbound.workflow.init import SITES, init_example
from oathbound.workflow.notary import Consortium, check_complete, stated
from oathbound.workflow.oath import swear
from oathbound.workflow.patient import give_receipt, withdraw
from oathbound.workflow.release import release
from oathbound.workflow.report import write_report
from oathbound.workflow.train import train

NOW = 1_800_000_000
PATIENTS = 70
TINY = {
    "width": 8, "heads": 1, "length": 12, "members": 150, "steps": 4, "attempts": 24, "round_steps": 2,
    "minimum_patients": 10, "prompt_events": 1, "horizon": 2, "chains": 1, "threads": 1,
    "ring_norm": 1024,
}  # fmt: skip


def oath(study: StudyFolder) -> None:
    swear(study, "north")


def admit(study: StudyFolder) -> None:
    admit_site(study, "north", now=NOW)


def trained(study: StudyFolder) -> None:
    train(study, clock=lambda: NOW, watch=lambda *_: None)


def audit(study: StudyFolder) -> None:
    audit_site(study, study.model, "north", now=NOW)


def released(study: StudyFolder) -> None:
    release(study, study.model, study.path / "a.oath", now=NOW)


def reported(study: StudyFolder) -> None:
    trust = Trust.load(study.path / "trust.toml")
    write_report(read_bundle(study.path / "a.oath"), trust, study.path / "a.html", now=NOW)


def withdrawn(study: StudyFolder) -> None:
    write_file(study.path / "receipt.json", withdraw(study.site("north"), _patient(study), now=NOW))


def received(study: StudyFolder) -> None:
    write_file(study.path / "receipt.json", give_receipt(study.site("north"), _patient(study), now=NOW))


STAGES: dict[str, Callable[[StudyFolder], None]] = {
    "oath": oath, "admit": admit, "train": trained, "audit": audit, "release": released, "report": reported,
}  # fmt: skip
"""The verbs in the order of a study; the first three sites' verbs are swept at the first site."""

Crash = Callable[[Callable[[Point], object], Path, int], bool]
VERBS = STAGES | {"withdraw": withdrawn, "receipt": received}
BEFORE = {verb: verb for verb in STAGES} | {"withdraw": "train", "receipt": "train"}
"""The stage that has not happened yet in the state that a verb is swept in."""


def prepare(states: Path) -> None:
    """Write a copy of the study as it is before each stage."""
    study = states / "study"
    init.INVENTED_PATIENTS = PATIENTS
    init_example(study, now=NOW - 10)
    text = (study / "study.toml").read_text()
    for key, value in TINY.items():
        text, found = re.subn(rf"^{key} = [0-9]+", f"{key} = {value}", text, flags=re.MULTILINE)
        if found != 1:
            raise SystemExit(f"the template has no {key}")
    (study / "study.toml").write_text(text)
    folder = StudyFolder.open(study)
    for stage, verb in STAGES.items():
        for site in SITES[1:]:
            _at(stage, folder, site)
        shutil.copytree(study, states / stage)
        verb(folder)
    shutil.copytree(study, states / "end")


def _at(stage: str, study: StudyFolder, site: str) -> None:
    """Do at another site what the swept verb does at the first."""
    if stage == "oath":
        swear(study, site)
    elif stage == "admit":
        admit_site(study, site, now=NOW)
    elif stage == "audit":
        audit_site(study, study.model, site, now=NOW)


def _patient(study: StudyFolder) -> int:
    with SiteStore.open(study.site("north").state) as store:
        return min(store.cohort("study").members)


@dataclass(frozen=True)
class Shares:
    """Every masked share that left a node, in a file that outlives the process: what an eavesdropper has."""

    file: Path

    def listen(self, point: Point, fault: str) -> None:
        """Record in this process what nodes return; `fault` breaks a node, to see that it is seen."""
        receive = Node.receive

        def recorded(node: Node, message: bytes) -> bytes:
            if not message.startswith(STEP_MAGIC):
                return receive(node, message)
            step, _ = Step.decode(message, node.trainer.plan.dimension)
            ledger = node.trainer.ledger
            if fault == "charge-after-share":
                node = replace(node, trainer=replace(node.trainer, ledger=_Uncharged(ledger)))
            share = receive(node, message)
            self._sent(node.trainer.site, step.label.attempt, share)
            point("share")
            if fault == "charge-after-share":
                ledger.charge(step.label.attempt)
            return share

        Node.receive = recorded
        if fault == "charge-forgotten":
            _charge_late()

    def _sent(self, site: str, attempt: int, share: bytes) -> None:
        line = f"{os.getpid()} {site} {attempt} {hashlib.sha256(share).hexdigest()}\n"
        with self.file.open("a") as file:
            file.write(line)

    def sent(self) -> list[tuple[str, int]]:
        """Return site and attempt of every share, as often as it was sent."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [(site, int(attempt)) for _, site, attempt, _ in map(str.split, lines)]


@dataclass(frozen=True)
class _Uncharged:
    ledger: StudyLedger

    def charge(self, attempt: int) -> None:
        """Forget it."""

    def highest(self) -> int:
        return self.ledger.highest()


def _charge_late() -> None:
    """Make every ledger keep its last charge in memory until the next: one that is not durable."""
    late: dict[str, int] = {}
    charge = SiteStore.charge

    def buffered(store: SiteStore, study: str, attempt: int, limit: int, *, use: str | None = None) -> None:
        key = str(store.path)
        if key in late:
            charge(store, study, late[key], limit, use=use)
        late[key] = attempt

    SiteStore.charge = buffered


class Broken(Exception):
    """An invariant does not hold."""


def check(holds: object, what: str) -> None:
    if not holds:
        raise Broken(what)


def check_shares(study: StudyFolder, shares: Shares) -> None:
    """No share left a node before its attempt was charged, and no attempt yielded two."""
    sent = shares.sent()
    check(len(set(sent)) == len(sent), "a site sent two shares for one attempt")
    for site in study.sites():
        with SiteStore.open(site.state) as store:
            rows = store._connection.execute("SELECT attempt FROM charge ORDER BY attempt").fetchall()
        charged = {attempt for (attempt,) in rows}
        mine = {attempt for name, attempt in sent if name == site.file.name}
        check(mine <= charged, f"{site.file.name} sent a share that it had not charged")


def check_logs(study: StudyFolder) -> None:
    """The study's log holds exactly what each site's does, and each statement at most once."""
    with study.log() as log:
        consortium = Consortium.of(study)
        check_complete(log, consortium)
        said = stated(log, Predicate, consortium.parties)
    for kind in (Oath, Admission, Charged):
        sites = [each.site for each in said if isinstance(each, kind)]
        check(len(set(sites)) == len(sites), f"two {kind.__name__} statements of one site")
    check(sum(isinstance(each, ModelMade) for each in said) <= 1, "two models")
    for site in SITES:
        tests = {each.finding.test for each in said if isinstance(each, Found) and each.site == site}
        audits = [each.number for each in said if isinstance(each, Audited) and each.site == site]
        check(audits == list(range(1, len(audits) + 1)), "audits are not numbered one after the other")
        check(tests in (set(), {"membership", "sensitive-disclosure"}), "an audit is there in part")


def check_end(study: StudyFolder) -> None:
    """Finish the study; its bundle verifies, and says what the sites' stores say."""
    stages = list(STAGES)
    for stage in stages[:5]:
        for site in SITES[1:]:
            _at(stage, study, site)
        STAGES[stage](study)
    verified = verify(read_bundle(study.path / "a.oath"), Trust.load(study.path / "trust.toml"), at=NOW)
    policy = study.policy
    for charged in verified.charges:
        with SiteStore.open(study.site(charged.site).state) as store:
            kept = store.charged(policy.study)
        check(charged.event.attempts == kept.count, f"{charged.site} states other charges than it keeps")
        check(policy.training.steps <= kept.count <= kept.highest <= policy.training.attempts, "charges")
    highest = verified.training[-1].attempts
    check(verified.training[-1].last_step == policy.training.steps, "steps are missing")
    check(highest >= max(charged.event.attempts for charged in verified.charges), "attempts are missing")
    most = max(verified.charges, key=lambda charged: charged.event.attempts).event
    check(verified.epsilon == accounting.epsilon(most, policy.budget.delta), "epsilon is not the charges'")
    model = read_file(study.model / "model.safetensors", most=2**24)
    digest = "sha256:" + hashlib.sha256(model).hexdigest()
    check(verified.model.files["model.safetensors"] == digest, "the model is another")


def sweep(
    states: Path, verb: str, crash: Crash, *, stride: int, first: int, at: str, twice: int, fault: str
) -> dict[str, object]:
    """Crash the verb before every `stride`th effect and those that match `at`; `twice` times twice."""
    draw = random.Random(f"{verb} {first}")
    with tempfile.TemporaryDirectory(dir=states) as scratch:
        points = effects(_work(_copy(states, verb, Path(scratch)), verb, fault), Path(scratch) / "study")
    failures, kills, doubles = [], 0, 0
    chosen = {number for number, point in enumerate(points) if at and re.match(at, point)}
    chosen |= set(range(first, len(points), stride)) if stride else set()
    planned = [(number, None) for number in sorted(chosen)]
    planned += [(draw.randrange(len(points)), draw.randrange(len(points) // 2)) for _ in range(twice)]
    for number, again in planned:
        with tempfile.TemporaryDirectory(dir=states) as scratch:
            copy = _copy(states, verb, Path(scratch))
            try:
                kills += crash(_work(copy, verb, fault), Path(scratch) / "study", number)
            except ChildFailed as error:
                failures.append(
                    {"at": points[number], "number": number, "again": again, "failure": str(error)}
                )
                continue
            if again is not None:
                doubles += kill(_work(copy, verb, fault), Path(scratch) / "study", again)
            to_the_end = number % 8 == 0 or again is not None
            failure = _in_child(lambda c=copy, e=to_the_end: _recover(c, verb, fault, to_the_end=e))
        if failure:
            failures.append({"at": points[number], "number": number, "again": again, "failure": failure})
    return {"verb": verb, "effects": len(points), "kills": kills, "second": doubles, "failures": failures}


def _copy(states: Path, verb: str, scratch: Path) -> StudyFolder:
    shutil.copytree(states / BEFORE[verb], scratch / "study")
    return StudyFolder.open(scratch / "study")


def _work(study: StudyFolder, verb: str, fault: str) -> Callable[[Point], object]:
    def work(point: Point) -> None:
        Shares(study.path.parent / "shares").listen(point, fault)
        VERBS[verb](study)

    return work


def _recover(study: StudyFolder, verb: str, fault: str, *, to_the_end: bool) -> None:
    shares = Shares(study.path.parent / "shares")
    check_shares(study, shares)
    shares.listen(lambda _: None, fault)
    VERBS[verb](study)
    check_logs(study)
    if to_the_end:
        check_end(study)
    check_shares(study, shares)
    left = [str(path.relative_to(study.path)) for path in study.path.rglob("*.new")]
    check(not left, f"unfinished files are left: {left}")


def _in_child(work: Callable[[], object]) -> str:
    """Return what went wrong, or nothing."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent prints it
            said = f"{type(error).__name__}: {error}\n{traceback.format_exc()[-1500:]}"
        os.write(writable, said.encode()[:60_000])
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as said:
        failure = said.read()
    _, status = os.waitpid(child, 0)
    return failure or ("" if status == 0 else f"status {status}")


def _warm(states: Path) -> None:
    """Do once, before the first fork, what every child would do at its first use."""
    torch.set_num_threads(1)
    torch.func.vmap(torch.func.grad(lambda x: (x * x).sum()))(torch.ones(2, 2))
    policy = StudyFolder.open(states / "train").policy
    Plan.of(policy, flat(family_of(policy).model).size)
    opened: dict[object, Signed] = {}

    def remembered(leaf: bytes, parties: Mapping[str, Party]) -> Signed:
        """Verify each leaf once: 800 verifications of 25 leaves are half of the sweep's time."""
        key = (leaf, frozenset(parties))
        if key not in opened:
            opened[key] = open_envelope(leaf, parties)
        return opened[key]

    notary.open_envelope = remembered  # `verify`, which the sweep ends with, has its own


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prepare", "kill", "fill", "list"])
    parser.add_argument("states", type=Path)
    parser.add_argument("verb", nargs="?", choices=list(VERBS), default="train")
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--twice", type=int, default=0)
    parser.add_argument("--at", default="")
    parser.add_argument("--fault", default="")
    asked = parser.parse_args()
    if asked.what == "prepare":
        torch.set_num_threads(1)
        prepare(asked.states)
        return
    _warm(asked.states)
    if asked.what == "list":
        with tempfile.TemporaryDirectory(dir=asked.states) as scratch:
            study = _copy(asked.states, asked.verb, Path(scratch))
            seen = effects(_work(study, asked.verb, asked.fault), Path(scratch) / "study")
            sys.stdout.write("\n".join(seen) + "\n")
        return
    found = sweep(
        asked.states,
        asked.verb,
        {"kill": kill, "fill": fill}[asked.what],
        stride=asked.stride,
        first=asked.first,
        at=asked.at,
        twice=asked.twice,
        fault=asked.fault,
    )
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
