"""A site's one file of state: consents, patients' keys, cohorts, and what was reserved and charged.

SQLite with a write-ahead log and `synchronous=FULL`: a method that returned has reached the disk, and a
process killed at any moment leaves the state before or after a call, never one between. Every write is one
`BEGIN IMMEDIATE` transaction, so writers take turns; readers are never held up. The file is the owner's
alone (mode 0600).
"""

import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError

from oathbound.core.errors import BudgetRefused, ProtocolRefused, Unavailable, WrongInput
from oathbound.core.record import decimal_text
from oathbound.data.cohort import PARTS, Cohort, restored
from oathbound.data.commitment import KEY_BYTES
from oathbound.data.consent import Consent, current
from oathbound.hazmat.random import random_bytes

APPLICATION_ID: Final = 0x6F617468
VERSION: Final = 1

_BUSY_MS: Final = 5000
_MODE: Final = 0o600
_OTHERS: Final = 0o077
_ATTEMPTS: Final = 2**53

_SCHEMA: Final = f"""
CREATE TABLE patient (
    subject_id INTEGER PRIMARY KEY,
    key BLOB NOT NULL CHECK (length(key) = {KEY_BYTES})
) STRICT;
CREATE TABLE consent (
    subject_id INTEGER NOT NULL REFERENCES patient,
    body TEXT NOT NULL
) STRICT;
CREATE TABLE study (
    name TEXT PRIMARY KEY,
    policy_digest TEXT NOT NULL
) STRICT;
CREATE TABLE place (
    study TEXT NOT NULL REFERENCES study,
    subject_id INTEGER NOT NULL,
    part TEXT NOT NULL CHECK (part IN ('members', 'held_out', 'reference')),
    PRIMARY KEY (study, subject_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX place_of_subject ON place (subject_id, part);
CREATE TABLE reservation (
    study TEXT PRIMARY KEY REFERENCES study,
    epsilon TEXT,
    delta TEXT,
    CHECK ((epsilon IS NULL) = (delta IS NULL))
) STRICT;
CREATE TABLE charge (
    study TEXT NOT NULL REFERENCES reservation,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    PRIMARY KEY (study, attempt)
) STRICT, WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
"""
"""A reservation without numbers is unbounded."""


@dataclass(frozen=True, slots=True)
class Charges:
    """How many attempts a study has charged, and the highest of them, 0 if none."""

    count: int
    highest: int


