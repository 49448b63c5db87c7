"""All sites in one process, as `local`, but another site is asked first in each wave."""

from collections.abc import Callable, Mapping

from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Progress
from oathbound.train.engine import Peer


def run(
    coordinator: Coordinator,
    nodes: Mapping[str, Peer],
    *,
    goes_on: Callable[[], bool],
    save: Callable[[bytes], None],
    on_progress: Callable[[Progress], None],
) -> None:
    """Take steps while `goes_on`: the entry point of the engine. An error of a node ends it."""
    wave = 0
    while goes_on():
        messages = coordinator.begin()
        while messages:
            sites = list(messages)
            first = wave % len(sites)
            for site in sites[first:] + sites[:first]:
                coordinator.receive(site, nodes[site].receive(messages[site]))
            messages = coordinator.proceed()
            wave += 1
        save(coordinator.snapshot())
        on_progress(coordinator.progress)
