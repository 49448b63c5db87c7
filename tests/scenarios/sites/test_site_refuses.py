"""A site does not trust the coordinator: what it refuses, and what the coordinator refuses of a site."""

import shutil
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import pytest

from oathbound.core.errors import (
    BudgetRefused,
    ConsentRefused,
    NotAuthentic,
    OathboundError,
    ProtocolRefused,
    Refused,
    Unavailable,
)
from oathbound.data.store import SiteStore, Use
from oathbound.evidence.envelope import sign
from oathbound.evidence.keys import Secret
from oathbound.evidence.log import Log
from oathbound.evidence.note import cosign, decode, sign_checkpoint
from oathbound.evidence.predicates import Charged, Oath, Round, TrainedWithSecureSum

pytest.importorskip("torch", reason="training is an extra")

from oathbound.workflow.asking import (
    LEAST_PART_BYTES,
    MOST_BYTES,
    Asked,
    Begin,
    Gather,
    Position,
    Review,
    Where,
    pack,
    unpack,
)
from oathbound.workflow.folders import StudyFolder, write_file
from oathbound.workflow.notary import Consortium, deliver, started, state, stated, witnessed
from oathbound.workflow.patient import withdraw
from oathbound.workflow.reaching import reached
from oathbound.workflow.rounds import left_before
from oathbound.workflow.site import Site
from oathbound.workflow.train import check_read

NOW = int(time.time())
OTHER = "sha256:" + 64 * "0"


@dataclass
class Coordinator:
    """The coordinator's part by hand: a study's folder, log and sites, which can be asked anything."""

    study: StudyFolder
    log: Log
    sites: dict[str, Asked]
    now: list[int]

    @property
    def consortium(self) -> Consortium:
        return Consortium(self.study.policy, self.study.parties(), list(self.sites.values()))

    def start(self) -> bytes:
        return started(self.log, self.study.secret(), self.consortium, self.now[0])

    def gather(self, start: bytes, number: int) -> None:
        for site in self.sites.values():
            deliver(site.gather(start, number), self.log)

    def witness(self) -> bytes:
        return witnessed(self.log, self.study.secret(), self.consortium, self.now[0])

    def begin(self, start: bytes, note: bytes, number: int = 1, **changes: object) -> bytes:
        question = Begin(policy=self.study.policy.digest, round=number, last_step=4).model_copy(
            update=changes
        )
        return self.sites["north"].peer.receive(question.encode(start, note, *self.log.leaves()))


@pytest.fixture
def coordinator(small):
    with coordinating(small()) as here:
        yield here


@contextmanager
def coordinating(study):
    now = [NOW]
    with study.log() as log, reached(study, lambda: now[0]) as by:
        parties = study.parties()
        sites = {name: Asked(name, parties[name], peer, study.policy) for name, peer in by.peers.items()}
        yield Coordinator(study, log, sites, now)


def test_a_round_begins_and_is_begun_again(coordinator):
    start = coordinator.start()
    coordinator.gather(start, 1)
    note = coordinator.witness()
    for _ in range(2):
        assert coordinator.begin(start, note) == b""
    position, leaves = coordinator.sites["north"].where()
    assert (position.charged, position.highest, position.round, position.resumable) == (0, 0, 1, True)
    assert len(leaves) == 3, "oath, admission, round"


def test_another_policy_is_refused(coordinator):
    peer = coordinator.sites["north"].peer
    for question in (Where(policy=OTHER, nonce=OTHER), Gather(policy=OTHER, round=1)):
        with pytest.raises(ProtocolRefused, match="another policy"):
            peer.receive(question.encode(bytes(LEAST_PART_BYTES)))


def test_a_site_that_has_not_sworn_does_nothing_but_say_so(coordinator):
    site = coordinator.study.site("north")
    start = coordinator.start()
    shutil.rmtree(site.path / "studies")
    with reopened(coordinator) as north:
        assert north.where()[1] == []
        asked = (
            north.afford,
            lambda: north.review([]),
            lambda: north.gather(start, 1),
            lambda: north.close(start),
        )
        for ask in asked:
            with pytest.raises(Refused, match="has not sworn to this policy"):
                ask()


