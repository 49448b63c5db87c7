"""What a source says about itself, before any record is used."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dropped:
    """What of a source is not used, as counts that may be shown (`disclosure.rounded`; None: a few).

    `rows` have no subject and are nobody's; `patients` have an event that cannot be read, and are left out
    whole; `numbers` are not finite and count as absent. `why` counts those patients by reason, where a source
    has several reasons; each patient counts once.
    """

    rows: int | None = 0
    patients: int | None = 0
    numbers: int | None = 0
    why: tuple[tuple[str, int | None], ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """`schema` is the digest of the columns and their types, and of nothing that a record holds.

    It is public, and a digest can be guessed at: with the codes that occur in it, anybody could ask whether a
    rare one does, of somebody who denied consent too.
    `simulated` says in one sentence in what way the site is not a real one; None where it is.
    """

    kind: str
    schema: str
    simulated: str | None
    dropped: Dropped
