"""Randomness: the only file that asks the operating system for it.

Every draw is cryptographically secure: who predicts which patients were sampled, or the noise, undoes their
privacy. There is no seed and no state, so a forked process cannot repeat a draw.
"""

import os
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput

_FROM_KERNEL: Final = 4096
_WORD: Final = 64

Words = Callable[[int], NDArray[np.uint64]]
"""A source of uniform 64-bit words; tests give one that they know."""


def random_bytes(n: int) -> bytes:
    """Return `n` uniform bytes: from the kernel, or above 4 KiB of AES-256-CTR under a fresh key from it."""
    if n <= _FROM_KERNEL:
        return os.urandom(n)
    stream = Cipher(AES(os.urandom(32)), CTR(bytes(16))).encryptor()
    return stream.update(bytes(n))


def random_words(n: int) -> NDArray[np.uint64]:
    """Return `n` uniform 64-bit words, read-only."""
    return np.frombuffer(random_bytes(8 * n), dtype=np.uint64)


def bernoulli(probability: Decimal, n: int, *, words: Words = random_words) -> NDArray[np.bool_]:
    """Return `n` independent coins, each true with exactly `probability`; `WrongInput` unless 0 <= it <= 1.

    A uniform real number, of which 64 bits are drawn at first, is compared with the binary expansion of the
    probability; further bits are drawn only while they agree. So there is no rounding to account for.
    """
    if not 0 <= probability <= 1:
        raise WrongInput("a probability lies between 0 and 1")
    return _coins(Fraction(probability), n, words)


def _coins(probability: Fraction, n: int, words: Words) -> NDArray[np.bool_]:
    if n == 0 or probability in (0, 1):
        return np.full(n, probability == 1)
    threshold, rest = divmod(probability * 2**_WORD, 1)
    drawn = words(n)
    coins: NDArray[np.bool_] = drawn < np.uint64(threshold)
    ties = np.flatnonzero(drawn == np.uint64(threshold))
    coins[ties] = _coins(rest, len(ties), words)
    return coins


def permutation(n: int, *, words: Words = random_words) -> NDArray[np.int64]:
    """Return a uniform permutation of 0..n-1: the order of `n` words, drawn again until no two are equal."""
    while True:
        drawn = words(n)
        order = np.argsort(drawn)
        if (np.diff(drawn[order]) != 0).all():
            return order.astype(np.int64)
