"""What a dishonest server can do to what it relays, played by its code, and refused or harmless.

Where it is cheap, the same attack is played against sites without the check that refuses it, and succeeds: so
these tests would notice if the check were gone.
"""

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat.masks import add_masks
from oathbound.testing.sums import Eavesdropper, Sums, changed, label, sum_of
from oathbound.train.secure_sum import messages as m
from oathbound.train.secure_sum.terms import Terms

VICTIM = "site-1"
CLIENT = "oathbound.train.secure_sum.client"
AGREEMENT = "oathbound.train.secure_sum.agreement"


def refused(words, call, *arguments, **more):
    with pytest.raises(ProtocolRefused, match=words):
        call(*arguments, **more)


def unchecked(*_, **__):
    """What a check is without its body."""


# key swap


def impostors(sums: Sums) -> Sums:
    """Return a consortium in which the victim is real, and the server is everybody else."""
    signers = {site: Ed25519PrivateKey.generate() for site in sums.sites} | {VICTIM: sums.signers[VICTIM]}
    terms = Terms(
        sums.terms.run,
        sums.terms.plan,
        sums.sites,
        tuple(signer.public_key() for signer in signers.values()),
        sums.terms.thresholds,
        sums.terms.dimension,
    )
    fakes = Sums(terms, signers, {})
    for site in sums.sites:
        fakes.restart(site)
    fakes.clients[VICTIM] = sums.clients[VICTIM]
    return fakes


def test_swapped_keys_are_refused():
    sums = Sums.of(4, 1)
    refused("the advertisement of site-2 is not signed", impostors(sums).gather)


def test_swapped_keys_would_open_one_sites_vector(monkeypatch):
    sums = Sums.of(4, 1)
    monkeypatch.setattr(f"{AGREEMENT}.check_signature", unchecked)
    monkeypatch.setattr(f"{CLIENT}.check_signature", unchecked)
    fakes = impostors(sums)
    fakes.gather()
    fakes.deal()
    vectors = {site: np.zeros(5, np.uint32) for site in sums.sites} | {VICTIM: sums.vectors()[VICTIM]}
    assert np.array_equal(fakes.sum(vectors), sums.vectors()[VICTIM])


def test_a_swapped_ciphertext_is_refused():
    sums = Sums.of(4, 1)
    messages = dict(sums.encapsulate(sums.invite()))
    payload = bytearray(m.CIPHERTEXTS.read(messages["site-2"])[1])
    payload[:1088] = bytes(1088)
    swapped = changed(m.CIPHERTEXTS, messages["site-2"], payload=bytes(payload))
    refused("the ciphertext of site-1 is not signed", sums.clients["site-2"].agree, swapped)


def test_a_site_that_signs_two_sets_of_keys_is_noticed():
    """Site 4 advertises other keys to site 1 than to the rest: two rosters, two sessions, no boxes open."""
    sums = Sums.of(4, 1)
    rosters = dict(sums.invite())
    twin = sums.restart("site-4").advertise(sums.gathering.invitation())
    payload = bytearray(m.ROSTER.read(rosters[VICTIM])[1])
    payload[-1280:] = m.ADVERTISEMENT.read(twin)[1]
    rosters[VICTIM] = changed(m.ROSTER, rosters[VICTIM], payload=bytes(payload))
    sums.clients[VICTIM].encapsulate(rosters[VICTIM])  # every signature in it is right
    sent = sums.clients["site-2"].encapsulate(rosters["site-2"])
    sessions = {digest(roster) for roster in rosters.values()}
    assert len(sessions) == 2
    session = m.CIPHERTEXTS_SENT.read(sent)[0].session
    stray = m.CIPHERTEXTS.write(m.Received(session=session, receiver=1))
    refused("another session", sums.clients[VICTIM].agree, stray)


# seed guess


