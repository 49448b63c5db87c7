"""The cohort: who was admitted to a study, and the only thing that opens a source's records.

`admit` puts consent, window and chance together: `spec/cohort.md` numbers its steps.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.data.commitment import window_position
from oathbound.data.consent import Consent, Deny, Request, decide
from oathbound.data.disclosure import rounded, spoken
from oathbound.hazmat.random import permutation

if TYPE_CHECKING:
    import numpy as np

PARTS: Final = ("members", "held_out", "reference")

_ADMITTED: Final = object()

Permutation = Callable[[int], "np.ndarray"]
"""A uniform permutation of 0..n-1; tests give one that they know."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """The admitted patients of one study at one site, in three disjoint parts.

    Made by `admit`, or read back from the site's store. Its text shows no patient.
    """

    study: str
    policy_digest: str
    members: frozenset[int] = field(repr=False)
    held_out: frozenset[int] = field(repr=False)
    reference: frozenset[int] = field(repr=False)
    admission: InitVar[object] = None

    def __post_init__(self, admission: object) -> None:
        if admission is not _ADMITTED:
            raise TypeError("a cohort comes from admit() or from a site's store")
        if len(self.subjects) != len(self.members) + len(self.held_out) + len(self.reference):
            raise WrongInput("a patient is in two parts of a cohort")
        if not self.members or not self.held_out:
            raise NothingExamined(
                "no patients were admitted as members, or none held out",
                hint="`oathbound admit` shows why patients were excluded",
            )

    @property
    def subjects(self) -> frozenset[int]:
        """All admitted patients, of the three parts."""
        return self.members | self.held_out | self.reference

    def part(self, name: str) -> frozenset[int]:
        """Return `members`, `held_out` or `reference`."""
        return {"members": self.members, "held_out": self.held_out, "reference": self.reference}[name]


def restored(study: str, policy_digest: str, parts: Mapping[str, Iterable[int]]) -> Cohort:
    """Return a cohort that was admitted before: for the site's store alone."""
    sets = {name: frozenset(parts.get(name, ())) for name in PARTS}
    return Cohort(study, policy_digest, **sets, admission=_ADMITTED)


class Records(Protocol):
    """What an admission asks of a source."""

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of all subjects."""
        ...

    def unreadable(self) -> frozenset[int]:
        """Return those of the subjects who have an event that cannot be read."""
        ...

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose events equal those of one of them with a smaller id."""
        ...


class Window(NamedTuple):
    """The stretch [low, high) of [0, 1): studies with disjoint windows have disjoint patients."""

    low: Decimal
    high: Decimal

    def holds(self, key: bytes) -> bool:
        """Return whether the patient of this key has its place in the window, exactly."""
        return self.low <= Fraction(window_position(key), 2**64) < self.high


class Shares(NamedTuple):
    """The parts of the admitted that are held out and that are reference; the rest are members."""

    held_out: Decimal
    reference: Decimal


@dataclass(frozen=True, slots=True)
class Tally:
    """How many subjects were considered, and why how many of them were excluded: exact, never shown."""

    considered: int = field(repr=False)
    excluded: Mapping[str, int] = field(repr=False)

    def rounded(self) -> dict[str, int | None]:
        """Return the exclusions as they may be shown, by reason, in alphabetical order."""
        return {reason: rounded(count) for reason, count in sorted(self.excluded.items())}


class Admission(NamedTuple):
    """Who was admitted, and what became of the others."""

    cohort: Cohort
    tally: Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a policy asks of an admission.

    `training` and `audit` are the two uses, asked for separately. `unbounded` holds the patients of studies
    without a bound, whom a private study excludes; it is empty for another.
    """

    study: str
    policy_digest: str
    training: Request
    audit: Request
    window: Window
    shares: Shares
    unbounded: frozenset[int] = field(default=frozenset(), repr=False)


def admit(
    source: Records,
    terms: Terms,
    *,
    consents: Mapping[int, Sequence[Consent]],
    keys: Mapping[int, bytes],
    at: datetime,
    permute: Permutation = permutation,
) -> Admission:
    """Admit the patients that `terms` allow at the time `at`, and draw the three parts uniformly.

    `keys` holds k_patient of every patient with a consent. Raises `NothingExamined` where no members, or no
    held-out patients, are left.
    """
    subjects = source.subjects()
    reasons = {
        subject: _exclusion(terms, consents.get(subject, ()), keys.get(subject), at) for subject in subjects
    }
    reasons |= {subject: "in an unbounded study" for subject in terms.unbounded if subject in reasons}
    eligible = frozenset(subject for subject, reason in reasons.items() if reason is None)
    unreadable = eligible & source.unreadable()
    reasons |= dict.fromkeys(unreadable, "record cannot be read")
    eligible -= unreadable
    copies = source.duplicates(eligible) if eligible else frozenset()
    reasons |= dict.fromkeys(copies, "record is a duplicate")
    excluded = Counter(reason for reason in reasons.values() if reason is not None)
    parts = _draw(sorted(eligible - copies), terms.shares, permute)
    if not parts["members"] or not parts["held_out"]:
        told = ", ".join(f"{reason} ({spoken(count)})" for reason, count in sorted(excluded.items()))
        raise NothingExamined(
            f"nobody was admitted as a member, or nobody held out; not admitted: {told or 'nobody'}",
            hint="look at the consents, the window and held_out; "
            "or the source counts rows as patients: see source in site.toml",
        )
    return Admission(restored(terms.study, terms.policy_digest, parts), Tally(len(subjects), excluded))


def _exclusion(terms: Terms, consents: Sequence[Consent], key: bytes | None, at: datetime) -> str | None:
    """Return why a patient is excluded, or None.

    All three parts need both consents, so that they are drawn from the same patients: a difference between
    members and held-out patients is then the model's, and not one between people who say yes once and
    twice.
    """
    for use, request in (("training", terms.training), ("audit", terms.audit)):
        decision = decide(consents, request, at)
        if isinstance(decision, Deny):
            return f"{use}: {decision.reason}"
    if key is None:
        return "no key"
    return None if terms.window.holds(key) else "outside the window"


def _draw(eligible: Sequence[int], shares: Shares, permute: Permutation) -> dict[str, list[int]]:
    shuffled = [eligible[place] for place in permute(len(eligible)).tolist()]
    held_out = int(len(eligible) * Fraction(shares.held_out))
    reference = int(len(eligible) * Fraction(shares.reference))
    return {
        "held_out": shuffled[:held_out],
        "reference": shuffled[held_out : held_out + reference],
        "members": shuffled[held_out + reference :],
    }
