"""All sites on one machine, in one process: delivers the messages, one site after the other."""

from collections.abc import Callable, Mapping

from oathbound.train.coordinator import Coordinator, Progress
from oathbound.train.node import Node


def run(
    coordinator: Coordinator,
    nodes: Mapping[str, Node],
    *,
    goes_on: Callable[[], bool],
    save: Callable[[bytes], None],
    on_progress: Callable[[Progress], None],
) -> None:
    """Take steps while `goes_on`, asked before each. `save` gets the snapshot after each and must be durable.

    An interruption at any point loses at most the attempt under way, which stays charged: continue with
    `Coordinator.restore` and the highest attempt that any node's ledger holds.
    """
    while goes_on():
        for site, message in coordinator.begin().items():
            coordinator.receive(site, nodes[site].receive(message))
        save(coordinator.snapshot())
        on_progress(coordinator.progress)
