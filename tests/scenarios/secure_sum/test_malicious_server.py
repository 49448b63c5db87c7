"""What a dishonest server can run, played by its code, and refused or harmless.

Where it is cheap, the same attack is played against sites without the check that refuses it, and succeeds: so
these tests would notice if the check were gone.
"""

import numpy as np
import pytest

from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat.masks import add_masks
from oathbound.hazmat.shamir import combine
from oathbound.testing.sums import Eavesdropper, Sums, changed, label, sum_of
from oathbound.train.secure_sum import messages as m
from oathbound.train.secure_sum.terms import Thresholds

VICTIM = "site-1"
CLIENT = "oathbound.train.secure_sum.client"
AGREEMENT = "oathbound.train.secure_sum.agreement"


def refused(words, call, *arguments, **more):
    with pytest.raises(ProtocolRefused, match=words):
        call(*arguments, **more)


def unchecked(*_, **__):
    """What a check is without its body."""


# double share: the seed of a site's own mask, and the seeds of those it shares


def double_share(server: Eavesdropper, *, forget: bool) -> None:
    """Have everybody sign that the victim is there, and reveal; then that it is lost, and reveal again."""
    places = tuple(range(1, len(server.sums.sites) + 1))
    before = {site: client._open for site, client in server.sums.clients.items()}
    for survivors in (places, places[1:]):
        names = [server.sums.terms.name(place) for place in survivors]
        signatures = {server.sums.terms.place(site): server.sign(site, survivors) for site in names}
        certificate = server.certificate(survivors, signatures)
        for site in names:
            server.hear(site, survivors, certificate)
        if forget:  # a client without steps O2 and O8
            for site, client in server.sums.clients.items():
                client._open = before[site]


def test_double_share_is_refused():
    server = Eavesdropper(Sums.ready(4, 1))
    refused("not open", double_share, server, forget=False)
    assert not server.sees(1)


def test_double_share_would_open_one_sites_vector():
    server = Eavesdropper(Sums.ready(4, 1))
    double_share(server, forget=True)
    assert server.sees(1)
    assert not server.sees(2)


def test_double_share_before_anything_is_revealed():
    server = Eavesdropper(Sums.ready(4, 1))
    for site in ("site-2", "site-3", "site-4"):
        server.sign(site, (1, 2, 3, 4))
        refused("a second list", server.sign, site, (2, 3, 4))


# split view: other lists, other models


@pytest.mark.parametrize(("n", "colluding"), [(4, 1), (5, 2), (6, 2), (8, 2)])
def test_two_lists_have_no_two_certificates(n, colluding):
    """Show one list to some honest sites and another to the rest; the colluding sign both."""
    everybody, others = tuple(range(1, n + 1)), tuple(range(2, n + 1))
    honest = n - colluding
    for shown in range(honest):
        server = Eavesdropper(Sums.ready(n, colluding))
        asked = {everybody: range(1, honest - shown + 1), others: range(honest - shown + 1, honest + 1)}
        certified = 0
        for survivors, places in asked.items():
            signed = {place: server.sign(f"site-{place}", survivors) for place in places}
            signed |= {place: server.forge(place, survivors) for place in range(honest + 1, n + 1)}
            certificate = server.certificate(survivors, signed)
            if len(signed) < server.sums.terms.thresholds.quorum:
                for place in places:
                    client = server.sums.clients[f"site-{place}"]
                    refused("too few sites signed", client.reveal, certificate)
                continue
            certified += 1
            for place in places:
                server.hear(f"site-{place}", survivors, certificate)
        assert certified <= 1
        assert not server.sees(1)


def test_a_quorum_that_only_outnumbers_the_colluding_would_open_one_sites_vector(monkeypatch):
    """With t = c + 1 the victim alone is shown that it is there, and all others that it is lost."""
    monkeypatch.setattr(Thresholds, "quorum", property(lambda self: self.colluding + 1))
    server = Eavesdropper(Sums.ready(6, 2, least=5))
    everybody, others = (1, 2, 3, 4, 5, 6), (2, 3, 4, 5, 6)
    for survivors, signers in ((everybody, (1, 5, 6)), (others, (2, 3, 4, 5, 6))):
        before = {place: server.sums.clients[f"site-{place}"]._open for place in (5, 6)}
        signed = {place: server.sign(f"site-{place}", survivors) for place in signers}
        for place in signers:
            server.hear(f"site-{place}", survivors, server.certificate(survivors, signed))
        for place, state in before.items():  # the colluding sites forget that they signed
            server.sums.clients[f"site-{place}"]._open = state
    assert server.sees(1)


def test_two_models_make_no_sum():
    sums = Sums.ready(4, 1)
    attempts = {}
    for model, sites in ((b"model", ("site-1", "site-2")), (b"other", ("site-3", "site-4"))):
        announcements = sums.server.begin(label(1, model=model))
        for site in sites:
            sums.clients[site].begin(announcements[site], step=label(1, model=model))
            attempts[site], _ = m.ANNOUNCEMENT.read(announcements[site])
    masked = {site: sums.clients[site].mask(vector) for site, vector in sums.vectors().items()}
    identity = attempts["site-4"].identity
    for site, message in masked.items():
        sums.server.masked(site, changed(m.MASKED, message, to=identity))
    proposals = sums.server.propose()
    for site in ("site-3", "site-4"):
        sums.server.signed(site, sums.clients[site].sign(proposals[site]))
    for site in ("site-1", "site-2"):
        refused("not open", sums.clients[site].sign, proposals[site])
    refused("too few sites signed", sums.server.certificate)


