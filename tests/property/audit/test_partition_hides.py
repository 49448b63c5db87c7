"""What all findings of an audit say together keeps every hidden group's numbers to more than the minimum.

The reader here is stronger than any: the totals, which other tests round, are known exactly, and so is the
rule. A world is consistent with what is read if the rule publishes the same of it.
"""

from itertools import permutations, product

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from oathbound.audit.partition import hidden

MINIMUM, MEASURABLE = 10, 40
COUNTS = st.one_of(st.integers(0, 12), st.integers(30, 50), st.integers(0, 300))
SIZES = st.lists(st.tuples(COUNTS, COUNTS), min_size=2, max_size=5)
MOVES = (*range(1, 120), 200, 300)


def named(sizes):
    return {f"g{place}": size for place, size in enumerate(sizes)}


def published(sizes, already=frozenset()):
    """All that leaves the site of the groups, with totals that are exact."""
    unsaid = hidden(sizes, measurable=MEASURABLE, minimum=MINIMUM, already=already)
    shown = {
        name: tuple(5 * round(count / 5) for count in size)
        for name, size in sizes.items()
        if name not in unsaid
    }
    return unsaid, shown, tuple(map(sum, zip(*sizes.values(), strict=True)))


def moved(sizes, name, partners, side, n):
    """The world in which one side of `name` has `n` patients more, taken from `partners` in their order.

    Fewer, if `n` is negative, which the first partner has then; None where there are not so many.
    """
    world = {each: list(size) for each, size in sizes.items()}
    world[name][side] += n
    for partner in partners:
        step = min(n, world[partner][side])
        world[partner][side] -= step
        n -= step
    if n or world[name][side] < 0:
        return None
    return {each: tuple(size) for each, size in world.items()}


def spread(sizes, names, side):
    """The world itself, and those in which one side of the hidden is spread evenly, or is in one group."""
    yield sizes
    names = sorted(names)
    total = sum(sizes[name][side] for name in names)
    even = [total // len(names) + (place < total % len(names)) for place in range(len(names))]
    for counts in (even, *([total if name == all_in else 0 for name in names] for all_in in names)):
        world = {name: list(size) for name, size in sizes.items()}
        for name, count in zip(names, counts, strict=True):
            world[name][side] = count
        yield {name: tuple(size) for name, size in world.items()}


def possible(sizes, name, side, already=frozenset(), enough=MINIMUM):
    """Numbers of one side of a hidden group that the reader cannot exclude, until they are `enough` apart."""
    said = published(sizes, already)
    found = {sizes[name][side]}
    partners = list(permutations(sorted(said[0] - {name})))
    for base, n, order in product(spread(sizes, said[0], 1 - side), MOVES, partners):
        for moves in (n, -n):
            world = moved(base, name, order, side, moves)
            if world and published(world, already) == said:
                found.add(world[name][side])
        if max(found) - min(found) >= enough:
            break
    return found


@settings(deadline=None)
@given(SIZES)
@example([(3, 60), (60, 45), (300, 300)])
@example([(500, 3), (60, 70), (65, 65)])
@example([(2, 3), (9, 4), (41, 41), (42, 42)])
@example([(0, 0), (200, 200)])
@example([(0, 0), (0, 30), (159, 40)])
def test_no_hidden_number_is_known_to_within_the_minimum(sizes):
    sizes = named(sizes)
    unsaid, _, totals = published(sizes)
    assume(min(totals) >= MINIMUM)  # below it no test says how many there are
    for name in unsaid:
        for side in (0, 1):
            numbers = possible(sizes, name, side)
            assert max(numbers) - min(numbers) >= MINIMUM


@settings(deadline=None)
@given(SIZES, st.data())
def test_nor_where_groups_were_hidden_before(sizes, data):
    sizes = named(sizes)
    already = frozenset(data.draw(st.sets(st.sampled_from(sorted(sizes)))))
    unsaid, _, totals = published(sizes, already)
    assume(min(totals) >= MINIMUM)
    assert already <= unsaid
    for name in unsaid:
        for side in (0, 1):
            numbers = possible(sizes, name, side, already)
            assert max(numbers) - min(numbers) >= MINIMUM


@settings(deadline=None)
@given(SIZES)
def test_who_is_shown_can_be_measured_and_so_many_are_not_shown_or_nobody(sizes):
    sizes = named(sizes)
    unsaid, shown, _ = published(sizes)
    assert all(min(sizes[name]) >= MEASURABLE for name in shown)
    rest = [sizes[name] for name in unsaid]
    if rest and shown:
        assert len(rest) > 1
        assert all(sum(side) >= MINIMUM for side in zip(*rest, strict=True))
    if all(min(size) >= MEASURABLE for size in sizes.values()):
        assert not unsaid


def test_without_the_second_group_subtraction_tells(monkeypatch):
    monkeypatch.setattr("oathbound.audit.partition._hide_each_other", lambda *_: True)
    sizes = named([(3, 60), (60, 45), (300, 300)])
    assert published(sizes)[0] == {"g0"}
    assert possible(sizes, "g0", 0) == {3}


def test_two_hidden_groups_of_a_few_hide_nothing_of_each_other(monkeypatch):
    monkeypatch.setattr("oathbound.audit.partition._hide_each_other", lambda sizes, _: len(sizes) > 1)
    sizes = named([(2, 60), (3, 45), (300, 300)])
    assert max(possible(sizes, "g0", 0)) == 5 < MINIMUM
