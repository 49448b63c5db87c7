"""Gradient reconstruction: whether a recording comes back from what training sends.

`docs/audits/gradient-reconstruction.md` has the estimand, the interval and its calibration.

Three attackers, who see less and less: a patient's bare gradient, which no study of ours ever opens and which
shows that the attack works; the sum over the patients of a step; that sum of clipped gradients, with noise.
Each learns from other people's recordings how to bring one back (`audit.inversion`), under its own threat.
What is published are three counts of patients, and never a pixel.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from oathbound.audit.inversion import Inversion, Sketch, Space, made_of
from oathbound.audit.statistics import published_cost, rounded, shown_hits
from oathbound.audit.target import AuditedPatients, AuditTest, Floats, Target
from oathbound.core.audit_plan import AuditPlan, ReconstructionPlan
from oathbound.core.catalogue import RECONSTRUCTION_THREAT
from oathbound.core.errors import NothingExamined, Unavailable
from oathbound.core.finding import Measured, NotMeasurable, Reconstruction
from oathbound.core.patient import Patient
from oathbound.core.shape import Recordings
from oathbound.models.family import Encoder, Family
from oathbound.models.model import Rows, flat

FEWEST_KNOWN: Final = 20
"""People of whom an attacker must have recordings, or nothing is learnt."""

_SCORE: Final = "cosine"
_MOST: Final = 1000
"""Members, and others, whose gradients are computed; of more, so many are drawn."""

_MADE: Final = 1500
"""Examples that are made of the recordings an attacker has."""

Words = Callable[[int], NDArray[np.uint64]]


class SeesUpdates(Protocol):
    """What the study's training sends of a site's patients: `workflow.updates`. All vectors are [d]."""

    @property
    def family(self) -> Family:
        """The model with its first weights, which are public, and its encoder."""
        ...

    @property
    def together(self) -> int:
        """How many patients the smallest sum that is opened is expected to hold, at least 1."""
        ...

    @property
    def spread(self) -> float:
        """The standard deviation of the noise that is relied on; 0 where the study has no budget."""
        ...

    def gradient(self, row: Rows) -> Floats:
        """Return a patient's gradient, as a site without a budget adds it to the sum."""
        ...

    def clipped(self, gradient: Floats) -> Floats:
        """Return what a site with a budget adds of a gradient, in the units of the noise."""
        ...

    def noise(self, words: Words) -> Floats:
        """Return noise of standard deviation `spread`, drawn from `words`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """A patient's row, the mean [n] of its labelled recordings, which is looked for, and their class."""

    row: Rows
    image: Floats
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Attacked:
    """Which member is a target, of which class, and the images [1 + decoys, n] compared, its own first."""

    member: int
    label: int
    images: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """Sketches [m, w] of patients' gradients: bare, and clipped where the study has a budget."""

    bare: Floats
    clipped: Floats | None


@dataclass(frozen=True, slots=True, eq=False)
class Brought:
    """Where in the attack's space the targets' recordings seem to lie, by each threat: [targets, k]."""

    bare: Floats
    summed: Floats
    noised: Floats | None


