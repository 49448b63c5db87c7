"""The statements of a study, as types: each records facts, from which `verify` computes conclusions.

Every predicate names the policy by digest and is signed by exactly one role: a site, or the coordinator. The
type URIs live under a reserved name (RFC 2606) until the project owns a domain: see `docs/decisions/0003`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from oathbound.core.errors import NotAcceptable, WrongInput
from oathbound.core.event import PrivacyEvent
from oathbound.core.finding import Finding, Rounded
from oathbound.core.record import Count, Digest, Exact, Name, Record, Text
from oathbound.evidence.envelope import Statement, Subject

PREFIX = "https://oathbound.invalid/"

Role = Literal["site", "coordinator"]

Ordinal = Annotated[int, Field(ge=1, le=10_000_000)]

Seconds = Annotated[int, Field(ge=0, lt=253_402_300_800)]
"""POSIX seconds, UTC."""


class Predicate(Record):
    """What a statement says. `kind` ends its type URI; `role` is who may sign it."""

    kind: ClassVar[str]
    role: ClassVar[Role]

    policy_digest: Digest

    def statement(self) -> Statement:
        """Return the in-toto statement of this predicate; its subject is the policy, by digest."""
        digest = {"sha256": self.policy_digest.removeprefix("sha256:")}
        subject = (Subject(name="policy", digest=digest),)
        return Statement(subject=subject, predicate_type=PREFIX + self.kind, predicate=self.plain())


class SitePredicate(Predicate):
    """A statement that a site makes about itself."""

    role: ClassVar[Role] = "site"
    site: Name


class Oath(SitePredicate):
    """A site's promise: the whole policy, by its digest, sworn to before anything ran."""

    kind: ClassVar[str] = "oath/v1"


class Exclusion(Record):
    """Why patients were not admitted. `patients` is absent where it is too small to be shown."""

    reason: Text
    patients: Rounded | None = None


class Missing(Record):
    """How many of the admitted have a value that says "not measured" by being `coded_as`.

    Without it: how many have no label. `patients` is absent where it is too small to be shown.
    """

    code: Text
    coded_as: Exact | None = None
    patients: Rounded | None = None


class Roots(Record):
    """The roots of the cohort tries, one for each part of the draw; no cohort can be changed afterwards."""

    members: Digest
    held_out: Digest
    reference: Digest


class Admission(SitePredicate):
    """Which records met which consents at one site, as rounded counts and commitments.

    A count is absent where it is too small to be shown. `rows_of_nobody` are rows of the source without a
    patient; `absent_numbers` are values that are not finite.
    """

    kind: ClassVar[str] = "admission/v1"
    as_of: Seconds
    source: Name
    schema_digest: Digest
    simulated: Text | None = None
    considered: Rounded
    unreadable_consents: Rounded | None = None
    rows_of_nobody: Rounded | None = None
    absent_numbers: Rounded | None = None
    missing: tuple[Missing, ...] = ()
    excluded: tuple[Exclusion, ...]
    members: Rounded
    held_out: Rounded
    reference: Rounded | None = None
    roots: Roots
    nonce_digest: Digest


class Round(SitePredicate):
    """Whose records a site may use in one round of training: its members, less those who no longer consent.

    Consents were read at `as_of`, but for `unreadable_consents`, which is absent where it is too small to be
    shown; `root` commits to who was left, `members` is their number.
    """

    kind: ClassVar[str] = "round/v1"
    run: Digest
    round: Ordinal
    as_of: Seconds
    unreadable_consents: Rounded | None = None
    members: Rounded
    root: Digest


class Charged(SitePredicate):
    """What one site charged to each of its members: a privacy event, from which epsilon is computed.

    `run` is the digest of the checkpoint that all sites had cosigned before the first step.
    """

    kind: ClassVar[str] = "charged/v1"
    run: Digest
    event: PrivacyEvent


class TrainedWithSecureSum(Predicate):
    """One round's steps of training, each by a secure sum: the coordinator saw no site's vector alone.

    `attempts` is the highest attempt that was begun, in this round and all before; `summed`, in how many of
    the sums of all these rounds each site was.
    """

    kind: ClassVar[str] = "trained-with-secure-sum/v1"
    role: ClassVar[Role] = "coordinator"
    run: Digest
    round: Ordinal
    first_step: Ordinal
    last_step: Ordinal
    attempts: Count
    summed: dict[Name, Annotated[int, Field(ge=0, le=10_000_000)]] = Field(min_length=1)
    first_weights: Digest
    last_weights: Digest


class ModelMade(Predicate):
    """The model: the digest of every file of its folder, and of its weights as they were trained."""

    kind: ClassVar[str] = "model/v1"
    role: ClassVar[Role] = "coordinator"
    run: Digest
    weights: Digest
    files: dict[Annotated[str, Field(pattern=r"^[a-z]+\.(json|safetensors)$")], Digest] = Field(min_length=1)
    model: Digest


class AuditRoots(Record):
    """The roots of the tries of an audit's patients."""

    members: Digest
    held_out: Digest
    reference: Digest


class Audited(SitePredicate):
    """Whose records a site used in an audit: those of its cohort whose consent to audits stood at `as_of`.

    `run` is the checkpoint that held the model before it. Findings that follow are about these patients;
    attackers' own models were trained on `reference`.
    """

    kind: ClassVar[str] = "audited/v1"
    run: Digest
    number: Ordinal
    as_of: Seconds
    unreadable_consents: Rounded | None = None
    members: Rounded
    held_out: Rounded
    reference: Rounded
    roots: AuditRoots


class Found(SitePredicate):
    """One finding of one test at one site. `run` is the checkpoint that held the model before it."""

    kind: ClassVar[str] = "finding/v1"
    run: Digest
    nonce: Digest
    finding: Finding


class Decided(Predicate):
    """The coordinator's decision, and the heads of all sites' logs that it rests on.

    `verdict` repeats what the findings and gates say; a decision that contradicts them is refused by
    `verify`.
    """

    kind: ClassVar[str] = "release/v1"
    role: ClassVar[Role] = "coordinator"
    model: Digest
    heads: dict[Name, Digest]
    verdict: Literal["pass", "fail", "inconclusive"]


KINDS: dict[str, type[Predicate]] = {
    PREFIX + predicate.kind: predicate
    for predicate in (
        Oath,
        Admission,
        Round,
        TrainedWithSecureSum,
        Charged,
        ModelMade,
        Audited,
        Found,
        Decided,
    )
}


def predicate_of(statement: Statement) -> Predicate:
    """Return the typed predicate; `NotAcceptable` when its type is unknown, or is not what it says."""
    kind = KINDS.get(statement.predicate_type)
    if kind is None:
        raise NotAcceptable(
            f"a statement is of a type that oathbound does not know: {statement.predicate_type}"
        )
    try:
        predicate = kind.parse(statement.predicate, what=f"{kind.kind} statement")
    except WrongInput as error:
        raise NotAcceptable(error.message, hint=error.hint) from None
    if predicate.statement() != statement:
        raise NotAcceptable(f"a {kind.kind} statement is not in its one form")
    return predicate
