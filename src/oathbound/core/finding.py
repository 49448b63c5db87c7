"""Findings: what an audit test measured, as facts from which a reader recomputes every interval and verdict.

A finding is suppressed and rounded when it is made, inside the site: counts to 5, statistics to `DECIMALS`
digits with standard errors rounded up, and nothing at all below the policy's minimum number of patients.
"""

from decimal import Decimal
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.canonical import digest_of
from oathbound.core.record import Count, Digest, Exact, Name, Record, Text

DECIMALS: Final = 3
"""Digits after the point of a published statistic."""

Rounded = Annotated[Count, Field(multiple_of=5)]
"""A count rounded to a multiple of 5."""


class Threat(Record):
    """What the attacker of a test sees and knows."""

    sees: Text
    knows: Text


class Auc(Record):
    """The area under the ROC curve of `score`, members against held-out, with DeLong's (1988) error."""

    kind: Literal["auc"]
    score: Name
    estimate: Exact = Field(ge=0, le=1)
    standard_error: Exact = Field(ge=0, le=1)
    members: Rounded
    held_out: Rounded


class TruePositiveRate(Record):
    """The true positive rate of `score` at a false positive rate of 1 %.

    The threshold is an order statistic of the held-out scores: `lower_hits` of `members` exceed the one that
    keeps the false positive rate at or below 1 % with 98.75 % confidence, `upper_hits` the one that reaches
    it.
    """

    kind: Literal["tpr-at-1-percent"]
    score: Name
    lower_hits: Rounded
    upper_hits: Rounded
    members: Rounded
    held_out: Rounded


class Excess(Record):
    """The mean of a quantity in [0, 1] of each patient, members less held-out; the test says which quantity.

    Of the disclosure test it is the probability of a sensitive code, of carriers. The held-out mean is
    standardised to the members' strata; `strata` says which. `standard_error` is of the
    difference, a bootstrap over patients in closed form. `estimator` names how a probability was estimated,
    where it was by continuations that were drawn (spec/finding.md).
    """

    kind: Literal["excess"]
    score: Name
    estimate: Exact = Field(ge=-1, le=1)
    standard_error: Exact = Field(ge=0, le=1)
    member_mean: Exact = Field(ge=0, le=1)
    held_out_mean: Exact = Field(ge=0, le=1)
    members: Rounded
    held_out: Rounded
    strata: Text
    estimator: Annotated[Text, Field(max_length=100)] | None = None


class AucDifference(Record):
    """How much better `score` tells carriers of a secret from others among members than among held-out.

    The AUC of carriers against others in either group, each with DeLong's (1988) error. `members` and
    `held_out` count the carriers, `member_others` and `held_out_others` those without the secret.
    """

    kind: Literal["auc-difference"]
    score: Name
    member_auc: Exact = Field(ge=0, le=1)
    member_error: Exact = Field(ge=0, le=1)
    held_out_auc: Exact = Field(ge=0, le=1)
    held_out_error: Exact = Field(ge=0, le=1)
    members: Rounded
    member_others: Rounded
    held_out: Rounded
    held_out_others: Rounded

    @property
    def of_members(self) -> Auc:
        """The AUC among members."""
        return Auc(
            kind="auc",
            score=self.score,
            estimate=self.member_auc,
            standard_error=self.member_error,
            members=self.members,
            held_out=self.member_others,
        )

    @property
    def of_held_out(self) -> Auc:
        """The AUC among held-out patients."""
        return Auc(
            kind="auc",
            score=self.score,
            estimate=self.held_out_auc,
            standard_error=self.held_out_error,
            members=self.held_out,
            held_out=self.held_out_others,
        )


class Tail(Record):
    """The members of whom `score` is sure: how many lie above held-out patients, who set the thresholds.

    `above_all` members score above every held-out patient. A random half of members and held-out chose
    `rank`; in the other half `hits` members score above the held-out score of that rank, 1 for the highest.
    What follows from it is in `core.tail`. No gate can ask for it: it has no upper end.
    """

    kind: Literal["tail"]
    score: Name
    above_all: Rounded
    rank: Annotated[Count, Field(ge=1, le=1000)]
    hits: Rounded
    members: Rounded
    held_out: Rounded


