"""Mutants that no test can notice, because they change nothing that anybody can see; each with its reason."""

from typing import Final

EQUIVALENT: Final[dict[str, str]] = {
    "core.canonical from_canonical: no `except rfc8785.CanonicalizationError`": (
        "it is a ValueError, which is caught beside it; the name says what is expected"
    ),
    "core.gates _Round._of_score: no `len(self.sites) > 1`": (
        "more than one site measured, which the other part asks, needs more than one site"
    ),
    "core.claims sentence: no `claim.upper is not None`": (
        "a claim with an estimate has both ends; this tells the type checker so"
    ),
    "core.claims note_of: no `turned(pooled, gate, side)`": (
        "notes are of undecided claims; one with its upper end below the gate is undecided only if turned"
    ),
    "evidence.bundle _entries: no `name in entries`": (
        "an archive with a name twice is never what its entries pack to; this ends the walk of a bomb early"
    ),
    "evidence.merkle _left_siblings: no `position`": (
        "an even position other than 0 becomes odd before it becomes 0; the algorithm stands as in RFC 9162"
    ),
}
