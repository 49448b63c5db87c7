from collections import Counter
from itertools import combinations, product

import pytest

from oathbound.core.errors import WrongInput
from oathbound.hazmat import shamir
from oathbound.hazmat.shamir import combine, split

SECRET = bytes(range(256))


@pytest.mark.parametrize(("n", "threshold"), [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (8, 6)])
def test_every_subset_of_the_threshold_gives_the_secret_back(n, threshold):
    shares = split(SECRET, threshold=threshold, places=range(1, n + 1))
    assert shares.keys() == set(range(1, n + 1))
    for some in combinations(shares, threshold):
        assert combine({place: shares[place] for place in some}) == SECRET


def test_fifty_places_and_distant_ones():
    shares = split(SECRET, threshold=34, places=range(1, 51))
    assert combine({place: shares[place] for place in range(17, 51)}) == SECRET
    shares = split(SECRET, threshold=2, places=[255, 7])
    assert combine(shares) == SECRET


def test_one_share_too_few_gives_something_else():
    shares = split(SECRET, threshold=3, places=[1, 2, 3])
    for some in combinations(shares, 2):
        assert combine({place: shares[place] for place in some}) != SECRET


@pytest.mark.parametrize("secret", [0, 1, 0x53, 255])
def test_one_of_two_shares_is_uniform_whatever_the_secret(secret):
    # exhaustive: over all polynomials of degree 1, a share takes each value once
    for place in (1, 2, 255):
        values = Counter(
            split(bytes([secret]), threshold=2, places=[1, 2, 255], random=lambda _, a=a: bytes([a]))[place]
            for a in range(256)
        )
        assert set(values.values()) == {1}
        assert len(values) == 256


def test_two_of_three_shares_are_uniform_together():
    # exhaustive over all polynomials of degree 2 of 256 secrets' worth of bytes at a time: each pair once
    for secret in (0, 0xA7):
        pairs = set()
        for high in range(256):
            drawn = bytes([high]) * 256 + bytes(range(256))
            shares = split(bytes([secret]) * 256, threshold=3, places=[1, 2, 3], random=lambda _, d=drawn: d)
            pairs |= set(zip(shares[1], shares[3], strict=True))
        assert len(pairs) == 256**2


def test_a_threshold_less_would_show_the_secret():
    # what the test above refuses: polynomials of degree 1 for a threshold of 3
    pairs = set()
    for drawn in range(256):
        shares = split(b"\7", threshold=2, places=[1, 3], random=lambda _, d=drawn: bytes([d]))
        pairs.add((shares[1], shares[3]))
    assert len(pairs) == 256


def test_the_field_is_a_field():
    times = shamir._times
    for a, b in product(range(0, 256, 7), repeat=2):
        assert times(a, b) == times(b, a) < 256
        assert times(a, b ^ 0x35) == times(a, b) ^ times(a, 0x35)
    assert times(0x57, 0x83) == 0xC1  # FIPS 197, 4.2
    assert all(times(a, shamir._inverse(a)) == 1 for a in range(1, 256))


@pytest.mark.parametrize("places", [[0, 1], [1, 1], [1, 256], [-1, 2]])
def test_places_are_different_and_never_zero(places):
    with pytest.raises(WrongInput, match="from 1 to 255"):
        split(SECRET, threshold=2, places=places)
    if len(set(places)) == 2:
        with pytest.raises(WrongInput, match="from 1 to 255"):
            combine(dict.fromkeys(places, b"x"))


@pytest.mark.parametrize("threshold", [0, 3])
def test_a_threshold_is_from_one_to_the_places(threshold):
    with pytest.raises(WrongInput, match="at least one share"):
        split(SECRET, threshold=threshold, places=[1, 2])


@pytest.mark.parametrize("shares", [{}, {1: b"a", 2: b"ab"}])
def test_shares_are_of_one_length(shares):
    with pytest.raises(WrongInput, match="of one length"):
        combine(shares)


def test_an_empty_secret_has_empty_shares():
    assert combine(split(b"", threshold=2, places=[1, 2])) == b""
