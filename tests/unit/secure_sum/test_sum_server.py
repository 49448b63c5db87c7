"""The server's steps: what it refuses, by name, and that it returns no sum that is not exact."""

import numpy as np
import pytest

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.testing.sums import Sums, changed, flipped, label, sum_of
from oathbound.train.secure_sum import messages as m
from oathbound.train.secure_sum.gathering import Gathering

OTHER = digest(b"other")
FIRST, SECOND, LAST = "site-1", "site-2", "site-4"


def refused(words, call, *arguments):
    with pytest.raises(ProtocolRefused, match=words):
        call(*arguments)


def test_c1_keys_that_are_not_signed_or_of_another_site(sums):
    gathering = Gathering(sums.terms, epoch=1)
    advert = sums.clients[FIRST].advertise(gathering.invitation())
    refused(
        "the advertisement of site-1 is not signed",
        gathering.advertised,
        FIRST,
        flipped(m.ADVERTISEMENT, advert, 5),
    )
    refused("site-2 advertised keys of another site", gathering.advertised, SECOND, advert)
    for field in ("run", "plan"):
        refused(
            "another site, run",
            gathering.advertised,
            FIRST,
            changed(m.ADVERTISEMENT, advert, **{field: OTHER}),
        )
    gathering.advertised(FIRST, advert)
    refused("twice", gathering.advertised, FIRST, advert)
    refused("fewer sites are here", gathering.roster)
    with pytest.raises(WrongInput, match="not a site"):
        gathering.advertised("elsewhere", advert)


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31)], ids=["zero", "one"])
def test_c1_signed_keys_that_are_none(sums, public):
    """Whoever signed them would be named; handed on, they would stop every other site."""
    gathering = Gathering(sums.terms, epoch=1)
    advert = sums.clients[FIRST].advertise(gathering.invitation())
    header, payload = m.ADVERTISEMENT.read(advert)
    mlkem = bytes(payload[32:1216])
    for false in (public + mlkem, bytes(payload[:32]) + b"\xff" * len(mlkem)):
        signed = m.ADVERTISEMENT.write(header, false)
        refused("public key", gathering.advertised, FIRST, signed + sums.signers[FIRST].sign(signed))
    gathering.advertised(FIRST, advert)


def test_c1_keys_that_come_after_the_roster(sums):
    sums.invite(["site-1", "site-2", "site-3"])
    advert = sums.clients[LAST].advertise(sums.gathering.invitation())
    refused("too late", sums.gathering.advertised, LAST, advert)


def test_c1_ciphertexts_that_are_not_signed_or_of_another_site(sums):
    rosters = sums.invite()
    refused("has not sent its ciphertexts", sums.gathering.ciphertexts)
    refused("has not sent its ciphertexts", sums.gathering.server)
    sent = sums.clients[SECOND].encapsulate(rosters[SECOND])
    refused(
        "a ciphertext of site-2 is not signed",
        sums.gathering.encapsulated,
        SECOND,
        flipped(m.CIPHERTEXTS_SENT, sent, 1152),
    )
    refused("site-1 sent ciphertexts of another site", sums.gathering.encapsulated, FIRST, sent)
    refused(
        "or session", sums.gathering.encapsulated, SECOND, changed(m.CIPHERTEXTS_SENT, sent, session=OTHER)
    )
    refused("wrong length", sums.gathering.encapsulated, SECOND, sent + b"x")
    sums.gathering.encapsulated(SECOND, sent)
    refused("twice", sums.gathering.encapsulated, SECOND, sent)


def test_c1_ciphertexts_of_a_site_that_is_not_in_the_roster(sums):
    rosters = sums.invite(["site-1", "site-2", "site-3"])
    header, _ = m.CIPHERTEXTS_SENT.read(sums.clients[FIRST].encapsulate(rosters[FIRST]))
    stray = m.CIPHERTEXTS_SENT.write(m.Sent(session=header.session, sender=4))
    refused("not in the roster", sums.gathering.encapsulated, LAST, stray)


def test_c1_ciphertexts_before_there_is_a_roster(sums):
    refused("has not sent its ciphertexts", Gathering(sums.terms, epoch=1).ciphertexts)
    gathering = Gathering(sums.terms, epoch=1)
    gathering.advertised(LAST, sums.clients[LAST].advertise(gathering.invitation()))
    stray = m.CIPHERTEXTS_SENT.write(m.Sent(session=digest(b""), sender=4))
    refused("another site or session", gathering.encapsulated, LAST, stray)


