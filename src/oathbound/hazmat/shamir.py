"""Shamir's secret sharing (1979), of byte strings, over the field of 256 elements.

Every byte is the value at 0 of its own random polynomial of degree threshold - 1, and the share at place x
holds the values at x. Fewer than `threshold` shares are independent of the secret, whatever the attacker can
compute.

The field is GF(2^8) with the polynomial of AES, x^8 + x^4 + x^3 + x + 1: a secret of any length without
encoding it as a number, places up to 255, and arithmetic by shifts and exclusive ors alone. Secret bytes are
never an index or a condition; what is branched on, places and numbers of shares, is public.

A share carries no proof that it is right. Who combines must be able to recognise the secret.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput
from oathbound.hazmat.random import random_bytes

GREATEST_PLACE: Final = 255

_POLYNOMIAL: Final = 0x11B
_TOP: Final = 7

_Element = TypeVar("_Element", int, NDArray[Any])
"""One element of the field, or a vector of them."""


def split(
    secret: bytes, *, threshold: int, places: Sequence[int], random: Callable[[int], bytes] = random_bytes
) -> dict[int, bytes]:
    """Return a share for each place, as long as the secret; `threshold` of them give it back.

    `WrongInput` unless the places are different, from 1 to 255, and at least `threshold`. At place 0 the
    share would be the secret.
    """
    if not 1 <= threshold <= len(places):
        raise WrongInput("a secret needs at least one share, and has as many as places")
    _check_places(places)
    drawn = np.frombuffer(random((threshold - 1) * len(secret)), dtype=np.uint8)
    coefficients = drawn.astype(np.uint16).reshape(threshold - 1, len(secret))
    constant = np.frombuffer(secret, dtype=np.uint8).astype(np.uint16)
    return {place: _bytes(_value(coefficients, constant, place)) for place in places}


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Return the secret whose shares, by place, are given: as many as the threshold that it was split with.

    With fewer, or with a wrong one, the result is another byte string, and nothing tells. `WrongInput` where
    shares are of different lengths, or a place is not from 1 to 255.
    """
    _check_places(tuple(shares))
    if len({len(share) for share in shares.values()}) != 1:
        raise WrongInput("shares of one secret are of one length, and there is at least one")
    total = np.zeros(len(next(iter(shares.values()))), dtype=np.uint16)
    for place, weight in _weights(tuple(shares)).items():
        total ^= _times(np.frombuffer(shares[place], dtype=np.uint8).astype(np.uint16), weight)
    return _bytes(total)


def _check_places(places: Sequence[int]) -> None:
    if len(set(places)) != len(places) or not all(1 <= place <= GREATEST_PLACE for place in places):
        raise WrongInput("shares have different places, from 1 to 255")


def _value(coefficients: NDArray[np.uint16], constant: NDArray[np.uint16], place: int) -> NDArray[np.uint16]:
    """Return the polynomials' values at `place`, by Horner's rule."""
    value = np.zeros_like(constant)
    for row in coefficients:
        value = _times(value ^ row, place)
    return value ^ constant


@lru_cache(maxsize=16)
def _weights(places: tuple[int, ...]) -> Mapping[int, int]:
    """Return the values at 0 of Lagrange's polynomials, by place; in this field - is +."""
    weights = dict.fromkeys(places, 1)
    for place in places:
        for other in places:
            if other != place:
                weights[place] = _times(weights[place], _times(other, _inverse(other ^ place)))
    return weights


def _times(element: _Element, factor: int) -> _Element:
    """Return the product with a public factor: shifts and exclusive ors, whatever the element."""
    product: _Element = element ^ element
    while factor:
        if factor & 1:
            product = product ^ element
        element = (element << 1) ^ ((element >> _TOP) * _POLYNOMIAL)
        factor >>= 1
    return product


def _inverse(element: int) -> int:
    """Return element^254, which is its inverse: the product of element^2, element^4, ..., element^128."""
    inverse = 1
    for _ in range(_TOP):
        element = _times(element, element)
        inverse = _times(inverse, element)
    return inverse


def _bytes(vector: NDArray[np.uint16]) -> bytes:
    return vector.astype(np.uint8).tobytes()
