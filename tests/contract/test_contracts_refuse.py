"""A contract suite that nothing could fail would say nothing: each rule, and something that breaks it."""

# ruff: noqa: ARG001, ARG002 - what stands for an extension takes what its Protocol gives it
import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import pytest

pytest.importorskip("torch", reason="training and audits are extras")
import torch

from oathbound.audit.statistics import auc, true_positive_rate
from oathbound.core.errors import OathboundError, WrongInput
from oathbound.core.finding import Auc, Measured, NotMeasurable, Threat
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import ExtensionModel, Features
from oathbound.data.columns import of_patients
from oathbound.data.description import Dropped, SourceDescription
from oathbound.models.family import Family
from oathbound.models.features import FeatureEncoder
from oathbound.models.model import Model
from oathbound.testing.contracts.audits import AuditContract
from oathbound.testing.contracts.engines import EngineContract
from oathbound.testing.contracts.models import ModelContract
from oathbound.testing.contracts.sources import SourceContract

BROKEN = (AssertionError, OathboundError)
PEOPLE = {
    subject: (Event(None, "SEX", None), Event(None, f"CODE//{subject % 4}", 1.0))
    for subject in range(5_000_000, 5_000_007)
}


@dataclass(frozen=True)
class Plain:
    """A source that breaks no rule but those of whoever inherits it."""

    def describe(self):
        return SourceDescription("plain", "sha256:" + 64 * "0", None, Dropped())

    def subjects(self):
        return tuple(PEOPLE)

    def unreadable(self):
        return frozenset()

    def duplicates(self, subjects):
        return frozenset(s for s in subjects if s - 4 in subjects)

    def patients(self, cohort):
        missing = cohort.subjects - PEOPLE.keys()
        if missing:
            raise WrongInput("records are gone")
        return (Patient(subject, PEOPLE[subject]) for subject in sorted(cohort.subjects))


class Backwards(Plain):
    def subjects(self):
        return tuple(reversed(PEOPLE))


class Restless(Plain):
    numbers = itertools.count()

    def describe(self):
        return replace(super().describe(), schema=f"sha256:{next(self.numbers):064d}")


class Generous(Plain):
    def patients(self, cohort):
        return (Patient(subject, events) for subject, events in PEOPLE.items())


class Stuttering(Plain):
    def patients(self, cohort):
        return itertools.chain.from_iterable((patient, patient) for patient in super().patients(cohort))


class Shortened(Plain):
    def patients(self, cohort):
        return (Patient(subject, PEOPLE[subject]) for subject in sorted(cohort.subjects & PEOPLE.keys()))


class Mangled(Plain):
    def patients(self, cohort):
        return (replace(patient, events=(Event(None, "", None),)) for patient in super().patients(cohort))


class Blind(Plain):
    def duplicates(self, subjects):
        return frozenset()


class Prying(Plain):
    def duplicates(self, subjects):
        return frozenset(s for s in subjects if s - 4 in PEOPLE)


class Framed(Plain):
    def frames(self, count):
        return np.zeros((count, 2, 2), np.float32)

    def columns(self, cohort):
        for patient in self.patients(cohort):
            columns = of_patients([patient])
            yield replace(columns, frames=self.frames(len(columns.subject)))


class Uneven(Framed):
    shapes = itertools.count(1)

    def frames(self, count):
        return np.zeros((count, next(self.shapes)), np.float32)


class Partial(Framed):
    def frames(self, count):
        return super().frames(count - 1)


class Infinite(Framed):
    def frames(self, count):
        return super().frames(count) + np.inf


class Wide(Framed):
    def frames(self, count):
        return super().frames(count).astype(np.float64)


class Talkative(Plain):
    def __repr__(self):
        return f"Talkative({list(PEOPLE)})"


def refusing(kind):
    def opener(options, base):
        if options != {"path": "here"}:
            raise WrongInput("no such option")
        return kind()

    return opener


def source_suite(opener):
    suite = type(
        "Suite", (SourceContract,), {"opener": lambda _: opener, "options": lambda *_: {"path": "here"}}
    )
    return suite()


@pytest.mark.parametrize("kind", [Plain, Framed])
def test_a_source_that_breaks_nothing_passes(kind, tmp_path):
    suite = source_suite(refusing(kind))
    for name in dir(suite):
        if name.startswith("test_"):
            getattr(suite, name)(tmp_path)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Backwards, "subjects_ascend_and_are_unique"),
        (Restless, "the_description_is_stable"),
        (Generous, "patients_are_the_cohort_each_once_and_whole"),
        (Stuttering, "patients_are_the_cohort_each_once_and_whole"),
        (Shortened, "a_missing_record_is_refused"),
        (Mangled, "events_are_static_first_then_by_time"),
        (Blind, "duplicates_are_who_has_the_events_of_a_smaller_id"),
        (Prying, "duplicates_are_who_has_the_events_of_a_smaller_id"),
        (Uneven, "frames_are_of_one_shape_and_finite"),
        (Partial, "frames_are_of_one_shape_and_finite"),
        (Infinite, "frames_are_of_one_shape_and_finite"),
        (Wide, "frames_are_of_one_shape_and_finite"),
        (Talkative, "its_text_shows_no_patient"),
    ],
)
def test_a_broken_source(kind, rule, tmp_path):
    with pytest.raises(BROKEN):
        getattr(source_suite(refusing(kind)), f"test_{rule}")(tmp_path)


