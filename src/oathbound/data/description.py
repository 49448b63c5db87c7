"""What a source says about itself, before any record is used."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """`schema` is the digest of the columns, their types and the codes that occur, not of values.

    `simulated` says in one sentence in what way the site is not a real one; None where it is. `dropped` is
    how many numbers were not finite and count as absent, as a word that may be shown.
    """

    kind: str
    schema: str
    simulated: str | None
    dropped: str
