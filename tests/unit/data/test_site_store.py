import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from oathbound.core.errors import BudgetRefused, NothingExamined, ProtocolRefused, Unavailable, WrongInput
from oathbound.core.exits import Exit
from oathbound.data import database
from oathbound.data import store as store_module
from oathbound.data.store import Charges, SiteStore

POLICY = "sha256:" + "1" * 64
LIMIT = (Decimal(3), Decimal("1e-5"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "site.db"


@pytest.fixture
def store(path):
    with SiteStore.open(path) as opened:
        yield opened


def cohort(store, study, members, held_out=(900,)):
    return store.record_cohort(study, POLICY, {"members": members, "held_out": held_out}, as_of=0)


def test_the_file_is_the_owners_alone(store, path):
    store.replace_consents([])
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_a_file_that_others_may_read_is_refused(path):
    SiteStore.open(path).close()
    path.chmod(0o640)
    with pytest.raises(WrongInput, match="others may read"):
        SiteStore.open(path)


def test_consents_are_replaced_whole_and_come_back_equal(store, path, agreeing):
    store.replace_consents([agreeing(1), agreeing(2)])
    store.replace_consents([agreeing(2), agreeing(3), agreeing(3, id="other", status="inactive")])
    with SiteStore.open(path) as again:
        consents = again.consents()
    assert set(consents) == {2, 3}
    assert consents[2] == (agreeing(2),)
    assert {consent.id for consent in consents[3]} == {"c-3", "other"}


def test_only_current_versions_are_kept(store, agreeing, at):
    store.replace_consents([agreeing(1, updated=at, status="inactive"), agreeing(1)])
    assert [consent.status for consent in store.consents()[1]] == ["inactive"]


def test_a_key_is_drawn_once_at_the_first_consent_or_denial(store, agreeing):
    store.replace_consents([agreeing(1), agreeing(2, status="rejected")])
    keys = store.patient_keys([1, 2, 3])
    assert set(keys) == {1, 2}
    assert len({*keys.values()}) == 2
    assert all(len(key) == 32 for key in keys.values())
    store.replace_consents([agreeing(3)])
    assert {s: k for s, k in store.patient_keys([1, 2, 3]).items() if s in keys} == keys


def test_a_cohort_can_be_drawn_again_until_a_budget_is_reserved(store):
    cohort(store, "a", [1, 2, 3])
    second = cohort(store, "a", [4, 5])
    assert store.cohort("a") == second
    assert store.cohort("a").members == {4, 5}


def test_a_study_that_stated_its_charges_charges_nothing_more(store):
    cohort(store, "a", [1, 2, 3])
    store.reserve_unbounded("a")
    store.charge("a", 1, 9)
    assert store.close_charges("a") == store.charged("a")
    with pytest.raises(ProtocolRefused, match="stated"):
        store.charge("a", 2, 9)
    assert store.close_charges("a").count == 1


def test_a_cohort_is_recorded_once(store):
    first = cohort(store, "a", [1, 2, 3])
    assert cohort(store, "a", [3, 2, 1]) == first == store.cohort("a")
    assert first.policy_digest == POLICY
    store.reserve_unbounded("a")
    assert cohort(store, "a", [3, 2, 1]) == first
    with pytest.raises(ProtocolRefused, match="another cohort"):
        cohort(store, "a", [1, 2])
    with pytest.raises(ProtocolRefused, match="another cohort"):
        store.record_cohort("a", "sha256:" + "2" * 64, {"members": [1, 2, 3], "held_out": [900]}, as_of=0)
    with pytest.raises(ProtocolRefused, match="no cohort"):
        store.cohort("b")
    with pytest.raises(NothingExamined):
        cohort(store, "c", [])
    assert store.cohort("a") == first


def test_reservations_of_a_patient_add_up_to_the_limit_exactly(store):
    for study, members in (("a", [1, 2]), ("b", [2, 3]), ("c", [2]), ("d", [3])):
        cohort(store, study, members)
    store.reserve("a", Decimal("1.1"), Decimal("4e-6"), *LIMIT)
    store.reserve("b", Decimal("1.9"), Decimal("4e-6"), *LIMIT)
    with pytest.raises(BudgetRefused) as caught:
        store.reserve("c", Decimal("0.0000000000000000000000000000000000000001"), Decimal("1e-7"), *LIMIT)
    assert caught.value.exit is Exit.REFUSED
    assert caught.value.allowed == "3"
    store.reserve("d", Decimal("1.1"), Decimal("1e-6"), *LIMIT)


def test_delta_has_its_own_limit(store):
    cohort(store, "a", [1])
    cohort(store, "b", [1])
    store.reserve("a", Decimal(1), Decimal("6e-6"), *LIMIT)
    with pytest.raises(BudgetRefused):
        store.reserve("b", Decimal(1), Decimal("5e-6"), *LIMIT)


def test_held_out_patients_spend_nothing(store):
    cohort(store, "a", [1], held_out=[2])
    cohort(store, "b", [2], held_out=[1])
    store.reserve("a", Decimal(3), Decimal("1e-6"), *LIMIT)
    store.reserve("b", Decimal(3), Decimal("1e-6"), *LIMIT)


def test_a_reservation_is_made_once(store):
    cohort(store, "a", [1])
    store.reserve("a", Decimal("2.0"), Decimal("1e-6"), *LIMIT)
    store.reserve("a", Decimal(2), Decimal("0.000001"), *LIMIT)
    with pytest.raises(ProtocolRefused):
        store.reserve("a", Decimal(1), Decimal("1e-6"), *LIMIT)
    with pytest.raises(ProtocolRefused):
        store.reserve_unbounded("a")


@pytest.mark.parametrize(
    ("epsilon", "delta"), [("0", "1e-6"), ("-1", "1e-6"), ("1", "0"), ("1", "1"), ("Infinity", "1e-6")]
)
def test_a_reservation_is_a_positive_amount(store, epsilon, delta):
    cohort(store, "a", [1])
    with pytest.raises(WrongInput):
        store.reserve("a", Decimal(epsilon), Decimal(delta), *LIMIT)


def test_members_of_an_unbounded_study_are_marked_and_refused(store):
    cohort(store, "open", [1, 2], held_out=[3])
    cohort(store, "private", [2, 3])
    cohort(store, "other", [3])
    store.reserve_unbounded("open")
    store.reserve_unbounded("open")
    assert store.unbounded_patients() == {1, 2}
    with pytest.raises(BudgetRefused, match="without a bound"):
        store.reserve("private", Decimal(1), Decimal("1e-6"), *LIMIT)
    store.reserve("other", Decimal(1), Decimal("1e-6"), *LIMIT)


def test_reserving_and_charging_need_what_comes_before(store):
    with pytest.raises(ProtocolRefused):
        store.reserve("a", Decimal(1), Decimal("1e-6"), *LIMIT)
    with pytest.raises(ProtocolRefused):
        store.reserve_unbounded("a")
    cohort(store, "a", [1])
    with pytest.raises(ProtocolRefused):
        store.charge("a", 1, 10)
    assert store.charged("a") == Charges(0, 0)


def test_attempts_ascend_and_end_at_the_limit(store, path):
    cohort(store, "a", [1])
    store.reserve("a", Decimal(1), Decimal("1e-6"), *LIMIT)
    ledger = store.ledger("a", 3)
    assert ledger.highest() == 0
    ledger.charge(1)
    ledger.charge(5)
    for replayed in (5, 4, 1, 0, -1, 2**70):
        with pytest.raises(ProtocolRefused):
            ledger.charge(replayed)
    ledger.charge(6)
    with pytest.raises(BudgetRefused):
        ledger.charge(7)
    assert ledger.highest() == 6
    with SiteStore.open(path) as again:
        assert again.charged("a") == Charges(3, 6)


def test_an_error_in_the_middle_changes_nothing(store, agreeing, monkeypatch):
    store.replace_consents([agreeing(1)])
    monkeypatch.setattr(store_module, "random_bytes", lambda _: bytes(31))
    with pytest.raises(WrongInput):
        store.replace_consents([agreeing(2)])
    assert set(store.consents()) == {1}


def test_a_locked_file_is_unavailable(store, path, monkeypatch):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store._connection.execute("PRAGMA busy_timeout = 50")
    with pytest.raises(Unavailable, match="in use"):
        cohort(store, "a", [1])
    assert store.unbounded_patients() == frozenset()  # a reader is not held up
    monkeypatch.setattr(database, "_BUSY_MS", 50)
    with pytest.raises(Unavailable, match="in use"):
        SiteStore.open(path)
    other.close()
    cohort(store, "a", [1])


def test_what_is_not_a_sites_state_is_refused(tmp_path, path):
    path.write_bytes(b"hello" * 1000)
    path.chmod(0o600)
    with pytest.raises(WrongInput, match="not a site's state"):
        SiteStore.open(path)
    other = tmp_path / "other.db"
    foreign = sqlite3.connect(other)
    foreign.execute("CREATE TABLE t (x)")
    foreign.close()
    other.chmod(0o600)
    with pytest.raises(WrongInput, match="another program"):
        SiteStore.open(other)


def test_a_newer_version_is_refused(path):
    SiteStore.open(path).close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(WrongInput, match="version 99"):
        SiteStore.open(path)


def test_a_file_of_version_1_is_upgraded_and_forgets_no_charge(path):
    before = sqlite3.connect(path)
    before.executescript((Path(__file__).parent / "state-v1.sql").read_text())
    before.close()
    path.chmod(0o600)
    with SiteStore.open(path) as store:
        assert store.charged("a") == Charges(2, 2)
        assert store.reserved("a") == (Decimal(2), Decimal("1e-6"))
        assert store.cohort("a").held_out == frozenset({3})
        assert store.patient_keys([1, 2]) == {1: b"\1" * 32, 2: b"\2" * 32}
        store.withdraw(1, 1_800_000_000)
    with SiteStore.open(path) as again:
        assert again.withdrawn(1, 1_900_000_000) == 1_800_000_000
        assert again.withdrawn(2, 1_900_000_000) is None


def test_a_file_of_version_2_is_upgraded_and_keeps_sums(path):
    with SiteStore.open(path) as store:
        store._connection.execute("DROP TABLE past")
        store._connection.execute("PRAGMA user_version = 2")
    with SiteStore.open(path) as store:
        planned(store, "a")
        store.keep_sum("a", 1, b"sum", most=1)
    with SiteStore.open(path) as again:
        assert again.sums("a") == {1: b"sum"}


def test_the_sums_of_the_last_steps_are_kept_until_the_charges_are_stated(path):
    with SiteStore.open(path) as store:
        for study in ("a", "b"):
            planned(store, study)
            store.keep_sum(study, 1, b"only", most=2)
        past = store.past("a")
        for step in range(2, 6):
            past.keep(step, bytes([step]), most=2)
    with SiteStore.open(path) as again:
        assert again.past("a").steps() == (4, 5)
        assert again.past("a").sums() == {4: b"\4", 5: b"\5"}
        again.close_charges("a")
        assert again.sums("a") == {}
        assert again.sums("b") == {1: b"only"}
        with pytest.raises(ProtocolRefused, match="has stated what it charged"):
            again.past("a").keep(6, b"late", most=2)
    assert b"only" in path.read_bytes()


def test_a_sum_that_is_forgotten_is_not_left_in_the_file(path):
    with SiteStore.open(path) as store:
        planned(store, "a")
        store.keep_sum("a", 1, b"a sum of patients " * 1000, most=1)
    assert b"a sum of patients" in path.read_bytes()
    with SiteStore.open(path) as store:
        store.close_charges("a")
    assert b"a sum of patients" not in path.read_bytes()


def planned(store, study):
    cohort(store, study, [1])
    store.reserve(study, Decimal(1), Decimal("1e-6"), *LIMIT)


def test_a_damaged_file_is_refused(path, agreeing):
    with SiteStore.open(path) as store:
        store.replace_consents(agreeing(subject) for subject in range(2000))
    data = bytearray(path.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    with SiteStore.open(path) as damaged, pytest.raises(WrongInput):
        damaged.consents()


def test_a_consent_that_was_altered_is_refused(store, agreeing):
    store.replace_consents([agreeing(1)])
    store._connection.execute("UPDATE consent SET body = '{\"id\": 1}'")
    with pytest.raises(WrongInput):
        store.consents()


def test_a_missing_folder_and_a_folder_are_unavailable(tmp_path):
    for wrong in (tmp_path / "none" / "site.db", tmp_path):
        with pytest.raises(Unavailable):
            SiteStore.open(wrong)


def test_a_read_only_database_is_unavailable(path):
    with SiteStore.open(path) as store:
        store._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(Unavailable, match="read-only"):
            cohort(store, "a", [1])


def test_two_writers_take_turns(path):
    with SiteStore.open(path) as store:
        for study in ("a", "b"):
            cohort(store, study, [1])
            store.reserve(study, Decimal(1), Decimal("1e-6"), *LIMIT)

    def write(study):
        with SiteStore.open(path) as mine:
            for attempt in range(1, 26):
                mine.charge(study, attempt, 25)

    threads = [threading.Thread(target=write, args=(study,)) for study in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with SiteStore.open(path) as store:
        assert [store.charged(study) for study in ("a", "b")] == [Charges(25, 25)] * 2


CHARGE = """
    import sys
    from pathlib import Path
    from oathbound.data.store import SiteStore
    store = SiteStore.open(Path(sys.argv[1]))
    for attempt in range(1, 100_000):
        store.charge("a", attempt, 100_000)
        print(attempt, flush=True)
"""

KILL_BEFORE_COMMIT = """
    import os, signal, sys
    from pathlib import Path
    from oathbound.data.store import SiteStore
    store = SiteStore.open(Path(sys.argv[1]))
    store._connection.execute("BEGIN IMMEDIATE")
    store._connection.execute("INSERT INTO charge VALUES ('a', 1)")
    os.kill(os.getpid(), signal.SIGKILL)
"""

KILL_AFTER_CHARGE = """
    import os, signal, sys
    from pathlib import Path
    from oathbound.data.store import SiteStore
    SiteStore.open(Path(sys.argv[1])).charge("a", 1, 10)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def python(code, path, **more):
    source = Path(store_module.__file__).parents[2]
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(source)}, **more)


@pytest.fixture
def reserved(path):
    with SiteStore.open(path) as store:
        cohort(store, "a", [1])
        store.reserve("a", Decimal(1), Decimal("1e-6"), *LIMIT)
    return path


@pytest.mark.parametrize(
    ("code", "left"), [(KILL_BEFORE_COMMIT, Charges(0, 0)), (KILL_AFTER_CHARGE, Charges(1, 1))]
)
def test_a_kill_around_a_commit_leaves_all_of_it_or_nothing(reserved, code, left):
    assert python(code, reserved).wait(60) == -9
    with SiteStore.open(reserved) as store:
        assert store.charged("a") == left


def test_no_charge_that_was_reported_is_lost_by_a_kill(reserved):
    with python(CHARGE, reserved, stdout=subprocess.PIPE, text=True) as process:
        reported = [int(process.stdout.readline()) for _ in range(40)]
        process.kill()
        reported += [int(line) for line in process.stdout if line.endswith("\n")]
    with SiteStore.open(reserved) as store:
        charged = store.charged("a")
        assert charged.highest == charged.count
        assert reported[-1] <= charged.highest <= reported[-1] + 1
        store.charge("a", charged.highest + 1, 100_000)


def test_sums_that_are_forgotten_are_in_no_file(path):
    with SiteStore.open(path) as store:
        planned(store, "a")
        past, sums = store.past("a"), [bytes([step]) * 4000 for step in range(1, 9)]

        def found():
            held = b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))
            return [each[:2000] in held for each in sums]

        for step, each in enumerate(sums, start=1):
            past.keep(step, each, most=2)
        assert found() == [False] * 6 + [True] * 2
        store.close_charges("a")
        assert found() == [False] * 8
