"""Run two verbs at once, or in a folder that may not be written. Programs of their own, as `sweep.py` is.

    together.py pair STATES STATE VERB VERB [--times N]  both at once: each ends, or says why it must wait
    together.py budget FOLDER                            many studies reserve and charge in one site's state
    together.py readonly STATES                          every verb in a read-only folder, as an ordinary user

Each prints one JSON object.
"""

import argparse
import json
import os
import pwd
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import sweep

from oathbound.core.errors import OathboundError, Unavailable
from oathbound.data.store import SiteStore
from oathbound.evidence.bundle import read_bundle
from oathbound.evidence.trust import Trust
from oathbound.evidence.verify import verify
from oathbound.workflow.folders import StudyFolder

STUDIES, LIMIT = 8, 5
ATTEMPTS = 20
"""The limit lets five of eight studies reserve one epsilon each; each of the five charges so often."""


def together(works: list[Callable[[], object]]) -> list[int]:
    """Run each in a child, all at once; return their exit codes, as the command line's are."""
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            os._exit(_code(work))
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _code(work: Callable[[], object]) -> int:
    try:
        work()
    except OathboundError as error:
        sys.stderr.write(f"{error.message} ({error.hint})\n")
        return int(error.exit)
    return 0


def pair(states: Path, state: str, verbs: list[str], times: int) -> list[dict[str, object]]:
    """Start two verbs, the second a little later each time; then end the study and check everything."""
    ends = []
    for number in range(times):
        with tempfile.TemporaryDirectory(dir=states) as scratch:
            shutil.copytree(states / state, Path(scratch) / "study")
            study = StudyFolder.open(Path(scratch) / "study")
            codes = together([_later(study, verb, 0.04 * number * place) for place, verb in enumerate(verbs)])
            failure = sweep._in_child(lambda s=study, v=verbs: _end(s, v))
        ends.append({"codes": codes, "failure": failure})
    return ends


def _later(study: StudyFolder, verb: str, seconds: float) -> Callable[[], object]:
    def work() -> None:
        time.sleep(seconds)
        sweep.Shares(study.path.parent / "shares").listen(lambda _: None, "")
        sweep.VERBS[verb](study)

    return work


def _end(study: StudyFolder, verbs: list[str]) -> None:
    shares = sweep.Shares(study.path.parent / "shares")
    sweep.check_shares(study, shares)
    shares.listen(lambda _: None, "")
    for verb in verbs:
        sweep.VERBS[verb](study)
    sweep.check_logs(study)
    sweep.check_end(study)
    sweep.check_shares(study, shares)


def budget(folder: Path) -> dict[str, object]:
    """Let many studies of the same patients reserve in one site's state, and charge, all at once."""
    state = folder / "state.sqlite"
    studies = [f"study-{number}" for number in range(STUDIES)]
    with SiteStore.open(state) as store:
        for study in studies:
            store.record_cohort(
                study, "sha256:" + "0" * 64, {"members": range(50), "held_out": range(50, 60)}, as_of=0
            )
    codes = together([lambda s=study: _spend(state, s) for study in studies])
    with SiteStore.open(state) as store:
        charged = [store.charged(study).count for study in studies]
    return {"codes": codes, "charged": charged}


def _spend(state: Path, study: str) -> None:
    one, small = Decimal(1), Decimal("0.000001")
    with SiteStore.open(state) as store:
        store.reserve(study, one, small, one * LIMIT, small * LIMIT)
        for attempt in range(1, ATTEMPTS + 1):
            store.charge(study, attempt, ATTEMPTS)


def readonly(states: Path) -> None:
    """Run every verb where nothing may be written, and `verify`, which reads; print what came of each."""
    folder = Path(tempfile.mkdtemp(prefix="oathbound-readonly-"))
    try:
        for (
            verb
        ) in sweep.VERBS:  # once where it can be done: afterwards nothing is imported for the first time
            shutil.copytree(states / sweep.BEFORE[verb], folder / f"done-{verb}")
            sweep.VERBS[verb](StudyFolder.open(folder / f"done-{verb}"))
            shutil.copytree(states / sweep.BEFORE[verb], folder / verb)
        child = os.fork()
        if child == 0:
            _as_an_ordinary_user(folder)
            said = {verb: _refused(folder / verb, verb) for verb in sweep.VERBS}
            sys.stdout.write(json.dumps(said | {"verify": _verified(folder / "report")}) + "\n")
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
        shutil.rmtree(folder)


def _as_an_ordinary_user(folder: Path) -> None:
    """Take the right to write from everything below the folder; become somebody to whom that matters."""
    nobody = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
        if nobody:
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    if nobody:
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)


def _refused(path: Path, verb: str) -> str:
    try:
        sweep.VERBS[verb](StudyFolder.open(path))
    except Unavailable as error:
        return f"{int(error.exit)}: {error.message}"
    except (OathboundError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def _verified(path: Path) -> str:
    trust = Trust.load(path / "trust.toml")
    return verify(read_bundle(path / "a.oath"), trust, at=sweep.NOW).judgement.verdict.value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["pair", "budget", "readonly"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("state", nargs="?", default="")
    parser.add_argument("verbs", nargs="*")
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    if asked.what == "readonly":
        readonly(asked.folder)
        return
    if asked.what == "budget":
        said: object = budget(asked.folder)
    else:
        sweep._warm(asked.folder)
        said = pair(asked.folder, asked.state, asked.verbs, asked.times)
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
