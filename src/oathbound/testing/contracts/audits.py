"""What an audit test must keep, run as a site runs it: by the battery, on a model of each kind."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

import numpy as np

from oathbound.audit.adapters.own import target_of
from oathbound.audit.battery import run_battery
from oathbound.audit.target import AuditedPatients, AuditTest, Target
from oathbound.core.canonical import digest
from oathbound.core.finding import DECIMALS, Finding, Measured, NotMeasurable, Threat
from oathbound.core.patient import Event, Patient
from oathbound.core.record import Name, Record
from oathbound.core.study import Policy
from oathbound.evidence.keys import Secret
from oathbound.models.family import family_of
from oathbound.models.model import Model, flat, load_flat
from oathbound.testing.consortium import policy_for
from oathbound.testing.contracts.rule import expect

_CODES: Final = ("a", "b", "c")
_FIRST: Final = datetime(2020, 1, 1)  # noqa: DTZ001 - times of records have no zone
_IDS: Final = 7_100_000
"""Where the invented patients' ids begin: numbers that no statistic has."""


class _Named(Record):
    id: Name
    threat: Threat


@dataclass(frozen=True)
class _Studied:
    policy: Policy
    target: Target


class AuditContract(ABC):
    """Inherit it as `class TestMine(AuditContract)`; pytest then runs every rule on your test.

    It is asked about a model of sequences and about a classifier, and must measure one of them at least.
    """

    @abstractmethod
    def audit(self) -> AuditTest:
        """Return what the entry point names."""

    VERSION: ClassVar[int] = 1
    """An extension's is 1, since a policy pins its code."""

    @abstractmethod
    def measures(self) -> Mapping[str, Sequence[str]]:
        """Return the metrics, and the scores of each, as a study's `policy.extensions` says them."""

    def test_it_says_what_it_is(self) -> None:
        """The id is a name; the version is `VERSION`; the threat is two sentences."""
        test = self.audit()
        expect(isinstance(test, AuditTest), "it has id, version, threat and run")
        _Named.parse({"id": test.id, "threat": test.threat.plain()}, what="audit test")
        expect(test.version == self.VERSION, f"the version is {self.VERSION}")

    def test_its_finding_is_whole_and_measures_something(self) -> None:
        """A finding that is not whole is no finding: `verify` refuses it, so the battery does before."""
        measured = [
            finding.outcome
            for studied in self._studied()
            if isinstance((finding := self._finding(studied, _patients(150))).outcome, Measured)
        ]
        expect(
            bool(measured), "it measures all that it says, and nothing else, of one kind of model at least"
        )
        kinds = {measure.kind for outcome in measured for measure in outcome.measures}
        expect(bool(kinds - {"not-measurable"}), "of 150 members and 150 held out it measures something")

    def test_one_seed_gives_one_finding(self) -> None:
        """What is random comes from the seed, which the site was committed to before there was a model."""
        for studied in self._studied():
            first, again = (self._finding(studied, _patients(60)) for _ in range(2))
            expect(first == again, "two runs with one seed agree")

    def test_nothing_is_measured_of_too_few(self) -> None:
        """Below the policy's minimum every measure says so, and no cost tells how many there were."""
        for studied in self._studied():
            outcome = self._finding(studied, _patients(studied.policy.audit.minimum_patients - 1)).outcome
            if isinstance(outcome, Measured):
                expect(
                    all(isinstance(measure, NotMeasurable) for measure in outcome.measures),
                    "of fewer patients than minimum_patients nothing is measured",
                )
                expect(outcome.tokens == 0, "where nothing is measured the cost is 0")

    def test_what_leaves_the_site_is_rounded_and_names_nobody(self) -> None:
        """Statistics have three decimals, costs are powers of two, and no text holds a patient's id."""
        for studied in self._studied():
            for patients in (_patients(60), _patients(3)):
                finding = self._finding(studied, patients)
                told = repr(finding.plain())
                expect(not any(str(person.subject_id) in told for person in _everybody(patients)), "no ids")
                if isinstance(finding.outcome, Measured):
                    tokens = finding.outcome.tokens
                    expect(tokens & (tokens - 1) == 0, "the cost is a power of two")
                    for value in _numbers([measure.plain() for measure in finding.outcome.measures]):
                        expect(len(value.partition(".")[2]) <= DECIMALS, f"{DECIMALS} decimals at most")

    def _finding(self, studied: _Studied, patients: AuditedPatients) -> Finding:
        test, zero = self.audit(), digest(b"")
        found = run_battery(
            studied.target,
            patients,
            studied.policy,
            site="north",
            model=zero,
            nonce=zero,
            brought={test.id: test},
        )
        return next(finding for finding in found if finding.test == test.id)

    def _studied(self) -> Iterator[_Studied]:
        """Yield a model of sequences and a classifier, each under a policy that names the test."""
        test = self.audit()
        extension = {
            "group": "audits",
            "name": test.id,
            "distribution": "contract",
            "version": "1",
            "digest": digest(b""),
            "measures": {metric: list(scores) for metric, scores in self.measures().items()},
        }
        secrets = [Secret.generate(name) for name in ("coordinator", "north", "east")]
        sequences = policy_for(
            secrets,
            extensions=[extension],
            vocabulary={"codes": list(_CODES), "edges": {}, "ages": [], "gaps": ["30"]},
            model=_transformer(),
            audit=_audit() | {"sensitive": _sensitive()},
        )
        rows = policy_for(
            secrets,
            extensions=[extension],
            vocabulary=None,
            features={"present": ["a"], "numbers": [], "label": {"code": "b"}},
            model={"name": "logistic-regression"},
            audit=_audit(),
        )
        for policy in (sequences, rows):
            family = family_of(policy)
            _stir(family.model)
            yield _Studied(policy, target_of(family.model, family.encoder))


def _audit() -> dict[str, Any]:
    return {"alpha": "0.05", "minimum_patients": 20}


def _sensitive() -> dict[str, Any]:
    lengths = {"prompt_events": 1, "horizon": 8, "chains": 1}
    return {"name": "b", "codes": ["b"], "implied_by": [], **lengths}


def _transformer() -> dict[str, Any]:
    return {"name": "event-transformer", "layers": 1, "width": 8, "heads": 1, "length": 32, "seed": 1}


def _stir(model: Model) -> None:
    """Give a model weights that are not zero, so that records differ in what it says of them."""
    weights = flat(model)
    load_flat(model, weights + np.linspace(-0.5, 0.5, len(weights), dtype=np.float32))


def _patients(each: int) -> AuditedPatients:
    """Return so many members, and so many held out, with records that differ."""
    draw = np.random.default_rng(1)
    people = []
    for subject in range(_IDS, _IDS + 2 * each):
        codes = draw.choice(_CODES, size=draw.integers(2, 12)).tolist()
        events = (Event(_FIRST + timedelta(days=9 * day), code, None) for day, code in enumerate(codes))
        people.append(Patient(subject, tuple(events)))
    return AuditedPatients(tuple(people[:each]), tuple(people[each:]))


def _everybody(patients: AuditedPatients) -> tuple[Patient, ...]:
    return (*patients.members, *patients.held_out)


def _numbers(measures: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield every number that is written as text."""
    for measure in measures:
        yield from (
            value for value in measure.values() if isinstance(value, str) and value.lstrip("-")[:1].isdigit()
        )
