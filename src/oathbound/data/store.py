"""A site's one file of state: consents, patients' keys, cohorts, and what was reserved and charged.

A method that writes is one durable transaction: once it returned, no crash undoes it, and a crash before
leaves nothing of it. Writers take turns; readers are never held up.

It is one long class because its tables answer for each other: a charge rests on a reservation, a reservation
on a cohort, a withdrawal on both.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final, Self

from oathbound.core.errors import BudgetRefused, ProtocolRefused, WrongInput
from oathbound.core.record import decimal_text
from oathbound.data.cohort import PARTS, Cohort, restored
from oathbound.data.commitment import KEY_BYTES
from oathbound.data.consent import Consent, after_withdrawal, current, is_given_after, is_permitting
from oathbound.data.database import open_database, transaction, translated
from oathbound.hazmat.random import random_bytes

_ATTEMPTS: Final = 2**53


@dataclass(frozen=True, slots=True)
class Charges:
    """How many attempts a study has charged, and the highest of them, 0 if none."""

    count: int
    highest: int


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a study's cohort: a round of training, or an audit. `absent` may not be used any more."""

    label: str
    as_of: int
    absent: frozenset[int] = field(repr=False)


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
        return cls(path, open_database(path))

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
        """Return all consents by patient; those that were given before the patient withdrew are inactive."""
        by_patient: defaultdict[int, tuple[Consent, ...]] = defaultdict(tuple)
        with translated(self.path):
            withdrawn = self._withdrawals()
            for subject, body in self._connection.execute("SELECT subject_id, body FROM consent"):
                by_patient[subject] += (Consent.model_validate_json(body),)
            for subject in withdrawn.keys() & by_patient.keys():
                by_patient[subject] = after_withdrawal(
                    by_patient[subject], withdrawn[subject], self._taken_back(subject)
                )
        return dict(by_patient)

    def withdraw(self, subject: int, at: int) -> int:
        """Record that a patient withdrew, and return when: the first time counts.

        It ends every consent that is here, also one with a date after `at`. Raises `WrongInput` for somebody
        who never gave or denied consent here: there is nothing to withdraw.
        """
        with self._writing() as connection:
            known = connection.execute("SELECT 1 FROM patient WHERE subject_id = ?", (subject,)).fetchone()
            if known is None:
                raise WrongInput(
                    "no patient of that number has given or denied a consent here",
                    hint="`oathbound admit` reads consents; nobody's records are used without one",
                )
            earlier = self._withdrawals().get(subject)
            moment = datetime.fromtimestamp(at, UTC)
            if earlier is not None and not self._consented_since(subject, earlier, at):
                moment = earlier
            since = int(moment.timestamp())
            connection.execute("INSERT OR REPLACE INTO withdrawal VALUES (?, ?)", (subject, since))
            connection.executemany(
                "INSERT OR IGNORE INTO taken_back VALUES (?, ?, ?)",
                (
                    (subject, each.id, each.given.isoformat())
                    for each in self._consents_of(subject)
                    if each.given is not None and each.given > moment
                ),
            )
        return since

    def withdrawn(self, subject: int, now: int) -> int | None:
        """Return since when the patient is withdrawn, POSIX seconds; None if not, or if consented since."""
        with translated(self.path):
            moment = self._withdrawals().get(subject)
            if moment is None or self._consented_since(subject, moment, now):
                return None
        return int(moment.timestamp())

    def patient_keys(self, subjects: Iterable[int]) -> dict[int, bytes]:
        """Return k_patient of those of `subjects` who ever gave or denied consent."""
        wanted = frozenset(subjects)
        with translated(self.path):
            rows = self._connection.execute("SELECT subject_id, key FROM patient")
            return {subject: key for subject, key in rows if subject in wanted}

    def record_cohort(
        self, study: str, policy_digest: str, splits: Mapping[str, Iterable[int]], *, as_of: int
    ) -> Cohort:
        """Record a study's cohort, by part, drawn by consents of `as_of`, POSIX seconds, and return it.

        Until a budget is reserved for its members nobody has used it, and another draw replaces it: an
        admission that was interrupted begins anew. Raises `ProtocolRefused` for another cohort after that,
        and `NothingExamined` for a cohort without members or held-out patients.
        """
        cohort = restored(study, policy_digest, splits)
        with self._writing() as connection:
            if self._reservation(study) is not None and self._cohort(study) != cohort:
                raise ProtocolRefused(
                    "this study has another cohort already, and its members' budget is reserved",
                    hint="a new admission needs a study of a new name",
                )
            connection.execute("INSERT OR IGNORE INTO study VALUES (?, ?, ?)", (study, policy_digest, as_of))
            connection.execute(
                "UPDATE study SET policy_digest = ?, as_of = ? WHERE name = ?", (policy_digest, as_of, study)
            )
            connection.execute("DELETE FROM place WHERE study = ?", (study,))
            connection.executemany(
                "INSERT INTO place VALUES (?, ?, ?)",
                ((study, subject, part) for part in PARTS for subject in sorted(cohort.part(part))),
            )
        return cohort

    def cohort(self, study: str) -> Cohort:
        """Return the recorded cohort, or raise `ProtocolRefused` where there is none."""
        with translated(self.path):
            cohort = self._cohort(study)
        if cohort is None:
            raise ProtocolRefused("this study has no cohort here", hint="`oathbound admit` comes first")
        return cohort

    def holds_cohort(self, study: str) -> bool:
        """Return whether the study's cohort is recorded."""
        with translated(self.path):
            return self._cohort(study) is not None

    def record_use(self, study: str, use: Use) -> None:
        """Record a use of the study's cohort; the same label again replaces it, until it is stated."""
        with self._writing() as connection:
            connection.execute("DELETE FROM used WHERE study = ? AND label = ?", (study, use.label))
            connection.execute("INSERT INTO used VALUES (?, ?, ?)", (study, use.label, use.as_of))
            connection.executemany(
                "INSERT INTO absence VALUES (?, ?, ?)",
                ((study, use.label, subject) for subject in sorted(use.absent)),
            )

    def uses(self, study: str) -> dict[str, Use]:
        """Return the recorded uses of a study's cohort, by label."""
        absent: defaultdict[str, set[int]] = defaultdict(set)
        with translated(self.path):
            for label, subject in self._connection.execute(
                "SELECT label, subject_id FROM absence WHERE study = ?", (study,)
            ):
                absent[label].add(subject)
            rows = self._connection.execute(
                "SELECT label, as_of FROM used WHERE study = ?", (study,)
            ).fetchall()
        return {label: Use(label, as_of, frozenset(absent[label])) for label, as_of in rows}

    def keep_leaves(self, study: str, label: str, leaves: Iterable[bytes]) -> None:
        """Keep the leaves of one cohort that a study commits to; the same label again replaces them."""
        with self._writing() as connection:
            connection.execute("DELETE FROM leaf WHERE study = ? AND label = ?", (study, label))
            connection.executemany(
                "INSERT INTO leaf VALUES (?, ?, ?)", ((study, label, leaf) for leaf in sorted(leaves))
            )

    def leaves(self, study: str) -> dict[str, list[bytes]]:
        """Return the leaves of every cohort that a study committed to, by label."""
        kept: defaultdict[str, list[bytes]] = defaultdict(list)
        with translated(self.path):
            for label, leaf in self._connection.execute(
                "SELECT label, leaf FROM leaf WHERE study = ? ORDER BY label, leaf", (study,)
            ):
                kept[label].append(leaf)
        return dict(kept)

    def last_used(self) -> int:
        """Return when consents were last read for a cohort or a use of one, POSIX seconds; 0 if never."""
        with translated(self.path):
            (latest,) = self._connection.execute(
                "SELECT coalesce(max(as_of), 0) FROM (SELECT as_of FROM used UNION SELECT as_of FROM study)"
            ).fetchone()
        return int(latest)

    def withdrew_since(self, moment: int) -> bool:
        """Return whether anybody withdrew at `moment`, POSIX seconds, or later."""
        with translated(self.path):
            row = self._connection.execute("SELECT 1 FROM withdrawal WHERE at >= ?", (moment,)).fetchone()
        return row is not None

    def studies(self) -> tuple[str, ...]:
        """Return the names of the studies that have a cohort here."""
        with translated(self.path):
            return tuple(name for (name,) in self._connection.execute("SELECT name FROM study ORDER BY name"))

    def studies_of(self, subject: int) -> dict[str, str]:
        """Return the part that a patient has in each study: `members`, `held_out` or `reference`."""
        with translated(self.path):
            return dict(
                self._connection.execute(
                    "SELECT study, part FROM place WHERE subject_id = ? ORDER BY study", (subject,)
                )
            )

    def reserved(self, study: str) -> tuple[Decimal, Decimal] | None:
        """Return the (epsilon, delta) that a study reserved for each member; None if it has no bound.

        Raises `ProtocolRefused` where it has reserved nothing yet.
        """
        with translated(self.path):
            row = self._reservation(study)
        if row is None:
            raise ProtocolRefused("this study has reserved no budget here")
        return None if row[0] is None or row[1] is None else (Decimal(row[0]), Decimal(row[1]))

    def has_reserved(self, study: str) -> bool:
        """Return whether the study has reserved a budget, or has none and is marked so."""
        with translated(self.path):
            return self._reservation(study) is not None

    def check_affordable(
        self, study: str, epsilon: Decimal, delta: Decimal, limit_epsilon: Decimal, limit_delta: Decimal
    ) -> None:
        """Raise `BudgetRefused` if `reserve` would; nothing is written."""
        most_epsilon, most_delta = self._most_reserved(study)
        most_epsilon, most_delta = most_epsilon + Fraction(epsilon), most_delta + Fraction(delta)
        if most_epsilon > Fraction(limit_epsilon) or most_delta > Fraction(limit_delta):
            raise BudgetRefused(
                "a member's reservations over all studies would exceed the site's limit",
                needed=decimal_text(_decimal(most_epsilon)),
                allowed=decimal_text(limit_epsilon),
                hint="the limit is in site.toml; another study can admit other patients, or reserve less",
            )

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
            self.check_affordable(study, epsilon, delta, limit_epsilon, limit_delta)
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
        with translated(self.path):
            return frozenset(
                subject
                for (subject,) in self._connection.execute(
                    "SELECT subject_id FROM place JOIN reservation USING (study)"
                    " WHERE part = 'members' AND epsilon IS NULL"
                )
            )

    def charge(self, study: str, attempt: int, limit: int, *, use: str | None = None) -> None:
        """Charge `attempt` to every member of the study, durably, before returning.

        `use` is the label of the use of the cohort that it is of. Raises `ProtocolRefused` without a
        reservation, for an attempt not above every earlier one, or where a later use is recorded, and
        `BudgetRefused` where `limit` attempts are charged already; `needed` and `allowed` are then attempts.
        """
        with self._writing() as connection:
            if self._reservation(study) is None:
                raise ProtocolRefused("this study has reserved no budget here", hint="admit comes first")
            if connection.execute("SELECT 1 FROM stated WHERE study = ?", (study,)).fetchone():
                raise ProtocolRefused("this study has stated what it charged", hint="its training has ended")
            if (
                use is not None
                and connection.execute(
                    "SELECT 1 FROM used WHERE study = ? AND as_of >"
                    " (SELECT coalesce(max(as_of), -1) FROM used WHERE study = ? AND label = ?)",
                    (study, study, use),
                ).fetchone()
            ):
                raise ProtocolRefused("whose records may be used was read again since this round began")
            charged = self._charged(study)
            if not charged.highest < attempt < _ATTEMPTS:
                raise ProtocolRefused(
                    f"attempt {attempt} does not follow attempt {charged.highest}, which was charged",
                    hint="resume at the next attempt; no vector is ever sent twice",
                )
            if charged.count >= limit:
                raise BudgetRefused(
                    f"all {limit} attempts of the plan are charged",
                    needed=str(charged.count + 1),
                    allowed=str(limit),
                    hint="the budget was for this many attempts; more need a new study",
                )
            connection.execute("INSERT INTO charge VALUES (?, ?)", (study, attempt))

    def close_charges(self, study: str) -> Charges:
        """Return what the study has charged, and never charge it again: the site is about to state it."""
        with self._writing() as connection:
            connection.execute("INSERT OR IGNORE INTO stated VALUES (?)", (study,))
            connection.execute("DELETE FROM past WHERE study = ?", (study,))
            charges = self._charged(study)
        self._empty_log()
        return charges

    def charged(self, study: str) -> Charges:
        """Return what the study has charged."""
        with translated(self.path):
            return self._charged(study)

    def ledger(self, study: str, limit: int, *, use: str | None = None) -> "StudyLedger":
        """Return the study's account, for the trainer (`core.ports.Ledger`); `use` as in `charge`."""
        return StudyLedger(self, study, limit, use)

    def past(self, study: str) -> "StudyPast":
        """Return what the study's next steps need of its last ones (`core.ports.PastSums`)."""
        return StudyPast(self, study)

    def keep_sum(self, study: str, step: int, total: bytes, *, most: int) -> None:
        """Keep the site's own sum of a step, durably, and of earlier steps those of the last `most` with it.

        Raises `ProtocolRefused` where the study has stated what it charged.
        """
        with self._writing() as connection:
            if connection.execute("SELECT 1 FROM stated WHERE study = ?", (study,)).fetchone():
                raise ProtocolRefused("this study has stated what it charged", hint="its training has ended")
            connection.execute("INSERT INTO past VALUES (?, ?, ?)", (study, step, total))
            connection.execute("DELETE FROM past WHERE study = ? AND step <= ?", (study, step - most))
        self._empty_log()

    def sums(self, study: str) -> dict[int, bytes]:
        """Return the site's own sums that are kept of a study, by step."""
        with translated(self.path):
            return dict(self._connection.execute("SELECT step, total FROM past WHERE study = ?", (study,)))

    def sum_steps(self, study: str) -> tuple[int, ...]:
        """Return the steps of which `sums` has the sum."""
        with translated(self.path):
            rows = self._connection.execute("SELECT step FROM past WHERE study = ? ORDER BY step", (study,))
            return tuple(step for (step,) in rows)

    def _empty_log(self) -> None:
        """Empty the write-ahead log, where what was deleted would stay; not while another process reads."""
        with translated(self.path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with translated(self.path), transaction(self._connection):
            yield self._connection

    def _withdrawals(self) -> dict[int, datetime]:
        rows = self._connection.execute("SELECT subject_id, at FROM withdrawal")
        return {subject: datetime.fromtimestamp(at, UTC) for subject, at in rows}

    def _taken_back(self, subject: int) -> frozenset[tuple[str, datetime]]:
        rows = self._connection.execute("SELECT id, given FROM taken_back WHERE subject_id = ?", (subject,))
        return frozenset((name, datetime.fromisoformat(given)) for name, given in rows)

    def _consents_of(self, subject: int) -> list[Consent]:
        rows = self._connection.execute("SELECT body FROM consent WHERE subject_id = ?", (subject,))
        return [Consent.model_validate_json(body) for (body,) in rows]

    def _consented_since(self, subject: int, moment: datetime, now: int) -> bool:
        taken_back, by = self._taken_back(subject), datetime.fromtimestamp(now, UTC)
        return any(
            is_given_after(each, moment, taken_back) and is_permitting(each, by)
            for each in self._consents_of(subject)
        )

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
                    hint="a new study excludes such patients when it admits",
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
    use: str | None

    def charge(self, attempt: int) -> None:
        """Charge the attempt: `SiteStore.charge`."""
        self.store.charge(self.study, attempt, self.limit, use=self.use)

    def highest(self) -> int:
        """Return the highest attempt ever charged, 0 if none."""
        return self.store.charged(self.study).highest


@dataclass(frozen=True, slots=True)
class StudyPast:
    """One study's last sums in a site's store."""

    store: SiteStore
    study: str

    def steps(self) -> tuple[int, ...]:
        """Return the steps whose sums are kept."""
        return self.store.sum_steps(self.study)

    def sums(self) -> dict[int, bytes]:
        """Return the sums that are kept, by step."""
        return self.store.sums(self.study)

    def keep(self, step: int, total: bytes, *, most: int) -> None:
        """Keep a sum: `SiteStore.keep_sum`."""
        self.store.keep_sum(self.study, step, total, most=most)


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