def test_c2_seeds_are_dealt_once_by_everybody_in_the_roster(sums):
    sums.gather(["site-1", "site-2", "site-3"])
    calls = sums.server.call(0)
    assert calls.keys() == {"site-1", "site-2", "site-3"}
    dealt = sums.clients[FIRST].deal(calls[FIRST])
    refused("site-2 dealt for another site", sums.server.dealt, SECOND, dealt)
    refused(
        "another site, session or batch", sums.server.dealt, FIRST, changed(m.DEALT, dealt, session=OTHER)
    )
    refused("another site, session or batch", sums.server.dealt, FIRST, changed(m.DEALT, dealt, batch=1))
    refused("not in the roster", sums.server.dealt, LAST, changed(m.DEALT, dealt, sender=4))
    refused("wrong length", sums.server.dealt, FIRST, dealt[:-1])
    sums.server.dealt(FIRST, dealt)
    refused("dealt twice", sums.server.dealt, FIRST, dealt)
    refused("fewer sites dealt", sums.server.boxes)
    refused("no seeds are dealt", sums.server.begin, label(1))
    refused("dealt once", sums.server.call, 0)


def test_c2_who_deals_too_late_is_not_summed():
    sums = Sums.of(5, 1)
    sums.gather()
    call = sums.server.call(0)
    for site in sums.sites[:4]:
        sums.server.dealt(site, sums.clients[site].deal(call[site]))
    for site, message in sums.server.boxes().items():
        sums.clients[site].accept(message)
    refused("too late", sums.server.dealt, "site-5", sums.clients["site-5"].deal(call["site-5"]))
    announcements = sums.begin(1)
    assert announcements.keys() == set(sums.sites[:4])
    vector = sums.clients[FIRST].mask(sums.vectors()[FIRST])
    refused("without having dealt", sums.server.masked, "site-5", changed(m.MASKED, vector, site=5))


def test_c2_the_next_batch_ends_an_attempt(ready):
    ready.begin(1)
    ready.mask(ready.vectors())
    ready.server.call(1)
    refused("no attempt is open", ready.server.propose)
    refused("no seeds are dealt", ready.server.begin, label(2))


def test_c3_one_vector_from_each_site_for_this_attempt(ready):
    refused("no attempt is open", ready.server.masked, FIRST, b"")
    ready.begin(1)
    message = bytes(ready.clients[FIRST].mask(ready.vectors()[FIRST]))
    refused("masked: a message of another site", ready.server.masked, SECOND, message)
    refused(
        "masked: a message of another site", ready.server.masked, FIRST, changed(m.MASKED, message, to=OTHER)
    )
    for wrong in (message[:-1], message + b"x", changed(m.MASKED, message, payload=b"")):
        refused("site-1 sent a vector of the wrong length", ready.server.masked, FIRST, wrong)
    ready.server.masked(FIRST, message)
    refused("twice", ready.server.masked, FIRST, message)
    for site in ("site-2", "site-3", "site-4"):
        ready.server.masked(site, ready.clients[site].mask(ready.vectors()[site]))
    assert np.array_equal(ready.open(ready.sign()), sum_of(ready.vectors()))


def test_c4_no_list_of_too_few_and_no_vector_after_it(ready):
    ready.begin(1)
    vectors = ready.vectors()
    late = vectors.pop(FIRST)
    ready.mask({SECOND: vectors.pop(SECOND)})
    refused("fewer vectors came", ready.server.propose)
    ready.mask(vectors)
    ready.server.propose()
    refused("too late", ready.server.masked, FIRST, ready.clients[FIRST].mask(late))
    refused("proposed before", ready.server.propose)


def test_c5_no_certificate_without_a_quorum(ready):
    ready.begin(1)
    ready.mask(ready.vectors())
    proposals = ready.server.propose()
    signature = ready.clients[FIRST].sign(proposals[FIRST])
    refused("signature: a message of another site", ready.server.signed, SECOND, signature)
    refused("site-1 is not signed", ready.server.signed, FIRST, flipped(m.SIGNATURE, signature, 0))
    refused("wrong length", ready.server.signed, FIRST, signature + b"x")
    ready.server.signed(FIRST, signature)
    refused("signed twice", ready.server.signed, FIRST, signature)
    refused("too few sites signed", ready.server.certificate)


def test_c5_who_is_not_on_the_list_does_not_sign(ready):
    ready.begin(1)
    vectors = ready.vectors()
    vectors.pop(LAST)
    ready.mask(vectors)
    proposal = ready.server.propose()[FIRST]
    signature = ready.signers[LAST].sign(proposal)
    stray = m.SIGNATURE.write(m.Answer(to=digest(proposal), site=4), signature)
    refused("not on the list", ready.server.signed, LAST, stray)


def test_c5_a_signature_before_there_is_a_list(ready):
    ready.begin(1)
    ready.mask(ready.vectors())
    stray = m.SIGNATURE.write(m.Answer(to=digest(b""), site=1), ready.signers[FIRST].sign(b""))
    refused("signed twice, or", ready.server.signed, FIRST, stray)


