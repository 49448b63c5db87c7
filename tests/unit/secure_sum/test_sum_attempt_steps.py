"""Steps A and O of `spec/secure-sum.md`, by a message that only this step refuses."""

import numpy as np
import pytest

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused, WrongInput
from oathbound.testing.sums import Sums, changed, flipped, label, sum_of
from oathbound.train.secure_sum import messages as m

OTHER = digest(b"other")
FIRST, SECOND = "site-1", "site-2"


def refused(words, call, *arguments, **more):
    with pytest.raises(ProtocolRefused, match=words):
        call(*arguments, **more)


# sums


@pytest.mark.parametrize(
    "fields", [{"run": OTHER}, {"plan": OTHER}, {"model": OTHER}, {"step": 2}, {"attempt": 2}]
)
def test_a1_the_announcement_of_another_step(ready, fields):
    announcement = changed(m.ANNOUNCEMENT, ready.server.begin(label(1))[FIRST], **fields)
    refused("another step, run or plan", ready.clients[FIRST].begin, announcement, step=label(1))


@pytest.mark.parametrize("field", ["run", "plan"])
def test_a1_also_where_the_caller_did_not_check(ready, field):
    announcement = changed(m.ANNOUNCEMENT, ready.server.begin(label(1))[FIRST], **{field: OTHER})
    step = label(1).model_copy(update={field: OTHER})
    refused("another step, run or plan", ready.clients[FIRST].begin, announcement, step=step)


def test_a2_another_session(ready):
    announcement = changed(m.ANNOUNCEMENT, ready.server.begin(label(1))[FIRST], session=OTHER)
    refused("another session's attempt", ready.clients[FIRST].begin, announcement, step=label(1))


@pytest.mark.parametrize("attempt", [4, 5])
def test_a3_an_attempt_begun_before(ready, attempt):
    ready.begin(5)
    message = ready.server.begin(label(attempt))[FIRST]
    refused("begun before", ready.clients[FIRST].begin, message, step=label(attempt))


def test_a3_an_attempt_before_the_epoch(sums):
    sums.gather(epoch=9)
    sums.deal()
    message = sums.server.begin(label(8))[FIRST]
    refused("before the session's first", sums.clients[FIRST].begin, message, step=label(8))
    sums.begin(9)


def test_a3_an_invitation_ends_the_session_and_its_attempts(ready):
    """An attempt that was begun, and charged nowhere, may be begun again, with other keys and seeds."""
    ready.begin(7)
    ready.invite(epoch=7)
    refused("does not come next", ready.clients[FIRST].mask, ready.vectors()[FIRST])
    ready.gather(epoch=7)
    ready.deal()
    vectors = ready.vectors()
    assert np.array_equal(ready.sum(vectors, 7), sum_of(vectors))


def test_a4_an_attempt_without_seeds(ready):
    message = changed(m.ANNOUNCEMENT, ready.server.begin(label(1))[FIRST], attempt=257)
    refused("no seeds were dealt", ready.clients[FIRST].begin, message, step=label(257))


def test_a4_an_attempt_whose_seeds_are_only_its_own(sums):
    sums.gather()
    sums.call()
    message = sums.server.begin(label(1))[FIRST]
    refused("no seeds were dealt", sums.clients[FIRST].begin, message, step=label(1))


def test_a5_a_past_that_nobody_signed(ready):
    message = changed(m.ANNOUNCEMENT, ready.server.begin(label(1))[FIRST], previous=OTHER)
    refused("not a message of the kind", ready.clients[FIRST].begin, message, step=label(1))


def past(ready, missing=FIRST, attempt=1):
    """Return the certificate of an attempt that `missing` had no part in."""
    vectors = {site: vector for site, vector in ready.vectors().items() if site != missing}
    ready.begin(attempt)
    ready.mask(vectors)
    certificates = ready.sign()
    assert np.array_equal(ready.open(certificates), sum_of(vectors))
    return certificates[SECOND]


def test_a5_a_site_that_missed_a_sum_learns_of_it_and_goes_on(ready):
    past(ready)
    vectors = ready.vectors(1)
    assert np.array_equal(ready.sum(vectors, 2), sum_of(vectors))


