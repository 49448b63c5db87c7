"""The way back from what is seen to a recording, its examples, and the space in which they are compared."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the audit is an extra")

from oathbound.audit import inversion
from oathbound.audit.inversion import Inversion, Sketch, Space, made_of


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_a_map_is_learnt_and_what_says_nothing_gives_the_middle(rng):
    places = rng.normal(size=(400, 3))
    shown = np.tanh(places @ rng.normal(size=(3, 40))) + 1
    inversion = Inversion.learnt(shown[:300], places[:300])
    error = np.abs(inversion(shown[300:]) - places[300:]).mean()
    assert error < 0.2
    blind = Inversion.learnt(rng.normal(size=(300, 40)), places[:300])
    assert np.abs(blind(rng.normal(size=(100, 40))) - places[:300].mean(axis=0)).mean() < 0.5


def test_gradients_that_are_all_alike_teach_nothing_and_break_nothing(rng):
    places = rng.normal(size=(30, 2))
    for same in (np.zeros((30, 5)), np.ones((30, 5))):
        found = Inversion.learnt(same, places)(same[:1])
        assert np.abs(found - places.mean(axis=0)).max() < 1e-6


def test_a_short_gradient_stays_and_a_long_one_keeps_its_sums_and_about_its_length(rng, monkeypatch):
    short = Sketch.of(5, rng)
    assert short(np.arange(5.0)).tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(inversion, "_COLUMNS", 500)
    sketch = Sketch.of(5000, rng)
    some, other = rng.normal(size=(2, 5000))
    assert sketch(some + other) == pytest.approx(sketch(some) + sketch(other))
    assert np.linalg.norm(sketch(some)) == pytest.approx(np.linalg.norm(some), rel=0.15)
    simulated = sketch.noise(2.0, 300, rng)
    assert simulated.var(axis=0).sum() == pytest.approx(4 * 5000, rel=0.05)


def test_a_space_gives_recordings_back_and_counts_each_direction_alike(rng):
    directions = rng.normal(size=(4, 30))
    recordings = (rng.normal(size=(200, 4)) * [10, 1, 1, 2]) @ directions + 5
    space = Space.of(recordings)
    places = space.places(recordings)
    assert space.recordings(places) == pytest.approx(recordings)
    spread = np.sort(places.std(axis=0))[-4:]
    assert spread[-1] < 1.2 * spread[0]


def test_two_recordings_have_a_space_and_equal_ones_lie_in_its_middle():
    space = Space.of(np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    assert space.places(np.array([[1.0, 1.0, 1.0]])) == pytest.approx(0)
    assert np.isfinite(Space.of(np.ones((3, 4))).places(np.ones((1, 4)))).all()


def test_what_is_made_is_turned_and_mixed_of_one_class(rng):
    known = np.stack([np.arange(6.0), 10 + np.arange(6.0)])
    made, classes = made_of(known, np.array([0, 1]), (2, 3), 300, rng)
    assert made.shape == (300, 6)
    assert set(classes) == {0, 1}
    turns = {tuple(np.sort(image)) for image in made[classes == 0]}
    assert tuple(np.arange(6.0)) in turns
    assert made[classes == 0].max() <= 5
    assert made[classes == 1].min() >= 10
    whole = {tuple(image) for image in made[classes == 0] if np.unique(image).size == 6}
    assert len(whole) >= 4, "lines and columns are reversed"
    square, _ = made_of(np.arange(4.0)[None], np.array([0]), (2, 2), 100, rng)
    assert len({tuple(image) for image in square if len(set(image)) == 4}) >= 8, "and exchanged"