def test_a_run_whose_start_the_site_did_not_cosign_is_refused(coordinator):
    study = coordinator.study
    bare = started(coordinator.log, study.secret(), Consortium(study.policy, study.parties(), []), NOW)
    lonely = bare
    for name in ("east", "south"):
        lonely = cosign(lonely, study.site(name).secret(), NOW)
    for start in (bare, lonely):
        with pytest.raises(ProtocolRefused, match="has not cosigned"):
            coordinator.sites["north"].gather(start, 1)


def test_a_second_run_of_one_study_is_refused(coordinator):
    start = coordinator.start()
    coordinator.gather(start, 1)
    later = coordinator.witness()
    with pytest.raises(ProtocolRefused, match="another run"):
        coordinator.sites["north"].gather(later, 2)


def test_a_round_that_is_not_witnessed_does_not_begin(coordinator):
    start = coordinator.start()
    coordinator.gather(start, 1)
    study = coordinator.study
    with pytest.raises(ProtocolRefused, match="have not witnessed round 1"):
        coordinator.begin(start, start)
    log = coordinator.log
    bare = sign_checkpoint("oathbound.invalid/study/coordinator", log.size, log.root(), study.secret())
    with pytest.raises(ProtocolRefused, match="have not witnessed round 1"):
        coordinator.begin(start, bare)
    note = coordinator.witness()
    peer = coordinator.sites["north"].peer
    question = Begin(policy=study.policy.digest, round=1, last_step=4)
    leaves = list(log.leaves())
    for shown in ([], leaves[:-1], [*leaves[:-1], leaves[0]]):
        with pytest.raises(NotAuthentic, match="not of its checkpoints"):
            peer.receive(question.encode(start, note, *shown))
    with pytest.raises(ProtocolRefused, match="another round last"):
        coordinator.begin(start, note, round=2)
    with pytest.raises(ProtocolRefused, match="more steps than the policy allows"):
        coordinator.begin(start, note, last_step=5)
    with pytest.raises(ProtocolRefused, match="no round is open"):
        peer.receive(b"oathbound/step/v1\n")


def test_who_keeps_a_log_is_no_witness_of_it(coordinator):
    study, start = coordinator.study, coordinator.start()
    coordinator.gather(start, 1)
    log, secret = coordinator.log, study.secret()
    bare = sign_checkpoint("oathbound.invalid/study/coordinator", log.size, log.root(), secret)
    note = coordinator.sites["north"].cosign(bare, list(log.leaves()), NOW)
    note = cosign(cosign(note, study.site("east").secret(), NOW), secret, NOW)  # east is the one that may lie
    with pytest.raises(ProtocolRefused, match="have not witnessed round 1"):
        coordinator.begin(start, note)


@pytest.mark.parametrize("where", ["after the checkpoint", "of another policy", "of another run"])
def test_a_round_is_no_longer_for_what_the_coordinator_says_elsewhere(coordinator, where):
    study, start = coordinator.study, coordinator.start()
    run = decode(start)[0].identity
    coordinator.gather(start, 1)
    lie = TrainedWithSecureSum(
        policy_digest=OTHER if where == "of another policy" else study.policy.digest,
        run=OTHER if where == "of another run" else run,
        round=1,
        first_step=1,
        last_step=4,
        attempts=4,
        summed=dict.fromkeys(coordinator.sites, 4),
        first_weights=OTHER,
        last_weights=OTHER,
    )
    leaf = sign(lie.statement(), study.secret())
    leaves = list(coordinator.log.leaves())
    if where == "after the checkpoint":
        note = coordinator.witness()
    else:
        coordinator.log.append(leaf)
        note = coordinator.witness()
    question = Begin(policy=study.policy.digest, round=1, last_step=8)
    with pytest.raises(ProtocolRefused, match="more steps than the policy allows"):
        coordinator.sites["north"].peer.receive(question.encode(start, note, *leaves, leaf))


