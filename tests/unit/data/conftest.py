"""A small source and its consents, for the tests of this folder."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from oathbound.data.cohort import Shares, Terms, Window
from oathbound.data.consent import Consent, Provision, Request

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Listed:
    """Subjects without records; `same` maps a subject to the one whose record it repeats."""

    def __init__(self, subjects, same=(), unreadable=()):
        self._subjects, self._same, self._unreadable = tuple(subjects), dict(same), frozenset(unreadable)

    def subjects(self):
        return self._subjects

    def unreadable(self):
        return self._unreadable

    def duplicates(self, subjects):
        return frozenset(s for s, first in self._same.items() if s in subjects and first in subjects)


@pytest.fixture
def at():
    return AT


@pytest.fixture
def listed():
    return Listed


@pytest.fixture
def agreeing():
    def of(subject, *purposes, **more):
        provision = Provision(effect="permit", purposes=purposes or ("HRESCH", "HQUALIMP"))
        return Consent(
            **{"id": f"c-{subject}", "patient": subject, "status": "active", "provision": provision} | more
        )

    return of


@pytest.fixture
def terms():
    def of(**more):
        base = {
            "study": "study",
            "policy_digest": "sha256:" + "0" * 64,
            "training": Request("HRESCH"),
            "audit": Request("HQUALIMP"),
            "window": Window(Decimal(0), Decimal(1)),
            "shares": Shares(Decimal("0.2"), Decimal("0.1")),
        }
        return Terms(**base | more)

    return of
