"""How the coordinator reaches the sites: in this process, or each in a process of its own."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from oathbound.core.errors import Unavailable
from oathbound.core.study import LOCAL_PROCESSES, NVFLARE
from oathbound.train.engine import Engine, Peer
from oathbound.train.engines import local, parallel
from oathbound.train.engines.processes import Process
from oathbound.workflow.extensions import load
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.site import Site

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Reached:
    """The sites by name, and what carries the messages of a step to them."""

    peers: Mapping[str, Peer]
    engine: Engine


@contextmanager
def reached(study: StudyFolder, clock: Callable[[], int]) -> Iterator[Reached]:
    """Yield the sites of a study as its `[run]` says. `clock` tells the time of sites in this process."""
    name = study.study.run.engine
    if name == LOCAL_PROCESSES:
        with processes(study) as peers:
            yield Reached(peers, parallel.run)
        return
    if name == NVFLARE:
        raise Unavailable("the sites of this study are reached over FLARE", hint="oathbound train does so")
    engine: Engine = local.run if name == LOCAL else load(study.policy, "engines", name)
    parties = study.parties()
    with ExitStack() as sites:
        peers_here = {
            site.file.name: sites.enter_context(Site.opened(site, study.policy, parties, clock))
            for site in study.sites()
        }
        yield Reached(peers_here, engine)


@contextmanager
def processes(study: StudyFolder) -> Iterator[dict[str, Process]]:
    """Yield a process for each site, which opens its own folder; this one opens none of them."""
    with ExitStack() as ended:
        peers = {}
        for site in study.policy.sites:
            # -P: not the modules that lie in whatever folder the coordinator was started from
            program = [sys.executable, "-P", "-m", "oathbound.workflow.site_process"]
            command = [*program, str(study.path), site.name]
            peers[site.name] = process = Process(site.name, command)
            ended.callback(process.close)
            process.start()  # all at once: each takes seconds to import what it needs
        yield peers
