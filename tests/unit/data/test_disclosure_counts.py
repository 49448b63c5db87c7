import pytest

from oathbound.data.disclosure import rounded, spoken


@pytest.mark.parametrize(
    ("count", "shown", "said"),
    [
        (0, 0, "no"),
        (1, None, "fewer than 10"),
        (9, None, "fewer than 10"),
        (10, 10, "about 10"),
        (12, 10, "about 10"),
        (13, 15, "about 15"),
        (17, 15, "about 15"),
        (18, 20, "about 20"),
    ],
)
def test_counts_are_rounded_and_small_ones_suppressed(count, shown, said):
    assert rounded(count) == shown
    assert spoken(count) == said