def test_a_source_that_takes_any_option(tmp_path):
    with pytest.raises(AssertionError):
        source_suite(lambda _options, _base: Plain()).test_wrong_options_are_refused(tmp_path)


class Even(Model):
    """A model that breaks no rule but those of whoever inherits it."""

    def __init__(self):
        super().__init__()
        self.architecture = ExtensionModel(name="even", options={}, seed=1)
        self.slope = torch.nn.Parameter(torch.zeros(2))

    def losses(self, rows):
        return torch.nn.functional.softplus(rows[..., :-1] @ self.slope)


class Moody(Even):
    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.slope.copy_(torch.rand(2))


class Buffered(Even):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))


class Negative(Even):
    def losses(self, rows):
        return super().losses(rows) - 1


class Envious(Even):
    def losses(self, rows):
        losses = super().losses(rows)
        return losses + rows[..., 0].mean()


class Summed(Even):
    def losses(self, rows):
        return super().losses(rows).sum(dim=-1)


class Idle(Even):
    def losses(self, rows):
        return super().losses(rows) * 0


class Forgetful(FeatureEncoder):
    def encode_columns(self, columns):
        subjects, rows = super().encode_columns(columns)
        return subjects, np.zeros_like(rows)


FEATURES = Features.parse({"present": ["a", "b"], "numbers": [], "label": {"code": "c"}}, what="features")


def model_suite(kind, encoder=FeatureEncoder):
    return type("Suite", (ModelContract,), {"make": lambda _: Family(kind(), encoder(FEATURES))})()


def test_a_model_that_breaks_nothing_passes(tmp_path):
    suite = model_suite(Even)
    for name in dir(suite):
        if name.startswith("test_") and "folder" not in name:
            getattr(suite, name)()
    suite.test_the_folder_gives_back_the_model(tmp_path)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Moody, "first_weights_are_public_constants"),
        (Buffered, "first_weights_are_public_constants"),
        (Negative, "losses_are_of_each_patient"),
        (Summed, "losses_are_of_each_patient"),
        (Envious, "nobody_changes_the_loss_of_another"),
        (Idle, "each_patient_has_a_gradient_of_their_own"),
    ],
)
def test_a_broken_model(kind, rule):
    with pytest.raises(BROKEN):
        getattr(model_suite(kind), f"test_{rule}")()


def test_an_encoder_whose_columns_differ():
    with pytest.raises(AssertionError):
        model_suite(Even, Forgetful).test_the_encoder_knows_everybody_at_once()


class Honest:
    """A test that breaks no rule but those of whoever inherits it."""

    id = "honest"
    version = 1
    threat = Threat(sees="records", knows="records")

    def scores(self, patients, seed):
        draw = np.random.default_rng(list(seed))
        return draw.normal(size=len(patients.members)), draw.normal(size=len(patients.held_out))

    def run(self, target, patients, plan, seed):
        measure = auc("chance", *self.scores(patients, seed), minimum=plan.minimum_patients)
        return Measured(kind="measured", measures=(measure,), tokens=0)


class Unseeded(Honest):
    def scores(self, patients, seed):
        draw = np.random.default_rng()
        return draw.normal(size=len(patients.members)), draw.normal(size=len(patients.held_out))


class Careless(Honest):
    def run(self, target, patients, plan, seed):
        half = {"estimate": Decimal("0.5"), "standard_error": Decimal("0.1")}
        measure = Auc(kind="auc", score="chance", members=20, held_out=20, **half)
        return Measured(kind="measured", measures=(measure,), tokens=0)


class Other(Honest):
    def run(self, target, patients, plan, seed):
        scores = self.scores(patients, seed)
        measures = (auc("chance", *scores, minimum=1), true_positive_rate("chance", *scores, minimum=1))
        return Measured(kind="measured", measures=measures, tokens=0)


class Silent(Honest):
    def run(self, target, patients, plan, seed):
        measure = NotMeasurable(kind="not-measurable", metric="auc", score="chance", reason="too few")
        return Measured(kind="measured", measures=(measure,), tokens=0)


class Newer(Honest):
    version = 2


class Exact(Honest):
    def run(self, target, patients, plan, seed):
        measured = super().run(target, patients, plan, seed)
        return measured.model_copy(update={"tokens": 3 * len(patients.members)})


