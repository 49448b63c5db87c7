"""What each step of `verify` checks, and what it finds: the numbers are those of `spec/verify.md`.

Every function takes what earlier steps have found, and returns what it found or raises.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import product
from typing import Final

from oathbound.core import accounting
from oathbound.core.canonical import digest, digest_of, from_canonical
from oathbound.core.catalogue import battery_of, is_whole
from oathbound.core.errors import NotAcceptable, WrongInput
from oathbound.core.event import Unbounded
from oathbound.core.finding import (
    Auc,
    AucDifference,
    DidNotRun,
    Measure,
    NotMeasurable,
    OneRun,
    TruePositiveRate,
    audit_seed,
)
from oathbound.core.gates import Attempted, Judgement, judge
from oathbound.core.groups import OF_GROUPS, counts_fit
from oathbound.core.one_run import Accounted
from oathbound.core.planned import planned_event, planned_sigma
from oathbound.core.pooling import COUNT_SLACK
from oathbound.core.study import Policy
from oathbound.core.training_plan import Training
from oathbound.evidence.heads import CLOCK_SKEW_SECONDS, CheckpointSeen
from oathbound.evidence.keys import Party
from oathbound.evidence.predicates import (
    Admission,
    Audited,
    Charged,
    Decided,
    Found,
    ModelMade,
    Oath,
    Round,
    SitePredicate,
    TrainedWithSecureSum,
)
from oathbound.evidence.stated import Stated, each, last_decision

ROUNDING_SLACK: Final = 10
"""By this much three counts and their sum, each rounded to 5, can differ at most."""

DRAWING_SLACK: Final = 20
"""By this much a part and its share of all, of counts rounded to 5 or not shown below 10, can differ."""

_BEFORE_TRAINING: Final = (Oath, Admission)
_OF_TRAINING: Final = (Round, TrainedWithSecureSum, Charged, ModelMade)
_AFTER_TRAINING: Final = (Audited, Found, Decided)


def policy_of(data: bytes) -> Policy:
    """(4) Return the policy, which must be in its one form."""
    value = from_canonical(data, what="the policy")
    try:
        policy = Policy.parse(data, what="the policy")
    except WrongInput as error:
        raise NotAcceptable(error.message, hint=error.hint) from None
    if policy.plain() != value:
        raise NotAcceptable("the policy is not in its one form")
    return policy


def check_oaths(policy: Policy, statements: Sequence[Stated], parties: Mapping[str, Party]) -> None:
    """(4) Refuse other parties than the policy's, a statement for another policy, or a missing oath."""
    members = (policy.coordinator, *policy.sites)
    for member in members:
        party = parties.get(member.name)
        if party is None or party.fingerprint != member.fingerprint:
            raise NotAcceptable(f"the keys of {member.name} are not those that the policy names")
    if len(parties) != len(members):
        raise NotAcceptable("the bundle holds keys of somebody whom the policy does not name")
    for statement in statements:
        if statement.predicate.policy_digest != policy.digest:
            raise NotAcceptable(f"{statement.signer.name} made a statement for another policy")
    sworn = {statement.signer.name for statement in statements if isinstance(statement.predicate, Oath)}
    missing = sorted({site.name for site in policy.sites} - sworn)
    if missing:
        raise NotAcceptable(f"{missing[0]} did not swear to the policy")


def check_role(statement: Stated, policy: Policy) -> None:
    """(6) Refuse a statement that is not its signer's to make."""
    predicate, signer = statement.predicate, statement.signer
    maker = predicate.site if isinstance(predicate, SitePredicate) else policy.coordinator.name
    if signer.name != maker or (isinstance(predicate, SitePredicate) and policy.site(maker) is None):
        raise NotAcceptable(f"a {predicate.kind} statement of {maker} is signed by {signer.name}")
    if isinstance(predicate, Found) and predicate.finding.site != predicate.site:
        raise NotAcceptable(f"{predicate.site} states a finding of {predicate.finding.site}")