class Baseline(Record):
    """The AUC, members against held-out, of an attacker who never asked the model under audit.

    `score` says who: `records`, a classifier of records, fitted to half of the patients and asked about the
    other half; `references`, models that saw neither group. Where its interval excludes one half, the groups
    differ by themselves, and no test can separate shift from memorisation. No gate can ask for it.
    """

    kind: Literal["baseline"]
    score: Name
    estimate: Exact = Field(ge=0, le=1)
    standard_error: Exact = Field(ge=0, le=1)
    members: Rounded
    held_out: Rounded


MOST_CANARIES: Final = 10_000
"""The most patients that are planted: what a verifier computes grows with the guesses."""

Canaries = Annotated[int, Field(ge=2, le=MOST_CANARIES)]


class OneRun(Record):
    """How often an attacker guessed right, by `score`, which of the planted patients one training had used.

    Of `planted` patients whom nobody is, each was in the training by a fair coin of its own. The attacker
    said of `guesses` of them, half and half, in or out, and `right` of these were right. The counts are
    exact: they are about nobody. `delta` is the policy's; 0.00001 where it has none. What follows is in
    `core.one_run`. No gate can ask for it: it has no upper end.
    """

    kind: Literal["one-run"]
    score: Name
    planted: Canaries
    guesses: Canaries
    right: Count
    delta: Exact = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if not self.right <= self.guesses <= self.planted:
            raise ValueError("more guesses than canaries, or more right ones than guesses")
        return self


class Reconstruction(Record):
    """Of how many members a recording was brought back from what training sends, and found among others'.

    By `score` the reconstruction was more like the member's own recording than like those of `decoys`
    held-out patients of the same class; by chance that is so once in `decoys` + 1. `bare` counts them where
    one patient's gradient was seen, the control; `summed` where the sum over the patients of a step was;
    `noised` where each was clipped and noise was added, in a study with a budget. 0 stands for fewer than 10,
    and `members` for all but fewer than 10. `members` were attacked; `held_out` are those of whom decoys were
    drawn.
    """

    kind: Literal["reconstruction"]
    score: Name
    bare: Rounded
    summed: Rounded
    noised: Rounded | None
    decoys: Annotated[int, Field(ge=1, le=999)]
    members: Rounded
    held_out: Rounded

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if max(self.bare, self.summed, self.noised or 0) > self.members:
            raise ValueError("more members found than attacked")
        return self

    @property
    def opened(self) -> int:
        """How many were found in what this study opens: the noised sum, or the sum without a budget."""
        return self.summed if self.noised is None else self.noised

    @property
    def chance(self) -> Decimal:
        """The share that is found by guessing."""
        return 1 / Decimal(self.decoys + 1)


class NotMeasurable(Record):
    """A metric that these patients are too few to measure, and why."""

    kind: Literal["not-measurable"]
    metric: Name
    score: Name
    reason: Text


Measure = Annotated[
    Auc
    | AucDifference
    | TruePositiveRate
    | Excess
    | Tail
    | Baseline
    | OneRun
    | Reconstruction
    | NotMeasurable,
    Field(discriminator="kind"),
]


class Measured(Record):
    """The test ran.

    `tokens` is the cost, the tokens that went through the model (of a model without tokens, the records),
    rounded up to a power of two, and 0 where nothing was measurable: an exact cost would tell how many
    patients there were.
    """

    kind: Literal["measured"]
    measures: tuple[Measure, ...] = Field(min_length=1)
    tokens: Count


class DidNotRun(Record):
    """The test did not run: a result, with its reason; it blocks where the policy has a gate on the test."""

    kind: Literal["did-not-run"]
    reason: Text


class Finding(Record):
    """One answer of one audit test about one model at one site."""

    test: Name
    version: Annotated[int, Field(ge=1)]
    site: Name
    model: Digest
    seed: Digest
    threat: Threat
    outcome: Annotated[Measured | DidNotRun, Field(discriminator="kind")]


def audit_seed(*, policy: str, model: str, nonce: str, test: str, site: str) -> str:
    """Return the seed of one test at one site.

    The site commits to `nonce` with its admission, before there is a model, and reveals it with its finding:
    it cannot choose it afterwards, and nobody else can know it before.
    """
    return digest_of({"policy": policy, "model": model, "nonce": nonce, "test": test, "site": site})
