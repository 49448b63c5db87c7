"""The verdict, recomputed from findings by `release` and by `verify`; nobody reads a stored one.

The numbers of the steps below are those of `spec/verdict.md`. Two error rates, each at most the policy's
alpha / 2:

* A *fail* is a claim against the model, and there are many, so their lower ends hold together (Bonferroni
  over all claims of the round). The claim of a single site counts: a model that exposes one hospital's
  patients is refused, however well the others fare.
* A *pass* needs the upper end over all sites to hold for every gate and score at once, so no correction is
  due (intersection-union test, Berger 1982). A single site's upper end is not asked for: it would be the
  model's size, not its behaviour, that decided; but a site without a measurement blocks a pass.

It is one long file so that the verdict can be read, and attacked, in one place.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from enum import Enum
from itertools import chain
from typing import Final

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.errors import NotAcceptable, NothingExamined
from oathbound.core.exits import Exit
from oathbound.core.finding import (
    Auc,
    AucDifference,
    Baseline,
    DidNotRun,
    Excess,
    Finding,
    Measure,
    Measured,
    NotMeasurable,
    OneRun,
    Tail,
    TruePositiveRate,
)
from oathbound.core.intervals import UNIT, Interval, quantile
from oathbound.core.one_run import Accounted, epsilon_at_least
from oathbound.core.pooling import (
    COUNT_SLACK,
    AucDifferences,
    Aucs,
    Excesses,
    Pool,
    Reconstructions,
    Usable,
    pool,
    worst,
)
from oathbound.core.study import Gate

LEAST_FOR_AUC: Final = 40
"""With fewer members or held-out patients DeLong's error is too small in the tails that verdicts use."""

LEAST_FOR_EXCESS: Final = 40
"""With fewer member or held-out carriers the mean of a few probabilities is not normal in those tails."""

LEAST_FOR_AUC_DIFFERENCE: Final = 20
"""With fewer carriers of a group, or fewer others, nobody has tried how often its limits are wrong."""

TAIL_HELD_OUT: Final = 437
"""The least n with 1 - 0.99 ** n >= 0.9875: fewer held-out patients cannot fix a threshold at 1 %."""

SHIFTED: Final = "cannot separate shift from memorisation"
"""What is said where an attacker who never asked the model tells members from held-out patients."""

UNTRIED: Final = "nobody tried whether members and held-out patients differ by themselves"
"""What is said where no baseline was measured: a pass would rest on a draw that nobody looked at."""

UNCONTROLLED: Final = "even in one patient's bare gradient the attack does not surely exceed the gate"
"""What is said where the positive control is too weak: that fewer are found in a sum shows nothing then."""

EVERYWHERE: Final = "all sites"

BROKEN: Final = "one-run"
"""The metric of a claim that the training procedure broke its promise: it fails, or there is none."""

_ANSWERED: Final = frozenset({"attribute-inference"})
"""Tests of excess whose quantity is how often an answer among a few is right: wrong answers tell, too."""

LINKED_BY_THEMSELVES: Final = frozenset({"verification-of-values"})
"""The score of `image-linkage` that stands beside the model's, and is judged by no gate.

It says how well recordings are linked to their person without the model.
"""

OF_LINKAGE_ALONE: Final = "recordings"
"""The baseline of `image-linkage`: it can show that groups differ, and does not stand for one of records."""

_TRIES: Final = "membership"
"""The test that every study runs, and that has baselines."""

_CHANCE: Final = Decimal("0.5")

_POWER: Final = 0.8416
"""The standard normal quantile of 80 %: what is said to settle a claim does so that often."""

_HALVINGS: Final = 40
"""Enough for a millionth of a millionth; what they approach is rounded up to a thousandth."""


class Verdict(Enum):
    """What a reader concludes; also the state of one claim."""

    FAIL = "fail"
    PASS = "pass"  # noqa: S105 - a verdict, not a password
    INCONCLUSIVE = "inconclusive"

    @property
    def exit(self) -> Exit:
        """The exit code of a release with this verdict."""
        return {
            Verdict.FAIL: Exit.GATE_FAILED,
            Verdict.PASS: Exit.DONE,
            Verdict.INCONCLUSIVE: Exit.INCONCLUSIVE,
        }[self]