def test_a5_a_past_with_too_few_signatures(ready):
    certificate = past(ready)
    payload = bytes(m.CERTIFICATE.read(certificate)[1])
    few = changed(m.CERTIFICATE, certificate, signers=(2, 3), payload=payload[:128])
    message = ready.server.begin(label(2))[FIRST]
    message = changed(m.ANNOUNCEMENT, message, payload=few)
    refused("too few sites signed", ready.clients[FIRST].begin, message, step=label(2))


def test_a5_a_past_that_is_not_the_one_named(ready):
    first = past(ready)
    past(ready, attempt=2)
    message = changed(m.ANNOUNCEMENT, ready.server.begin(label(3))[FIRST], payload=first)
    refused("not the one that it names", ready.clients[FIRST].begin, message, step=label(3))


def test_a5_a_past_before_the_one_that_was_seen(ready):
    first = past(ready)
    ready.sum(ready.vectors(), 2)
    previous = digest(m.CERTIFICATE.read(first)[0].proposal)
    message = changed(m.ANNOUNCEMENT, ready.server.begin(label(3))[FIRST], previous=previous, payload=first)
    refused("goes back behind", ready.clients[FIRST].begin, message, step=label(3))


def test_a5_a_past_that_lies_ahead(ready):
    # attempt 9 was summed without the first site, which hears of it before it is asked to begin attempt 9
    announcements = ready.server.begin(label(9))
    vectors = {site: vector for site, vector in ready.vectors().items() if site != FIRST}
    for site in vectors:
        ready.clients[site].begin(announcements[site], step=label(9))
    ready.mask(vectors)
    ready.open(ready.sign())
    message = changed(m.ANNOUNCEMENT, ready.server.begin(label(10))[FIRST], attempt=9)
    refused("goes back behind", ready.clients[FIRST].begin, message, step=label(9))


def test_a5_the_beginning_once_something_was_signed(ready):
    ready.sum(ready.vectors(), 1)
    message = ready.server.begin(label(2))[FIRST]
    session = m.ANNOUNCEMENT.read(message)[0].session
    message = changed(m.ANNOUNCEMENT, message, previous=session, payload=b"")
    refused("goes back behind", ready.clients[FIRST].begin, message, step=label(2))


def test_a5_no_certificate_of_the_beginning(ready):
    message = changed(m.ANNOUNCEMENT, ready.server.begin(label(1))[FIRST], payload=b"x")
    refused("wrong length", ready.clients[FIRST].begin, message, step=label(1))


def test_a5_the_past_of_another_session(ready):
    certificate = past(ready)
    ready.gather(epoch=2)
    ready.deal()
    previous = digest(m.CERTIFICATE.read(certificate)[0].proposal)
    message = ready.server.begin(label(2))[FIRST]
    message = changed(m.ANNOUNCEMENT, message, previous=previous, payload=certificate)
    refused("not the one that it names", ready.clients[FIRST].begin, message, step=label(2))


def test_a6_a_later_attempt_closes_the_one_before(masked):
    proposal = masked.server.propose()[FIRST]
    masked.begin(2)
    refused("not open", masked.clients[FIRST].sign, proposal)


def test_a7_a_vector_is_masked_once(ready):
    vector = ready.vectors()[FIRST]
    refused("no attempt is open", ready.clients[FIRST].mask, vector)
    ready.begin(1)
    ready.clients[FIRST].mask(vector)
    refused("no attempt is open", ready.clients[FIRST].mask, vector)


def test_a7_not_again_when_masking_fails(ready, monkeypatch):
    def fails(*_, **__):
        raise MemoryError

    ready.begin(1)
    client, vector = ready.clients[FIRST], ready.vectors()[FIRST]
    with monkeypatch.context() as patch:
        patch.setattr("oathbound.train.secure_sum.client.add_masks", fails)
        with pytest.raises(MemoryError):
            client.mask(vector)
    refused("no attempt is open", client.mask, vector)


@pytest.mark.parametrize(
    "vector", [np.zeros(4, np.uint32), np.zeros(5, np.int32), np.zeros((1, 5), np.uint32)]
)
def test_a7_a_vector_of_another_shape_is_no_attempt_lost(ready, vector):
    ready.begin(1)
    with pytest.raises(WrongInput, match="5 words"):
        ready.clients[FIRST].mask(vector)
    assert ready.clients[FIRST].mask(ready.vectors()[FIRST])


