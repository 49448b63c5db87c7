"""What a log in a bundle shows: its checkpoints, who witnessed them, and when.

The numbers are those of the steps in `spec/verify.md`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from oathbound.core.errors import NotAcceptable, NotAuthentic
from oathbound.core.study import Policy
from oathbound.evidence.contents import BundledLog
from oathbound.evidence.keys import Party
from oathbound.evidence.merkle import leaf_hash, root
from oathbound.evidence.note import Checkpoint, open_checkpoint, witnesses

CLOCK_SKEW_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class CheckpointSeen:
    """A checkpoint's size, its identity, and its witnesses' times."""

    size: int
    digest: str
    times: tuple[int, ...]


def origin(policy: Policy, operator: str) -> str:
    """Return the origin of an operator's log of a study: the first line of its checkpoints."""
    return f"oathbound.invalid/{policy.study}/{operator}"


def heads_of(operator: str, log: BundledLog, party: Party, policy: Policy) -> list[tuple[bytes, Checkpoint]]:
    """(5) Return the checkpoints of a log, whose leaves must have their roots, with their notes."""
    hashes = [leaf_hash(leaf) for leaf in log.leaves]
    heads = [(note, open_checkpoint(note, party, origin(policy, operator))) for note in log.checkpoints]
    sizes = [head.size for _, head in heads]
    if not heads or sizes != sorted(set(sizes)) or sizes[-1] != len(hashes):
        raise NotAuthentic(
            f"the checkpoints of the log of {operator} do not ascend to cover all of its leaves"
        )
    for _, head in heads:
        if root(hashes[: head.size]) != head.root:
            raise NotAuthentic(
                f"the leaves of the log of {operator} do not have the root of checkpoint {head.size}"
            )
    return heads


def witnessed_head(
    note: bytes, head: Checkpoint, policy: Policy, parties: Mapping[str, Party], at: int
) -> CheckpointSeen:
    """(7) Return a checkpoint with its witnesses' times, of whom there must be enough."""
    operator = head.origin.rsplit("/", 1)[-1]
    cosigned = [seen for seen in witnesses(note, parties) if policy.site(seen.name) and seen.name != operator]
    names = {seen.name for seen in cosigned}
    needed = policy.witnesses_needed(operator)
    if len(names) < needed:
        raise NotAcceptable(
            f"checkpoint {head.size} of the log of {operator} has {len(names)} of {needed} witnesses needed"
        )
    if any(seen.time > at + CLOCK_SKEW_SECONDS for seen in cosigned):
        raise NotAcceptable(
            f"checkpoint {head.size} of the log of {operator} was cosigned after the time of verification",
            hint="check this machine's clock, or give the time with --at",
        )
    times = tuple(sorted(seen.time for seen in cosigned))
    return CheckpointSeen(size=head.size, digest=head.identity, times=times)


def check_clocks(log: Sequence[CheckpointSeen], operator: str) -> None:
    """(9) Refuse checkpoints of one log whose witnesses' clocks run backwards."""
    for before, after in pairwise(log):
        if max(before.times) > min(after.times) + CLOCK_SKEW_SECONDS:
            raise NotAcceptable(f"by its witnesses' clocks the log of {operator} was not written in order")


def checkpoint_cited(log: Sequence[CheckpointSeen], run: str, what: str) -> CheckpointSeen:
    """Return the checkpoint that something cites; the bundle must hold it."""
    for seen in log:
        if seen.digest == run:
            return seen
    raise NotAcceptable(f"{what} cites a checkpoint that the bundle does not hold")
