"""The SQLite file under a site's state: its tables, how it is opened, and what its errors mean.

A write-ahead log with `synchronous=FULL`: a transaction that returned has reached the disk, and a process
killed at any moment leaves the state before or after a transaction, never one between.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.data.commitment import KEY_BYTES

APPLICATION_ID: Final = 0x6F617468
VERSION: Final = 3

_BUSY_MS: Final = 5000
_MODE: Final = 0o600
_OTHERS: Final = 0o077

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
CREATE TABLE stated (
    study TEXT PRIMARY KEY REFERENCES reservation
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
"""
"""The tables of version 1. A reservation without numbers is unbounded."""

_SINCE_VERSION_1: Final = """
ALTER TABLE study ADD COLUMN as_of INTEGER NOT NULL DEFAULT 0;
CREATE TABLE withdrawal (
    subject_id INTEGER PRIMARY KEY REFERENCES patient,
    at INTEGER NOT NULL
) STRICT;
CREATE TABLE taken_back (
    subject_id INTEGER NOT NULL REFERENCES patient,
    id TEXT NOT NULL,
    given TEXT NOT NULL,
    PRIMARY KEY (subject_id, id, given)
) STRICT, WITHOUT ROWID;
CREATE TABLE leaf (
    study TEXT NOT NULL,
    label TEXT NOT NULL,
    leaf BLOB NOT NULL,
    PRIMARY KEY (study, label, leaf)
) STRICT, WITHOUT ROWID;
CREATE TABLE used (
    study TEXT NOT NULL REFERENCES study,
    label TEXT NOT NULL,
    as_of INTEGER NOT NULL,
    PRIMARY KEY (study, label)
) STRICT, WITHOUT ROWID;
CREATE TABLE absence (
    study TEXT NOT NULL,
    label TEXT NOT NULL,
    subject_id INTEGER NOT NULL,
    PRIMARY KEY (study, label, subject_id),
    FOREIGN KEY (study, label) REFERENCES used ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
"""
"""A use of a cohort, by its label in the commitments: everybody of the cohort but those who are absent.

`as_of` is when consents were read, for the study's cohort or for a use of it. `leaf` keeps what was committed
to, so that one patient's proof needs nobody else's key. `taken_back` are consents that were there at a
withdrawal, and dated after it.
"""


_SINCE_VERSION_2: Final = """
CREATE TABLE past (
    study TEXT NOT NULL REFERENCES reservation,
    step INTEGER NOT NULL CHECK (step > 0),
    total BLOB NOT NULL,
    PRIMARY KEY (study, step)
) STRICT;
"""
"""The site's own sums of the last steps of a study with bands: without noise, so as private as records."""

_CHANGES: Final = (_SCHEMA, _SINCE_VERSION_1, _SINCE_VERSION_2)
"""What makes each version of the one before."""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, or make it (mode 0600); `WrongInput` for another file, or one others may read."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _MODE))
        mode = path.stat().st_mode
    except OSError as error:
        raise Unavailable(
            f"{_named(path)} cannot be opened: {error.strerror}", hint="check the site's folder and its owner"
        ) from None
    if mode & _OTHERS:
        raise WrongInput(f"others may read {_named(path)}, which holds consents", hint=f"chmod 600 {path}")
    with translated(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted was a patient's
    # On macOS an fsync does not reach the disk; elsewhere these change nothing.
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA checkpoint_fullfsync = ON")
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        raise Unavailable(
            f"{_named(path)} cannot keep a write-ahead log", hint="put the site on a local disk"
        )
    with transaction(connection):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (application, version, tables) == (0, 0, 0) or (
            application == APPLICATION_ID and 0 < version < VERSION
        ):
            _upgrade(connection, *_CHANGES[version:])
        elif application != APPLICATION_ID:
            raise WrongInput(
                f"{_named(path)} is another program's database", hint="give the site its own file"
            )
        elif version != VERSION:
            raise WrongInput(
                f"{_named(path)} has version {version}; this oathbound reads {VERSION}",
                hint="upgrade oathbound",
            )


def _upgrade(connection: sqlite3.Connection, *schemas: str) -> None:
    for schema in (*schemas, f"PRAGMA user_version = {VERSION};\n"):
        for statement in schema.split(";\n"):
            connection.execute(statement)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make the block one transaction that holds the write lock from its start."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Say what SQLite's error means for the site."""
    try:
        yield
    except (sqlite3.DatabaseError, ValidationError) as error:
        if isinstance(error, sqlite3.ProgrammingError):
            raise
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & _PRIMARY
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Unavailable(
                f"{_named(path)} is in use by another process",
                hint="one process at a time writes a site's state",
            ) from None
        if code in _UNAVAILABLE:
            raise Unavailable(
                f"{_named(path)} cannot be written here: {_UNAVAILABLE[code]}", hint="nothing was changed"
            ) from None
        raise WrongInput(
            f"{_named(path)} is damaged, or is not a site's state",
            hint="restore a backup, and charge again what was spent since: a copy forgets it",
        ) from None


_PRIMARY: Final = 0xFF
"""The bits of an extended result code that hold the primary one."""

_UNAVAILABLE: Final = {
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk fails, or is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "it may not be opened",
}


def _named(path: Path) -> str:
    """Return the file with its folder, which is called as its site."""
    return f"{path.parent.name}/{path.name}"
