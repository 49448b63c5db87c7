"""Masked vectors look uniform, whatever they hide, alone and together; what lacks a mask does not.

Each accepted case asks whether bytes are uniform, at a level of 1e-9: all of them together fail a right
implementation less than once in a million runs. Words of a vector that is not masked are far below that.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chi2

from oathbound.hazmat.masks import _BLOCK, add_masks
from oathbound.testing.sums import Sums, Vector
from oathbound.train.secure_sum import messages as m
from oathbound.train.secure_sum.seeds import own_mask_seed

pytestmark = pytest.mark.statistical

LEVEL = 1e-9
WORDS = 2 * _BLOCK + 1000
INPUTS: dict[str, Vector] = {
    "zeros": np.zeros(WORDS, np.uint32),
    "ones": np.ones(WORDS, np.uint32),
    "small": np.arange(WORDS, dtype=np.uint32) % 100,
    "negative": np.full(WORDS, 2**32 - 5, dtype=np.uint32),
}


def uniformity(words: Vector) -> float:
    """Return the p-value of the chi-square test that each of the four bytes of the words is uniform."""
    counts = np.stack([np.bincount(words.view(np.uint8)[place::4], minlength=256) for place in range(4)])
    expected = len(words) / 256
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), df=4 * 255))


def masked(vectors: dict[str, Vector], attempt: int = 1, sums: Sums | None = None) -> dict[str, Vector]:
    """Return what the server gets of a sum."""
    sums = sums or Sums.ready(len(vectors), 1, dimension=WORDS)
    sums.begin(attempt)
    sent = {site: m.MASKED.read(sums.clients[site].mask(vector))[1] for site, vector in vectors.items()}
    return {site: np.frombuffer(payload, dtype=np.uint32) for site, payload in sent.items()}


@pytest.fixture(params=INPUTS)
def vector(request):
    return INPUTS[request.param]


def sites(vector):
    return {f"site-{number}": vector for number in (1, 2, 3)}


def test_every_masked_vector_looks_uniform(vector):
    assert all(uniformity(each) > LEVEL for each in masked(sites(vector)).values())


def test_what_is_not_masked_does_not(vector):
    assert uniformity(vector) < LEVEL


def test_masked_vectors_look_uniform_together(vector):
    # the sum of some, and the differences of two, are uniform too: masks of a pair cancel only in pairs
    first, second, third = masked(sites(vector)).values()
    for together in (first + second, second + third, first - second, first + second + third):
        assert uniformity(together) > LEVEL


def test_the_sum_without_own_masks_is_no_secret(vector, monkeypatch):
    # the same, where everybody's own mask is left out: the masks of pairs cancel, and the sum is open
    def pairs_alone(vector, *, plus, minus, out):
        return add_masks(vector, plus=plus[1:], minus=minus, out=out)

    monkeypatch.setattr("oathbound.train.secure_sum.client.add_masks", pairs_alone)
    total = sum(masked(sites(vector)).values())
    assert np.array_equal(total, 3 * vector)
    assert uniformity(total) < LEVEL


def left_out(number: int) -> Callable[..., Vector]:
    """Return masking that leaves out all masks but one."""

    def one_mask(vector, *, plus, minus, out):
        seeds = [("plus", seed) for seed in plus] + [("minus", seed) for seed in minus]
        sign, seed = seeds[number]
        return add_masks(vector, **{"plus": [], "minus": [], sign: [seed], "out": out})

    return one_mask


@pytest.mark.parametrize("number", range(3))
def test_any_one_mask_hides_the_vector(number, vector, monkeypatch):
    monkeypatch.setattr("oathbound.train.secure_sum.client.add_masks", left_out(number))
    assert all(uniformity(each) > LEVEL for each in masked(sites(vector)).values())


def test_without_the_last_mask_the_vector_is_open(vector, monkeypatch):
    def no_mask(vector, *, out, **_):
        return add_masks(vector, plus=[], minus=[], out=out)

    monkeypatch.setattr("oathbound.train.secure_sum.client.add_masks", no_mask)
    assert all(uniformity(each) < LEVEL for each in masked(sites(vector)).values())


def test_two_attempts_have_nothing_in_common(vector):
    sums = Sums.ready(3, 1, dimension=WORDS)
    first, second = masked(sites(vector), 1, sums), masked(sites(vector), 2, sums)
    assert all(uniformity(first[site] - second[site]) > LEVEL for site in first)


def test_a_seed_used_twice_would_show_the_difference(vector):
    seed = bytes(range(32))
    first, second = (add_masks(each, plus=[seed], minus=[]) for each in (vector, vector + np.uint32(7)))
    assert uniformity(second - first) < LEVEL


@pytest.mark.parametrize("shift", [1, 4, 4096, _BLOCK])
def test_a_mask_does_not_repeat_itself(vector, shift):
    first = masked(sites(vector))["site-1"]
    assert uniformity(first[shift:] - first[:-shift]) > LEVEL


def test_a_mask_that_began_again_with_each_block_would(vector):
    block = add_masks(np.zeros(_BLOCK, np.uint32), plus=[bytes(range(32))], minus=[])
    repeated = vector + np.resize(block, WORDS)
    assert uniformity(repeated[_BLOCK:] - repeated[:-_BLOCK]) < LEVEL


def test_a_mask_of_sixteen_bits_would_be_seen(vector):
    weak = add_masks(np.zeros(WORDS, np.uint32), plus=[bytes(range(32))], minus=[]) & np.uint32(0xFFFF)
    assert uniformity(vector + weak) < LEVEL


def left_to_hide(vectors: dict[str, Vector], colluding: set[int]) -> dict[int, Vector]:
    """Return the honest sites' masked vectors, less every mask that the server and `colluding` know.

    That is after the sum was opened: everybody's own mask, and all masks shared with a colluding site.
    """
    sums = Sums.ready(len(vectors), 2, dimension=WORDS)
    sent = masked(vectors, 1, sums)
    left = {}
    for site, vector in sent.items():
        client, place = sums.clients[site], sums.terms.place(site)
        if place in colluding:
            continue
        attempt = client._open.attempt.identity
        peers = {peer: client._phase.pairs.seed(peer, attempt) for peer in colluding}
        left[place] = add_masks(
            vector,
            plus=[seed for peer, seed in peers.items() if peer < place],
            minus=[
                own_mask_seed(client._phase.batches[0].seed(1), attempt),
                *(seed for peer, seed in peers.items() if peer > place),
            ],
        )
    return left


def test_the_server_and_c_sites_see_the_honest_sum_and_uniform_vectors(vector):
    left = left_to_hide({f"site-{place}": vector for place in range(1, 6)}, {1, 4})
    assert np.array_equal(sum(left.values()), 3 * vector)
    assert all(uniformity(each) > LEVEL for each in left.values())
    first, second, third = left.values()
    assert all(uniformity(each) > LEVEL for each in (first + second, second + third, first + third))


def test_all_sites_but_one_would_see_its_vector(vector):
    left = left_to_hide({f"site-{place}": vector for place in range(1, 6)}, {1, 2, 4, 5})
    assert np.array_equal(left[3], vector)
