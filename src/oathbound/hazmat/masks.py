"""Masks: the pseudorandom vectors modulo 2^32 that hide a summand, and cancel in the sum.

A mask is AES-128 in counter mode (NIST SP 800-38A, 6.5) over zeros, read as little-endian words. Its seed is
the key and the first counter block, 16 bytes each; a counter block that differs from mask to mask makes an
attack on many masks at once no cheaper than on one. A seed is used for one mask.

The vector is worked on in blocks that stay in the cache while all masks are added to it: going through memory
once costs less than once for each mask. Such a mask of d words is told from a uniform one with probability
below d^2 / 2^132, or by breaking AES.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from oathbound.core.errors import WrongInput

SEED_BYTES: Final = 32

_KEY_BYTES: Final = 16
_WORD: Final = 4
_BLOCK: Final = 1 << 15  # words at a time: 128 KiB, measured to be the best on machines with 512 KiB of L2
_ZEROS: Final = bytes(_WORD * _BLOCK)


def add_masks(
    vector: NDArray[np.uint32],
    *,
    plus: Sequence[bytes],
    minus: Sequence[bytes],
    out: NDArray[np.uint32] | None = None,
) -> NDArray[np.uint32]:
    """Return `vector` and the masks of the seeds `plus`, less those of `minus`, modulo 2^32: uint32 [d].

    It is written to `out`, which may be `vector` itself. `WrongInput` for another type or shape.
    """
    result = np.empty_like(vector) if out is None else out
    if any(each.dtype != np.uint32 or each.ndim != 1 for each in (vector, result)) or (
        vector.shape != result.shape
    ):
        raise WrongInput("masks are added to a vector of 32-bit words")
    steps = [*((np.add, _stream(seed)) for seed in plus), *((np.subtract, _stream(seed)) for seed in minus)]
    if not steps:
        np.copyto(result, vector)
    drawn = bytearray(len(_ZEROS))
    for start in range(0, len(vector), _BLOCK):
        source, block = vector[start : start + _BLOCK], result[start : start + _BLOCK]
        zeros = memoryview(_ZEROS)[: block.nbytes]
        words = np.frombuffer(drawn, dtype="<u4", count=len(block))
        for change, stream in steps:
            stream.update_into(zeros, drawn)
            change(source, words, out=block)
            source = block
    return result


def _stream(seed: bytes) -> CipherContext:
    if len(seed) != SEED_BYTES:
        raise WrongInput(f"the seed of a mask is {SEED_BYTES} bytes")
    return Cipher(AES128(seed[:_KEY_BYTES]), CTR(seed[_KEY_BYTES:])).encryptor()
