"""Sites on machines of their own, over NVIDIA FLARE: what its jobs run, and the job, which is data.

FLARE starts a process at each site and one at the coordinator, and carries bytes between them over mutual
TLS. What those processes run is the two classes here, which lie in the installed package: a job names them
and brings no code. Where a study lies is said by each machine, in the environment variable `STUDY`, never by
the job; a site's name in FLARE is its name in the study. `docs/guides/two-machines.md` sets it up.

FLARE relays and may lose messages; nothing else of it is relied on. What a site checks stands in `site`.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from nvflare.apis.fl_exception import FLCommunicationError
from nvflare.collab import CollabCallError, collab
from nvflare.fuel.flare_api.api_spec import AuthenticationError, AuthorizationError, NoReply, SessionClosed
from nvflare.fuel.flare_api.flare_api import new_secure_session

from oathbound.core.errors import OathboundError, ProtocolRefused, Unavailable, WrongInput
from oathbound.train.engines import parallel
from oathbound.train.engines.answers import answered, opened
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.reaching import Reached
from oathbound.workflow.site import Site
from oathbound.workflow.site_kit import COORDINATOR_CLASSES, SITE_CLASSES
from oathbound.workflow.train import Trained, train
from oathbound.workflow.watch import Watch

STUDY: Final = "OATHBOUND_STUDY"
"""The environment variable that says, at each machine, where its folder of the study lies."""

ADMIN: Final = "OATHBOUND_FLARE_ADMIN"
"""The environment variable that says, at the coordinator, where the kit of whoever submits jobs lies."""

ANSWER_SECONDS: Final = 600.0
"""How long the coordinator waits for one answer; a site that takes longer is lost for the wave."""

_FLARE_ERRORS: Final = (
    OSError,
    ValueError,
    FLCommunicationError,
    AuthenticationError,
    AuthorizationError,
    NoReply,
    SessionClosed,
)

_log = logging.getLogger(__name__)


class SiteApp:
    """What FLARE runs at a site: gives each message to the site, in one thread, and its answer back."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="oathbound")
        self._open = ExitStack()
        self._site: Site | None = None

    @collab.publish  # type: ignore[untyped-decorator]
    def receive(self, message: bytes) -> bytes:
        """Return the site's answer, or its refusal (`engines/answers`); other sites get neither."""
        caller, name = collab.caller, collab.site_name
        if caller != "server":
            raise PermissionError("only the coordinator's messages are answered")
        return self._thread.submit(answered, lambda given: self._answer(name, given), message).result()

    @collab.final  # type: ignore[untyped-decorator]
    def close(self) -> None:
        """Close what the site had open, at the end of the job."""
        self._thread.submit(self._open.close).result()
        self._thread.shutdown()

    def _answer(self, name: str, message: bytes) -> bytes:
        try:
            return self._here(name).receive(message)
        except OathboundError:
            raise
        except Exception:  # noqa: BLE001 - FLARE would send it on, and it may hold a value of a record
            _log.exception("a message could not be answered")
            raise Unavailable(
                f"{name} failed in a way that nobody foresaw", hint="its own log says more"
            ) from None

    def _here(self, name: str) -> Site:
        if self._site is None:
            study = _study()
            if study.study.run.threads:
                torch.set_num_threads(study.study.run.threads)
            site = Site.opened(study.site(name), study.policy, study.parties(), lambda: int(time.time()))
            self._site = self._open.enter_context(site)
        return self._site


class CoordinatorApp:
    """What FLARE runs at the coordinator: the training, whose sites are reached through FLARE."""

    @collab.main  # type: ignore[untyped-decorator]
    def run(self) -> str:
        """Train, or go on where it stopped, and return the model's digest."""
        peers = {proxy.name: _Remote(proxy.name, proxy) for proxy in collab.clients}

        @contextmanager
        def by(study: StudyFolder, _clock: Callable[[], int]) -> Iterator[Reached]:
            missing = [site.name for site in study.policy.sites if site.name not in peers]
            if missing:
                raise Unavailable(f"{', '.join(missing)} did not join the job")
            yield Reached(peers, parallel.run)

        def watch(done: int, total: int, words: str = "") -> None:
            _log.info("step %d of %d: %s", done, total, words)

        return train(_study(), clock=lambda: int(time.time()), watch=watch, by=by).model


