"""The catalogue on a small model: scores by definition, prompts that give nothing away, none dropped."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.audit.adapters.own import EventTarget
from oathbound.audit.battery import battery_of, run_battery
from oathbound.audit.catalog import membership, sensitive_disclosure
from oathbound.audit.catalog.sensitive_disclosure import carriers
from oathbound.audit.coherence import check_sequences
from oathbound.audit.emission import Prompt
from oathbound.audit.pilot import emission
from oathbound.audit.target import AuditedPatients
from oathbound.core.audit_plan import AuditPlan, PerturbationPlan, SensitiveSet, TrajectoryPlan
from oathbound.core.errors import Halted, NothingExamined, WrongInput
from oathbound.core.finding import audit_seed
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import EventTransformer as Architecture
from oathbound.core.shape import Vocabulary
from oathbound.core.study import Consenting, Drawing, Gate, Member, Policy
from oathbound.core.training_plan import Budget, Training
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import build

CODES = ("A", "B", "C", "HIV", "ART", "GENDER//F", "GENDER//M")
VOCABULARY = Vocabulary(
    codes=CODES, edges={}, ages=(Decimal(40), Decimal(60)), gaps=(Decimal(2), Decimal(60))
)
ARCHITECTURE = Architecture(name="event-transformer", layers=2, width=16, heads=2, length=24, seed=1)
SENSITIVE = SensitiveSet(
    name="HIV", codes=("HIV",), implied_by=("ART",), prompt_events=2, horizon=6, chains=3
)
PLAN = AuditPlan(
    alpha=Decimal("0.05"),
    minimum_patients=20,
    sensitive=SENSITIVE,
    perturbation=PerturbationPlan(years=3, days=30),
    trajectories=TrajectoryPlan(prompt_events=2, horizon=6, chains=1),
)
BIRTH, FIRST = (dt.datetime.fromisoformat(f"{year}-01-01") for year in (1950, 2000))  # MEDS has no zone
DIGEST = "sha256:" + "0" * 64


GATES = (Gate(test="membership", metric="auc", at_most=Decimal("0.55")),)


def policy(gates=GATES):
    return Policy(
        study="s",
        purpose="p",
        coordinator=Member(name="hub", fingerprint="sha256:" + "f" * 64),
        sites=tuple(Member(name=f"s{i}", fingerprint=f"sha256:{i:064x}") for i in range(2)),
        min_sites=2,
        colluding=0,
        dishonest_witnesses=0,
        aggregator="secure-sum",
        privacy="patient-dp",
        budget=Budget(
            epsilon=Decimal(3),
            delta=Decimal("1e-6"),
            unit="patient",
            neighbours="add-remove",
            noise_multiplier=Decimal(1),
            sites_per_patient=1,
        ),
        consent=Consenting(training_purpose="HRESCH", audit_purpose="HRESCH", classes=(), staleness_hours=24),
        drawing=Drawing(window=(Decimal(0), Decimal(1)), held_out=Decimal("0.2"), reference=Decimal(0)),
        vocabulary=VOCABULARY,
        model=ARCHITECTURE,
        training=Training(
            members=100,
            sampling_rate=Decimal("0.1"),
            steps=1,
            attempts=1,
            round_steps=1000,
            learning_rate=Decimal("0.1"),
            warmup=0,
            ring_norm=1024,
            clip=Decimal(1),
        ),
        audit=PLAN,
        gates=gates,
    )


def patient(number, *codes, static=("GENDER//F",), birth=True):
    events = [Event(None, code, None) for code in static]
    if birth:
        events.append(Event(BIRTH, "MEDS_BIRTH", None))
    day = FIRST
    return Patient(
        number,
        (*events, *(Event(day + dt.timedelta(days=10 * i), code, None) for i, code in enumerate(codes))),
    )


def people(first, n, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(
        patient(first + i, *rng.choice(["A", "B", "C", "HIV", "ART"], rng.integers(3, 9))) for i in range(n)
    )


PATIENTS = AuditedPatients(people(0, 80), people(1000, 70, seed=1))


@pytest.fixture
def target():
    torch.set_num_threads(1)
    model = build(ARCHITECTURE, Tokenizer(VOCABULARY).size)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # away from uniform, so that differences show
    return EventTarget(model, Tokenizer(VOCABULARY))


def tokens(target, everyone):
    return [target.tokenize(one) for one in everyone]


def test_token_logprobs_are_those_of_the_model_in_the_order_asked(target, monkeypatch):
    monkeypatch.setattr("oathbound.audit.adapters.tokens._HIDDEN", 800)  # several batches
    monkeypatch.setattr("oathbound.audit.adapters.tokens._LOGITS", 50)  # of several pieces each
    sequences = tokens(target, PATIENTS.members)
    scored = target.token_logprobs(sequences)
    for row, sequence in enumerate(sequences):
        whole = torch.tensor([sequence])
        logs = target._model(whole)[0, :-1].log_softmax(-1)
        n = len(sequence) - 1
        assert scored.counts[row] == n
        expected = logs[range(n), whole[0, 1:]]
        np.testing.assert_allclose(scored.logprob[row, :n], expected.detach(), atol=1e-3)
        mean = (logs.exp() * logs).sum(-1)
        spread = ((logs.exp() * logs**2).sum(-1) - mean**2).sqrt()
        np.testing.assert_allclose(scored.mean[row, :n], mean.detach(), atol=1e-3)
        np.testing.assert_allclose(scored.deviation[row, :n], spread.detach(), atol=1e-3)
    assert target.tokens_pushed == sum(len(sequence) - 1 for sequence in sequences)


def test_scores_are_means_of_the_least_likely_fifth(target):
    scored = target.token_logprobs(tokens(target, PATIENTS.members))
    scores = membership.scores_of(scored)
    for row, n in enumerate(scored.counts):
        own = scored.logprob[row, :n]
        least = np.sort(own)[: max(int(np.ceil(0.2 * n)), 1)]
        assert scores["loss"][row] == pytest.approx(own.mean())
        assert scores["min-k"][row] == pytest.approx(least.mean())
        z = np.sort((own - scored.mean[row, :n]) / scored.deviation[row, :n])[: len(least)]
        assert scores["min-k-plus-plus"][row] == pytest.approx(z.mean())


def test_our_adapter_is_coherent(target):
    check_sequences(target, tokens(target, PATIENTS.members))


class Around(EventTarget):
    """A target that answers as another does, but for what a subclass changes."""

    def __init__(self, whole):
        vars(self).update(vars(whole))
        self.whole = whole


class Broken(Around):
    """A target whose answers are spoilt in one way."""

    def __init__(self, whole, spoil):
        super().__init__(whole)
        self.spoil = spoil

    def token_logprobs(self, sequences):
        scored = self.whole.token_logprobs(sequences)
        if self.spoil == "nan":
            scored.logprob[:] = np.nan
        if self.spoil == "batch" and len(sequences) > 1:
            scored.logprob[:] += 0.1
        if self.spoil == "shift":
            scored.logprob[:] -= 0.1
        return scored

    def begin(self, prompts, chains):
        steps = self.whole.begin(prompts, chains)
        if self.spoil == "sum":
            logprobs = steps.logprobs
            steps.logprobs = lambda: logprobs() + 0.1
        return steps


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [("nan", "not a finite"), ("batch", "in a batch"), ("shift", "prefix"), ("sum", "sum to 1")],
)
def test_incoherent_answers_are_refused_and_no_test_is_run_on_them(target, spoil, problem):
    broken = Broken(target, spoil)
    with pytest.raises(WrongInput, match=problem):
        check_sequences(broken, tokens(target, PATIENTS.members))
    findings = run_battery(broken, PATIENTS, policy(), site="s0", model=DIGEST, nonce=DIGEST)
    assert {finding.outcome.kind for finding in findings} == {"did-not-run"}
    assert all(problem in finding.outcome.reason for finding in findings)


def test_weights_that_are_no_numbers_are_refused(target):
    with torch.no_grad():
        target._model.tokens.fill_(torch.nan)
    findings = run_battery(target, PATIENTS, policy(), site="s0", model=DIGEST, nonce=DIGEST)
    assert {finding.outcome.kind for finding in findings} == {"did-not-run"}


def test_a_prompt_holds_neither_the_sensitive_codes_nor_what_implies_them(target):
    (carrier,) = carriers(target, [patient(1, "HIV", "A", "ART", "HIV", "B", "HIV")], SENSITIVE)
    assert not set(carrier.prompt) & (target.tokens_of("HIV") | target.tokens_of("ART"))
    names = [target._tokenizer.names[token] for token in carrier.prompt]
    assert names == ["BOS", "GENDER//F", "AGE//40..60", "A", "GAP//2..60", "B"]


def test_who_is_a_carrier(target):
    def found(one, **changes):
        return carriers(target, [one], SENSITIVE.model_copy(update=changes))

    assert found(patient(1, "A", "B", "HIV"))
    assert not found(patient(1, "A", "HIV", "B", "C")), "stated within the prompt's events only"
    assert not found(patient(1, "A", "B", "ART")), "what implies S is not S"
    assert not found(patient(1, "HIV", "A")), "no event follows a prompt of two events"
    assert found(patient(1, "A", "B", "C", "C", "HIV"), horizon=6)
    assert not found(patient(1, "A", "B", "C", "C", "HIV"), horizon=5), "beyond the horizon"


def test_a_prompt_of_no_events_is_sex_and_age(target):
    (carrier,) = carriers(target, [patient(1, "HIV")], SENSITIVE.model_copy(update={"prompt_events": 0}))
    names = [target._tokenizer.names[token] for token in carrier.prompt]
    assert names == ["BOS", "GENDER//F", "AGE//40..60"]
    (ageless,) = carriers(
        target, [patient(1, "HIV", birth=False)], SENSITIVE.model_copy(update={"prompt_events": 0})
    )
    assert ageless.prompt == carrier.prompt[:2]


def test_a_static_sensitive_code_is_stripped_too(target):
    (carrier,) = carriers(target, [patient(1, "A", "B", "HIV", static=("ART", "GENDER//F"))], SENSITIVE)
    assert not set(carrier.prompt) & target.tokens_of("ART")


def test_emission_at_horizon_one_is_the_next_token_probability(target):
    found = carriers(target, PATIENTS.members, SENSITIVE)
    prompts = [carrier.prompt for carrier in found]
    starts = [Prompt(carrier.prompt, carrier.continuation) for carrier in found]
    probabilities, way = emission(target, starts, SENSITIVE, horizon=1, rng=np.random.default_rng(0))
    assert way == "departing"
    avoid = sorted(target.tokens_of("HIV"))
    for prompt, probability in zip(prompts, probabilities, strict=True):
        expected = target._model(torch.tensor([prompt]))[0, -1].softmax(-1)[avoid].sum().detach()
        assert probability == pytest.approx(float(expected), abs=1e-6)


def test_emission_repeats_for_a_seed_and_stops_at_the_context(target):
    starts = [Prompt(c.prompt, c.continuation) for c in carriers(target, PATIENTS.members, SENSITIVE)]
    near, first, again = (
        emission(target, starts, SENSITIVE, horizon=horizon, rng=np.random.default_rng(3))[0]
        for horizon in (SENSITIVE.horizon, 1000, 1000)
    )
    np.testing.assert_array_equal(first, again)
    assert first.mean() > near.mean()


def test_every_test_gives_a_finding_with_its_seed_and_threat(target):
    findings = run_battery(target, PATIENTS, policy(), site="s0", model=DIGEST, nonce=DIGEST)
    assert [finding.test for finding in findings] == list(battery_of(policy()))
    for finding in findings:
        assert finding.outcome.kind == "measured"
        measured = any(measure.kind != "not-measurable" for measure in finding.outcome.measures)
        assert (finding.outcome.tokens > 0) is measured
        assert finding.seed == audit_seed(
            policy=policy().digest, model=DIGEST, nonce=DIGEST, test=finding.test, site=finding.site
        )


def test_the_battery_repeats_exactly(target):
    first, again = (
        run_battery(target, PATIENTS, policy(), site="s0", model=DIGEST, nonce=DIGEST) for _ in range(2)
    )
    assert first == again


def test_a_test_that_nobody_wrote_did_not_run(target):
    gates = (Gate(test="clairvoyance", metric="auc", at_most=Decimal("0.5")),)
    findings = run_battery(target, PATIENTS, policy(gates), site="s0", model=DIGEST, nonce=DIGEST)
    assert [finding.test for finding in findings] == sorted([*battery_of(policy()), "clairvoyance"])
    assert findings[0].outcome.reason == "this version of oathbound has no such test"


def test_a_machine_that_fails_is_no_finding(target, monkeypatch):
    def fails(*_):
        raise Halted("a process of the audit ended before its work was done")

    asked = {"site": "s0", "model": DIGEST, "nonce": DIGEST}
    with monkeypatch.context() as changed:
        changed.setattr("oathbound.audit.catalog.membership.examined", fails)
        with pytest.raises(Halted):
            run_battery(target, PATIENTS, policy(), **asked)
    monkeypatch.setattr("oathbound.audit.battery.check_coherent", fails)
    with pytest.raises(Halted):
        run_battery(target, PATIENTS, policy(), **asked)


def test_a_model_without_the_sensitive_codes_is_not_measured_and_membership_still_is():
    small = Vocabulary(codes=tuple(c for c in CODES if c != "HIV"), edges={}, ages=(), gaps=())
    tokenizer = Tokenizer(small)
    target = EventTarget(build(ARCHITECTURE, tokenizer.size), tokenizer)
    findings = run_battery(target, PATIENTS, policy(), site="s0", model=DIGEST, nonce=DIGEST)
    kinds = {finding.test: finding.outcome.kind for finding in findings}
    not_run = {"identifier-perturbation", "sensitive-disclosure"}
    assert {name for name, kind in kinds.items() if kind == "did-not-run"} == not_run


def test_an_error_that_nobody_foresaw_is_not_a_finding(target, monkeypatch):
    def run(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(sensitive_disclosure.SensitiveDisclosure, "run", run)
    with pytest.raises(ZeroDivisionError):
        run_battery(target, PATIENTS, policy(), site="s0", model=DIGEST, nonce=DIGEST)


def test_few_patients_measure_nothing_and_reveal_no_count(target):
    few = AuditedPatients(people(0, 19), people(1000, 200))
    findings = run_battery(target, few, policy(), site="s0", model=DIGEST, nonce=DIGEST)
    measures = [measure for finding in findings for measure in finding.outcome.measures]
    assert {measure.kind for measure in measures} == {"not-measurable"}
    assert "19" not in str([measure.reason for measure in measures])


def test_overlapping_or_empty_groups_are_refused_without_a_count():
    with pytest.raises(WrongInput, match="a person is in the audit twice") as caught:
        AuditedPatients(people(0, 30), people(29, 30))
    assert not any(letter.isdigit() for letter in str(caught.value))
    for members, held_out in (((), people(0, 3)), (people(0, 3), ())):
        with pytest.raises(NothingExamined):
            AuditedPatients(members, held_out)


@pytest.mark.parametrize("changed", ["policy", "model", "nonce", "test", "site"])
def test_a_seed_depends_on_everything_that_fixes_it(changed):
    facts = {"policy": DIGEST, "model": DIGEST, "nonce": DIGEST, "test": "membership", "site": "a"}
    assert audit_seed(**facts) != audit_seed(**(facts | {changed: "another"}))


class Remembering(Around):
    """A target that finds the tokens of some records a little more likely than it should."""

    def __init__(self, whole, records):
        super().__init__(whole)
        self.records = records

    def token_logprobs(self, sequences):
        scored = self.whole.token_logprobs(sequences)
        scored.logprob[[tuple(sequence) in self.records for sequence in sequences]] += 0.5
        return scored


def test_a_model_that_remembers_its_members_is_told_from_one_that_does_not(target):
    for records, remembered in ((frozenset(tokens(target, PATIENTS.members)), True), (frozenset(), False)):
        outcome = membership.TEST.run(Remembering(target, records), PATIENTS, PLAN, bytes(32))
        areas = [measure for measure in outcome.measures if measure.kind == "auc"]
        assert len(areas) == 3
        for area in areas:
            assert (area.estimate > Decimal("0.5") + 4 * area.standard_error) == remembered
