import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oathbound.core.errors import WrongInput
from oathbound.testing.consortium import Consortium
from oathbound.testing.sums import PLAN, RUN, Sums, site_names
from oathbound.train.secure_sum.terms import Terms, Thresholds

TABLE = [(3, 1, 3), (4, 1, 3), (5, 1, 4), (5, 2, 4), (8, 2, 6), (2, 0, 2), (50, 16, 34)]
CASES = [(n, c) for n in range(2, 13) for c in range(n - 1)]


@pytest.mark.parametrize(("n", "colluding", "quorum"), TABLE)
def test_the_table_of_the_specification(n, colluding, quorum):
    assert Thresholds(n, colluding, max(quorum, colluding + 2)).quorum == quorum


def splits(n, colluding, quorum):
    """Return whether honest sites can sign one list each so that two lists have a quorum."""
    honest = n - colluding
    return any(min(first, honest - first) + colluding >= quorum for first in range(honest + 1))


@pytest.mark.parametrize(("n", "colluding"), CASES)
def test_no_two_lists_have_a_quorum_and_one_less_would_allow_it(n, colluding):
    quorum = Thresholds(n, colluding, n).quorum
    assert not splits(n, colluding, quorum)
    assert splits(n, colluding, quorum - 1)
    assert quorum <= n
    assert colluding < quorum


@pytest.mark.parametrize(
    ("n", "colluding", "least", "words"),
    [
        (3, 2, 3, "cannot protect"),
        (2, 1, 2, "cannot protect"),
        (3, -1, 3, "cannot protect"),
        (1, 0, 1, "cannot protect"),
        (5, 1, 3, "a sum holds 4 at least"),
        (4, 1, 5, "a sum holds 3 at least"),
    ],
)
def test_what_cannot_be_safe_is_refused(n, colluding, least, words):
    with pytest.raises(WrongInput, match=words):
        Thresholds(n, colluding, least)


@pytest.mark.parametrize(("n", "colluding"), CASES)
def test_a_quorum_holds_two_honest_sites(n, colluding):
    assert Thresholds(n, colluding, n).quorum - colluding >= 2


def test_places_follow_the_policy():
    terms = Sums.of(3).terms
    assert [terms.place(site) for site in terms.sites] == [1, 2, 3]
    assert [terms.name(place) for place in (1, 2, 3)] == list(terms.sites)
    assert terms.key(2) is terms.keys[1]
    with pytest.raises(WrongInput, match="not a site"):
        terms.place("elsewhere")


def keys_of(*seeds):
    return tuple(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32).public_key() for seed in seeds)


@pytest.mark.parametrize(
    ("sites", "keys", "dimension", "words"),
    [
        (3, keys_of(1, 2), 5, "one key for each site"),
        (2, keys_of(1, 2, 3), 5, "one key for each site"),
        (4, keys_of(1, 2, 3, 4), 5, "one key for each site"),
        (3, keys_of(1, 2, 3), 0, "one word"),
        (3, keys_of(1, 2, 1), 5, "two sites of a secure sum have one key"),
    ],
)
def test_terms_fit_together(sites, keys, dimension, words):
    with pytest.raises(WrongInput, match=words):
        Terms(RUN, PLAN, site_names(sites), keys, Thresholds(3, 1, 3), dimension)


def test_terms_of_a_policy():
    consortium = Consortium.of(("north", "east", "west"), min_sites=3, colluding=1)
    keys = {site: consortium.secrets[site].statement_keys()[0].public_key() for site in consortium.sites}
    terms = Terms.of(consortium.policy, run=RUN, keys=keys, dimension=7)
    assert (terms.run, terms.plan, terms.dimension) == (RUN, consortium.policy.digest, 7)
    assert terms.sites == tuple(consortium.sites)
    assert terms.thresholds == Thresholds(3, 1, 3)
    assert [terms.key(place) for place in (1, 2, 3)] == [keys[site] for site in consortium.sites]
    for wrong in (keys | {"south": keys["north"]}, {"north": keys["north"]}):
        with pytest.raises(WrongInput, match="exactly the policy's sites"):
            Terms.of(consortium.policy, run=RUN, keys=wrong, dimension=7)


def test_a_policy_that_a_secure_sum_cannot_keep():
    consortium = Consortium.of(("north", "east", "west"), min_sites=2)
    keys = {site: consortium.secrets[site].statement_keys()[0].public_key() for site in consortium.sites}
    assert Terms.of(consortium.policy, run=RUN, keys=keys, dimension=7).thresholds.quorum == 2
    with pytest.raises(WrongInput, match="min_sites must be at least 3 for 4 sites"):
        Consortium.of(("north", "east", "west", "south"), min_sites=2)
    with pytest.raises(WrongInput, match="a sum holds 3 at least") as refusal:
        Thresholds(sites=4, colluding=0, least=2)
    assert refusal.value.hint == "set min_sites from 3 to 4"


def test_a_client_signs_with_its_own_key():
    sums = Sums.of(3)
    sums.signers = dict(sums.signers) | {"site-1": sums.signers["site-2"]}
    with pytest.raises(WrongInput, match="not the one that the terms have"):
        sums.restart("site-1")
