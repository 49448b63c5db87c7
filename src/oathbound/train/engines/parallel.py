"""Sites in processes or on machines of their own: asks all of a wave at once, and goes on without the lost.

A site whose answer does not come, or cannot be taken, is lost for the wave. The coordinator says whether
enough are left: with as many sites as `min_sites` the attempt is void, and stays charged where it was.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from oathbound.core.errors import ProtocolRefused, Unavailable
from oathbound.train.coordinator import Coordinator
from oathbound.train.descent import Progress
from oathbound.train.engine import Peer

MOST_VOID: Final = 3
"""So many attempts in a row may be void for lost sites: each may have been charged."""


def run(
    coordinator: Coordinator,
    nodes: Mapping[str, Peer],
    *,
    goes_on: Callable[[], bool],
    save: Callable[[bytes], None],
    on_progress: Callable[[Progress], None],
) -> None:
    """Take steps while `goes_on`, asked before each: `Engine`.

    Raises `Unavailable` after `MOST_VOID` attempts in a row for which too few sites were left, and whatever a
    site raises other than `Unavailable` and `ProtocolRefused`: no attempt that follows could mend it.
    """
    void = 0
    with ThreadPoolExecutor(len(nodes), thread_name_prefix="site") as pool:
        while goes_on():
            lost = _attempt(coordinator, nodes, pool)
            if lost is None:
                void = 0
                save(coordinator.snapshot())
                on_progress(coordinator.progress)
            elif (void := void + 1) == MOST_VOID:
                raise Unavailable(
                    f"{MOST_VOID} attempts in a row were void: {lost}",
                    hint="see that every site runs and can be reached, and train again: it goes on",
                )


def _attempt(coordinator: Coordinator, nodes: Mapping[str, Peer], pool: ThreadPoolExecutor) -> str | None:
    """Carry one attempt's waves. Return None for a step that is taken, else why sites were lost."""
    lost: dict[str, str] = {}

    def asked(site: str, message: bytes) -> bytes | None:
        try:
            return nodes[site].receive(message)
        except (Unavailable, ProtocolRefused) as error:
            lost[site] = error.message
            return None

    messages = coordinator.begin()
    while messages:
        try:
            answers = list(pool.map(asked, messages, messages.values()))
        except BaseException:
            coordinator.void()
            raise
        for site, answer in zip(messages, answers, strict=True):
            if answer is not None:
                _take(coordinator, site, answer, lost)
        try:
            messages = coordinator.proceed()
        except ProtocolRefused:
            if not lost:
                raise
            coordinator.void()
            return "; ".join(f"{site}: {why}" for site, why in sorted(lost.items()))
    return None


def _take(coordinator: Coordinator, site: str, answer: bytes, lost: dict[str, str]) -> None:
    try:
        coordinator.receive(site, answer)
    except ProtocolRefused as error:
        lost[site] = error.message
