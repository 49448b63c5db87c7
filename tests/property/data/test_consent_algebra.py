"""Consent as an algebra: laws that hold for every tree of rules, every request and every time."""

import copy
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from oathbound.data.codes import CLASS_COVERED_BY, PURPOSE_COVERED_BY
from oathbound.data.consent import Consent, Permit, Provision, Request, current, decide

START = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.integers(0, 6).map(lambda days: START + timedelta(days=days))
purposes = st.sampled_from(["HRESCH", "CLINTRCH", "CLINTRCHPC", "DSRCH", "TREAT", "HQUALIMP"])
labels = st.sampled_from(["MH", "SPI", "SUD", "ETH", "HIV"])
effects = st.sampled_from(["permit", "deny"])


def provisions(effect):
    def node(exceptions):
        return st.builds(
            Provision,
            effect=effect,
            start=st.none() | moments,
            end=st.none() | moments,
            purposes=st.lists(purposes, max_size=2).map(tuple),
            labels=st.lists(labels, max_size=1).map(tuple),
            opaque=st.sampled_from([False, False, False, True]),
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
    given=st.none() | moments,
    understood=st.sampled_from([True, True, True, False]),
    provision=st.none() | provisions(effects),
)
several = st.lists(consents, max_size=4)
requests = st.builds(Request, purposes, st.frozensets(labels, max_size=2))


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
            less = Request(request.purpose, request.classes - {label})
            assert isinstance(decide(consents, less, at), Permit)


@given(several, requests, moments)
def test_a_permit_extends_to_what_it_covers(consents, request, at):
    """A narrower purpose, or a narrower class, of a permitted request is permitted."""
    if isinstance(decide(consents, request, at), Permit):
        for narrower, above in PURPOSE_COVERED_BY.items():
            if request.purpose in above:
                assert isinstance(decide(consents, Request(narrower, request.classes), at), Permit)
        for label in request.classes:
            for narrower, above in CLASS_COVERED_BY.items():
                if label in above:
                    less = Request(request.purpose, (request.classes - {label}) | {narrower})
                    assert isinstance(decide(consents, less, at), Permit)


def _paths(rule):
    return [(), *((place, *rest) for place, inner in enumerate(rule.exceptions) for rest in _paths(inner))]


def _with_exception(rule, path, added):
    exceptions = list(copy.copy(rule.exceptions))
    if path:
        exceptions[path[0]] = _with_exception(exceptions[path[0]], path[1:], added)
    else:
        exceptions.append(added)
    return rule.model_copy(update={"exceptions": tuple(exceptions)})