def test_a8_a_pair_has_one_seed_for_each_attempt(ready):
    pairs = {place: ready.clients[f"site-{place}"]._phase.pairs for place in (1, 2, 3, 4)}
    seeds = {pairs[1].seed(peer, attempt) for peer in (2, 3, 4) for attempt in (OTHER, pairs[1].session)}
    assert len(seeds) == 6
    assert pairs[2].seed(1, OTHER) == pairs[1].seed(2, OTHER)


def test_a8_the_masks_cancel_in_the_sum_alone(ready):
    vectors = ready.vectors()
    assert np.array_equal(ready.sum(vectors), sum_of(vectors))
    assert not np.array_equal(ready.sum(vectors, 2), sum_of(ready.vectors(1)))


# lists


def test_a8_a_masked_word_begins_at_a_multiple_of_its_size_whatever_the_header():
    """Elsewhere masks are added at a third of the speed: the header of the tenth site is one longer."""
    sums = Sums.ready(10)
    sums.begin(1)
    for site, vector in sums.vectors().items():
        _, payload = m.MASKED.read(sums.clients[site].mask(vector))
        assert np.frombuffer(payload, dtype="<u4").flags.aligned


def test_o1_a_list_before_the_vector_is_masked(ready):
    ready.begin(1)
    for site in ("site-2", "site-3", "site-4"):
        ready.server.masked(site, ready.clients[site].mask(ready.vectors()[site]))
    proposal = changed(m.PROPOSAL, ready.server.propose()[SECOND], survivors=(1, 2, 3, 4))
    refused("not open", ready.clients[FIRST].sign, proposal)


@pytest.mark.parametrize("field", ["run", "plan", "model", "session", "previous"])
def test_o1_a_list_of_something_else_changes_nothing(masked, field):
    proposal = masked.server.propose()[FIRST]
    refused("not open", masked.clients[FIRST].sign, changed(m.PROPOSAL, proposal, **{field: OTHER}))
    assert masked.clients[FIRST].sign(proposal)


def test_o2_a_second_list_closes_the_attempt(masked):
    proposal = masked.server.propose()[FIRST]
    masked.clients[FIRST].sign(proposal)
    second = changed(m.PROPOSAL, proposal, survivors=(1, 2, 3))
    refused("a second list", masked.clients[FIRST].sign, second)
    refused("not open", masked.clients[FIRST].sign, proposal)


def test_o2_the_same_list_again_changes_nothing(masked):
    proposals = masked.server.propose()
    for site, proposal in proposals.items():
        masked.server.signed(site, masked.clients[site].sign(proposal))
        refused("signed before", masked.clients[site].sign, proposal)
    assert np.array_equal(masked.open(masked.server.certificate()), sum_of(masked.vectors()))


@pytest.mark.parametrize(
    ("survivors", "words"), [((2, 3, 4), "without this site"), ((1, 2), "fewer sites than the policy")]
)
def test_o3_o4_a_list_without_this_site_or_of_too_few(masked, survivors, words):
    proposal = masked.server.propose()[FIRST]
    refused(words, masked.clients[FIRST].sign, changed(m.PROPOSAL, proposal, survivors=survivors))
    refused("not open", masked.clients[FIRST].sign, proposal)  # the refusal closed the attempt


def test_o5_a_list_with_a_site_that_dealt_nothing():
    sums = Sums.of(5, 1)
    sums.gather()
    sums.deal(lost=["site-5"])
    sums.begin(1)
    sums.mask({site: vector for site, vector in sums.vectors().items() if site != "site-5"})
    proposal = changed(m.PROPOSAL, sums.server.propose()[FIRST], survivors=(1, 2, 3, 4, 5))
    refused("dealt no seeds", sums.clients[FIRST].sign, proposal)


def test_o6_the_signature_is_of_the_list(masked):
    proposal = masked.server.propose()[FIRST]
    _, signature = m.SIGNATURE.read(masked.clients[FIRST].sign(proposal))
    masked.terms.key(1).verify(bytes(signature), proposal)


