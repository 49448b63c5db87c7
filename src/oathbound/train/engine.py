"""What an engine is: it carries messages between the coordinator and the sites."""

from collections.abc import Callable, Mapping
from typing import Protocol

from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Progress


class Peer(Protocol):
    """A site as whoever carries messages sees it: a `Node`, or what stands for one of another process."""

    def receive(self, message: bytes) -> bytes:
        """Return the site's answer to one message.

        Raises what the site raises, and `Unavailable` where no answer comes.
        """
        ...


class Engine(Protocol):
    """Takes steps while it is allowed to; `engines/local.run` is one."""

    def __call__(
        self,
        coordinator: Coordinator,
        nodes: Mapping[str, Peer],
        *,
        goes_on: Callable[[], bool],
        save: Callable[[bytes], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        """Take steps while `goes_on`, which is asked before each, and return when it says no.

        An attempt goes in waves. Each message of `coordinator.begin`, and later of `coordinator.proceed`,
        goes to its node, once, and each answer, as it is, to `coordinator.receive`. A node, and the
        coordinator, are never called twice at once. When all answers are in, or no more are waited for,
        `coordinator.proceed` returns the next wave's messages; when it returns none, the step is taken.

        `save` then gets the coordinator's snapshot, and has made it durable when it returns; then
        `on_progress` is told. An attempt that failed is given up with `coordinator.void`, and its number is
        not used again; or the error is raised, and the training goes on with a restored coordinator. Until a
        step is sent, failing costs no attempt: only the engine's own patience ends a series of failures.
        """
        ...