@dataclass(frozen=True, slots=True)
class Attempted:
    """A finding, and the number of the attempt on the site's held-out patients that made it, from 1."""

    finding: Finding
    attempt: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What the finding of one site, or all sites' together, says about one gate.

    `lower` holds together with the lower ends of all other claims of the round; `upper` holds alone. A true
    value of `detectable` has a lower end above the gate with probability 80 %. `members` and `held_out` are
    rounded counts. `attempt` is the round. Where nothing was measured, `score` may be empty, the numbers are
    None and `note` says why.
    """

    test: str
    metric: str
    score: str
    site: str
    attempt: int
    gate: Decimal
    state: Verdict
    note: str = ""
    estimate: Decimal | None = None
    lower: Decimal | None = None
    upper: Decimal | None = None
    detectable: Decimal | None = None
    confidence: str = ""
    members: int = 0
    held_out: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict, the claims of the round that decided it, and one sentence that says why."""

    verdict: Verdict
    claims: tuple[Claim, ...]
    sentence: str


def error_rate(alpha: Decimal, attempt: int) -> float:
    """Return what attempt k may err by on one side: `alpha` / (2 k (k + 1)); over all k and both, `alpha`."""
    return float(alpha) / (attempt * (attempt + 1)) / 2


def judge(
    gates: tuple[Gate, ...],
    plan: AuditPlan,
    sites: tuple[str, ...],
    findings: Sequence[Attempted],
    *,
    accounted: Accounted | None = None,
) -> Judgement:
    """Return the verdict on the one model that `findings` are about (spec/verdict.md).

    `accounted` is what the policy's procedure promises; None where it promises nothing.

    Raises `NothingExamined` without gates, sites or findings, and `NotAcceptable` where the findings are
    about two models, from a site that `sites` does not list, or numbered below 1.
    """
    # Step 1: nothing empty passes, and everything is about one model.
    if not (gates and sites and findings):
        raise NothingExamined(
            "there are no gates, no sites or no findings to judge",
            hint="run `oathbound audit` at every site before `oathbound release`",
        )
    if len({attempted.finding.model for attempted in findings}) > 1:
        raise NotAcceptable("the findings are about more than one model")
    if any(attempted.finding.site not in sites for attempted in findings):
        raise NotAcceptable("a finding is from a site that the policy does not list")
    if any(attempted.attempt < 1 for attempted in findings):
        raise NotAcceptable("a finding is numbered below attempt 1")

    # Steps 2 to 7, for every round; step 8: the first round that fails stands, otherwise the last decides.
    judgement, shifted = None, frozenset[str]()
    for number in sorted({attempted.attempt for attempted in findings}):
        current = _Round(number, plan, sites, findings)
        shifted |= current.shifted()  # a site that differed once differs
        judgement = current.judge(gates, accounted, shifted)
        if judgement.verdict is Verdict.FAIL:
            break
    if judgement is None:
        raise NothingExamined("no round was judged")
    return judgement


@dataclass(frozen=True, slots=True)
class _Question:
    """One gate put to one pool of findings, or to none, with the reason."""

    gate: Gate
    score: str
    site: str
    pool: Pool | None
    missing: str = ""
    sites: frozenset[str] = frozenset()


