"""What the page says of verdicts, tests and metrics, for a reader who has met none of them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from oathbound.core.claims import Verdict
from oathbound.core.gates import Judgement


@dataclass(frozen=True, slots=True)
class Said:
    """A verdict in words: the word, the headline, and what it does and does not mean."""

    word: str
    headline: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric in words. `chance` is its value for a model that remembers nobody.

    `said` is a sentence for `str.format`: the ends `low` and `high` of an interval, and the `gate`, in
    hundredths.
    """

    name: str
    meaning: str
    said: str
    chance: Decimal | None


VERDICTS: Final = {
    Verdict.PASS: Said(
        "Passed",
        "Every attack stayed within the limits that were set beforehand, over all sites together.",
        "Every attack that the policy names was tried at every site, and over all sites the upper end of "
        "every interval lies at or below its gate. A single site may be exposed more than that, and it does "
        "not mean that no attack could ever do better.",
    ),
    Verdict.FAIL: Said(
        "Refused",
        "An attack found more than the sites had agreed to allow.",
        "An attack did better than the policy allows, by more than chance explains. A later attempt cannot "
        "undo this: the model is not to be released under this policy.",
    ),
    Verdict.INCONCLUSIVE: Said(
        "Undecided",
        "No attack broke a limit, but not every limit is shown to hold.",
        "Something was not measured, or was measured too coarsely to tell. This is not a pass: the model is "
        "not to be released under this policy until the question is settled.",
    ),
}

UNMEASURED: Final = Said(
    "Undecided",
    "Nothing was measured: no limit is shown to hold.",
    "No attack that a limit was set for gave a number at any site, so nothing is known of what the model "
    "gives away. This is not a pass: the model is not to be released under this policy.",
)

UNJUDGED_AUDIT: Final = Said(
    "No verdict",
    "Nobody set a limit before this audit, so nothing here passes or fails.",
    "The numbers say what these attacks reached, with intervals. Whether that is too much was not agreed on "
    "beforehand, and a limit that is chosen after the numbers were seen is none. In a study the sites swear "
    "to gates first, and then there is a verdict.",
)

QUESTIONS: Final = {
    "embedding-probe": "Does the model's inner representation tell more of the secrets of its own patients?",
    "attribute-inference": "Does the model give away a withheld attribute of the patients it was trained on?",
    "canary": "Does the training keep what it promises, when invented patients are planted?",
    "gradient-reconstruction": "Can a patient's scan or signal be brought back from what training sends?",
    "image-linkage": "Does the model link two recordings of a patient it was trained on?",
    "membership": "Can somebody tell whose records the model was trained on?",
    "sensitive-disclosure": "Does the model give away sensitive facts of the patients it was trained on?",
    "rare-subgroup": "Is a small group of patients exposed more than the average shows?",
    "trajectory-recall": "Does the model go on with its patients' records as they really went on?",
    "identifier-perturbation": "Does the model answer to a patient's own age, sex and dates alone?",
}