def check_complete(
    study: Sequence[Stated],
    history: Mapping[str, Sequence[Stated]],
    seen: Mapping[str, tuple[CheckpointSeen, ...]],
    policy: Policy,
) -> None:
    """(8) Refuse a study's log that withholds a site's statement, or adds one."""
    for site, own in history.items():
        logged = {s.identity for s in own}
        shown = {s.identity for s in study if s.signer.name == site}
        if logged - shown:
            raise NotAcceptable(
                f"the study's log withholds {len(logged - shown)} statements that {site} logged"
            )
        if shown - logged:
            raise NotAcceptable(f"{len(shown - logged)} statements of {site} are not in its own log")
    heads = {site.name: seen[site.name][-1].digest for site in policy.sites}
    if last_decision(study).heads != heads:
        raise NotAcceptable("the decision does not rest on the heads of the sites' logs in this bundle")


def check_order(study: Sequence[Stated], start: CheckpointSeen, made: CheckpointSeen) -> None:
    """(9) Refuse a statement on the wrong side of the start of training, or of the audit."""
    for index, statement in enumerate(study):
        predicate = statement.predicate
        if isinstance(predicate, _BEFORE_TRAINING) != (index < start.size):
            raise NotAcceptable(f"a {predicate.kind} statement is on the wrong side of the start of training")
        if isinstance(predicate, _AFTER_TRAINING) != (index >= made.size):
            raise NotAcceptable(
                f"a {predicate.kind} statement is on the wrong side of the start of the audit"
            )
        if isinstance(predicate, _OF_TRAINING) and predicate.run != start.digest:
            raise NotAcceptable(f"a {predicate.kind} statement cites another start of training")
        if isinstance(predicate, (Audited, Found)) and predicate.run != made.digest:
            raise NotAcceptable(f"a {predicate.kind} statement cites another checkpoint of the model")


def check_admissions(admissions: Sequence[Admission], policy: Policy, start: CheckpointSeen) -> None:
    """(10) Refuse a cohort that is empty, larger than planned, drawn otherwise, or of stale consents."""
    for admission in admissions:
        site = admission.site
        _check_fresh(admission.as_of, f"the admission of {site}", policy, start)
        if not admission.members or not admission.held_out:
            raise NotAcceptable(f"{site} admitted no members, or none to hold out")
        parts = (admission.members, admission.held_out, admission.reference or 0)
        if sum(parts) > admission.considered + ROUNDING_SLACK:
            raise NotAcceptable(f"{site} admitted more patients than it considered")
        if admission.members > policy.training.members:
            raise NotAcceptable(f"{site} admitted more members than the policy plans for all sites")
        for share, part in ((policy.drawing.held_out, parts[1]), (policy.drawing.reference, parts[2])):
            if abs(part - share * sum(parts)) > DRAWING_SLACK:
                raise NotAcceptable(f"{site} drew its cohort in other shares than the policy's")


def check_rounds(
    study: Sequence[Stated],
    log: Sequence[CheckpointSeen],
    admissions: Sequence[Admission],
    policy: Policy,
) -> tuple[Round, ...]:
    """(10) Return every round's cohorts; refuse training on one that is stale, grown, or was not witnessed.

    The steps of a round lie after the checkpoint that holds its cohorts, one of each site, and before the
    cohorts of the next, whose consents were read after that checkpoint: who withdrew before a round is in
    none of its steps.
    """
    admitted = {admission.site: admission for admission in admissions}
    newest = {site: (0, admission.as_of) for site, admission in admitted.items()}
    most = {site: admission.members for site, admission in admitted.items()}
    open_rounds: dict[int, dict[str, tuple[int, Round]]] = {}
    earlier = 0
    for index, statement in enumerate(study):
        predicate = statement.predicate
        if isinstance(predicate, Round):
            number, as_of = newest[predicate.site]
            if predicate.round <= number or predicate.as_of < max(as_of, earlier - CLOCK_SKEW_SECONDS):
                raise NotAcceptable(f"{predicate.site} went back to an earlier round, or to earlier consents")
            least = policy.audit.minimum_patients - COUNT_SLACK
            if not least <= predicate.members <= most[predicate.site]:
                raise NotAcceptable(
                    f"{predicate.site} trained round {predicate.round} on too few, or on more than before"
                )
            held = next(seen for seen in log if seen.size > index)  # the last one holds every leaf
            if predicate.as_of > min(held.times) + CLOCK_SKEW_SECONDS:
                raise NotAcceptable(
                    f"round {predicate.round} of {predicate.site} rests on consents read after it was stated"
                )
            newest[predicate.site] = (predicate.round, predicate.as_of)
            most[predicate.site] = predicate.members
            open_rounds.setdefault(predicate.round, {})[predicate.site] = (index, predicate)
        if isinstance(predicate, TrainedWithSecureSum):
            if predicate.round != max(open_rounds, default=0):
                raise NotAcceptable(f"the steps of round {predicate.round} do not follow its cohorts")
            seen = _witnessed_round(open_rounds[predicate.round], index, log, policy)
            earlier = min(seen.times)
    return tuple(each(study, Round))