class _Round:
    """What is known after attempt `number`: the findings of the latest attempt so far, by test and site."""

    def __init__(
        self, number: int, plan: AuditPlan, sites: tuple[str, ...], findings: Sequence[Attempted]
    ) -> None:
        self.number = number
        self.plan = plan
        self.sites = sites
        # Step 2: a later attempt replaces an earlier one; two different outcomes of one attempt are both
        # kept.
        self.latest: dict[tuple[str, str], list[Finding]] = {}
        seen: dict[tuple[str, str], int] = defaultdict(int)
        for attempted in sorted(findings, key=lambda attempted: attempted.attempt):
            key = (attempted.finding.test, attempted.finding.site)
            if attempted.attempt > number:
                break
            if attempted.attempt > seen[key]:
                self.latest[key] = []
            seen[key] = attempted.attempt
            if attempted.finding not in self.latest[key]:
                self.latest[key].append(attempted.finding)

    def judge(
        self, gates: tuple[Gate, ...], accounted: Accounted | None, shifted: frozenset[str]
    ) -> Judgement:
        """Return the judgement of this round alone; `shifted` are sites whose groups differ by themselves."""
        # Step 4: attempt k may spend alpha / (k (k + 1)), which sums to alpha; half of it on either side.
        side = error_rate(self.plan.alpha, self.number)
        untried = self._untried()
        questions = [question for gate in gates for question in self._questions(gate, shifted)]
        runs = [] if accounted is None else list(self._one_runs())
        simultaneous = sum(question.pool is not None for question in questions) + len(runs)
        claims = tuple(self._claim(question, side, simultaneous, shifted, untried) for question in questions)
        if accounted is not None:
            broken = (self._broken(*run, accounted, side / simultaneous) for run in runs)
            claims += tuple(claim for claim in broken if claim is not None)
        # Steps 6 and 7.
        if any(claim.state is Verdict.FAIL for claim in claims):
            verdict = Verdict.FAIL
        elif all(claim.state is Verdict.PASS for claim in claims if _needed(claim)):
            verdict = Verdict.PASS
        else:
            verdict = Verdict.INCONCLUSIVE
        return Judgement(verdict, claims, _sentence(verdict, claims))

    def _questions(self, gate: Gate, shifted: frozenset[str]) -> Iterator[_Question]:
        """Step 3: ask for every score that any site reports, of all sites together and of each.

        Where some sites are `shifted`, also of all others together: one site's draw excuses nobody else.
        """
        measured: dict[str, dict[str, list[Usable]]] = defaultdict(lambda: defaultdict(list))
        blocked: dict[tuple[str, str], str] = {}
        for site in self.sites:
            for score, outcome in self._outcomes(gate, site):
                if isinstance(outcome, str):
                    blocked[score, site] = outcome
                else:
                    measured[score][site].append(outcome)
        for score in sorted(measured):
            by_site = measured[score]
            yield from self._of_score(gate, score, by_site, shifted)
            for site in self.sites:
                if site not in by_site and not {(score, site), ("", site)} & blocked.keys():
                    yield _Question(gate, score, site, None, f"the site did not measure {score}")
        for (score, site), reason in blocked.items():
            yield _Question(gate, score, site, None, reason)

    def _of_score(
        self, gate: Gate, score: str, by_site: Mapping[str, list[Usable]], shifted: frozenset[str]
    ) -> Iterator[_Question]:
        """Ask one score of all sites together, of those that are not shifted together, and of each."""
        where = EVERYWHERE if len(by_site) == len(self.sites) else ", ".join(by_site)
        worsts = {site: worst(measures) for site, measures in by_site.items()}
        yield _Question(gate, score, where, pool([*worsts.values()]), sites=frozenset(by_site))
        rest = {site: measure for site, measure in worsts.items() if site not in shifted}
        if 1 < len(rest) < len(by_site):
            yield _Question(gate, score, ", ".join(rest), pool([*rest.values()]), sites=frozenset(rest))
        if len(self.sites) > 1 and len(by_site) > 1:
            for site, measures in by_site.items():
                for measure in measures:
                    yield _Question(gate, score, site, pool([measure]), sites=frozenset({site}))

    def _outcomes(self, gate: Gate, site: str) -> Iterator[tuple[str, Usable | str]]:
        """Yield score and measure, or score and why there is none; an empty score stands for all."""
        findings = self.latest.get((gate.test, site), [])
        if not findings:
            yield "", "there is no finding"
        for finding in findings:
            if isinstance(finding.outcome, DidNotRun):
                yield "", f"did not run: {finding.outcome.reason}"
                continue
            of_gate = [
                measure
                for measure in finding.outcome.measures
                if _metric(measure) == gate.metric
                and not (finding.test == "image-linkage" and measure.score in LINKED_BY_THEMSELVES)
            ]
            if not of_gate:
                yield "", f"the finding has no {gate.metric}"
            for measure in of_gate:
                yield measure.score, usable(measure, self.plan.minimum_patients)

    def _measured(self) -> Iterator[tuple[str, Measure]]:
        """Yield every measure of the findings that ran, with its site."""
        for finding in chain.from_iterable(self.latest.values()):
            if isinstance(finding.outcome, Measured):
                yield from ((finding.site, measure) for measure in finding.outcome.measures)

    def shifted(self) -> frozenset[str]:
        """Return the sites where members and held-out patients differ by themselves, for all tests."""
        baselines = [(site, each) for site, each in self._measured() if isinstance(each, Baseline)]
        rate = baseline_rate(self.plan.alpha, len(baselines))
        return frozenset(site for site, each in baselines if tells_apart(each, rate))

    def _untried(self) -> frozenset[str]:
        """Return the sites where nobody tried whether they do.

        That a site states every finding is asked where bundles are verified.
        """
        unrun = {
            site
            for (test, site), findings in self.latest.items()
            if test == _TRIES and any(isinstance(finding.outcome, DidNotRun) for finding in findings)
        }
        unmeasured = {site for site, each in self._measured() if _metric(each) == "baseline"}
        baselines = {
            site
            for site, each in self._measured()
            if isinstance(each, Baseline) and each.score != OF_LINKAGE_ALONE
        }
        return frozenset((unrun | unmeasured) - baselines)

    def _one_runs(self) -> Iterator[tuple[Finding, OneRun]]:
        """Yield every measure of planted patients, of any test and site, with its finding."""
        for finding in chain.from_iterable(self.latest.values()):
            if isinstance(finding.outcome, Measured):
                yield from ((finding, each) for each in finding.outcome.measures if isinstance(each, OneRun))

    def _broken(self, finding: Finding, run: OneRun, accounted: Accounted, alpha: float) -> Claim | None:
        """Step 5.6: a claim that fails where a run shows more than was accounted; no claim otherwise."""
        shown = epsilon_at_least(run, accounted.delta, alpha)
        if shown <= accounted.epsilon:
            return None
        return Claim(
            test=finding.test,
            metric=run.kind,
            score=run.score,
            site=finding.site,
            attempt=self.number,
            gate=accounted.epsilon,
            state=Verdict.FAIL,
            note=(
                f"{finding.test} at {finding.site} shows an epsilon of at least {shown} of the training "
                f"procedure, for which {accounted.epsilon} was accounted"
            ),
            lower=shown,
        )

    def _claim(
        self,
        question: _Question,
        side: float,
        simultaneous: int,
        shifted: frozenset[str],
        untried: frozenset[str],
    ) -> Claim:
        """Step 5: both ends, and where they lie; never more than undecided at a site whose groups differ."""
        gate, pooled = question.gate, question.pool
        claim = Claim(
            test=gate.test,
            metric=gate.metric,
            score=question.score,
            site=question.site,
            attempt=self.number,
            gate=gate.at_most,
            state=Verdict.INCONCLUSIVE,
            note=question.missing,
        )
        if pooled is None:
            return claim
        ends = Interval(pooled.interval(side / simultaneous).lower, pooled.interval(side).upper)
        note = ""
        if question.sites & shifted:
            state, note = Verdict.INCONCLUSIVE, SHIFTED
        elif ends.lower > gate.at_most:
            state = Verdict.FAIL
        elif ends.upper <= gate.at_most and question.sites & untried:
            state, note = Verdict.INCONCLUSIVE, UNTRIED
        elif ends.upper <= gate.at_most and _uncontrolled(pooled, gate):
            state, note = Verdict.INCONCLUSIVE, UNCONTROLLED
        elif ends.upper <= gate.at_most and not _turned(pooled, gate, side):
            state = Verdict.PASS
        else:
            state = Verdict.INCONCLUSIVE
        sure = f"{100 * (1 - side):.4g} %"
        return replace(
            claim,
            state=state,
            note=note or (_note(pooled, gate, side, simultaneous) if state is Verdict.INCONCLUSIVE else ""),
            estimate=pooled.estimate.quantize(UNIT, ROUND_HALF_EVEN),
            lower=ends.lower,
            upper=ends.upper,
            detectable=_detectable(pooled, gate, side / simultaneous),
            confidence=f"lower end {sure} for {simultaneous} claims together, upper end {sure} for this one",
            members=pooled.members,
            held_out=pooled.held_out,
        )


