"""Four sites, one of which may collude, at the stages from which a test goes on."""

import pytest

from oathbound.testing.sums import Sums


@pytest.fixture
def sums():
    return Sums.of(4, 1)


@pytest.fixture
def ready():
    return Sums.ready(4, 1)


@pytest.fixture
def masked(ready):
    """Four sites whose masked vectors the server has."""
    ready.begin(1)
    ready.mask(ready.vectors())
    return ready


@pytest.fixture
def signed(masked):
    """The same, and the certificate, of the list that all of them signed."""
    return masked, masked.sign()["site-1"]