def first_trained(rounds: Sequence[Round], segments: Sequence[TrainedWithSecureSum]) -> dict[str, Round]:
    """Return each site's cohort of the first round that took a step."""
    return {each.site: each for each in rounds if each.round == segments[0].round}


def _witnessed_round(
    cohorts: Mapping[str, tuple[int, Round]], index: int, log: Sequence[CheckpointSeen], policy: Policy
) -> CheckpointSeen:
    """Return the checkpoint that holds a round's cohorts and lies before its steps, at `index`."""
    number = next(cohort.round for _, cohort in cohorts.values())
    if len(cohorts) != len(policy.sites):
        raise NotAcceptable(f"the steps of round {number} do not follow a cohort of each site")
    stated = max(place for place, _ in cohorts.values())
    seen = next((seen for seen in log if stated < seen.size <= index), None)
    if seen is None:
        raise NotAcceptable(f"the cohorts of round {number} were not witnessed before its steps")
    for _, cohort in cohorts.values():
        _check_fresh(cohort.as_of, f"round {number} of {cohort.site}", policy, seen)
    return seen


def _check_fresh(as_of: int, what: str, policy: Policy, seen: CheckpointSeen) -> None:
    hours = policy.consent.staleness_hours
    if not max(seen.times) - hours * 3600 <= as_of <= min(seen.times) + CLOCK_SKEW_SECONDS:
        raise NotAcceptable(
            f"{what} rests on consents read more than {hours} hours before it was witnessed, or after"
        )


def check_training(
    segments: Sequence[TrainedWithSecureSum],
    model: ModelMade,
    charges: Sequence[Charged],
    policy: Policy,
) -> None:
    """(11) Refuse a training that departs from the plan, and a model that it did not make."""
    _check_segments(segments, policy.training)
    _check_sums(segments, policy)
    steps, attempts = segments[-1].last_step, segments[-1].attempts
    if steps != policy.training.steps:
        raise NotAcceptable(f"{steps} steps were taken; the policy plans {policy.training.steps}")
    if attempts > policy.training.attempts:
        raise NotAcceptable(f"{attempts} attempts were made; the policy allows {policy.training.attempts}")
    for charged in charges:
        if not segments[-1].summed[charged.site] <= charged.event.attempts <= attempts:
            raise NotAcceptable(f"the attempts that {charged.site} charged do not fit those of the training")
    if model.weights != segments[-1].last_weights or model.model != digest_of(model.files):
        raise NotAcceptable("the model is not the one that the training made")