def _needed(claim: Claim) -> bool:
    """Whether a pass needs this claim: all sites together, and whatever was not measured."""
    return claim.site == EVERYWHERE or claim.estimate is None


def _metric(measure: Measure) -> str:
    return measure.metric if isinstance(measure, NotMeasurable) else measure.kind


def usable(measure: Measure, minimum: int) -> Usable | str:  # noqa: C901, PLR0911 - one return for each reason
    """Return `measure`, or why a verdict cannot rest on it: a site's suppression is checked, not trusted."""
    if isinstance(measure, NotMeasurable):
        return f"not measurable: {measure.reason}"
    if isinstance(measure, (Tail, Baseline, OneRun)):
        return "no gate can ask for it"
    fewest = min(measure.members, measure.held_out)
    if fewest + COUNT_SLACK < minimum:
        return "not measurable: fewer patients than the policy's minimum"
    if isinstance(measure, TruePositiveRate):
        if measure.held_out + COUNT_SLACK < TAIL_HELD_OUT:
            return f"not measurable: fewer than {TAIL_HELD_OUT} held-out patients"
        if not measure.lower_hits <= measure.upper_hits <= measure.members:
            return "not measurable: the hits contradict each other"
    elif isinstance(measure, AucDifference):
        return _usable_difference(measure, minimum)
    elif isinstance(measure, Auc) and fewest + COUNT_SLACK < LEAST_FOR_AUC:
        return "not measurable: too few patients for an AUC"
    elif isinstance(measure, Excess) and fewest + COUNT_SLACK < LEAST_FOR_EXCESS:
        return "not measurable: too few carriers for an excess"
    elif isinstance(measure, Auc) and not _possible(measure):
        return "not measurable: the error is more than such an AUC can have"
    elif isinstance(measure, Excess) and not _adds_up(measure):
        return "not measurable: the difference is not that of the means"
    elif _has_no_spread(measure):
        return "not measurable: the scores have no spread"
    return measure


