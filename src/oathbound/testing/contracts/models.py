"""What a model and its encoder must keep."""

from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import numpy as np
import torch

from oathbound.core.patient import Event, Patient
from oathbound.core.shape import Features, Recordings, Seen, Vocabulary
from oathbound.data.columns import of_patients
from oathbound.models.family import Family
from oathbound.models.folder import read_model, write_model
from oathbound.models.model import flat
from oathbound.testing.contracts.rule import expect
from oathbound.train.clip import clipped_sum

_LENGTHS: Final = (1, 2, 3, 5, 8, 13, 40, 300)
_RING_NORM: Final = 256
_FIRST: Final = datetime(2020, 1, 1)  # noqa: DTZ001 - times of records have no zone
_CLOSE: Final = 1e-4
"""Far above what single precision does to a loss."""


class ModelContract(ABC):
    """Inherit it as `class TestMine(ModelContract)`; pytest then runs every rule on your model."""

    @abstractmethod
    def make(self) -> Family:
        """Return a new model with its first weights, and its encoder."""

    def test_first_weights_are_public_constants(self) -> None:
        """Every site makes the same, of float32 parameters alone: a buffer would not be trained or saved."""
        first, again = (self.make().model for _ in range(2))
        expect(bool(np.array_equal(flat(first), flat(again))), "two makings have the same first weights")
        expect(flat(first).size > 0 and bool(np.isfinite(flat(first)).all()), "first weights are finite")
        expect({p.dtype for p in first.parameters()} == {torch.float32}, "weights are float32")
        expect(not list(first.buffers()), "a model has parameters, and no buffers")

    def test_losses_are_of_each_patient(self) -> None:
        """One finite number of nats each, at least 0: the negative logarithm of a probability."""
        family, rows = self._encoded()
        losses = family.model.losses(rows)
        expect(losses.shape == (len(rows),), "there is one loss for each patient")
        expect(bool(losses.isfinite().all()), "losses are finite")
        expect(bool((losses >= 0).all()), "a loss is not negative")

    def test_nobody_changes_the_loss_of_another(self) -> None:
        """A patient alone, among others, and in a group of rows that are alike: the same loss."""
        family, rows = self._encoded()
        together = family.model.losses(rows)
        alone = torch.stack([family.model.losses(row) for row in rows])
        expect(torch.allclose(together, alone, atol=_CLOSE), "a patient alone has the same loss")
        groups = list(family.model.alike(rows.numpy()))
        expect(sum(map(len, groups)) == len(rows), "alike() yields every row once")
        grouped = torch.cat([family.model.losses(torch.from_numpy(group)) for group in groups])
        expect(
            torch.allclose(together.sort().values, grouped.sort().values, atol=_CLOSE),
            "the padding that alike() cuts changes no loss",
        )

    def test_each_patient_has_a_gradient_of_their_own(self) -> None:
        """What training sums: the same integers alone as among others."""
        family, rows = self._encoded()
        together = clipped_sum(family.model, rows.numpy(), clip=1.0, ring_norm=_RING_NORM)
        each = [clipped_sum(family.model, row[None].numpy(), clip=1.0, ring_norm=_RING_NORM) for row in rows]
        expect(
            np.array_equal(together, np.sum(each, axis=0)),
            "a sum of gradients is that of each patient's own",
        )
        expect(bool(together.any()), "some weight is learnt")

    def test_the_encoder_knows_everybody_at_once(self) -> None:
        """Patients and columns give the same rows; no patients give none, of the same kind."""
        encoder, people = self.make().encoder, _people(self.make().encoder.seen)
        rows, none = encoder.encode_all(people), encoder.encode_all(())
        expect(none.shape == (0, *rows.shape[1:]) and none.dtype == rows.dtype, "nobody gives no rows")
        subjects, columns = encoder.encode_columns(of_patients(people))
        expect(subjects.tolist() == [person.subject_id for person in people], "ids come in ascending order")
        expect(np.array_equal(columns, rows, equal_nan=rows.dtype.kind == "f"), "columns give the same rows")

    def test_the_folder_gives_back_the_model(self, tmp_path: Path) -> None:
        """All of its weights, and the loss that it had."""
        family, rows = self._encoded()
        with torch.no_grad():
            for parameter in family.model.parameters():
                parameter.add_(0.5)
        digest = write_model(tmp_path / "model", family.model, family.encoder.seen)
        loaded = read_model(tmp_path / "model", lambda _architecture, _seen: self.make())
        expect(loaded.digest == digest, "the folder's digest is the one that was written")
        expect(bool(np.array_equal(flat(loaded.model), flat(family.model))), "weights survive the folder")
        expect(torch.equal(loaded.model.losses(rows), family.model.losses(rows)), "losses survive the folder")
        expect(loaded.encoder.seen == family.encoder.seen, "what it sees survives the folder")

    def _encoded(self) -> tuple[Family, torch.Tensor]:
        family = self.make()
        return family, torch.from_numpy(family.encoder.encode_all(_people(family.encoder.seen)))


def _people(seen: Seen) -> tuple[Patient, ...]:
    """Return invented patients with short records and long, of codes that are seen and of one that is not."""
    if isinstance(seen, Vocabulary):
        codes = [*seen.codes]
    elif isinstance(seen, Features):
        codes = [*seen.present, *(number.code for number in seen.numbers), seen.label.code]
    else:
        codes = [*seen.classes]
    people = []
    for subject, length in enumerate(_LENGTHS, start=1):
        taken = islice(cycle([*codes, "NOT//SEEN"]), subject, subject + length)
        events = [
            Event(_FIRST + timedelta(days=7 * day), code, float(day % 5)) for day, code in enumerate(taken)
        ]
        record = (Event(None, codes[subject % len(codes)], None), *events)
        people.append(Patient(subject, _recorded(record, seen, subject)))
    return tuple(people)


def _recorded(events: tuple[Event, ...], seen: Seen, seed: int) -> tuple[Event, ...]:
    """Return the events, each with a recording where the model sees these."""
    if not isinstance(seen, Recordings):
        return events
    frames = np.random.default_rng(seed).normal(size=(len(events), *seen.shape)).astype(np.float32)
    return tuple(replace(event, frame=frame) for event, frame in zip(events, frames, strict=True))
