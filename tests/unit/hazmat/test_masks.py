import numpy as np
import pytest

from oathbound.core.errors import WrongInput
from oathbound.hazmat import masks
from oathbound.hazmat.masks import SEED_BYTES, add_masks
from oathbound.hazmat.random import random_bytes

SEEDS = [bytes([number]) * SEED_BYTES for number in range(4)]
SIZES = [1, 5, masks._BLOCK - 1, masks._BLOCK, masks._BLOCK + 1, 3 * masks._BLOCK + 7]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_added_can_be_taken_away(size):
    vector = np.frombuffer(random_bytes(4 * size), dtype=np.uint32)
    masked = add_masks(vector, plus=SEEDS[:2], minus=SEEDS[2:])
    assert size < 4 or not np.array_equal(masked, vector)
    assert np.array_equal(add_masks(masked, plus=SEEDS[2:], minus=SEEDS[:2]), vector)


@pytest.mark.parametrize("size", SIZES)
def test_a_mask_does_not_depend_on_the_block_it_is_made_in(size):
    long = add_masks(np.zeros(4 * masks._BLOCK, np.uint32), plus=SEEDS[:1], minus=[])
    assert np.array_equal(add_masks(np.zeros(size, np.uint32), plus=SEEDS[:1], minus=[]), long[:size])


def test_it_can_work_in_place_and_else_leaves_the_vector_alone():
    vector = np.arange(100_000, dtype=np.uint32)
    masked = add_masks(vector, plus=SEEDS[:1], minus=[])
    assert np.array_equal(vector, np.arange(100_000))
    assert add_masks(vector, plus=SEEDS[:1], minus=[], out=vector) is vector
    assert np.array_equal(vector, masked)


def test_every_bit_of_a_seed_counts():
    # a seed that is folded to 32 bits can be searched; here each of the 256 bits gives another mask
    seen = set()
    for bit in range(8 * SEED_BYTES):
        seed = bytearray(SEED_BYTES)
        seed[bit // 8] ^= 1 << bit % 8
        seen.add(add_masks(np.zeros(4, np.uint32), plus=[bytes(seed)], minus=[]).tobytes())
    assert len(seen) == 8 * SEED_BYTES


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_has_one_length(seed):
    with pytest.raises(WrongInput, match="32 bytes"):
        add_masks(np.zeros(4, np.uint32), plus=[], minus=[seed])


@pytest.mark.parametrize(
    ("vector", "out"),
    [
        (np.zeros(4, np.int32), None),
        (np.zeros(4, np.uint64), None),
        (np.zeros((2, 2), np.uint32), None),
        (np.zeros(4, np.uint32), np.zeros(5, np.uint32)),
        (np.zeros(4, np.uint32), np.zeros(4, np.int32)),
    ],
)
def test_vectors_are_of_words(vector, out):
    with pytest.raises(WrongInput, match="32-bit words"):
        add_masks(vector, plus=SEEDS[:1], minus=[], out=out)


def test_no_masks_change_nothing():
    vector = np.arange(5, dtype=np.uint32)
    assert np.array_equal(add_masks(vector, plus=[], minus=[]), vector)