def _has_no_spread(measure: Usable) -> bool:
    if isinstance(measure, Auc):
        return measure.standard_error == 0 and measure.estimate not in (0, 1)
    return isinstance(measure, Excess) and measure.standard_error == 0


def _possible(auc: Auc | Baseline) -> bool:
    """Whether DeLong's error is one that so many scores can have, whatever they are.

    The share of the others that a score beats lies in [0, 1] and has the mean A over a group of n, so its
    variance is at most A (1 - A) n / (n - 1). All facts are taken at the end of their rounding that allows
    most.
    """
    here = min(max(_CHANCE, auc.estimate - UNIT), auc.estimate + UNIT)
    groups = (max(count - COUNT_SLACK - 1, 1) for count in (auc.members, auc.held_out))
    most = math.sqrt(float(here * (1 - here)) * sum(1 / n for n in groups))
    return float(auc.standard_error - UNIT) <= most


def _adds_up(excess: Excess) -> bool:
    """Whether the difference is that of the means, each rounded by itself."""
    return abs(excess.estimate - excess.member_mean + excess.held_out_mean) <= 2 * UNIT


def _usable_difference(measure: AucDifference, minimum: int) -> AucDifference | str:
    groups = (measure.of_members, measure.of_held_out)
    fewest = min(count for auc in groups for count in (auc.members, auc.held_out))
    if fewest + COUNT_SLACK < max(minimum, LEAST_FOR_AUC_DIFFERENCE):
        return "not measurable: too few carriers, or others, for two AUCs"
    if not all(map(_possible, groups)):
        return "not measurable: the error is more than such an AUC can have"
    if any(auc.standard_error == 0 and auc.estimate not in (0, 1) for auc in groups):
        return "not measurable: the scores have no spread"
    return measure


def blind(baseline: Baseline, alpha: float) -> Interval:
    """Return both ends of the AUC of who never asked the model, each with error rate `alpha`."""
    facts = {name: getattr(baseline, name) for name in Baseline.model_fields}
    return pool([Auc(**facts | {"kind": "auc"})]).interval(alpha)


def baseline_rate(alpha: Decimal, together: int) -> float:
    """Return the error rate of either end of each of the baselines of a round, which hold together.

    It is that of the first attempt: who tries again must not find out less easily that the groups differ.
    """
    return error_rate(alpha, 1) / max(together, 1)


def tells_apart(baseline: Baseline, alpha: float) -> bool:
    """Whether the ends of an AUC without the model exclude one half, each with error rate `alpha`.

    So it is, too, where nobody was asked about, or with an error that cannot be: then nobody knows.
    """
    if not (baseline.members and baseline.held_out and _possible(baseline)):
        return True
    ends = blind(baseline, alpha)
    return not ends.lower <= _CHANCE <= ends.upper


def _turned(pooled: Pool, gate: Gate, side: float) -> bool:
    """Return whether an AUC could be as far below one half as the gate is above: turned round, an attack.

    A site where it surely is below one half counts by itself, however the others fare. Of a difference of two
    it is the AUC among members, and the gate is how far above one half it may lie. A candidate that is found
    less often among members than among others is an answer, too: the other one.
    """
    if isinstance(pooled, Aucs):
        return pooled.turned(side) > max(gate.at_most, 1 - gate.at_most)
    if isinstance(pooled, Excesses) and gate.test not in _ANSWERED:
        return False
    return isinstance(pooled, (AucDifferences, Excesses)) and pooled.turned(side) > gate.at_most


def _uncontrolled(pooled: Pool, gate: Gate) -> bool:
    """Return whether the attack could not have broken the gate, whatever the study had opened."""
    return isinstance(pooled, Reconstructions) and pooled.control <= gate.at_most