def test_no_more_steps_are_taken_than_rounds_were_read_for(coordinator):
    """Also not where the coordinator says, and has it witnessed, that more steps are over."""
    study, start = coordinator.study, coordinator.start()
    coordinator.gather(start, 1)
    lie = TrainedWithSecureSum(
        policy_digest=study.policy.digest,
        run=decode(start)[0].identity,
        round=1,
        first_step=1,
        last_step=4000,
        attempts=4000,
        summed=dict.fromkeys(coordinator.sites, 4000),
        first_weights=OTHER,
        last_weights=OTHER,
    )
    coordinator.log.append(sign(lie.statement(), study.secret()))
    note = coordinator.witness()
    with pytest.raises(ProtocolRefused, match="more steps than the policy allows"):
        coordinator.begin(start, note, last_step=4004)
    assert coordinator.begin(start, note) == b""


def test_a_node_ends_when_the_next_round_is_stated(coordinator):
    start = coordinator.start()
    coordinator.gather(start, 1)
    note = coordinator.witness()
    coordinator.begin(start, note)
    north = coordinator.sites["north"]
    with Site.opened(
        coordinator.study.site("north"),
        coordinator.study.policy,
        coordinator.study.parties(),
        lambda: NOW + 5,
    ) as other:  # also in another process
        other_north = replace(north, peer=other)
        ledger = north.peer._opened.node.trainer.ledger
        other_north.gather(start, 2)
        with pytest.raises(ProtocolRefused, match="was read again since"):
            ledger.charge(1)
    with pytest.raises(ProtocolRefused, match="another round last"):
        coordinator.begin(start, note)
    coordinator.now[0] = NOW + 10
    north.gather(start, 3)
    with pytest.raises(ProtocolRefused, match="no round is open"):
        north.peer.receive(b"oathbound/step/v1\n")


def test_a_position_says_the_round_that_was_stated(coordinator):
    north, secret = coordinator.sites["north"], coordinator.study.site("north").secret()

    class Lying:
        def receive(self, message):
            question, _, _ = Where.decode(message)
            _, *leaves = unpack(north.peer.receive(message))
            said = Position(
                policy_digest=question.policy,
                site="north",
                nonce=question.nonce,
                charged=0,
                highest=0,
                round=10_000_000,
                resumable=True,
            )
            return pack((sign(said.statement(), secret), *leaves))

    with pytest.raises(NotAuthentic, match="another round than it has stated"):
        replace(north, peer=Lying()).where()


@pytest.mark.parametrize(
    ("later", "words"),
    [(1 - NOW, "more than 24 hours ago"), (-24 * 3600 - 1, "more than 24 hours ago"), (301, "in the future")],
    ids=["1970", "a day ago", "ahead"],
)
def test_a_round_read_at_another_time_ends_a_training_and_names_the_site(small, later, words):
    study = small()
    said = Round(
        policy_digest=study.policy.digest,
        site="south",
        run=OTHER,
        round=1,
        as_of=NOW + later,
        unreadable_consents=None,
        members=50,
        root=OTHER,
    )
    with pytest.raises(OathboundError, match=f"south .*{words}"):
        check_read(said, study.policy, NOW)
    for fine in (-24 * 3600, 0, 300):
        check_read(said.model_copy(update={"as_of": NOW + fine}), study.policy, NOW)


def test_who_has_another_key_than_at_admission_is_in_no_round(coordinator):
    north, gone = coordinator.study.site("north"), patient(coordinator)
    with closing(sqlite3.connect(north.state)) as state, state:
        state.execute("DELETE FROM patient WHERE subject_id = ?", (gone,))
    coordinator.gather(coordinator.start(), 1)  # reads consents again, and so draws another key
    with SiteStore.open(north.state) as store:
        assert store.patient_keys({gone})
        assert store.uses("study")["round-1"].absent == {gone}


def test_rounds_only_go_up(coordinator):
    start = coordinator.start()
    coordinator.gather(start, 3)
    with pytest.raises(ProtocolRefused, match="a later round"):
        coordinator.sites["north"].gather(start, 2)


def test_a_round_far_above_the_last_does_not_use_up_the_numbers(coordinator):
    start, north = coordinator.start(), coordinator.sites["north"]
    attempts = coordinator.study.policy.training.attempts
    for last in (0, attempts):
        for number in (last + attempts + 1, 10_000_000):
            with pytest.raises(ProtocolRefused, match="far above the last"):
                north.gather(start, number)
        assert north.where()[0].round == last
        assert north.gather(start, last + attempts)