class GradientReconstruction:
    """How many patients are found again. Without `updates` it cannot run: there is no training to look at."""

    id = "gradient-reconstruction"
    version = 1
    threat = RECONSTRUCTION_THREAT

    def __init__(self, updates: SeesUpdates | None = None) -> None:
        self._updates = updates

    def run(self, target: Target, patients: AuditedPatients, plan: AuditPlan, seed: bytes) -> Measured:  # noqa: ARG002 - what is attacked is the training, not the model that came of it
        """Attack every target by what a bare gradient, a sum and a noised sum show of it.

        Raises `NothingExamined` where the model sees no recordings, or an attacker has too few to learn from.
        """
        updates, how = self._updates, plan.reconstruction
        if updates is None:
            raise Unavailable("gradients are attacked in a study alone: its training says what is sent")
        if how is None:
            raise NothingExamined("the plan attacks no gradients", hint="add [policy.audit.reconstruction]")
        encoder = updates.family.encoder
        if not isinstance(encoder.seen, Recordings):
            raise NothingExamined(
                "the model sees no recordings", hint="of records, this version brings nothing back"
            )
        rng = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
        known, decoys = strangers(encoder, patients, rng)
        if len(known) < FEWEST_KNOWN:
            raise NothingExamined(
                f"an attacker learns from {FEWEST_KNOWN} people with a labelled recording, and has fewer",
                hint="hold out more patients, or keep reference patients: [policy.drawing]",
            )
        members = list(_rows(encoder, patients.members, rng))
        targets = list(attacked(members, decoys, how, rng))
        classes = {each.label for each in targets}
        decoys = [person for person in decoys if person.label in classes]  # whom a target was compared with
        if min(len(targets), len(decoys)) < plan.minimum_patients:
            too_few = NotMeasurable(
                kind="not-measurable",
                metric="reconstruction",
                score=_SCORE,
                reason="too few members with a labelled recording, or too few held-out ones of their class",
            )
            return Measured(kind="measured", measures=(too_few,), tokens=0)
        attack = Attack.learning(updates, encoder.seen, known, rng)
        brought = attack.on(members, targets)

        def hits(places: Floats) -> int:
            return shown_hits(attack.found(places, targets), len(targets))

        found = Reconstruction(
            kind="reconstruction",
            score=_SCORE,
            bare=hits(brought.bare),
            summed=hits(brought.summed),
            noised=None if brought.noised is None else hits(brought.noised),
            decoys=how.decoys,
            members=rounded(len(targets)),
            held_out=rounded(len(decoys)),
        )
        cost = len(members) + len(attack.places)
        return Measured(kind="measured", measures=(found,), tokens=published_cost(cost, (found,)))


@dataclass(frozen=True, slots=True, eq=False)
class Attack:
    """What an attacker learns from: where its examples lie [m, k], and what is sent of each."""

    updates: SeesUpdates
    sketch: Sketch
    space: Space
    places: Floats
    sent: Sent
    rng: np.random.Generator

    @classmethod
    def learning(
        cls, updates: SeesUpdates, seen: Recordings, known: Sequence[Person], rng: np.random.Generator
    ) -> Self:
        """Return the attack that has the recordings of these people, and what it makes of them."""
        labelled = np.concatenate([_labelled(person.row) for person in known]).astype(np.float64)
        made, classes = made_of(labelled[:, :-1], labelled[:, -1].astype(int), seen.shape, _MADE, rng)
        singles = np.column_stack([made, classes]).astype(np.float32)
        images = np.concatenate([np.stack([person.image for person in known]), made])
        sketch, space = Sketch.of(flat(updates.family.model).size, rng), Space.of(images)
        sent = _sent(updates, sketch, [*(person.row for person in known), *singles[:, None]])
        return cls(updates, sketch, space, space.places(images), sent, rng)

    def on(self, members: Sequence[Rows], targets: Sequence[Attacked]) -> Brought:
        """Return what comes back of the targets, each of whom shares a step with others of the members.

        Where the site has fewer members than a step has patients, the sum holds fewer: that helps the
        attacker.
        """
        sent, count = _sent(self.updates, self.sketch, members), len(self.places)
        others = min(self.updates.together, len(members)) - 1
        steps = [self._step(each.member, len(members), others) for each in targets]
        imagined = np.eye(count) + self.rng.multinomial(others, np.full(count, 1 / count), size=count)
        own = sent.bare[[each.member for each in targets]]
        noised = None
        if self.sent.clipped is not None and sent.clipped is not None:
            examples = imagined @ self.sent.clipped
            examples += self.sketch.noise(self.updates.spread, count, self.rng)
            words = _words(self.rng)
            noise = np.stack([self.sketch(self.updates.noise(words)) for _ in targets])
            noised = self._learnt(examples, _sums(sent.clipped, steps) + noise)
        return Brought(
            bare=self._learnt(self.sent.bare, own),
            summed=self._learnt(imagined @ self.sent.bare, _sums(sent.bare, steps)),
            noised=noised,
        )

    def found(self, places: Floats, targets: Sequence[Attacked]) -> int:
        """Return for how many targets what came back is more like their own image than like every decoy's."""
        alike = (
            cosines(place, self.space.places(each.images))
            for place, each in zip(places, targets, strict=True)
        )
        return sum(bool(each[0] > each[1:].max()) for each in alike)

    def _learnt(self, examples: Floats, seen: Floats) -> Floats:
        return Inversion.learnt(examples, self.places)(seen)

    def _step(self, member: int, members: int, others: int) -> NDArray[np.int64]:
        """Return the places of the members of a step, a target's among them."""
        drawn = self.rng.choice(members - 1, others, replace=False)
        return np.append(drawn + (drawn >= member), member)