def _note(pooled: Pool, gate: Gate, side: float, simultaneous: int) -> str:
    """Return what would settle the claim: held-out patients, and members in proportion, as 1 / gap ** 2."""
    if _turned(pooled, gate, side) and pooled.interval(side).upper <= gate.at_most:
        whom = "those with the secret" if isinstance(pooled, AucDifferences) else "members"
        if gate.test in _ANSWERED:
            return "members may be answered wrongly more often than others, which an attacker turns round"
        return f"the score may rank {whom} last, which an attacker turns round"
    error = pooled.standard_error(float(gate.at_most))
    gap = float(gate.at_most - pooled.estimate)
    if abs(gap) <= error:
        return "not settleable at this estimate: it lies within one standard error of the gate"
    reach = quantile(side if gap > 0 else side / simultaneous) + _POWER
    attacked = isinstance(pooled, Reconstructions)
    needed = (pooled.members if attacked else pooled.held_out) * (reach * error / gap) ** 2
    coarse = 10.0 ** max(math.floor(math.log10(needed)) - 1, 0)
    whom = "held-out carriers" if gate.metric in {"auc-difference", "excess"} else "held-out patients"
    number = math.ceil(needed / coarse) * coarse
    if attacked:
        return f"about {number:,.0f} targets would settle it four times in five"
    return f"about {number:,.0f} {whom}, with members in proportion, would settle it four times in five"


def _detectable(pooled: Pool, gate: Gate, alpha: float) -> Decimal:
    """Return the least true value that fails four times in five, its lower end at error rate `alpha`.

    The least estimate E that fails is gate + z S(E), S the error that the sites would publish with it. The
    truth D whose estimates reach E so often is E + 0.84 SE(D). Both errors grow with what they are taken
    at, for few members carry an excess, and they come and go with the sample.
    """
    failing = _beyond(float(gate.at_most), quantile(alpha), pooled.published_error)
    found = _beyond(failing, _POWER, pooled.standard_error)
    return Decimal(math.ceil(found / float(UNIT))) * UNIT


def _beyond(start: float, reach: float, error: Callable[[float], float]) -> float:
    """Return the largest x with x = `start` + `reach` * `error`(x), where `error` ** 2 is linear in x.

    From above, each step at least halves the distance.
    """
    x = 1 + start
    for _ in range(_HALVINGS):
        x = start + reach * error(x)
    return x


_METRICS: Final = {
    "auc": "AUC",
    "auc-difference": "AUC difference",
    "tpr-at-1-percent": "true positive rate at 1 % false positives",
    "excess": "excess",
    "reconstruction": "share of patients found by a reconstruction, above chance,",
}


def _sentence(verdict: Verdict, claims: tuple[Claim, ...]) -> str:
    if verdict is Verdict.FAIL:
        claim = max(
            (claim for claim in claims if claim.state is Verdict.FAIL),
            key=lambda claim: (claim.metric == BROKEN, (claim.lower or Decimal(0)) - claim.gate),
        )
        above = f"{_subject(claim)} is at least {claim.lower}, above the gate {claim.gate}"
        return f"refused: {claim.note if claim.metric == BROKEN else above}"
    needed = [claim for claim in claims if _needed(claim)]
    if verdict is Verdict.PASS:
        claim = max(needed, key=lambda claim: (claim.upper or Decimal(0)) - claim.gate)
        return (
            f"accepted: every gate held over all sites together; the closest is {_subject(claim)}, "
            f"at most {claim.upper} for a gate of {claim.gate}"
        )
    undecided = [claim for claim in needed if claim.state is Verdict.INCONCLUSIVE]
    claim = next((claim for claim in undecided if claim.note == SHIFTED), undecided[0])
    if claim.note == SHIFTED:
        return f"undecided: {_subject(claim)}: {SHIFTED}"
    if claim.estimate is None:
        return f"undecided: {_subject(claim)}: {claim.note}"
    said = f"undecided: {_subject(claim)} lies between {claim.lower} and {claim.upper}"
    if claim.upper is not None and claim.upper <= claim.gate:
        return f"{said}, below the gate {claim.gate}; but {claim.note}"
    return f"{said}, and so does the gate {claim.gate}; {claim.note}"


def _subject(claim: Claim) -> str:
    metric = _METRICS.get(claim.metric, claim.metric)
    of_score = f" of {claim.score}" if claim.score else ""
    return f"{claim.test} {metric}{of_score} at {claim.site}"