def test_masks_do_not_follow_from_short_seeds():
    """Try short seeds, however they are padded, on a masked zero vector."""
    sums = Sums.ready(3, 1, dimension=8)
    sums.begin(1)
    zero = np.zeros(8, np.uint32)
    _, payload = m.MASKED.read(sums.clients[VICTIM].mask(zero))
    masked = bytes(payload)
    for guess in range(2**12):
        seed = guess.to_bytes(4, "little")
        for padded in (seed + bytes(28), bytes(28) + seed, seed * 8):
            assert add_masks(zero, plus=[padded], minus=[]).tobytes() != masked
    short = (77).to_bytes(4, "little") + bytes(28)
    found = add_masks(zero, plus=[short], minus=[]).tobytes()  # such a seed the search would find
    guesses = (guess.to_bytes(4, "little") + bytes(28) for guess in range(100))
    assert any(add_masks(zero, plus=[guess], minus=[]).tobytes() == found for guess in guesses)


def test_no_seed_is_used_twice():
    """Masks of a zero vector, over attempts, sites, batches and sessions, and under one label: all differ."""
    sums, seen, number = Sums.of(3, 1), set(), 0
    zero = dict.fromkeys(sums.sites, np.zeros(5, np.uint32))
    for epoch in (1, 300):
        sums.gather(epoch=epoch)
        sums.deal(epoch // 256)
        for attempt in range(epoch, epoch + 4):
            sums.begin(attempt)
            for site, vector in zero.items():
                _, payload = m.MASKED.read(sums.clients[site].mask(vector))
                seen.add(bytes(payload))
                number += 1
    assert len(seen) == number == 24


# replay


def test_an_old_advertisement_makes_no_session():
    sums = Sums.of(4, 1)
    old = sums.invite()["site-2"]
    sums.gather(epoch=2)
    sums.restart(VICTIM).advertise(
        m.INVITATION.write(m.Invitation(run=label(1).run, plan=label(1).plan, epoch=1))
    )
    refused("without this site's keys", sums.clients[VICTIM].encapsulate, old)


def test_keys_of_another_run_are_refused():
    sums = Sums.of(4, 1)
    roster = sums.invite()[VICTIM]
    refused(
        "of another run",
        sums.clients[VICTIM].encapsulate,
        changed(m.ROSTER, roster, run=digest(b"another run")),
    )


def test_a_batch_cannot_be_replayed_for_the_next():
    sums = Sums.of(4, 1)
    sums.gather()
    old = sums.call()
    for site, message in old.items():
        sums.clients[site].accept(message)
    sums.call(1)
    for site, message in old.items():
        refused("another session or batch", sums.clients[site].accept, message)
        refused("do not open", sums.clients[site].accept, changed(m.BOXES, message, batch=1))


def test_a_batch_of_another_session_does_not_open():
    sums = Sums.of(4, 1)
    sums.gather()
    old = sums.call()[VICTIM]
    sums.gather(epoch=2)
    new = sums.call()[VICTIM]
    session = m.BOXES.read(new)[0].session
    refused("do not open", sums.clients[VICTIM].accept, changed(m.BOXES, old, session=session))


def test_a_step_cannot_be_replayed():
    sums = Sums.ready(4, 1)
    announcements = sums.begin(1)
    sums.mask(sums.vectors())
    for site, message in announcements.items():
        refused("begun before", sums.clients[site].begin, message, step=label(1))


def test_a_list_and_a_certificate_cannot_be_replayed():
    sums = Sums.ready(4, 1)
    sums.begin(1)
    sums.mask(sums.vectors())
    proposals = sums.server.propose()
    for site, message in proposals.items():
        sums.server.signed(site, sums.clients[site].sign(message))
    certificates = sums.server.certificate()
    sums.open(certificates)
    for site in sums.sites:
        refused("not open", sums.clients[site].sign, proposals[site])
        refused("not open", sums.clients[site].reveal, certificates[site])
    sums.begin(2)
    sums.mask(sums.vectors())
    for site in sums.sites:
        refused("not open", sums.clients[site].sign, proposals[site])
        refused("not open", sums.clients[site].reveal, certificates[site])
    assert np.array_equal(sums.open(sums.sign()), sum_of(sums.vectors()))  # they have changed nothing


def test_an_old_signature_signs_no_other_list():
    server = Eavesdropper(Sums.ready(4, 1))
    old = {place: server.sign(server.sums.terms.name(place), (1, 2, 3, 4)) for place in (2, 3, 4)}
    again = Eavesdropper(server.sums, 2)
    again.sign(VICTIM, (1, 2, 3, 4))
    certificate = again.certificate((1, 2, 3, 4), old)
    refused("by site-2 is not signed", server.sums.clients[VICTIM].reveal, certificate)