@dataclass(frozen=True, slots=True)
class SiteStore:
    """The open file. Use it from one thread; close it, or use it in a `with` statement.

    Every method raises `Unavailable` where the file is locked, read-only or on a full disk, and
    `WrongInput` where it is damaged.
    """

    path: Path
    _connection: sqlite3.Connection = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file, or make it; `WrongInput` for a file of another kind, or one that others may read."""
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, _MODE))
            mode = path.stat().st_mode
        except OSError as error:
            raise Unavailable(
                f"{path.name} cannot be opened: {error.strerror}",
                hint="check the site's folder and its owner",
            ) from None
        if mode & _OTHERS:
            raise WrongInput(
                f"others may read {path.name}, which holds consents", hint=f"chmod 600 {path.name}"
            )
        with _translated(path):
            connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000)
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def replace_consents(self, consents: Iterable[Consent]) -> None:
        """Put the current versions of `consents` in the place of all earlier ones.

        A patient's random 256-bit key is drawn at the first consent, also a denial, and never drawn again.
        """
        kept = current(consents)
        with self._writing() as connection:
            connection.execute("DELETE FROM consent")
            connection.executemany(
                "INSERT OR IGNORE INTO patient VALUES (?, ?)",
                ((subject, random_bytes(KEY_BYTES)) for subject in sorted({c.patient for c in kept})),
            )
            connection.executemany(
                "INSERT INTO consent VALUES (?, ?)", ((c.patient, c.model_dump_json()) for c in kept)
            )

    def consents(self) -> dict[int, tuple[Consent, ...]]:
        """Return all consents by patient."""
        by_patient: defaultdict[int, tuple[Consent, ...]] = defaultdict(tuple)
        with _translated(self.path):
            for subject, body in self._connection.execute("SELECT subject_id, body FROM consent"):
                by_patient[subject] += (Consent.model_validate_json(body),)
        return dict(by_patient)

    def patient_keys(self, subjects: Iterable[int]) -> dict[int, bytes]:
        """Return k_patient of those of `subjects` who ever gave or denied consent."""
        wanted = frozenset(subjects)
        with _translated(self.path):
            rows = self._connection.execute("SELECT subject_id, key FROM patient")
            return {subject: key for subject, key in rows if subject in wanted}

    def record_cohort(self, study: str, policy_digest: str, splits: Mapping[str, Iterable[int]]) -> Cohort:
        """Record a study's cohort, by part, and return it; the same cohort again changes nothing.

        Raises `ProtocolRefused` for another cohort or policy of a study that has one, `NothingExamined` for
        a cohort without members or held-out patients.
        """
        cohort = restored(study, policy_digest, splits)
        with self._writing() as connection:
            recorded = self._cohort(study)
            if recorded is None:
                connection.execute("INSERT INTO study VALUES (?, ?)", (study, policy_digest))
                connection.executemany(
                    "INSERT INTO place VALUES (?, ?, ?)",
                    ((study, subject, part) for part in PARTS for subject in sorted(cohort.part(part))),
                )
            elif recorded != cohort:
                raise ProtocolRefused(
                    "this study has another cohort already",
                    hint="a cohort is drawn once; a new admission needs a study of a new name",
                )
        return cohort

    def cohort(self, study: str) -> Cohort:
        """Return the recorded cohort, or raise `ProtocolRefused` where there is none."""
        with _translated(self.path):
            cohort = self._cohort(study)
        if cohort is None:
            raise ProtocolRefused("this study has no cohort here", hint="`oathbound admit` comes first")
        return cohort

    def reserve(
        self, study: str, epsilon: Decimal, delta: Decimal, limit_epsilon: Decimal, limit_delta: Decimal
    ) -> None:
        """Reserve (epsilon, delta) for every member of the study's cohort; the same again changes nothing.

        Raises `BudgetRefused` where a member's reservations, over all studies of which they are a member,
        would add to more than a limit, or where a member was in an unbounded study; `ProtocolRefused` where
        the study has no cohort or another reservation.
        """
        if not (0 < epsilon < Decimal("Infinity") and 0 < delta < 1):
            raise WrongInput("a reservation needs a positive epsilon, and a delta between 0 and 1")
        amounts = (decimal_text(epsilon), decimal_text(delta))
        with self._writing():
            if self._reserved_before(study, amounts):
                return
            most_epsilon, most_delta = self._most_reserved(study)
            most_epsilon, most_delta = most_epsilon + Fraction(epsilon), most_delta + Fraction(delta)
            if most_epsilon > Fraction(limit_epsilon) or most_delta > Fraction(limit_delta):
                raise BudgetRefused(
                    "a member's reservations over all studies would exceed the site's limit",
                    needed=decimal_text(_decimal(most_epsilon)),
                    allowed=decimal_text(limit_epsilon),
                    hint="admit other patients (another window), or reserve less",
                )
            self._connection.execute("INSERT INTO reservation VALUES (?, ?, ?)", (study, *amounts))

    def reserve_unbounded(self, study: str) -> None:
        """Mark the study, and so its members, as used without a bound; the same again changes nothing.

        Raises `ProtocolRefused` where the study has no cohort, or reserved a bounded amount.
        """
        with self._writing():
            if not self._reserved_before(study, (None, None)):
                self._connection.execute("INSERT INTO reservation VALUES (?, NULL, NULL)", (study,))

    def unbounded_patients(self) -> frozenset[int]:
        """Return the members of unbounded studies: private studies must not use them."""
        with _translated(self.path):
            return frozenset(
                subject
                for (subject,) in self._connection.execute(
                    "SELECT subject_id FROM place JOIN reservation USING (study)"
                    " WHERE part = 'members' AND epsilon IS NULL"
                )
            )

    def charge(self, study: str, attempt: int, limit: int) -> None:
        """Charge `attempt` to every member of the study, durably, before returning.

        Raises `ProtocolRefused` without a reservation or for an attempt not above every earlier one, and
        `BudgetRefused` where `limit` attempts are charged already; `needed` and `allowed` are then attempts.
        """
        with self._writing() as connection:
            if self._reservation(study) is None:
                raise ProtocolRefused("this study has reserved no budget here", hint="admit comes first")
            charged = self._charged(study)
            if not highest < attempt < _ATTEMPTS:
                raise ProtocolRefused(
                    f"attempt {attempt} does not follow attempt {highest}, which was charged",
                    hint="resume at the next attempt; no vector is ever sent twice",
                )
            if count >= limit:
                raise BudgetRefused(
                    f"all {limit} attempts of the plan are charged",
                    needed=str(count + 1),
                    allowed=str(limit),
                    hint="the budget was for this many attempts; more need a new study",
                )
            connection.execute("INSERT INTO charge VALUES (?, ?)", (study, attempt))

    def charged(self, study: str) -> Charges:
        """Return what the study has charged."""
        with _translated(self.path):
            return self._charged(study)

    def ledger(self, study: str, limit: int) -> "StudyLedger":
        """Return the study's account, for the trainer (`core.ports.Ledger`)."""
        return StudyLedger(self, study, limit)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _translated(self.path), _transaction(self._connection):
            yield self._connection

    def _cohort(self, study: str) -> Cohort | None:
        row = self._connection.execute("SELECT policy_digest FROM study WHERE name = ?", (study,)).fetchone()
        if row is None:
            return None
        parts: defaultdict[str, list[int]] = defaultdict(list)
        for subject, part in self._connection.execute(
            "SELECT subject_id, part FROM place WHERE study = ?", (study,)
        ):
            parts[part].append(subject)
        return restored(study, row[0], parts)

    def _reservation(self, study: str) -> tuple[str | None, str | None] | None:
        row: tuple[str | None, str | None] | None = self._connection.execute(
            "SELECT epsilon, delta FROM reservation WHERE study = ?", (study,)
        ).fetchone()
        return row

    def _reserved_before(self, study: str, amounts: tuple[str | None, str | None]) -> bool:
        """Return whether the study holds this reservation; raise `ProtocolRefused` for another one."""
        if self._connection.execute("SELECT 1 FROM study WHERE name = ?", (study,)).fetchone() is None:
            raise ProtocolRefused("this study has no cohort here", hint="`oathbound admit` comes first")
        reserved = self._reservation(study)
        if reserved not in (None, amounts):
            raise ProtocolRefused("this study has another reservation already", hint="its policy is fixed")
        return reserved is not None

    def _most_reserved(self, study: str) -> tuple[Fraction, Fraction]:
        """Return the most epsilon, and the most delta, that a member reserved in other studies, exactly."""
        sums: defaultdict[int, tuple[Fraction, Fraction]] = defaultdict(lambda: (Fraction(0), Fraction(0)))
        for subject, epsilon, delta in self._connection.execute(
            "SELECT other.subject_id, epsilon, delta FROM place AS mine"
            " JOIN place AS other ON other.subject_id = mine.subject_id AND other.part = 'members'"
            " JOIN reservation ON reservation.study = other.study"
            " WHERE mine.study = ? AND mine.part = 'members' AND other.study <> mine.study",
            (study,),
        ):
            if epsilon is None:
                raise BudgetRefused(
                    "a member was used in a study without a bound, so no budget holds for them",
                    needed="unbounded",
                    allowed="bounded",
                    hint="admit anew; admission excludes such patients from private studies",
                )
            sums[subject] = (sums[subject][0] + Fraction(epsilon), sums[subject][1] + Fraction(delta))
        return (
            max((epsilon for epsilon, _ in sums.values()), default=Fraction(0)),
            max((delta for _, delta in sums.values()), default=Fraction(0)),
        )

    def _charged(self, study: str) -> Charges:
        return Charges(
            *self._connection.execute(
                "SELECT count(*), coalesce(max(attempt), 0) FROM charge WHERE study = ?", (study,)
            ).fetchone()
        )


