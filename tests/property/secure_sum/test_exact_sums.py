from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oathbound.core.errors import ProtocolRefused
from oathbound.testing.sums import Sums, sum_of
from oathbound.train.secure_sum.terms import Thresholds

TABLE = [(2, 0, 0), (3, 1, 0), (4, 1, 1), (5, 1, 1), (5, 2, 1), (8, 2, 2)]
"""n, c, and how many may be lost."""


@st.composite
def consortia(draw):
    n = draw(st.integers(2, 7))
    colluding = draw(st.integers(0, n - 2))
    quorum = Thresholds(n, colluding, n).quorum
    least = draw(st.integers(quorum, n))
    dimension = draw(st.sampled_from([1, 2, 7, 100]))
    return Sums.ready(n, colluding, least=least, dimension=dimension)


@settings(max_examples=30, deadline=None)
@given(sums=consortia(), data=st.data())
def test_a_sum_is_exact_or_there_is_none(sums, data):
    """Whoever is lost, and when: the answer is the survivors' sum, and is there exactly when it should be."""
    thresholds, subsets = sums.terms.thresholds, st.sets(st.sampled_from(sums.sites))
    for attempt in (1, 2, 3):
        unmasked, unsigned, unrevealed = (data.draw(subsets) for _ in range(3))
        vectors = {site: vector for site, vector in sums.vectors(attempt).items() if site not in unmasked}
        signing = vectors.keys() - unsigned
        revealing = signing - unrevealed
        expected = (
            len(vectors) >= thresholds.least
            and len(signing) >= thresholds.quorum
            and len(revealing) >= thresholds.quorum
            and (len(vectors) == thresholds.sites or revealing == vectors.keys())
        )
        if expected:
            total = sums.sum(vectors, attempt, unsigned=unsigned, unrevealed=unrevealed)
            assert np.array_equal(total, sum_of(vectors))
        else:
            with pytest.raises(ProtocolRefused):
                sums.sum(vectors, attempt, unsigned=unsigned, unrevealed=unrevealed)


@pytest.mark.parametrize(("n", "colluding", "losses"), TABLE)
def test_the_table_of_losses_is_exact(n, colluding, losses):
    sums, attempts = Sums.ready(n, colluding), count(1)
    vectors = sums.vectors()
    for lost in range(losses + 1):
        left = dict(list(vectors.items())[lost:])
        assert np.array_equal(sums.sum(left, next(attempts)), sum_of(left))
        gone = sums.sites[:lost]
        assert np.array_equal(sums.sum(vectors, next(attempts), unrevealed=gone), sum_of(vectors))
        assert np.array_equal(sums.sum(vectors, next(attempts), unsigned=gone), sum_of(vectors))
    with pytest.raises(ProtocolRefused):
        sums.sum(dict(list(vectors.items())[losses + 1 :]), next(attempts))
    with pytest.raises(ProtocolRefused):
        sums.sum(vectors, next(attempts), unrevealed=sums.sites[: losses + 1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4), min_size=4, max_size=4))
def test_every_word_can_be_summed(rows):
    sums = Sums.ready(4, 1, dimension=4)
    vectors = {site: np.array(row, dtype=np.uint32) for site, row in zip(sums.sites, rows, strict=True)}
    assert np.array_equal(sums.sum(vectors), sum_of(vectors))


def test_a_session_of_fewer_sites_keeps_the_numbers_of_the_policy():
    sums = Sums.of(5, 1)
    sums.gather(sums.sites[:4])
    sums.deal()
    vectors = {site: sums.vectors()[site] for site in sums.sites[:4]}
    assert np.array_equal(sums.sum(vectors), sum_of(vectors))
    with pytest.raises(ProtocolRefused):
        sums.sum(dict(list(vectors.items())[1:]), 2)
    with pytest.raises(ProtocolRefused, match="fewer sites are here"):
        sums.gather(sums.sites[:3], epoch=3)


def test_a_site_that_crashed_comes_back_with_new_keys():
    sums = Sums.ready(3, 1)
    sums.sum(sums.vectors(), 1)
    sums.restart("site-2")
    with pytest.raises(ProtocolRefused, match="does not come next"):
        sums.begin(2)
    sums.gather(epoch=3)
    sums.deal()
    vectors = sums.vectors(3)
    assert np.array_equal(sums.sum(vectors, 3), sum_of(vectors))
