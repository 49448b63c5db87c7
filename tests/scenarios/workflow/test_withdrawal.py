"""A patient withdraws while training runs: the next round and the audit go without them, provably."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oathbound.core.errors import ConsentRefused, OathboundError, Unavailable, WrongInput
from oathbound.data.store import SiteStore
from oathbound.evidence.patient import PatientProof, Receipt, check_patient
from oathbound.evidence.predicates import Audited, Found, Round, TrainedWithSecureSum
from oathbound.workflow.folders import SiteFolder, StudyFolder
from oathbound.workflow.notary import Consortium, stated

pytest.importorskip("torch", reason="training is an extra")

from oathbound.workflow import audit
from oathbound.workflow.audit import audit_site
from oathbound.workflow.patient import give_receipt, lineage, prove, withdraw
from oathbound.workflow.release import release, trust_of
from oathbound.workflow.train import train
from oathbound.workflow.watch import unwatched

NOW = int(time.time()) + 900
"""After the admissions, which the command line makes by the real clock."""


@pytest.fixture
def study(sworn: Path) -> StudyFolder:
    return StudyFolder.open(sworn)


def members(site: SiteFolder, study: str) -> list[int]:
    with SiteStore.open(site.state) as store:
        return sorted(store.cohort(study).members)


@pytest.mark.slow
def test_who_withdraws_is_in_no_later_round_and_in_no_audit(study: StudyFolder):
    north, name = study.site("north"), study.policy.study
    left, stayed = members(north, name)[:2]
    receipts = {}

    def watch(done: int, *_: object) -> None:
        if done == 10 and not receipts:
            receipts["left"] = withdraw(north, left, now=NOW + 10)

    ticks = iter(range(NOW, NOW + 100_000))
    train(study, clock=lambda: next(ticks), watch=watch)
    for site in ("north", "east", "south"):
        audit_site(study, study.model, site, now=NOW + 500)
    verified = release(study, study.model, study.path / "a.oath", now=NOW + 600).verified

    assert [(each.first_step, each.last_step) for each in verified.training] == [(1, 30), (31, 60)]
    assert {each.round for each in verified.rounds} == {1, 2}
    trust = trust_of(study)
    _, shown = check_patient(verified, trust, receipts["left"], prove(north, left, name))
    assert [each.label for each in shown if each.member] == ["members", "round-1"]
    receipt = give_receipt(north, stayed, now=NOW + 700)
    proof = PatientProof.decode(prove(north, stayed, name).encode())
    opened, shown = check_patient(verified, trust, receipt, proof)
    assert [each.label for each in shown if each.member] == [
        "members",
        "round-1",
        "round-2",
        "audit-1-members",
    ]
    assert opened.withdrawn is None
    assert str(stayed) not in json.dumps(opened.plain())

    mine = {each.study: each for each in lineage(north, left, [verified])}[name]
    assert (mine.part, mine.uses, mine.bound) == ("members", ("round-1",), "unbounded")
    assert lineage(north, left, [])[0].bound == "unknown"

    # an audit that has ended is not run again, whoever withdraws afterwards
    withdraw(north, stayed, now=NOW + 800)
    before = audit_site(study, study.model, "north", now=NOW + 900)
    with study.log() as log:
        size = log.size
    assert audit_site(study, study.model, "north", now=NOW + 950) == before
    with study.log() as log:
        assert log.size == size


def test_a_round_that_went_stale_is_followed_by_a_fresh_one(study: StudyFolder):
    hours = study.policy.consent.staleness_hours
    clock = {"now": NOW}

    def watch(done: int, *_: object) -> None:
        if done == 5:
            clock["now"] = NOW + hours * 3600 + 1

    train(study, clock=lambda: clock["now"], watch=watch)
    consortium = Consortium.of(study)
    with study.log() as log:
        segments = stated(log, TrainedWithSecureSum, consortium.parties)
        rounds = stated(log, Round, consortium.parties)
    assert [(each.round, each.first_step, each.last_step) for each in segments] == [
        (1, 1, 5),
        (2, 6, 35),
        (3, 36, 60),
    ]
    assert {each.as_of for each in rounds if each.round == 2} == {NOW + hours * 3600 + 1}


def test_a_round_without_enough_consents_is_refused_and_what_was_charged_stays(study: StudyFolder):
    north = study.site("north")
    kept = shutil.copy(north.consents, study.path / "before.ndjson")

    def watch(done: int, *_: object) -> None:
        if done == 3:
            lines = north.consents.read_text().splitlines()
            north.consents.write_text("\n".join(lines[:20]) + "\n")

    with pytest.raises(ConsentRefused, match="still consent"):
        train(study, clock=lambda: NOW, watch=watch)
    with SiteStore.open(north.state) as store:
        assert store.charged(study.policy.study).count == 30
    shutil.copy(kept, north.consents)
    assert train(study, clock=lambda: NOW + 60, watch=unwatched).steps == 60


def test_a_clock_that_runs_backwards_stops_the_next_round(study: StudyFolder):
    clock = {"now": NOW}

    def watch(done: int, *_: object) -> None:
        if done == 30:
            clock["now"] = NOW - 10

    with pytest.raises(Unavailable, match="in the future"):
        train(study, clock=lambda: clock["now"], watch=watch)
    assert train(study, clock=lambda: NOW + 1, watch=unwatched).steps == 60


def test_nobody_unknown_withdraws(study: StudyFolder):
    with pytest.raises(WrongInput, match="no patient of that number"):
        withdraw(study.site("north"), 1, now=NOW)
    with pytest.raises(WrongInput, match="no patient of that number"):
        give_receipt(study.site("north"), 1, now=NOW)


def test_a_withdrawal_lasts_until_a_later_consent(study: StudyFolder):
    north = study.site("north")
    subject = members(north, study.policy.study)[0]
    first = Receipt.opened(withdraw(north, subject, now=NOW), parties_of(north))
    again = Receipt.opened(withdraw(north, subject, now=NOW + 5), parties_of(north))
    assert (first.withdrawn, again.withdrawn) == (NOW, NOW)
    assert [consent.status for consent in first.consents] == ["withdrawn"]
    consent_again(north, subject, NOW + 60)
    later = Receipt.opened(give_receipt(north, subject, now=NOW + 90), parties_of(north))
    assert [consent.status for consent in later.consents] == ["active"]
    assert later.withdrawn is None
    twice = Receipt.opened(withdraw(north, subject, now=NOW + 100), parties_of(north))
    assert twice.withdrawn == NOW + 100


@pytest.mark.parametrize("date", ["2031-01-01", "9999-12-31"])
def test_a_consent_that_is_dated_in_the_future_does_not_outlive_a_withdrawal(study: StudyFolder, date: str):
    north = study.site("north")
    subject = members(north, study.policy.study)[0]
    consent_again(north, subject, date)
    receipt = Receipt.opened(withdraw(north, subject, now=NOW), parties_of(north))
    assert receipt.withdrawn == NOW
    again = Receipt.opened(give_receipt(north, subject, now=NOW + 9), parties_of(north))
    assert (again.withdrawn, [consent.status for consent in again.consents]) == (NOW, ["withdrawn"])


def test_who_consents_again_before_the_next_round_stays_and_proofs_need_no_other_key(study: StudyFolder):
    north, name = study.site("north"), study.policy.study
    subject, other = members(north, name)[:2]

    def watch(done: int, *_: object) -> None:
        if done == 5:
            withdraw(north, subject, now=NOW + 5)
            consent_again(north, subject, NOW + 10)

    ticks = iter(range(NOW, NOW + 100_000))
    train(study, clock=lambda: next(ticks), watch=watch)
    with SiteStore.open(north.state) as store:
        store._connection.execute("PRAGMA foreign_keys = OFF")
        store._connection.execute("DELETE FROM patient WHERE subject_id = ?", (other,))
    for site in ("north", "east", "south"):
        audit_site(study, study.model, site, now=NOW + 500)
    verified = release(study, study.model, study.path / "a.oath", now=NOW + 600).verified
    receipt = give_receipt(north, subject, now=NOW + 700)
    _, shown = check_patient(verified, trust_of(study), receipt, prove(north, subject, name))
    assert "round-2" in [each.label for each in shown if each.member], (
        "they were away between two rounds only"
    )


def test_an_audit_that_is_killed_among_its_statements_is_not_run_again(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
):
    train(study, clock=lambda: NOW, watch=unwatched)
    said, whole = [], audit.state

    def killed(predicate: object, *where: object) -> None:
        if said:
            raise KeyboardInterrupt
        said.append(predicate)
        whole(predicate, *where)

    monkeypatch.setattr(audit, "state", killed)
    with pytest.raises(KeyboardInterrupt):
        audit_site(study, study.model, "north", now=NOW + 10)
    monkeypatch.undo()
    north = study.site("north")
    withdraw(north, members(north, study.policy.study)[0], now=NOW + 20)
    audit_site(study, study.model, "north", now=NOW + 30)
    with north.log(study.policy) as own:
        mine = {"north": north.secret().party()}
        assert len(stated(own, Audited, mine)) == 1
        tests = [found.finding.test for found in stated(own, Found, mine)]
    assert sorted(tests) == sorted(set(tests))


def test_a_clock_that_was_ahead_keeps_nobody_from_withdrawing(study: StudyFolder):
    north, name = study.site("north"), study.policy.study
    subject = members(north, name)[0]
    ahead = NOW + 7200
    with pytest.raises(KeyboardInterrupt):
        train(study, clock=lambda: ahead, watch=interrupted_at(3))
    receipt = Receipt.opened(withdraw(north, subject, now=NOW), parties_of(north))
    assert (receipt.issued, receipt.withdrawn) == (NOW, ahead)
    with SiteStore.open(north.state) as store:
        assert store.withdrawn(subject, NOW) == ahead
    train(study, clock=lambda: ahead + 10, watch=unwatched)
    with SiteStore.open(north.state) as store:
        assert subject in store.uses(name)["round-2"].absent


def test_who_withdraws_before_the_first_step_of_a_round_is_in_none_of_its_steps(study: StudyFolder):
    north, south, name = study.site("north"), study.site("south"), study.policy.study
    subject = members(north, name)[0]
    kept = south.consents.read_bytes()
    south.consents.write_bytes(b"")
    with pytest.raises(OathboundError):
        train(study, clock=lambda: NOW, watch=unwatched)
    with SiteStore.open(north.state) as store:
        assert "round-1" in store.uses(name), "north has stated its cohort of a round that has no step"
    withdraw(north, subject, now=NOW + 10)
    south.consents.write_bytes(kept)
    train(study, clock=lambda: NOW + 20, watch=unwatched)
    with study.log() as log:
        segments = stated(log, TrainedWithSecureSum, Consortium.of(study).parties)
    with SiteStore.open(north.state) as store:
        absent = [subject in store.uses(name)[f"round-{each.round}"].absent for each in segments]
    assert absent == [True, True]
    for site in ("north", "east", "south"):
        audit_site(study, study.model, site, now=NOW + 500)
    verified = release(study, study.model, study.path / "a.oath", now=NOW + 600).verified
    mine = lineage(north, subject, [verified])[0]
    assert (mine.uses, mine.bound) == (("round-1",), "none"), "its only round took no step"


@pytest.mark.parametrize(
    "later",
    [
        {"provision": {"type": "deny"}},
        {"dateTime": "2099-01-01"},
        {"scope": {"coding": [{"code": "treatment"}]}},
    ],
    ids=["a denial", "one of the future", "one that is not understood"],
)
def test_a_withdrawal_keeps_its_date_whatever_is_written_after_it_but_a_consent(
    study: StudyFolder, later: dict
):
    north = study.site("north")
    subject = members(north, study.policy.study)[0]
    withdraw(north, subject, now=NOW)
    consent_again(north, subject, NOW + 60, **later)
    receipt = Receipt.opened(give_receipt(north, subject, now=NOW + 90), parties_of(north))
    again = Receipt.opened(withdraw(north, subject, now=NOW + 100), parties_of(north))
    assert (receipt.withdrawn, again.withdrawn) == (NOW, NOW)


def test_an_audit_on_a_file_of_consents_that_was_cut_short_states_nothing(study: StudyFolder):
    train(study, clock=lambda: NOW, watch=unwatched)
    north = study.site("north")
    kept = north.consents.read_bytes()
    north.consents.write_bytes(b"\n".join(kept.splitlines()[:20]))
    with pytest.raises(ConsentRefused, match="still consent to the audit"):
        audit_site(study, study.model, "north", now=NOW + 10)
    with north.log(study.policy) as own:
        assert not stated(own, Audited, {"north": north.secret().party()})
    north.consents.write_bytes(kept)
    assert audit_site(study, study.model, "north", now=NOW + 20)


def interrupted_at(step: int) -> Callable[..., None]:
    def watch(done: int, *_: object) -> None:
        if done == step:
            raise KeyboardInterrupt

    return watch


def consent_again(site: SiteFolder, subject: int, at: int | str, **changes: object) -> None:
    """Give the patient's consent a new date, and make `changes` to it."""
    date = at if isinstance(at, str) else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    resources = [json.loads(line) for line in site.consents.read_text().splitlines()]
    for resource in resources:
        if resource["patient"]["reference"] == f"Patient/{subject}":
            resource.update({"dateTime": date} | changes)
    site.consents.write_text("".join(json.dumps(resource) + "\n" for resource in resources))


def parties_of(site: SiteFolder) -> dict:
    party = site.secret().party()
    return {party.fingerprint: party}
