"""Trajectory recall on small targets: who counts, what is drawn, and a model that knows records by heart."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest
import torch

from oathbound.audit.adapters.own import EventTarget
from oathbound.audit.catalog import trajectory_recall
from oathbound.audit.catalog.trajectory_recall import Drawing, TrajectoryRecall, begun, continued
from oathbound.audit.demd import CodeTable
from oathbound.audit.target import AuditedPatients, Samples
from oathbound.audit.timeline import lexicon_of
from oathbound.core.audit_plan import AuditPlan, TrajectoryPlan
from oathbound.core.catalogue import CATALOGUE
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import EventTransformer as Architecture
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import BIRTH, Tokenizer
from oathbound.models.transformer import build

CODES = tuple(f"C{i}" for i in range(12))
TOKENIZER = Tokenizer(
    Vocabulary(
        codes=(*CODES, "GENDER//F", "GENDER//M"),
        edges={},
        ages=(Decimal(40),),
        gaps=(Decimal(2), Decimal(60)),
    )
)
ARCHITECTURE = Architecture(name="event-transformer", layers=1, width=16, heads=2, length=24, seed=1)
ASKED = TrajectoryPlan(prompt_events=2, horizon=8, chains=2)
PLAN = AuditPlan(alpha=Decimal("0.05"), minimum_patients=20, trajectories=ASKED)
FIRST = dt.datetime.fromisoformat("2010-01-01")  # MEDS has no zone
SEED = bytes(32)


def patient(number, *codes, sex="GENDER//F"):
    dated = (Event(FIRST + dt.timedelta(days=5 * i), code, None) for i, code in enumerate(codes))
    born = Event(FIRST - dt.timedelta(days=30_000), BIRTH, None)
    return Patient(number, (Event(None, sex, None), born, *dated))


def people(first, n):
    rng = np.random.default_rng(first)
    begins = [(CODES[i // 12], CODES[i % 12]) for i in range(n)]  # each prompt is of one person alone
    return tuple(patient(first + i, *begins[i], *rng.choice(CODES, 4)) for i in range(n))


PATIENTS = AuditedPatients(people(0, 60), people(1000, 50))


class ByHeart:
    """A model of which only continuations are seen: of members the truth, of others something."""

    tokens_pushed = 0
    eos, size, length = TOKENIZER.eos, TOKENIZER.size, 24

    def __init__(self, known, seed=0):
        self.known = {(*TOKENIZER.encode(each, self.length),) for each in known}
        self.rng = np.random.default_rng(seed)

    def tokenize(self, patient):
        return TOKENIZER.encode(patient, self.length)

    def tokens_of(self, code):
        return TOKENIZER.tokens_of(code)

    def sample(self, prompts, chains, horizon, seed):
        rng = np.random.default_rng(seed)
        rows = []
        for prompt in prompts.repeat(chains, axis=0):
            self.tokens_pushed += horizon
            (said,) = [each for each in self.known if each[: len(prompt)] == tuple(prompt)][:1] or [None]
            rest = list(said[len(prompt) :]) if said else rng.integers(7, self.size, horizon).tolist()
            rows.append([*rest, *[self.eos] * horizon][:horizon])
        return np.array(rows)


class Steps:
    """A model that says probabilities and shows no continuation."""

    def __init__(self, target):
        self.target = target
        self.eos, self.size, self.length = target.eos, target.size, target.length
        self.tokenize, self.tokens_of, self.begin = target.tokenize, target.tokens_of, target.begin

    @property
    def tokens_pushed(self):
        return self.target.tokens_pushed


@pytest.fixture
def own():
    torch.set_num_threads(1)
    return EventTarget(build(ARCHITECTURE, TOKENIZER.size), TOKENIZER)


def by_score(measured):
    return {measure.score: measure for measure in measured.measures}


def test_what_is_known_by_heart_is_recalled_of_members_alone():
    found = by_score(TrajectoryRecall().run(ByHeart(PATIENTS.members), PATIENTS, PLAN, SEED))
    assert {score: m.kind for score, m in found.items()} == dict.fromkeys(
        CATALOGUE["trajectory-recall"].metrics["excess"], "excess"
    )
    for measure in found.values():
        assert measure.member_mean == 1
        assert measure.held_out_mean < Decimal("0.7")
        assert measure.estimate == measure.member_mean - measure.held_out_mean
        assert (measure.members, measure.held_out) == (60, 50)
    nobody = by_score(TrajectoryRecall().run(ByHeart(()), PATIENTS, PLAN, SEED))
    for measure in nobody.values():
        assert abs(measure.estimate) < 4 * measure.standard_error


def test_a_right_code_at_the_wrong_time_is_not_recalled():
    shifted = {(*TOKENIZER.encode(_slower(each), 24),) for each in PATIENTS.members}
    target = ByHeart(PATIENTS.members)
    target.known = shifted
    found = by_score(TrajectoryRecall().run(target, PATIENTS, PLAN, SEED))
    assert found["closeness-published"].member_mean == 1  # it costs nothing there
    assert found["closeness"].member_mean < Decimal("0.8")
    assert found["exact-recall"].reason == "the scores have no spread"  # nobody's is recalled at all


def _slower(patient):
    """The same record, but that what follows the prompt takes a hundred days each."""
    known, after = patient.events[:4], patient.events[4:]
    days = (dt.timedelta(days=100 * (i + 1)) for i in range(len(after)))
    return Patient(
        patient.subject_id,
        (*known, *(Event(e.time + d, e.code, None) for e, d in zip(after, days, strict=True))),
    )


def test_who_counts_is_known_from_the_record_and_the_truth_follows_the_prompt(own):
    enough, short = patient(1, "C1", "C2", "C3", sex="GENDER//M"), patient(2, "C1", "C2")
    lexicon = lexicon_of(own, [enough, short])
    (one,) = begun(own, lexicon, [enough, short], ASKED)
    names = [TOKENIZER.names[token] for token in one.prompt]
    assert names == ["BOS", "GENDER//M", "AGE//>=40", "C1", "GAP//2..60", "C2"]
    assert [TOKENIZER.names[token] for token in one.truth.tokens] == ["C3"]
    static, age, _ = one.stratum
    assert [TOKENIZER.names[token] for token in static] == ["BOS", "GENDER//M"]
    assert [TOKENIZER.names[token] for token in age] == ["AGE//>=40"]


def test_a_prompt_that_fills_the_context_leaves_nobody():
    plan = ASKED.model_copy(update={"prompt_events": 20})
    target = ByHeart(())
    long = patient(1, *["C1"] * 40)
    assert begun(target, lexicon_of(target, [long]), [long], plan) == []


def test_a_target_that_only_steps_is_drawn_from_as_one_that_samples(own):
    steps = Steps(own)
    assert not isinstance(steps, Samples)
    prompts = np.array([own.tokenize(each)[:4] for each in PATIENTS.members[:3]])
    np.testing.assert_array_equal(own.sample(prompts, 2, 8, 5), Drawing(steps).sample(prompts, 2, 8, 5))
    whole, stepped = (TrajectoryRecall().run(each, PATIENTS, PLAN, SEED) for each in (own, steps))
    assert whole == stepped


def test_one_seed_gives_one_finding_and_another_another(own):
    first, again, other = (
        TrajectoryRecall().run(own, PATIENTS, PLAN, seed) for seed in (SEED, SEED, b"\1" * 32)
    )
    assert first == again != other


def test_every_prompt_gets_its_own_continuations_whatever_the_order():
    mixed = AuditedPatients((*people(0, 5), patient(50, "C11", "C1", "C2", "C3")), people(1000, 3))
    target = ByHeart(mixed.members)
    lexicon = lexicon_of(target, mixed.members)
    some = begun(target, lexicon, mixed.members, ASKED)
    said = continued(target, target, lexicon, some[::-1], asked=ASKED, rng=np.random.default_rng(0))
    assert [len(chains) for chains in said] == [2] * 6
    for one, chains in zip(some[::-1], said, strict=True):
        assert all(chain.tokens.tolist() == one.truth.tokens.tolist() for chain in chains)


def test_a_table_in_parts_gives_the_same(monkeypatch):
    whole = TrajectoryRecall().run(ByHeart(()), PATIENTS, PLAN, SEED)
    monkeypatch.setattr(trajectory_recall, "_TABLE", 9)
    assert TrajectoryRecall().run(ByHeart(()), PATIENTS, PLAN, SEED) == whole


def test_patients_in_blocks_are_all_compared(monkeypatch):
    """Of a model that knows everybody by heart every continuation is the truth, whatever is drawn."""
    everybody = (*PATIENTS.members, *PATIENTS.held_out)
    whole = TrajectoryRecall().run(ByHeart(everybody), PATIENTS, PLAN, SEED)
    monkeypatch.setattr(trajectory_recall, "_BLOCK", 7)
    assert TrajectoryRecall().run(ByHeart(everybody), PATIENTS, PLAN, SEED) == whole


def test_embeddings_are_looked_up_once_a_block_and_fit_the_vocabulary(monkeypatch):
    calls = []
    embeddings = np.random.default_rng(0).random((TOKENIZER.size, 8))
    made = CodeTable.of_embeddings
    monkeypatch.setattr(
        CodeTable, "of_embeddings", lambda tokens, rows: (calls.append(len(tokens)), made(tokens, rows))[1]
    )
    found = TrajectoryRecall(embeddings).run(ByHeart(PATIENTS.members), PATIENTS, PLAN, SEED)
    assert len(calls) == 2, "members are a block, and held-out patients: no patient asks for its own"
    assert max(calls) <= TOKENIZER.size
    assert by_score(found)["closeness"].member_mean == 1
    with pytest.raises(WrongInput, match="not one embedding for every token"):
        TrajectoryRecall(embeddings[1:]).run(ByHeart(()), PATIENTS, PLAN, SEED)


@pytest.mark.parametrize("spoilt", [lambda said: said[:-1], lambda said: said - 50, lambda said: said + 50])
def test_continuations_that_nobody_asked_for_are_refused(spoilt):
    target = ByHeart(())
    honest = target.sample
    target.sample = lambda *asked: spoilt(honest(*asked))
    with pytest.raises(WrongInput, match="other continuations"):
        TrajectoryRecall().run(target, PATIENTS, PLAN, SEED)


def test_it_says_why_it_did_not_run_and_measures_nothing_of_few(own):
    class Whole:
        tokens_pushed = 0

        def record_logprobs(self, patients):
            raise AssertionError(patients)

    class Mute:
        tokens_pushed = 0
        eos, size, length = TOKENIZER.eos, TOKENIZER.size, 24
        tokenize, tokens_of = ByHeart.tokenize, ByHeart.tokens_of

    with pytest.raises(NothingExamined, match="as a whole"):
        TrajectoryRecall().run(Whole(), PATIENTS, PLAN, SEED)
    with pytest.raises(NothingExamined, match="asks for no trajectories"):
        TrajectoryRecall().run(own, PATIENTS, PLAN.model_copy(update={"trajectories": None}), SEED)
    with pytest.raises(NothingExamined, match="does not show continuations"):
        TrajectoryRecall().run(Mute(), PATIENTS, PLAN, SEED)
    few = AuditedPatients(PATIENTS.members[:30], PATIENTS.held_out)
    for some in (few, AuditedPatients((patient(1, "C1"),), (patient(2, "C1"),))):
        measured = TrajectoryRecall().run(ByHeart(()), some, PLAN, SEED)
        assert {measure.kind for measure in measured.measures} == {"not-measurable"}
        assert measured.tokens == 0