METRICS: Final = {
    "auc": Metric(
        "AUC",
        "How often a patient whose records trained the model scores higher than one whose records did not. "
        "At 0.5 the attacker is guessing; at 1 the attacker is always right.",
        "Shown one patient whose records trained the model and one whose records did not, the attack "
        "tells which is which {low} to {high}\N{NO-BREAK SPACE}% of the time. "
        "The gate is {gate}\N{NO-BREAK SPACE}%; guessing gives 50\N{NO-BREAK SPACE}%.",
        Decimal("0.5"),
    ),
    "auc-difference": Metric(
        "AUC difference",
        "How much better an attacker tells who has a sensitive code from who has not, among patients the "
        "model was trained on, than among those it never saw. At 0 both are told alike.",
        "Shown one patient with a sensitive code and one without, the attack tells which is which {low} to "
        "{high} percentage points more often where the model was trained on them than where it never saw "
        "them. The gate is at {gate}; telling both alike gives 0.",
        Decimal(0),
    ),
    "tpr-at-1-percent": Metric(
        "true positive rate at 1 % false positives",
        "The share of members whom an attacker recognises while wrongly naming at most 1 in 100 others. "
        "At 0.01 the attacker is guessing.",
        "While it wrongly names 1 in 100 patients whose records were not used, the attack recognises "
        "{low} to {high}\N{NO-BREAK SPACE}% of those whose records were. "
        "The gate is {gate}\N{NO-BREAK SPACE}%; guessing gives 1\N{NO-BREAK SPACE}%.",
        Decimal("0.01"),
    ),
    "excess": Metric(
        "excess probability",
        "How much more often the model writes a sensitive code for patients it was trained on than for like "
        "patients it never saw. At 0 it treats both alike, on average.",
        "For patients it was trained on, the model writes a sensitive code {low} to {high} percentage points "
        "more often than for like patients it never saw. The gate is at {gate}; treating both alike gives 0.",
        Decimal(0),
    ),
    "reconstruction": Metric(
        "patients found by a reconstruction, above chance",
        "For what share of patients an attacker who sees what a training step opens brings back an image "
        "that is more like the patient's own than like others', less what guessing finds. At 0 the attacker "
        "is guessing. The same attack is first tried on one patient's bare gradient, and counts only "
        "where it works there.",
        "In what a training step opens, the attack brings back an image that is most like the patient's own "
        "{low} to {high} percentage points more often than guessing would. The gate is at {gate}; guessing "
        "gives 0.",
        Decimal(0),
    ),
}

OF_OTHER_TESTS: Final = {
    "attribute-inference": Metric(
        "excess probability of the true attribute",
        "How much more probable the model makes the true value of a withheld attribute, of the candidates, "
        "for patients it was trained on than for like patients it never saw. At 0 it treats both alike.",
        "For patients it was trained on, the true value of the attribute is {low} to {high} percentage "
        "points more probable than for like patients it never saw. The gate is at {gate}; treating both "
        "alike gives 0.",
        Decimal(0),
    ),
    "trajectory-recall": Metric(
        "excess closeness",
        "How much closer the model's continuations of records come to the true ones for patients it was "
        "trained on than for like patients it never saw. At 0 it treats both alike; at 1 it recites.",
        "For patients it was trained on, what the model writes is {low} to {high} percentage points "
        "closer to what really followed than for like patients it never saw. The gate is at {gate}; treating "
        "both alike gives 0.",
        Decimal(0),
    ),
    "image-linkage": Metric(
        "excess linkage",
        "How much more often the model's inner representation links two recordings of a patient it was "
        "trained on than of one it never saw, each against another person's. Beside it stands how far the "
        "recordings are linked without the model (of-values), which no gate judges.",
        "Two recordings of a patient it was trained on are linked by the model {low} to {high} percentage "
        "points more often than those of a patient it never saw. The gate is at {gate}; treating both "
        "alike gives 0.",
        Decimal(0),
    ),
    "identifier-perturbation": Metric(
        "excess fall",
        "How much more the probability of a sensitive code falls, when age, sex or dates change, for "
        "patients the model was trained on than for like patients it never saw.",
        "For patients it was trained on, the probability of a sensitive code falls {low} to {high} "
        "percentage points more than for like patients it never saw. The gate is at {gate}; treating both "
        "alike gives 0.",
        Decimal(0),
    ),
}
"""The words for an excess of something else than the writing of a sensitive code, by test."""


def said_of(judgement: Judgement) -> Said:
    """Return a verdict in words: of an undecided one, whether there is any measure at all behind it."""
    measured = any(claim.estimate is not None for claim in judgement.claims)
    if judgement.verdict is Verdict.INCONCLUSIVE and not measured:
        return UNMEASURED
    return VERDICTS[judgement.verdict]
