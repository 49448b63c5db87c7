"""All sites in one process, as `local`, but another site is asked first at each attempt."""

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
    """Take steps while `goes_on`: the entry point of the engine. An error of a node ends it."""
    while goes_on():
        messages = list(coordinator.begin().items())
        first = coordinator.progress.attempt % len(messages)
        for site, message in messages[first:] + messages[:first]:
            coordinator.receive(site, nodes[site].receive(message))
        save(coordinator.snapshot())
        on_progress(coordinator.progress)
