"""What an audit takes for what training sends is what `Trainer` makes of the same patients."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is an extra")

from oathbound.audit.adapters.own import target_of
from oathbound.audit.battery import run_battery
from oathbound.audit.catalog import gradient_reconstruction
from oathbound.audit.target import AuditedPatients
from oathbound.core.bands import coefficients
from oathbound.core.canonical import digest
from oathbound.core.catalogue import battery_of, check_gates, is_whole
from oathbound.core.errors import WrongInput
from oathbound.core.patient import Event, Patient
from oathbound.evidence.keys import Secret
from oathbound.testing.consortium import policy_for
from oathbound.train.clip import clipped_sum, unclipped_sum
from oathbound.workflow.updates import Updates

SECRETS = [Secret.generate(name) for name in ("coordinator", "north", "east")]
SEEN = {"shape": [16], "most": 1, "centre": "0", "scale": "1", "classes": ["A", "B"]}
NET = {"name": "beat-net", "widths": [2], "activation": "gelu", "seed": 1}
AUDIT = {"alpha": "0.05", "minimum_patients": 10}
PLANNED = {"reconstruction": {"targets": 20, "decoys": 1}}


def policy(secrets=SECRETS, **changes):
    facts = {
        "vocabulary": None,
        "recordings": SEEN,
        "model": NET,
        "audit": AUDIT | PLANNED,
        "gates": [{"test": "gradient-reconstruction", "metric": "reconstruction", "at_most": "0.1"}],
    }
    return policy_for(secrets, **facts | changes)


def people(count, first=0):
    rng = np.random.default_rng(first)
    return tuple(
        Patient(first + n, (Event(None, "A", None, rng.normal(size=16).astype(np.float32)),))
        for n in range(count)
    )


@pytest.fixture(autouse=True)
def few_examples(monkeypatch):
    monkeypatch.setattr(gradient_reconstruction, "_MADE", 50)


def words(seed=1):
    rng = np.random.default_rng(seed)
    return lambda n: rng.integers(2**64, size=n, dtype=np.uint64)


def test_clipped_gradients_are_those_of_the_private_sum_to_the_bit():
    updates = Updates(policy())
    rows = 100 * updates.family.encoder.encode_all(people(3))
    each = [updates.clipped(updates.gradient(row)) for row in rows]
    assert (sum(each) == clipped_sum(updates.family.model, rows, clip=1.0, ring_norm=16384)).all()
    assert max(np.linalg.norm(vector) for vector in each) <= 16384


def test_with_bands_a_gradient_is_seen_in_all_the_sums_that_it_is_in():
    plain = policy().training.plain()
    bands = {"bands": 10, "sampling_rate": "0.1", "attempts": 20, "ring_norm": 1024}
    wide = policy().budget.plain() | {"epsilon": "20"}
    updates = Updates(policy(training=plain | bands, budget=wide))
    alone = Updates(policy(training=plain | {"ring_norm": 1024}))
    (row,) = 100 * updates.family.encoder.encode_all(people(1))
    seen = updates.clipped(updates.gradient(row))
    norm = sum(c * c for c in coefficients(10)) ** 0.5
    assert seen == pytest.approx(norm * alone.clipped(alone.gradient(row)))
    # so the noise beside it is that of the budget
    assert updates.spread / norm == pytest.approx(alone.spread, rel=0.001)
    assert alone.spread == pytest.approx(1.5 * 1024, rel=0.01)


def test_bare_gradients_are_those_of_the_sum_without_a_budget_but_for_rounding():
    updates = Updates(policy(privacy="none", budget=None))
    rows = updates.family.encoder.encode_all(people(3))
    each = sum(updates.gradient(row) for row in rows)
    total = unclipped_sum(updates.family.model, rows, scale=1e6, saturation=2**40)
    assert np.abs(1e6 * each - total).max() <= 2 + 1e-5 * np.abs(total).max()
    assert updates.spread == 0
    assert not updates.noise(words()).any()


def test_noise_is_that_of_the_shares_that_are_relied_on():
    updates = Updates(policy())
    noise = updates.noise(words())
    assert (updates.noise(words()) == noise).all()
    assert updates.spread == pytest.approx(1.5 * 16384, rel=0.01)
    assert 0.7 * updates.spread < noise.std() < 1.4 * updates.spread


def test_a_gradient_that_is_not_finite_is_none():
    updates = Updates(policy())
    row = np.full((1, 17), np.inf, dtype=np.float32)
    row[:, -1] = 0
    assert not updates.gradient(row).any()


def test_a_step_of_the_smallest_sum_has_the_share_of_its_sites():
    assert Updates(policy()).together == 20
    third = [*SECRETS, Secret.generate("west")]
    assert Updates(policy(third, min_sites=2)).together == 13


def test_a_battery_runs_it_and_its_finding_is_whole():
    asked = policy()
    assert "gradient-reconstruction" in battery_of(asked)
    updates = Updates(asked)
    family = updates.family
    findings = run_battery(
        target_of(family.model, family.encoder),
        AuditedPatients(people(20), people(44, 100)),
        asked,
        site="north",
        model=digest(b"model"),
        nonce=digest(b"nonce"),
        updates=updates,
    )
    (finding,) = (each for each in findings if each.test == "gradient-reconstruction")
    (measure,) = finding.outcome.measures
    assert measure.noised is not None
    assert (measure.members, measure.decoys) == (20, 1)
    assert is_whole(finding, asked)
    assert not is_whole(finding, policy(audit=AUDIT | {"reconstruction": {"targets": 20, "decoys": 2}}))
    assert not is_whole(finding, policy(privacy="none", budget=None))


def test_it_is_for_models_of_recordings_alone_and_needs_its_table():
    with pytest.raises(WrongInput, match="reconstruction is for models of recordings"):
        policy_for(SECRETS, audit=AUDIT | PLANNED)
    with pytest.raises(WrongInput, match="cannot be measured") as refused:
        check_gates(policy(audit=AUDIT))
    assert "a model of recordings" in refused.value.hint