def _check_segments(segments: Sequence[TrainedWithSecureSum], plan: Training) -> None:
    """Refuse rounds out of order, steps left out, too many in a round, and weights from elsewhere."""
    number, step, attempts, weights = 0, 0, 0, segments[0].first_weights
    for segment in segments:
        if segment.round <= number:
            raise NotAcceptable(f"the steps of round {segment.round} are stated twice, or out of order")
        if segment.first_step != step + 1 or not step < segment.last_step <= step + plan.round_steps:
            raise NotAcceptable(
                f"the steps of round {segment.round} do not follow those before, or are too many"
            )
        if segment.first_weights != weights:
            raise NotAcceptable(f"round {segment.round} began from other weights than the round before left")
        if segment.attempts - attempts < segment.last_step - step:
            raise NotAcceptable(f"round {segment.round} took more steps than it made attempts")
        number, step, attempts = segment.round, segment.last_step, segment.attempts
        weights = segment.last_weights


def _check_sums(segments: Sequence[TrainedWithSecureSum], policy: Policy) -> None:
    """Refuse sums over other sites than the policy's, or over fewer than it demands in a round."""
    step, summed = 0, {site.name: 0 for site in policy.sites}
    for segment in segments:
        if segment.summed.keys() != summed.keys():
            raise NotAcceptable(f"the sums of round {segment.round} are not stated of the policy's sites")
        steps = segment.last_step - step
        more = [segment.summed[site] - earlier for site, earlier in summed.items()]
        if not all(0 <= times <= steps for times in more) or sum(more) < steps * policy.min_sites:
            raise NotAcceptable(
                f"the sums of round {segment.round} are of fewer sites than the policy demands"
            )
        step, summed = segment.last_step, segment.summed


def epsilon_spent(charges: Sequence[Charged], policy: Policy) -> Decimal | None:
    """Return the largest epsilon that any site's members spent, or None where no bound holds."""
    if policy.budget is None:
        if not all(isinstance(charged.event, Unbounded) for charged in charges):
            raise NotAcceptable("a site charged a private event in a study without privacy")
        return None
    budget, plan = policy.budget, policy.training
    honest = policy.min_sites - policy.colluding
    least = planned_sigma(plan, budget, honest)
    spent = []
    for charged in charges:
        event = charged.event
        if isinstance(event, Unbounded) or event != planned_event(
            plan,
            budget,
            share_sigma=least,
            honest_shares=honest,
            shares=len(policy.sites),
            dimension=policy.weights or event.dimension,
            attempts=event.attempts,
        ):
            raise NotAcceptable(f"{charged.site} charged another mechanism than the policy's")
        try:
            spent.append(accounting.epsilon(event, budget.delta))
        except WrongInput as error:
            raise NotAcceptable(f"the event of {charged.site} has no epsilon: {error.message}") from None
    if max(spent) > budget.epsilon:
        raise NotAcceptable(f"epsilon {max(spent)} was spent; the policy allows {budget.epsilon}")
    return max(spent)


def attempts_of(history: Sequence[Found]) -> list[tuple[Found, int]]:
    """Return one site's findings, each with the number of its attempt: how often that test had been run.

    A finding that repeats an earlier one exactly is a replay, and counts once.
    """
    numbered: list[tuple[Found, int]] = []
    for found in dict.fromkeys(history):
        before = sum(earlier.finding.test == found.finding.test for earlier, _ in numbered)
        numbered.append((found, before + 1))
    return numbered


def check_findings(
    attempts: Sequence[tuple[Found, int]], model: ModelMade, policy: Policy, admissions: Sequence[Admission]
) -> None:
    """(13) Refuse a finding about another model, in part, or with a seed that was not committed to.

    None is left out: who does not say that the groups differ by themselves, or what did not run, hides it.
    """
    stated = {(found.finding.site, found.finding.test) for found, _ in attempts}
    for site, test in product((site.name for site in policy.sites), battery_of(policy)):
        if (site, test) not in stated:
            raise NotAcceptable(f"{site} stated no finding of {test}")
    committed = {admission.site: admission.nonce_digest for admission in admissions}
    for found, _ in attempts:
        finding = found.finding
        if finding.model != model.model:
            raise NotAcceptable(f"a finding of {finding.site} is about another model")
        seed = audit_seed(
            policy=policy.digest, model=model.model, nonce=found.nonce, test=finding.test, site=finding.site
        )
        if digest(found.nonce.encode()) != committed[finding.site] or finding.seed != seed:
            raise NotAcceptable(f"{finding.site} committed to another seed of {finding.test}")
        if not is_whole(finding, policy):
            raise NotAcceptable(
                f"the finding of {finding.test} at {finding.site} is not all that the test measures"
            )


