"""Consent as an algebra: laws that hold for every tree of rules, every request and every time."""

import copy
from datetime import UTC, datetime, timedelta

from hypothesis import given, seed, settings
from hypothesis import strategies as st

from oathbound.data.codes import CLASS_COVERED_BY, PURPOSE_COVERED_BY
from oathbound.data.consent import Consent, Deny, Permit, Provision, Reason, Request, current, decide
from oathbound.data.duo import CONDITIONS

START = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.integers(0, 6).map(lambda days: START + timedelta(days=days))
# What permits is drawn more often than what does not: else almost nothing does, and the laws say little.
ends = st.sampled_from([None, None, None, START + timedelta(days=3)])
purposes = st.sampled_from(
    ["HRESCH", "HRESCH", "HRESCH", "CLINTRCH", "CLINTRCHPC", "DSRCH", "TREAT", "HQUALIMP"]
)
labels = st.sampled_from(["MH", "SPI", "SUD", "ETH", "HIV"])
conditions = st.sampled_from(sorted(CONDITIONS)[:3])
effects = st.sampled_from(["permit", "permit", "deny"])


def provisions(effect):
    def node(exceptions):
        return st.builds(
            Provision,
            effect=effect,
            start=ends,
            end=ends,
            purposes=st.lists(purposes, max_size=2).map(tuple),
            labels=st.sampled_from([(), (), (), ("MH",), ("SPI",), ("ETH",), ("HIV",)]),
            conditions=st.sampled_from([(), (), (), tuple(sorted(CONDITIONS)[:1])]),
            opaque=st.sampled_from([False, False, False, False, False, True]),
            exceptions=exceptions,
        )

    return st.recursive(
        node(st.just(())), lambda inner: node(st.lists(inner, max_size=3).map(tuple)), max_leaves=6
    )


consents = st.builds(
    Consent,
    id=st.uuids().map(str),
    patient=st.just(1),
    status=st.sampled_from(["active", "active", "active", "inactive", "rejected"]),
    given=ends,
    understood=st.sampled_from([True, True, True, True, False]),
    provision=st.none() | provisions(effects),
)
PLAIN = Consent(
    id="plain", patient=1, status="active", provision=Provision(effect="permit", purposes=("HRESCH",))
)
several = st.lists(consents | st.just(PLAIN), max_size=3)
requests = st.builds(
    Request,
    purposes,
    st.sampled_from([(), (), ("MH",), ("HIV", "SPI")]).map(frozenset),
    st.frozensets(conditions, max_size=2),
)


def permitted(consents, request, at):
    return isinstance(decide(consents, request, at), Permit)


@given(several, st.none() | provisions(st.just("deny")), requests, moments)
def test_adding_a_deny_never_makes_a_permit(consents, deny, request, at):
    added = Consent(id="added", patient=1, status="active", provision=deny)
    if not isinstance(decide(consents, request, at), Permit):
        assert not isinstance(decide([*consents, added], request, at), Permit)


@given(several, provisions(effects), st.data(), requests, moments)
def test_adding_a_deny_exception_anywhere_never_makes_a_permit(consents, tree, data, request, at):
    path = _paths(tree)
    chosen = data.draw(st.sampled_from(path))
    deny = Provision(effect="deny", purposes=data.draw(st.lists(purposes, max_size=1).map(tuple)))
    one = Consent(id="tree", patient=1, status="active", provision=tree)
    other = Consent(id="tree", patient=1, status="active", provision=_with_exception(tree, chosen, deny))
    if not isinstance(decide([*consents, one], request, at), Permit):
        assert not isinstance(decide([*consents, other], request, at), Permit)


@given(several, st.randoms(), requests, moments)
def test_order_and_repetition_do_not_matter(consents, random, request, at):
    shuffled = [*consents, *consents]
    random.shuffle(shuffled)
    assert decide(shuffled, request, at) == decide(consents, request, at)
    assert set(map(str, current(shuffled))) == set(map(str, current(consents)))


@given(st.lists(provisions(st.just("deny")), max_size=3), requests, moments)
def test_denials_alone_never_permit(rules, request, at):
    consents = [Consent(id=str(n), patient=1, status="active", provision=r) for n, r in enumerate(rules)]
    assert not isinstance(decide(consents, request, at), Permit)


@given(st.sampled_from(sorted(PURPOSE_COVERED_BY)), st.sampled_from(sorted(PURPOSE_COVERED_BY)))
def test_a_permit_covers_its_purpose_and_descendants_only(granted, asked):
    rule = Provision(effect="permit", purposes=(granted,))
    consent = Consent(id="c", patient=1, status="active", provision=rule)
    permitted = isinstance(decide([consent], Request(asked), START), Permit)
    assert permitted is (granted in PURPOSE_COVERED_BY[asked])


@given(several, requests, moments)
def test_asking_for_less_data_is_never_harder(consents, request, at):
    if isinstance(decide(consents, request, at), Permit):
        for label in request.classes:
            less = Request(request.purpose, request.classes - {label}, request.meets)
            assert isinstance(decide(consents, less, at), Permit)


@given(several, requests, moments)
def test_a_permit_extends_to_what_it_covers(consents, request, at):
    """A narrower purpose, or a narrower class, of a permitted request is permitted."""
    if isinstance(decide(consents, request, at), Permit):
        for narrower, above in PURPOSE_COVERED_BY.items():
            if request.purpose in above:
                assert permitted(consents, Request(narrower, request.classes, request.meets), at)
        for label in request.classes:
            for narrower, above in CLASS_COVERED_BY.items():
                if label in above:
                    less = Request(request.purpose, (request.classes - {label}) | {narrower}, request.meets)
                    assert isinstance(decide(consents, less, at), Permit)