def test_who_left_in_any_round_stays_away_whatever_the_numbers_between(coordinator):
    north, gone = coordinator.study.site("north"), patient(coordinator)
    with SiteStore.open(north.state) as store:
        for label in ("round-9", "audit-1-members", "round-9999999"):
            store.record_use("study", Use(label, NOW, frozenset({gone + len(label)})))
        assert left_before(store, "study", 9) == frozenset()
        assert left_before(store, "study", 10) == {gone + len("round-9")}
        assert left_before(store, "study", 10_000_000) == {gone + len("round-9"), gone + len("round-9999999")}


def test_a_round_is_not_begun_again_once_somebody_withdrew_or_consents_are_stale(coordinator):
    start = coordinator.start()
    coordinator.gather(start, 1)
    note = coordinator.witness()
    north = coordinator.study.site("north")
    coordinator.now[0] = NOW + 25 * 3600
    with pytest.raises(ConsentRefused, match="grown stale"):
        coordinator.begin(start, note)
    assert not coordinator.sites["north"].where()[0].resumable
    coordinator.now[0] = NOW
    assert coordinator.begin(start, note) == b""
    coordinator.now[0] = NOW + 25 * 3600
    with pytest.raises(ConsentRefused, match="grown stale"):
        coordinator.sites["north"].peer.receive(b"oathbound/step/v1\n")
    coordinator.now[0] = NOW
    withdraw(north, patient(coordinator), now=NOW)
    assert not coordinator.sites["north"].where()[0].resumable
    with pytest.raises(ProtocolRefused, match="may not be used any more"):
        coordinator.sites["north"].gather(start, 1)
    assert len(coordinator.sites["north"].gather(start, 2)) == 4


def test_a_limit_that_the_study_breaks_is_told_before_anything_is_reserved(coordinator):
    file = coordinator.study.site("north").path / "site.toml"
    write_file(file, file.read_bytes().replace(b'epsilon = "10"', b'epsilon = "1"'))
    with reopened(coordinator) as north, pytest.raises(BudgetRefused, match="exceed the site"):
        north.afford()


@contextmanager
def reopened(coordinator):
    study = coordinator.study
    with Site.opened(study.site("north"), study.policy, study.parties(), lambda: NOW) as site:
        yield replace(coordinator.sites["north"], peer=site)


def test_after_its_charges_are_stated_a_site_trains_no_more(coordinator):
    start = coordinator.start()
    coordinator.gather(start, 1)
    note = coordinator.witness()
    north = coordinator.sites["north"]
    first = north.close(start)
    assert north.close(start) == first, "it is stated once"
    charges = stated_in(first, coordinator, Charged)
    assert [each.event.attempts for each in charges] == [0]
    with pytest.raises(ProtocolRefused, match="have not witnessed"):
        coordinator.begin(start, note)


@dataclass
class Answering:
    """A peer that answers what it is told to."""

    answer: bytes

    def receive(self, _message: bytes) -> bytes:
        return self.answer


def test_a_position_answers_one_question(coordinator):
    north = coordinator.sites["north"]
    question = Where(policy=coordinator.study.policy.digest, nonce=OTHER)
    replayed = north.peer.receive(question.encode())
    with pytest.raises(NotAuthentic, match="another question"):
        replace(north, peer=Answering(replayed)).where()
    with pytest.raises(NotAuthentic):
        replace(coordinator.sites["east"], peer=Answering(replayed)).where()
    for answer in (b"", b"\0", pack((b"x",)), replayed[:-1]):
        with pytest.raises((NotAuthentic, ProtocolRefused)):
            replace(north, peer=Answering(answer)).where()