def cosines(place: Floats, places: Floats) -> Floats:
    """Return the cosine of a place [k] with each of others [m, k]; -1 with what lies in the middle."""
    sizes = np.linalg.norm(place) * np.linalg.norm(places, axis=1)
    found: Floats = np.divide(places @ place, sizes, out=np.full(len(places), -1.0), where=sizes > 0)
    return found


def strangers(
    encoder: Encoder, patients: AuditedPatients, rng: np.random.Generator
) -> tuple[list[Person], list[Person]]:
    """Return people to learn from and people to draw decoys of: reference and held-out patients.

    Without reference patients, half of the held-out ones each.
    """
    held_out = list(people_of(_rows(encoder, patients.held_out, rng)))
    if patients.reference:
        return list(people_of(_rows(encoder, patients.reference, rng))), held_out
    return held_out[::2], held_out[1::2]


def attacked(
    members: Sequence[Rows], decoys: Sequence[Person], how: ReconstructionPlan, rng: np.random.Generator
) -> Iterator[Attacked]:
    """Yield targets, each with decoys of its class: what a class looks like finds nobody then.

    Who is of a class of fewer held-out people than decoys is no target.
    """
    of_class: dict[int, list[Floats]] = {}
    for person in decoys:
        of_class.setdefault(person.label, []).append(person.image)
    found = 0
    for place, row in enumerate(members):
        for own in people_of([row]):
            alike = of_class.get(own.label, [])
            if len(alike) >= how.decoys and found < how.targets:
                chosen = rng.choice(len(alike), how.decoys, replace=False)
                yield Attacked(
                    place, own.label, np.stack([own.image, *(alike[int(each)] for each in chosen)])
                )
                found += 1


def _rows(encoder: Encoder, patients: Sequence[Patient], rng: np.random.Generator) -> Iterator[Rows]:
    """Yield the rows of the patients in a random order, one at a time: they may be too many for memory."""
    for place in rng.permutation(len(patients))[:_MOST]:
        yield encoder.encode_all([patients[int(place)]])[0]


def _labelled(row: Rows) -> Rows:
    return row[~np.isnan(row[:, -1])]


def people_of(rows: Iterable[Rows]) -> Iterator[Person]:
    """Yield those who have a labelled recording; of classes that are as frequent, a patient has the first."""
    for row in rows:
        labelled = _labelled(row).astype(np.float64)
        if len(labelled):
            yield Person(
                row, labelled[:, :-1].mean(axis=0), int(np.bincount(labelled[:, -1].astype(int)).argmax())
            )


def _sent(updates: SeesUpdates, sketch: Sketch, rows: Iterable[Rows]) -> Sent:
    bare, clipped = [], []
    for row in rows:
        gradient = updates.gradient(row)
        bare.append(sketch(gradient))
        if updates.spread:
            clipped.append(sketch(updates.clipped(gradient)))
    return Sent(np.stack(bare), np.stack(clipped) if clipped else None)


def _sums(vectors: Floats, steps: Sequence[NDArray[np.int64]]) -> Floats:
    return np.stack([vectors[step].sum(axis=0) for step in steps])


def _words(rng: np.random.Generator) -> Words:
    return lambda n: rng.integers(2**64, size=n, dtype=np.uint64)


TEST: Final[AuditTest] = GradientReconstruction()