@given(several, provisions(effects), st.data(), requests, moments)
def test_making_any_rule_opaque_or_conditional_never_makes_a_permit(consents, tree, data, request, at):
    chosen = data.draw(st.sampled_from(_paths(tree)))
    change = data.draw(st.sampled_from([{"opaque": True}, {"conditions": ("DUO:0000046",)}]))
    request = Request(request.purpose, request.classes, request.meets - {"DUO:0000046"})
    before, after = _one(tree), _one(_changed(tree, chosen, lambda _: change))
    if not permitted([*consents, before], request, at):
        assert not permitted([*consents, after], request, at)


@given(several, provisions(effects), requests, moments)
def test_a_tree_that_is_opaque_at_its_root_never_permits(consents, tree, request, at):
    opaque = _one(tree.model_copy(update={"opaque": True}))
    assert not permitted([opaque], request, at)
    if not permitted(consents, request, at):
        assert not permitted([*consents, opaque], request, at)


@given(several, requests, conditions, moments)
def test_meeting_more_conditions_is_never_worse(consents, request, condition, at):
    more = Request(request.purpose, request.classes, request.meets | {condition})
    if permitted(consents, request, at):
        assert permitted(consents, more, at)


@given(several, provisions(effects), st.data(), requests, moments)
def test_widening_is_monotone(consents, tree, data, request, at):
    """A permit without exceptions that names more purposes permits no less; such a deny permits no more."""
    leaves = [path for path in _paths(tree) if not _at(tree, path).exceptions and _at(tree, path).purposes]
    if not leaves:
        return
    chosen, added = data.draw(st.sampled_from(leaves)), data.draw(purposes)
    wider = _one(_changed(tree, chosen, lambda rule: {"purposes": (*rule.purposes, added)}))
    before = permitted([*consents, _one(tree)], request, at)
    after = permitted([*consents, wider], request, at)
    assert after >= before if _at(tree, chosen).effect == "permit" else after <= before


@given(several, provisions(effects), st.data(), requests, moments)
def test_a_shorter_period_is_monotone_too(consents, tree, data, request, at):
    """A permit without exceptions that is out of force permits no more; such a deny permits no less."""
    leaves = [path for path in _paths(tree) if not _at(tree, path).exceptions]
    if not leaves:
        return
    chosen = data.draw(st.sampled_from(leaves))
    over = _one(_changed(tree, chosen, lambda _: {"end": at}))
    before = permitted([*consents, _one(tree)], request, at)
    after = permitted([*consents, over], request, at)
    assert after <= before if _at(tree, chosen).effect == "permit" else after >= before


@given(several, provisions(effects), requests, moments)
def test_out_of_force_is_as_if_not_there(consents, tree, request, at):
    for period in ({"start": at + timedelta(microseconds=1)}, {"end": at}):
        over = _one(tree.model_copy(update=period))
        assert permitted([*consents, over], request, at) == permitted(consents, request, at)


@given(st.lists(provisions(effects), max_size=3), requests, moments)
def test_several_consents_decide_as_one_with_their_rules_side_by_side(trees, request, at):
    apart = [Consent(id=str(n), patient=1, status="active", provision=t) for n, t in enumerate(trees)]
    together = _one(Provision(effect=None, exceptions=tuple(trees)))
    assert permitted(apart, request, at) == permitted([together], request, at)


@given(provisions(effects), requests, moments, st.integers(1, 4))
def test_a_root_without_effect_adds_nothing(tree, request, at, times):
    wrapped = tree
    for _ in range(times):
        wrapped = Provision(effect=None, exceptions=(wrapped,))
    assert permitted([_one(wrapped)], request, at) == permitted([_one(tree)], request, at)


@given(provisions(effects), st.data(), requests, moments)
def test_the_order_of_exceptions_does_not_matter(tree, data, request, at):
    chosen = data.draw(st.sampled_from(_paths(tree)))
    shuffled = tuple(data.draw(st.permutations(_at(tree, chosen).exceptions)))
    other = _changed(tree, chosen, lambda _: {"exceptions": shuffled})
    assert decide([_one(other)], request, at) == decide([_one(tree)], request, at)


@given(several, requests, moments)
def test_a_withheld_class_is_why_only_where_ordinary_data_is_not_denied(consents, request, at):
    if decide(consents, request, at) == Deny(Reason.WITHHELD):
        ordinary = Request(request.purpose, frozenset(), request.meets)
        assert decide(consents, ordinary, at) != Deny(Reason.DENIED)


def test_the_laws_are_not_empty():
    """The strategies draw both answers often enough for an implication to mean something."""
    seen = {True: 0, False: 0}

    @settings(max_examples=300, database=None)
    @seed(1)
    @given(several, requests, moments)
    def draw(consents, request, at):
        seen[permitted(consents, request, at)] += 1

    draw()
    assert min(seen.values()) > 30


def _one(tree):
    return Consent(id="tree", patient=1, status="active", provision=tree)


def _at(rule, path):
    return _at(rule.exceptions[path[0]], path[1:]) if path else rule


def _changed(rule, path, change):
    if not path:
        return rule.model_copy(update=change(rule))
    exceptions = list(rule.exceptions)
    exceptions[path[0]] = _changed(exceptions[path[0]], path[1:], change)
    return rule.model_copy(update={"exceptions": tuple(exceptions)})


def _paths(rule):
    return [(), *((place, *rest) for place, inner in enumerate(rule.exceptions) for rest in _paths(inner))]


def _with_exception(rule, path, added):
    exceptions = list(copy.copy(rule.exceptions))
    if path:
        exceptions[path[0]] = _with_exception(exceptions[path[0]], path[1:], added)
    else:
        exceptions.append(added)
    return rule.model_copy(update={"exceptions": tuple(exceptions)})