@dataclass(frozen=True, slots=True)
class _Remote:
    """A site of a running job: a `Peer`."""

    name: str
    proxy: Any

    def receive(self, message: bytes) -> bytes:
        """Return the site's answer; `Unavailable` where FLARE brings none."""
        try:
            answer = self.proxy(timeout=ANSWER_SECONDS).receive(message)
        except (CollabCallError, TimeoutError) as error:
            raise Unavailable(f"{self.name} does not answer: {type(error).__name__}") from None
        if not isinstance(answer, bytes):
            raise ProtocolRefused(f"{self.name} answers something else than bytes")
        return opened(answer, self.name)


def train_over_flare(study: StudyFolder, *, clock: Callable[[], int], watch: Watch) -> Trained:
    """Submit the job that trains a study, wait until it ends, and return what it left in the study's folder.

    The training runs in FLARE's process at the coordinator: that machine's FLARE and this call have one study
    folder. Raises `Unavailable` where FLARE cannot be reached, or the job ended without a model.
    """
    if not study.model.is_dir():
        _wait_for_job(study, watch)

    @contextmanager
    def finished(study: StudyFolder, _clock: Callable[[], int]) -> Iterator[Reached]:
        yield Reached({site.name: _Gone(site.name) for site in study.policy.sites}, parallel.run)

    return train(study, clock=clock, watch=watch, by=finished)


def _wait_for_job(study: StudyFolder, watch: Watch) -> None:
    kit = os.environ.get(ADMIN)
    if not kit:
        raise WrongInput(f"{ADMIN} is not set", hint="it names the folder of FLARE's kit that submits jobs")
    watch(0, study.policy.training.steps, "connecting to FLARE")
    job = write_job(study, study.path / "run").resolve()
    try:
        session = new_secure_session(Path(kit).name, kit)
        try:
            session.monitor_job(session.submit_job(str(job)))
        finally:
            session.close()
    except _FLARE_ERRORS as error:
        raise Unavailable(
            f"FLARE's server did not take the job, or went away: {type(error).__name__}",
            hint="see that it runs, and train again: what was done is kept",
        ) from None


@dataclass(frozen=True, slots=True)
class _Gone:
    """A site after its job: a `Peer` that does not answer."""

    name: str

    def receive(self, _message: bytes) -> bytes:
        """Raise `Unavailable`."""
        raise Unavailable(
            "FLARE's job has ended before the training did",
            hint="its log, at the server and at every site, says why; train again, and it goes on",
        )


def write_job(study: StudyFolder, folder: Path) -> Path:
    """Write the job that trains a study: two configurations, and no code. Return its folder, made anew."""
    job = folder / "oathbound"
    shutil.rmtree(job, ignore_errors=True)
    sites = len(study.policy.sites)
    threads = {"max_inbound_call_threads": 2, "max_outbound_call_threads": 2 * sites}
    options: dict[str, Any] = {"collab_obj_ids": [], "props": {}, **threads}
    server = {
        "format_version": 2,
        "workflows": [
            {
                "id": "controller",
                "path": COORDINATOR_CLASSES[0],
                "args": {"server_obj_id": "_server", **options},
            }
        ],
        "components": [{"id": "_server", "path": COORDINATOR_CLASSES[1], "args": {}}],
    }
    executor = {"path": SITE_CLASSES[0], "args": {"client_obj_id": "_client", **options}}
    client = {
        "format_version": 2,
        "executors": [{"tasks": ["*"], "executor": executor}],
        "components": [{"id": "_client", "path": SITE_CLASSES[1], "args": {}}],
    }
    meta = {
        "name": f"oathbound-{study.policy.study}",
        "resource_spec": {},
        "min_clients": sites,
        "mandatory_clients": [site.name for site in study.policy.sites],
        "deploy_map": {"app": ["@ALL"]},
    }
    files = {
        "meta.json": meta,
        "app/config/config_fed_server.json": server,
        "app/config/config_fed_client.json": client,
    }
    for name, content in files.items():
        (job / name).parent.mkdir(parents=True, exist_ok=True)
        (job / name).write_text(json.dumps(content, indent=2) + "\n")
    return job


def _study() -> StudyFolder:
    path = os.environ.get(STUDY)
    if not path:
        raise WrongInput(
            f"{STUDY} is not set",
            hint=f"start FLARE here with {STUDY}=the folder of the study on this machine",
        )
    return StudyFolder.open(Path(path))
