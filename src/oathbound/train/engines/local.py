"""All sites on one machine, in one process: delivers the messages, one site after the other."""

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
    """Take steps while `goes_on`, asked before each. `save` gets the snapshot after each and must be durable.

    Nobody is lost on one machine: what a node raises is raised. An interruption at any point loses at most
    the attempt under way, which stays charged: continue with `Descent.restore` and the highest attempt that
    any node's ledger holds.
    """
    while goes_on():
        messages = coordinator.begin()
        while messages:
            for site, message in messages.items():
                coordinator.receive(site, nodes[site].receive(message))
            messages = coordinator.proceed()
        save(coordinator.snapshot())
        on_progress(coordinator.progress)