def test_c6_who_is_not_on_the_list_reveals_nothing(ready):
    ready.begin(1)
    vectors = ready.vectors()
    vectors.pop(LAST)
    ready.mask(vectors)
    certificate = ready.sign()[FIRST]
    proposal = m.CERTIFICATE.read(certificate)[0].proposal
    stray = m.REVEAL.write(m.Answer(to=digest(proposal), site=4), bytes(4 * 32))
    refused("not on the list", ready.server.revealed, LAST, stray)


def test_c6_a_reveal_is_of_the_list_and_comes_once(ready):
    ready.begin(1)
    ready.mask(ready.vectors())
    certificates = ready.sign()
    reveal = ready.clients[FIRST].reveal(certificates[FIRST])
    refused("reveal: a message of another site", ready.server.revealed, SECOND, reveal)
    refused("wrong length", ready.server.revealed, FIRST, reveal[:-1])
    ready.server.revealed(FIRST, reveal)
    refused("twice", ready.server.revealed, FIRST, reveal)
    refused("too few survivors", ready.server.total)
    refused("no attempt is open", ready.server.total)


def test_c6_a_reveal_before_the_certificate(ready):
    ready.begin(1)
    ready.mask(ready.vectors())
    proposal = ready.server.propose()[FIRST]
    stray = m.REVEAL.write(m.Answer(to=digest(proposal), site=1), bytes(4 * 32))
    refused("too early", ready.server.revealed, FIRST, stray)


def revealing(sums, *, liars=(), at=0):
    """Play a sum up to its last message; `liars` reveal shares of which one byte is wrong."""
    sums.begin(1)
    vectors = sums.vectors()
    sums.mask(vectors)
    for site, message in sums.sign().items():
        reveal = sums.clients[site].reveal(message)
        sums.server.revealed(site, flipped(m.REVEAL, reveal, at) if site in liars else reveal)
    return vectors


@pytest.mark.parametrize("liar", ["site-1", "site-2", "site-3", "site-4"])
@pytest.mark.parametrize("at", [0, 31, 64, 127])
def test_c6_the_shares_of_the_others_do_without_a_false_one(ready, at, liar):
    vectors = revealing(ready, liars=[liar], at=at)
    assert np.array_equal(ready.server.total(), sum_of(vectors))


@pytest.mark.parametrize("at", [0, 31, 64, 127])
def test_c6_false_shares_are_noticed(ready, at):
    revealing(ready, liars=[SECOND, LAST], at=at)
    refused(f"the seed of site-{at // 32 + 1} do not fit", ready.server.total)


@pytest.mark.parametrize("liar", ["site-1", "site-3"])
@pytest.mark.parametrize("at", [0, 32, 95])
def test_c6_a_false_share_is_noticed_where_none_can_be_done_without(liar, at):
    three = Sums.ready(3, 1)
    revealing(three, liars=[liar], at=at)
    refused(f"the seed of site-{at // 32 + 1} do not fit", three.server.total)


def test_c6_a_survivor_lost_after_another_was_lost_before():
    sums = Sums.ready(8, 2)
    vectors = sums.vectors()
    vectors.pop("site-8")
    with pytest.raises(ProtocolRefused, match="a mask with a site that sent no vector"):
        sums.sum(vectors, 1, unrevealed=["site-7"])
    assert np.array_equal(sums.sum(vectors, 2), sum_of(vectors))


def test_c6_a_survivor_lost_after_all_vectors_came_is_done_without(ready):
    vectors = ready.vectors()
    assert np.array_equal(ready.sum(vectors, unrevealed={LAST}), sum_of(vectors))


@pytest.mark.parametrize("lost", ["site-1", "site-3", "site-5"])
def test_c7_the_masks_of_who_is_lost_are_taken_away(lost):
    sums = Sums.ready(5, 1)
    vectors = {site: vector for site, vector in sums.vectors().items() if site != lost}
    assert np.array_equal(sums.sum(vectors), sum_of(vectors))


def test_void_closes(ready):
    ready.begin(1)
    ready.mask(ready.vectors())
    ready.server.void()
    refused("no attempt is open", ready.server.propose)
    vectors = ready.vectors()
    assert np.array_equal(ready.sum(vectors, 2), sum_of(vectors))


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_all_batches(batch):
    sums = Sums.of(3, 1)
    first = 256 * batch + 1
    sums.gather(epoch=first)
    sums.deal(batch)
    vectors = sums.vectors()
    for attempt in (first, first + 255):
        assert np.array_equal(sums.sum(vectors, attempt), sum_of(vectors))
    refused("no seeds are dealt", sums.server.begin, label(first + 256))