class Naming(Honest):
    def run(self, target, patients, plan, seed):
        raise WrongInput(f"patient {patients.members[0].subject_id} cannot be scored")


def audit_suite(kind):
    measures = {"auc": ("chance",)}
    return type("Suite", (AuditContract,), {"audit": lambda _: kind(), "measures": lambda _: measures})()


def test_an_audit_that_breaks_nothing_passes():
    suite = audit_suite(Honest)
    for name in dir(suite):
        if name.startswith("test_"):
            getattr(suite, name)()


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Newer, "it_says_what_it_is"),
        (Other, "its_finding_is_whole_and_measures_something"),
        (Silent, "its_finding_is_whole_and_measures_something"),
        (Unseeded, "one_seed_gives_one_finding"),
        (Careless, "nothing_is_measured_of_too_few"),
        (Exact, "what_leaves_the_site_is_rounded_and_names_nobody"),
        (Naming, "what_leaves_the_site_is_rounded_and_names_nobody"),
    ],
)
def test_a_broken_audit(kind, rule):
    with pytest.raises(BROKEN):
        getattr(audit_suite(kind), f"test_{rule}")()


def attempt(coordinator, deliver):
    """Carry one attempt, but leave it to `deliver` what becomes of a wave's message."""
    messages = coordinator.begin()
    while messages:
        for site, message in messages.items():
            deliver(site, message)
        messages = coordinator.proceed()


def honest(coordinator, nodes):
    return lambda site, message: coordinator.receive(site, nodes[site].receive(message))


def skipping(coordinator, nodes, *, goes_on, save, on_progress):
    while goes_on():
        for site, message in list(coordinator.begin().items())[1:]:
            coordinator.receive(site, nodes[site].receive(message))
        coordinator.void()


def proceeding(coordinator, nodes, *, goes_on, save, on_progress):
    """Ends a wave before its last answer is in, where the coordinator can do without it."""
    while goes_on():

        def deliver(site, message):
            answer = nodes[site].receive(message)
            if site != "south" or not message.startswith(b"oathbound/secure-sum/ciphertexts/"):
                coordinator.receive(site, answer)

        attempt(coordinator, deliver)
        save(coordinator.snapshot())
        on_progress(coordinator.progress)


def repeating(coordinator, nodes, *, goes_on, save, on_progress):
    """Repeats whatever is refused without harm: everything but the step is delivered twice."""
    while goes_on():

        def deliver(site, message):
            coordinator.receive(site, nodes[site].receive(message))
            if not message.startswith(b"oathbound/step"):
                with suppress(OathboundError):
                    nodes[site].receive(message)

        attempt(coordinator, deliver)
        save(coordinator.snapshot())
        on_progress(coordinator.progress)


def hasty(coordinator, nodes, *, goes_on, save, on_progress):
    while goes_on():
        attempt(coordinator, honest(coordinator, nodes))
        on_progress(coordinator.progress)
        save(coordinator.snapshot())


def stubborn(coordinator, nodes, *, goes_on, save, on_progress):
    while coordinator.progress.step < 5:
        attempt(coordinator, honest(coordinator, nodes))
        save(coordinator.snapshot())
        on_progress(coordinator.progress)


def insisting(coordinator, nodes, *, goes_on, save, on_progress):
    while goes_on():

        def deliver(site, message):
            try:
                answer = nodes[site].receive(message)
            except OathboundError:
                answer = nodes[site].receive(message)
            coordinator.receive(site, answer)

        attempt(coordinator, deliver)
        save(coordinator.snapshot())
        on_progress(coordinator.progress)


def deaf(coordinator, nodes, *, goes_on, save, on_progress):
    try:
        stubborn(coordinator, nodes, goes_on=goes_on, save=save, on_progress=on_progress)
    except KeyboardInterrupt:
        return


def lazy(coordinator, nodes, *, goes_on, save, on_progress):
    return


@pytest.mark.parametrize(
    ("engine", "rule"),
    [
        (lazy, "every_message_goes_to_its_node_once"),
        (skipping, "every_message_goes_to_its_node_once"),
        (repeating, "a_wave_ends_when_its_answers_are_in"),
        (proceeding, "a_wave_ends_when_its_answers_are_in"),
        (hasty, "every_step_is_saved_and_then_told"),
        (stubborn, "it_stops_when_it_may_not_go_on"),
        (insisting, "an_attempt_that_failed_is_not_used_again"),
        (deaf, "a_run_that_is_killed_goes_on_from_what_was_saved"),
    ],
)
def test_a_broken_engine(engine, rule):
    suite = type("Suite", (EngineContract,), {"engine": lambda _: engine})()
    with pytest.raises(BROKEN):
        getattr(suite, f"test_{rule}")()