def test_two_models_make_no_sum_even_with_a_quorum():
    """Two honest sites and the two colluding see one model, another honest site the other; all are listed."""
    sums = Sums.ready(5, 2)
    vectors = sums.vectors()
    announced = {model: sums.server.begin(label(1, model=model)) for model in (b"other", b"model")}
    for site in sums.sites:
        model = b"other" if site == "site-3" else b"model"
        sums.clients[site].begin(announced[model][site], step=label(1, model=model))
    masked = {site: sums.clients[site].mask(vector) for site, vector in vectors.items()}
    identity = m.ANNOUNCEMENT.read(announced[b"model"]["site-1"])[0].identity
    for site, message in masked.items():
        sums.server.masked(site, changed(m.MASKED, message, to=identity))
    total = sums.open(sums.sign(lost=["site-3"]), lost=["site-3"])
    assert not np.array_equal(total, sum_of(vectors))
    assert not np.array_equal(total - vectors["site-3"], sum_of(vectors) - vectors["site-3"])


# small cohorts


@pytest.mark.parametrize("survivors", [(1,), (1, 2), (1, 4)])
def test_small_cohorts_are_refused(survivors):
    """Also where all others collude with the server, and sign whatever it likes."""
    server = Eavesdropper(Sums.ready(4, 1))
    refused("fewer sites than the policy allows", server.sign, VICTIM, survivors)


def test_a_one_site_sum_would_open_one_sites_vector(monkeypatch):
    monkeypatch.setattr(f"{CLIENT}.Client._check_list", unchecked)
    monkeypatch.setattr(f"{CLIENT}.check_certificate", unchecked)
    server = Eavesdropper(Sums.ready(4, 1))
    for site, survivors in ((VICTIM, (1,)), ("site-2", (1, 2)), ("site-3", (1, 3))):
        signature = server.sign(site, survivors)
        server.hear(site, survivors, server.certificate(survivors, {1: signature}))
    assert server.sees(1)


def test_a_cohort_of_the_policy_cannot_be_lowered_by_a_small_roster():
    sums = Sums.of(5, 1)
    refused("fewer sites are here", sums.invite, sums.sites[:3])
    # a server without that check: the sites have it too
    roster = sums.invite()[VICTIM]
    payload = bytes(m.ROSTER.read(roster)[1])[: 2 * 1280]
    small = changed(m.ROSTER, roster, sites=(1, 2), payload=payload)
    refused("fewer sites than a sum must hold", sums.clients[VICTIM].encapsulate, small)


# late and lost


def late(sums: Sums) -> Eavesdropper:
    """Sum without the victim, whose vector came late: its pair seeds are known to the server then."""
    server = Eavesdropper(sums)
    survivors = tuple(range(2, len(sums.sites) + 1))
    names = [sums.terms.name(place) for place in survivors]
    signatures = {sums.terms.place(site): server.sign(site, survivors) for site in names}
    for site in names:
        server.hear(site, survivors, server.certificate(survivors, signatures))
    return server


def test_a_late_vector_keeps_its_own_mask():
    server = late(Sums.ready(4, 1))
    assert len(server.pairs) == 3  # all of the victim's masks but its own
    assert not server.sees(1)
    others = {site: vector for site, vector in server.sums.vectors().items() if site != VICTIM}
    assert sum(place != 1 for place in server.shares) == len(others)


def test_a_late_vector_would_be_open_without_its_own_mask(monkeypatch):
    zero = bytes(32)
    monkeypatch.setattr(f"{CLIENT}.own_mask_seed", lambda *_: zero)
    server = late(Sums.ready(4, 1))
    without_own = add_masks(server.unmask(1), plus=[], minus=[zero])
    assert np.array_equal(without_own, server.sums.vectors()[VICTIM])


def test_a_late_site_cannot_be_made_to_reveal():
    """The victim's list comes after the others' sum: it is not on it, and signs no other alone."""
    server = late(Sums.ready(4, 1))
    refused("without this site", server.sign, VICTIM, (2, 3, 4))
    signatures = {place: server.forge(place, (1, 2, 3, 4)) for place in (4,)}
    certificate = server.certificate((1, 2, 3, 4), signatures)
    refused("not open", server.sums.clients[VICTIM].reveal, certificate)


@pytest.mark.parametrize("lost", ["before", "after"])
def test_who_is_lost_costs_nobody_a_mask(lost):
    """The server opens what the survivors reveal, and nothing else of theirs."""
    sums = Sums.ready(4, 1)
    server = Eavesdropper(sums)
    survivors = (2, 3, 4) if lost == "before" else (1, 2, 3, 4)
    names = ["site-2", "site-3", "site-4"]
    signatures = {sums.terms.place(site): server.sign(site, survivors) for site in names}
    for site in names:
        server.hear(site, survivors, server.certificate(survivors, signatures))
    assert not any(server.sees(place) for place in (1, 2, 3, 4))


def test_c_sites_and_the_server_have_too_few_shares():
    """n = 5, c = 2: with no list, two colluding sites' shares of a seed give nothing; with a quorum's, it."""
    sums = Sums.ready(5, 2)
    sums.begin(1)
    held = {
        place: sums.clients[sums.terms.name(place)]._phase.batches[0].share(1, 1) for place in (1, 2, 3, 4, 5)
    }
    seed = sums.clients[VICTIM]._phase.batches[0].seed(1)
    assert combine({place: held[place] for place in (4, 5)}) != seed
    assert combine({place: held[place] for place in (3, 4, 5)}) != seed
    assert combine({place: held[place] for place in (2, 3, 4, 5)}) == seed