def check_audited(
    history: Sequence[Stated],
    policy: Policy,
    *,
    trained: Round,
    admission: Admission,
    made: CheckpointSeen,
    head: CheckpointSeen,
) -> None:
    """(13) Refuse one site's findings on others than it says it audited, or on more than it used.

    `trained` is the site's cohort of the first round that took a step: nobody joins later. `head` is the last
    checkpoint of the site's own log.
    """
    audited: Audited | None = None
    reads = [s.predicate.as_of for s in history if isinstance(s.predicate, (Admission, Round))]
    earliest = max(*reads, min(made.times) - CLOCK_SKEW_SECONDS)
    for statement in history:
        predicate = statement.predicate
        if isinstance(predicate, Audited):
            site = predicate.site
            if predicate.number != (audited.number if audited else 0) + 1:
                raise NotAcceptable(f"the audits of {site} are not numbered one after the other")
            if predicate.as_of < earliest:
                raise NotAcceptable(f"{site} audited by consents read before there was a model")
            if predicate.as_of > min(head.times) + CLOCK_SKEW_SECONDS:
                raise NotAcceptable(f"{site} audited by consents read after it said so")
            if audited is not None and predicate.as_of < audited.as_of:
                raise NotAcceptable(f"{site} audited by earlier consents than before")
            drawn = audited or admission
            most = (audited or trained).members, drawn.held_out, drawn.reference or 0
            used = predicate.members, predicate.held_out, predicate.reference
            if any(here > there for here, there in zip(used, most, strict=True)):
                raise NotAcceptable(f"{site} audited more patients than it trained on, or drew")
            audited = predicate
        if isinstance(predicate, Found):
            if audited is None:
                raise NotAcceptable(f"{predicate.site} does not say whom its finding is about")
            _check_counts(predicate, audited, all_of_them=policy.vocabulary is not None)


def _check_counts(found: Found, audited: Audited, *, all_of_them: bool) -> None:
    """Refuse other numbers of patients; an excess is on carriers, a classifier's scores on the labelled."""
    measures = () if isinstance(found.finding.outcome, DidNotRun) else found.finding.outcome.measures
    if found.finding.test in OF_GROUPS:
        fits = counts_fit(measures, audited.members, audited.held_out, all_of_them=all_of_them)
    else:
        fits = all(_fits(measure, audited, all_of_them=all_of_them) for measure in measures)
    if not fits:
        raise NotAcceptable(f"a finding of {found.site} is on other patients than it audited")


def _fits(measure: Measure, audited: Audited, *, all_of_them: bool) -> bool:
    if isinstance(measure, (NotMeasurable, OneRun)):  # canaries are nobody, so nobody counted them
        return True
    if isinstance(measure, AucDifference):  # each group in two parts, each rounded by itself
        members, held_out = (
            measure.members + measure.member_others,
            measure.held_out + measure.held_out_others,
        )
        return members <= audited.members + ROUNDING_SLACK and held_out <= audited.held_out + ROUNDING_SLACK
    if all_of_them and isinstance(measure, (Auc, TruePositiveRate)):
        return (measure.members, measure.held_out) == (audited.members, audited.held_out)
    return measure.members <= audited.members and measure.held_out <= audited.held_out


def judgement_of(policy: Policy, attempts: Sequence[tuple[Found, int]]) -> Judgement:
    """Return the verdict on one model, from the numbered findings of all sites."""
    attempted = [Attempted(finding=found.finding, attempt=number) for found, number in attempts]
    sites = tuple(site.name for site in policy.sites)
    accounted = Accounted.of(policy) if policy.audit.canaries else None
    return judge(policy.gates, policy.audit, sites, attempted, accounted=accounted)
