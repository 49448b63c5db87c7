"""Steps K and S of `spec/secure-sum.md`, by a message that only this step refuses."""

import pytest

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused
from oathbound.testing.sums import changed, flipped, label
from oathbound.train.secure_sum import messages as m
from oathbound.train.secure_sum.seeds import BOX_BYTES

OTHER = digest(b"other")
FIRST, SECOND = "site-1", "site-2"


def refused(words, call, *arguments, **more):
    with pytest.raises(ProtocolRefused, match=words):
        call(*arguments, **more)


# keys


def invitation(**fields):
    header = m.Invitation(run=label(1).run, plan=label(1).plan, epoch=1)
    return m.INVITATION.write(header.model_copy(update=fields))


@pytest.mark.parametrize("field", ["run", "plan"])
def test_k1_another_run_or_plan(sums, field):
    refused("another run or plan", sums.clients[FIRST].advertise, invitation(**{field: OTHER}))


def test_k2_keys_are_new_each_time_and_signed(sums):
    adverts = {sums.clients[FIRST].advertise(invitation()) for _ in range(3)}
    assert len(adverts) == 3
    for advert in adverts:
        sums.terms.key(1).verify(advert[-64:], advert[:-64])


@pytest.mark.parametrize("fields", [{"run": OTHER}, {"plan": OTHER}, {"epoch": 2}])
def test_k3_a_roster_of_something_else(sums, fields):
    roster = changed(m.ROSTER, sums.invite()[FIRST], **fields)
    refused("a roster of another run, plan or epoch", sums.clients[FIRST].encapsulate, roster)


def test_k4_a_roster_of_too_few(sums):
    roster = sums.invite()[FIRST]
    few = changed(m.ROSTER, roster, sites=(1, 2), payload=bytes(m.ROSTER.read(roster)[1])[: 2 * 1280])
    refused("fewer sites than a sum must hold", sums.clients[FIRST].encapsulate, few)


def test_k4_a_roster_with_a_site_that_is_not_in_the_policy(sums):
    strange = changed(m.ROSTER, sums.invite()[FIRST], sites=(1, 2, 3, 5))
    refused("unknown ones", sums.clients[FIRST].encapsulate, strange)


@pytest.mark.parametrize("at", [0, 40, 1216, 1279])
def test_k5_keys_that_their_site_did_not_sign(sums, at):
    roster = sums.invite()[FIRST]
    forged = flipped(m.ROSTER, roster, 1280 + at)
    refused("the advertisement of site-2 is not signed", sums.clients[FIRST].encapsulate, forged)


def test_k5_keys_at_the_place_of_another_site(sums):
    roster = sums.invite()[FIRST]
    payload = bytes(m.ROSTER.read(roster)[1])
    parts = [payload[1280 * i : 1280 * (i + 1)] for i in range(4)]
    swapped = changed(m.ROSTER, roster, payload=b"".join([parts[0], parts[2], parts[1], parts[3]]))
    refused("the advertisement of site-2 is not signed", sums.clients[FIRST].encapsulate, swapped)


def test_k6_a_roster_with_this_sites_old_keys(sums):
    roster = sums.invite()[FIRST]
    sums.clients[FIRST].advertise(invitation())
    refused("without this site's keys", sums.clients[FIRST].encapsulate, roster)


def test_k6_a_roster_without_this_site(sums):
    roster = sums.invite()[SECOND]
    payload = bytes(m.ROSTER.read(roster)[1])
    without = changed(m.ROSTER, roster, sites=(2, 3, 4), payload=payload[1280:])
    refused("without this site's keys", sums.clients[FIRST].encapsulate, without)


def test_k6_a_second_roster_is_out_of_order(sums):
    roster = sums.invite()[FIRST]
    sums.clients[FIRST].encapsulate(roster)
    refused("does not come next", sums.clients[FIRST].encapsulate, roster)


@pytest.mark.parametrize("fields", [{"session": OTHER}, {"receiver": 4}])
def test_k7_ciphertexts_of_something_else(sums, fields):
    message = changed(m.CIPHERTEXTS, sums.encapsulate(sums.invite())["site-3"], **fields)
    refused("ciphertexts of another session, or for another site", sums.clients["site-3"].agree, message)


@pytest.mark.parametrize("at", [0, 1088, 1151])
def test_k8_a_ciphertext_that_its_sender_did_not_sign(sums, at):
    message = sums.encapsulate(sums.invite())["site-3"]
    forged = flipped(m.CIPHERTEXTS, message, 1152 + at)
    refused("the ciphertext of site-2 is not signed", sums.clients["site-3"].agree, forged)


def test_k9_agreed_keys_open_each_others_boxes_and_come_once(sums):
    messages = sums.encapsulate(sums.invite())
    for site, message in messages.items():
        sums.clients[site].agree(message)
    refused("does not come next", sums.clients[FIRST].agree, messages[FIRST])
    sums.server = sums.gathering.server()
    sums.deal()


