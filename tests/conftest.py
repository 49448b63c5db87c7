"""Parties and a statement, for every test of evidence."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the tests that run at once share the processors

import pytest

from oathbound.evidence.envelope import Statement, Subject
from oathbound.evidence.keys import Secret


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, sweeps and whole sessions: last, one worker would wait for another."""
    items.sort(key=lambda item: not {"sessions", "mutation", "crash"} & set(item.path.parts))


@pytest.fixture(scope="session")
def hospital():
    return Secret.generate("hospital-a")


@pytest.fixture(scope="session")
def other():
    return Secret.generate("hospital-b")


@pytest.fixture(scope="session")
def regulator():
    return Secret.generate("regulator")


@pytest.fixture(scope="session")
def trusted(hospital, other, regulator):
    parties = (secret.party() for secret in (hospital, other, regulator))
    return {party.fingerprint: party for party in parties}


@pytest.fixture(scope="session")
def statement():
    return Statement(
        subject=(Subject(name="model.safetensors", digest={"sha256": "ab" * 32}),),
        predicate_type="https://oathbound.invalid/test/v1",
        predicate={"epsilon": "1.25", "steps": 7, "sites": ["hospital-a", "hospital-b"]},
    )