@pytest.mark.parametrize("field", ["model", "session", "previous"])
def test_o7_a_certificate_of_something_else_changes_nothing(signed, field):
    sums, certificate = signed
    refused("not open", sums.clients[FIRST].reveal, changed(m.CERTIFICATE, certificate, **{field: OTHER}))
    assert sums.clients[FIRST].reveal(certificate)


def test_o7_a_certificate_after_a_later_attempt_began(signed):
    sums, certificate = signed
    sums.begin(2)
    refused("not open", sums.clients[FIRST].reveal, certificate)


def test_o8_it_reveals_once(signed):
    sums, certificate = signed
    sums.clients[FIRST].reveal(certificate)
    refused("not open", sums.clients[FIRST].reveal, certificate)


def test_o8_a_refusal_closes_the_attempt(signed):
    sums, certificate = signed
    refused(
        "did not sign", sums.clients[FIRST].reveal, changed(m.CERTIFICATE, certificate, survivors=(1, 2, 3))
    )
    refused("not open", sums.clients[FIRST].reveal, certificate)


def test_o9_a_certificate_of_a_list_that_it_was_not_asked_to_sign(masked):
    certificate = masked.sign(lost=[FIRST])[FIRST]
    refused("did not sign", masked.clients[FIRST].reveal, certificate)


def test_o10_too_few_signatures(signed):
    sums, certificate = signed
    payload = bytes(m.CERTIFICATE.read(certificate)[1])
    few = changed(m.CERTIFICATE, certificate, signers=(1, 2), payload=payload[:128])
    refused("too few sites signed", sums.clients[FIRST].reveal, few)


@pytest.mark.parametrize("at", [0, 64, 255])
def test_o10_a_signature_that_is_none(signed, at):
    sums, certificate = signed
    forged = flipped(m.CERTIFICATE, certificate, at)
    refused("is not signed by the site", sums.clients[FIRST].reveal, forged)


def test_o10_one_signature_counted_for_two(signed):
    sums, certificate = signed
    payload = bytes(m.CERTIFICATE.read(certificate)[1])
    forged = changed(m.CERTIFICATE, certificate, signers=(1, 2, 3), payload=payload[:64] * 3)
    refused("by site-2 is not signed", sums.clients[FIRST].reveal, forged)


def test_o10_a_site_counted_twice_is_no_message(signed):
    sums, certificate = signed
    payload = bytes(m.CERTIFICATE.read(certificate)[1])
    forged = changed(m.CERTIFICATE, certificate, signers=(1, 1, 2), payload=payload[:64] + payload[:128])
    refused("do not ascend", sums.clients[FIRST].reveal, forged)


def test_o10_the_signature_of_a_stranger(signed):
    sums, certificate = signed
    forged = changed(m.CERTIFICATE, certificate, signers=(1, 2, 3, 50))
    refused("not in the roster", sums.clients[FIRST].reveal, forged)


def test_o10_more_signatures_than_signers(signed):
    sums, certificate = signed
    forged = changed(m.CERTIFICATE, certificate, signers=(1, 2, 3))
    refused("wrong length", sums.clients[FIRST].reveal, forged)


def test_o11_the_next_attempt_follows_the_list(signed):
    sums, certificate = signed
    sums.open(dict.fromkeys(sums.sites, certificate))
    announced, _ = m.ANNOUNCEMENT.read(sums.begin(2)[FIRST])
    assert announced.previous == digest(m.CERTIFICATE.read(certificate)[0].proposal)


def test_o12_a_share_for_each_survivor_and_a_pair_seed_for_each_other():
    sums = Sums.ready(5, 1)
    vectors = {site: vector for site, vector in sums.vectors().items() if site != "site-3"}
    sums.begin(1)
    sums.mask(vectors)
    certificate = sums.sign()[FIRST]
    _, payload = m.REVEAL.read(sums.clients[FIRST].reveal(certificate))
    parts = [bytes(payload[32 * i : 32 * i + 32]) for i in range(len(payload) // 32)]
    assert len(parts) == 4 + 1
    assert len(set(parts)) == 5


def test_nothing_secret_is_printed(masked):
    client = masked.clients[FIRST]
    session = client._phase
    batch = session.batches[0]
    shown = repr((session, client._open, client._site))
    for secret in (*session.pairs._secrets.values(), batch.seed(1), batch.share(2, 1)):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