# seeds


def test_s1_a_call_of_another_session(ready):
    call = changed(m.DEAL, ready.server.call(1)[FIRST], session=OTHER)
    refused("another session", ready.clients[FIRST].deal, call)


def test_s2_a_batch_is_dealt_once_and_in_order(ready):
    call = ready.server.call(1)[FIRST]
    ready.clients[FIRST].deal(call)
    refused("is dealt, or that is over", ready.clients[FIRST].deal, call)
    refused("is dealt, or that is over", ready.clients[FIRST].deal, changed(m.DEAL, call, batch=0))
    assert ready.clients[FIRST].deal(changed(m.DEAL, call, batch=2))


def test_s3_s4_every_seed_is_fresh(ready):
    first, payload = m.DEALT.read(ready.clients[FIRST].deal(ready.server.call(1)[FIRST]))
    commitments = [bytes(payload[32 * i : 32 * i + 32]) for i in range(m.BATCH)]
    boxes = [bytes(payload[8192 + BOX_BYTES * i : 8192 + BOX_BYTES * (i + 1)]) for i in range(3)]
    assert (first.sender, first.batch) == (1, 1)
    assert len({*commitments, *boxes}) == m.BATCH + 3
    assert len(payload) == 8192 + 3 * BOX_BYTES


@pytest.fixture
def boxes(sums):
    sums.gather()
    return sums, sums.call()[FIRST]


@pytest.mark.parametrize("fields", [{"session": OTHER}, {"receiver": 2, "senders": (1, 3, 4)}, {"batch": 1}])
def test_s5_boxes_of_something_else(boxes, fields):
    sums, message = boxes
    refused("another session or batch", sums.clients[FIRST].accept, changed(m.BOXES, message, **fields))


def test_s4_a_key_encrypts_one_box(ready):
    # the nonce is zero: a key for both directions, or for two batches, would show the difference of two boxes
    pairs = ready.clients[FIRST]._phase.pairs
    names = [pairs.box(*name) for name in ((1, 2, 0), (2, 1, 0), (1, 2, 1), (1, 3, 0), (3, 1, 0))]
    keys = {pairs.box_key(peer, m.BOX.write(name)) for peer, name in zip((2, 2, 2, 3, 3), names, strict=True)}
    assert len(keys) == len(names)
    other = ready.clients[SECOND]._phase.pairs
    assert other.box_key(1, m.BOX.write(names[0])) in keys


def test_s5_boxes_before_any_were_dealt(sums):
    sums.gather()
    message = m.BOXES.write(m.Boxes(session=OTHER, batch=0, receiver=1, senders=(2, 3)), bytes(2 * BOX_BYTES))
    refused("before this site dealt", sums.clients[FIRST].accept, message)


def test_s6_boxes_come_once(boxes):
    sums, message = boxes
    sums.clients[FIRST].accept(message)
    refused("a second delivery", sums.clients[FIRST].accept, message)


@pytest.mark.parametrize("senders", [(2,), (1, 2, 3), (2, 3, 5)])
def test_s7_boxes_of_too_few_or_unknown_sites(boxes, senders):
    sums, message = boxes
    payload = bytes(m.BOXES.read(message)[1])[: len(senders) * BOX_BYTES]
    few = changed(m.BOXES, message, senders=senders, payload=payload)
    refused("unknown sites, or of fewer", sums.clients[FIRST].accept, few)


def test_s7_one_may_be_missing_where_the_policy_allows_it(boxes):
    sums, message = boxes
    payload = bytes(m.BOXES.read(message)[1])
    sums.clients[FIRST].accept(changed(m.BOXES, message, senders=(2, 3), payload=payload[: 2 * BOX_BYTES]))


@pytest.mark.parametrize("at", [0, BOX_BYTES - 1])
def test_s8_a_box_that_was_changed(boxes, at):
    sums, message = boxes
    forged = flipped(m.BOXES, message, BOX_BYTES + at)
    refused("shares from site-3 do not open", sums.clients[FIRST].accept, forged)


def test_s8_a_box_of_another_sender(boxes):
    sums, message = boxes
    payload = bytes(m.BOXES.read(message)[1])
    swapped = payload[BOX_BYTES : 2 * BOX_BYTES] + payload[:BOX_BYTES] + payload[2 * BOX_BYTES :]
    refused("do not open", sums.clients[FIRST].accept, changed(m.BOXES, message, payload=swapped))


def test_s8_a_box_of_another_batch(boxes):
    sums, old = boxes
    for site, message in sums.server.boxes().items():
        sums.clients[site].accept(message)
    sums.call(1)
    replayed = changed(m.BOXES, old, batch=1)
    refused("do not open", sums.clients[FIRST].accept, replayed)