@dataclass(frozen=True, slots=True)
class StudyLedger:
    """One study's account in a site's store."""

    store: SiteStore
    study: str
    limit: int

    def charge(self, attempt: int) -> None:
        """Charge the attempt: `SiteStore.charge`."""
        self.store.charge(self.study, attempt, self.limit)

    def highest(self) -> int:
        """Return the highest attempt ever charged, 0 if none."""
        return self.store.charged(self.study).highest


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    # On macOS an fsync does not reach the disk; elsewhere these change nothing.
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        raise Unavailable(f"{path.name} cannot keep a write-ahead log", hint="put the site on a local disk")
    with _transaction(connection):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version, tables) == (0, 0, 0):
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
        elif application != APPLICATION_ID:
            raise WrongInput(f"{path.name} is another program's database", hint="give the site its own file")
        elif version != VERSION:
            raise WrongInput(
                f"{path.name} has version {version}; this oathbound reads {VERSION}", hint="upgrade oathbound"
            )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Say what SQLite's error means for the site."""
    try:
        yield
    except (sqlite3.DatabaseError, ValidationError) as error:
        if isinstance(error, sqlite3.ProgrammingError):
            raise
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & _PRIMARY
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Unavailable(
                f"{path.name} is in use by another process",
                hint="one process at a time writes a site's state",
            ) from None
        if code in _UNAVAILABLE:
            raise Unavailable(
                f"{path.name} cannot be written here: {_UNAVAILABLE[code]}", hint="nothing was changed"
            ) from None
        raise WrongInput(
            f"{path.name} is damaged, or is not a site's state",
            hint="restore a backup, and charge again what was spent since: a copy forgets it",
        ) from None


_PRIMARY: Final = 0xFF
"""The bits of an extended result code that hold the primary one."""

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk fails",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "it may not be opened",
}


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
