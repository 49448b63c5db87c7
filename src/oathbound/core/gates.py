"""The verdict, recomputed from findings by `release` and by `verify`; nobody reads a stored one.

The numbers of the steps below are those of `spec/verdict.md`. Two error rates, each at most the policy's
alpha / 2:

* A *fail* is a claim against the model, and there are many, so their lower ends hold together (Bonferroni
  over all claims of the round). The claim of a single site counts: a model that exposes one hospital's
  patients is refused, however well the others fare.
* A *pass* needs the upper end over all sites to hold for every gate and score at once, so no correction is
  due (intersection-union test, Berger 1982). A single site's upper end is not asked for: it would be the
  model's size, not its behaviour, that decided; but a site without a measurement blocks a pass.

What a measure needs to be used is in `core.usable`; what is said of a claim, in `core.claims`.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import chain
from typing import Final

from oathbound.core.audit_plan import AuditPlan
from oathbound.core.claims import (
    EVERYWHERE,
    SHIFTED,
    UNCONTROLLED,
    UNTRIED,
    Claim,
    Verdict,
    detectable,
    is_needed,
    note_of,
    sentence,
    turned,
    uncontrolled,
)
from oathbound.core.errors import NotAcceptable, NothingExamined
from oathbound.core.finding import Baseline, DidNotRun, Finding, Measure, Measured, NotMeasurable, OneRun
from oathbound.core.intervals import UNIT, Interval
from oathbound.core.one_run import Accounted, epsilon_at_least
from oathbound.core.pooling import Pool, Usable, pool, worst
from oathbound.core.study import Gate
from oathbound.core.usable import tells_apart, usable

LINKED_BY_THEMSELVES: Final = "verification-of-values"
"""The score of `image-linkage` that stands beside the model's, and is judged by no gate.

It says how well recordings are linked to their person without the model.
"""

OF_LINKAGE_ALONE: Final = "recordings"
"""The baseline of `image-linkage`: it can show that groups differ, and does not stand for one of records."""

_TRIES: Final = "membership"
"""The test that every study runs, and that has baselines."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """A finding, and the number of the attempt on the site's held-out patients that made it, from 1."""

    finding: Finding
    attempt: int


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
        elif all(claim.state is Verdict.PASS for claim in claims if is_needed(claim)):
            verdict = Verdict.PASS
        else:
            verdict = Verdict.INCONCLUSIVE
        return Judgement(verdict, claims, sentence(verdict, claims))

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
                and not (finding.test == "image-linkage" and measure.score == LINKED_BY_THEMSELVES)
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
        elif ends.upper <= gate.at_most and uncontrolled(pooled, gate):
            state, note = Verdict.INCONCLUSIVE, UNCONTROLLED
        elif ends.upper <= gate.at_most and not turned(pooled, gate, side):
            state = Verdict.PASS
        else:
            state = Verdict.INCONCLUSIVE
        sure = f"{100 * (1 - side):.4g} %"
        return replace(
            claim,
            state=state,
            note=note or (note_of(pooled, gate, side, simultaneous) if state is Verdict.INCONCLUSIVE else ""),
            estimate=pooled.estimate.quantize(UNIT, ROUND_HALF_EVEN),
            lower=ends.lower,
            upper=ends.upper,
            detectable=detectable(pooled, gate, side / simultaneous),
            confidence=f"lower end {sure} for {simultaneous} claims together, upper end {sure} for this one",
            members=pooled.members,
            held_out=pooled.held_out,
        )


def _metric(measure: Measure) -> str:
    return measure.metric if isinstance(measure, NotMeasurable) else measure.kind


def baseline_rate(alpha: Decimal, together: int) -> float:
    """Return the error rate of either end of each of the baselines of a round, which hold together.

    It is that of the first attempt: who tries again must not find out less easily that the groups differ.
    """
    return error_rate(alpha, 1) / max(together, 1)
