"""How budgets, findings and verdicts are said on a terminal: no naked number."""

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final, assert_never

from oathbound.core.claims import EVERYWHERE
from oathbound.core.finding import (
    Auc,
    AucDifference,
    Baseline,
    DidNotRun,
    Excess,
    Finding,
    NotMeasurable,
    OneRun,
    Reconstruction,
    Tail,
    TruePositiveRate,
)
from oathbound.core.gates import Judgement
from oathbound.core.one_run import shown
from oathbound.core.reconstruction import found_in
from oathbound.core.record import decimal_text
from oathbound.core.study import Policy
from oathbound.core.training_plan import Budget

if TYPE_CHECKING:
    from oathbound.audit.price import TestPrice
    from oathbound.core.folder_audit import FolderAudit

_MINUTE: Final = 60


def privacy_words(budget: Budget | None, epsilon: Decimal | None = None) -> str:
    """Return the budget of a policy, and what was spent of it, with delta, unit and neighbouring relation."""
    if budget is None:
        return "none: no bound holds for any member"
    spent, allowed = "" if epsilon is None else f"{epsilon} of ", decimal_text(budget.epsilon)
    return f"epsilon {spent}{allowed}, delta {budget.delta:.0e}, per {budget.protected}, {budget.neighbours}"


def sum_words(policy: Policy) -> str:
    """Return who sees a site's update."""
    colluding = f", with up to {policy.colluding} of them colluding" if policy.colluding else ""
    return f"{policy.aggregator}: the coordinator sees sums over at least {policy.min_sites} sites{colluding}"


def extension_lines(policy: Policy) -> Iterator[str]:
    """Yield one line for each piece of code from outside oathbound that the study runs."""
    for each in policy.extensions:
        yield f"{each.name} ({each.group}) of {each.distribution} {each.version}, {each.digest}"


def finding_lines(finding: Finding) -> Iterator[str]:  # noqa: C901 - one case for each kind of measure
    """Yield one line for each measure of the finding, and one where it did not run."""
    label = f"{finding.site}  {finding.test}"
    if isinstance(finding.outcome, DidNotRun):
        yield f"{label}  did not run: {finding.outcome.reason}"
        return
    for measure in finding.outcome.measures:
        match measure:
            case Auc():
                said = f"AUC {measure.estimate} (standard error {measure.standard_error})"
            case AucDifference():
                said = (
                    f"AUC of carriers against others {measure.member_auc} "
                    f"(standard error {measure.member_error}) among members, {measure.held_out_auc} "
                    f"({measure.held_out_error}) among held out; of carriers"
                )
            case Excess():
                said = (
                    f"excess {measure.estimate} (standard error {measure.standard_error}): "
                    f"members {measure.member_mean}, held out {measure.held_out_mean}"
                )
            case TruePositiveRate():
                said = (
                    f"at 1 % false positives between {measure.lower_hits} and {measure.upper_hits} "
                    f"of {measure.members} members found"
                )
            case Tail():
                said = (
                    f"{measure.above_all} members score above every held-out patient; in a random half, "
                    f"{measure.hits} members above the held-out patient of rank {measure.rank}"
                )
            case Baseline():
                said = (
                    f"without asking the model, AUC {measure.estimate} (standard error "
                    f"{measure.standard_error}); if surely not 0.5, the groups differ by themselves"
                )
            case OneRun():
                yield (
                    f"{label}  {measure.score}: {measure.right} of {measure.guesses} guesses right, of "
                    f"{measure.planted} canaries planted: {shown(measure)}"
                )
                continue
            case Reconstruction():
                said = f"brought back and recognised: {found_in(measure)}"
            case NotMeasurable():
                yield f"{label}  {measure.metric} {measure.score}: not measurable: {measure.reason}"
                continue
            case _:
                assert_never(measure)
        yield f"{label}  {measure.score}: {said}; {measure.members} members, {measure.held_out} held out"


def folder_audit_lines(audit: "FolderAudit") -> Iterator[str]:
    """Yield what an audit without a study found."""
    if audit.known is not None:
        yield f"the model's vocabulary lists {audit.known} % of the events"
    if audit.unread:
        yield f"up to {audit.unread} % of the patients could not be read, and were left out"
    for finding in audit.findings:
        yield from finding_lines(finding)
    yield f"attempt {audit.attempt} in this folder's log of audits"


def judgement_lines(judgement: Judgement) -> Iterator[str]:
    """Yield one line for each claim that the verdict rests on, and the sentence."""
    for claim in judgement.claims:
        if claim.estimate is None:
            yield f"{claim.test} {claim.metric}  {claim.site}: {claim.note}"
        elif claim.site == EVERYWHERE or claim.state.value == "fail":
            numbers = f"{claim.estimate} [{claim.lower}, {claim.upper}]  gate {claim.gate}"
            yield f"{claim.test} {claim.metric} {claim.score}  {claim.site}: {numbers}  {claim.state.value}"
    yield judgement.sentence


def price_lines(prices: Sequence["TestPrice"]) -> list[str]:
    """Return what an audit is expected to cost, a test a line, and all of it."""
    width = max(len(each.test) for each in prices)
    lines = [
        f"{each.test:{width}} {each.tokens:>15,} tokens {_lasting(each.seconds):>9}"
        + (f"   will not run: {each.reason}" if each.reason else "")
        for each in prices
    ]
    tokens, seconds = sum(each.tokens for each in prices), sum(each.seconds for each in prices)
    return [*lines, f"{'all':{width}} {tokens:>15,} tokens {_lasting(seconds):>9}   of one process, here"]


def _lasting(seconds: float) -> str:
    whole = math.ceil(seconds)
    if whole < 2 * _MINUTE:
        return f"{whole} s"
    if whole < 2 * _MINUTE * _MINUTE:
        return f"{whole / _MINUTE:.0f} min"
    return f"{whole / _MINUTE / _MINUTE:.1f} h"