def test_a_site_hands_in_its_own_statements_about_this_study_and_no_others(coordinator):
    study, north = coordinator.study, coordinator.sites["north"]
    secret, digest = study.site("north").secret(), study.policy.digest
    foreign = [
        sign(Oath(policy_digest=digest, site="north").statement(), Secret.generate("north")),
        sign(Oath(policy_digest=digest, site="east").statement(), secret),
        sign(Oath(policy_digest=OTHER, site="north").statement(), secret),
    ]
    for leaf in foreign:
        with pytest.raises(NotAuthentic):
            replace(north, peer=Answering(pack((leaf,)))).gather(b"start", 1)


def test_a_cosignature_that_is_missing_or_of_another_time_is_noticed(coordinator):
    study = coordinator.study

    @dataclass
    class Silent:
        name: str

        def review(self, _leaves):
            pass

        def cosign(self, note, _leaves, _now):
            return note

    policy, parties = study.policy, study.parties()
    north = coordinator.sites["north"]
    with pytest.raises(NotAuthentic, match="without a cosignature"):
        started(coordinator.log, study.secret(), Consortium(policy, parties, [north, Silent("east")]), NOW)
    with pytest.raises(Unavailable, match="the clock of east is ahead"):
        started(coordinator.log, study.secret(), coordinator.consortium, NOW - 400)


def test_a_log_that_lost_a_statement_is_not_cosigned_over_the_wire(coordinator):
    start = coordinator.start()
    coordinator.gather(start, 1)
    with pytest.raises(NotAuthentic, match="leaves out"):
        coordinator.sites["north"].review(coordinator.log.leaves()[:2])
    stranger = Log.open(coordinator.study.path / "other", "oathbound.invalid/study/coordinator")
    with stranger as other:
        state(Oath(policy_digest=OTHER, site="north"), coordinator.study.secret(), other)
        for leaf in coordinator.log.leaves():
            other.append(leaf)
        rewritten = sign_checkpoint(
            "oathbound.invalid/study/coordinator", other.size, other.root(), coordinator.study.secret()
        )
        with pytest.raises(NotAuthentic, match="rewritten"):
            coordinator.sites["north"].cosign(rewritten, other.leaves(), NOW)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"oathbound/nothing/v1\n",
        b"oathbound/where/v1\n",
        b"oathbound/where/v1\n\2\0\0\0{}",
        b"oathbound/begin/v1\n\2\0\0\0{}",
    ],
)
def test_a_question_of_another_form_is_refused(coordinator, message):
    with pytest.raises(ProtocolRefused):
        coordinator.sites["north"].peer.receive(message)


def test_parts_have_one_form():
    shortest = bytes(LEAST_PART_BYTES)
    parts = [shortest, b"a" * LEAST_PART_BYTES + b"bc"]
    assert unpack(pack(parts)) == parts
    whole = pack([shortest])
    for data in (b"\0", bytes(4), whole[:-1], whole + b"\0", pack([shortest[1:]]), pack([shortest, b"a"])):
        with pytest.raises(ProtocolRefused, match="cut short"):
            unpack(data)


def test_a_question_of_countless_leaves_is_refused_before_any_is_looked_at(coordinator):
    question = Review(policy=coordinator.study.policy.digest).encode(*[b"x"] * 100_000)
    with pytest.raises(ProtocolRefused, match="cut short"):
        coordinator.sites["north"].peer.receive(question)


def test_every_note_and_leaf_is_longer_than_the_shortest_part(coordinator):
    start = coordinator.start()
    bare = sign_checkpoint("o", 1, bytes(32), coordinator.study.secret())
    assert min(map(len, (start, bare, *coordinator.log.leaves()))) > LEAST_PART_BYTES


def test_an_answer_that_is_too_long_is_not_read(coordinator):
    north = coordinator.sites["north"]
    with pytest.raises(ProtocolRefused, match="north answers more than"):
        replace(north, peer=Answering(bytes(MOST_BYTES + 1))).afford()
    replace(north, peer=Answering(bytes(MOST_BYTES))).afford()


def patient(coordinator):
    with SiteStore.open(coordinator.study.site("north").state) as store:
        return min(store.cohort(coordinator.study.policy.study).members)


def stated_in(leaves, coordinator, kind):
    with Log.open(coordinator.study.path / "seen", "oathbound.invalid/study/seen") as log:
        deliver(leaves, log)
        return stated(log, kind, coordinator.study.parties())
