"""How a contract suite says what is broken: without pytest, which whoever imports oathbound need not have."""

from collections.abc import Callable

from oathbound.core.errors import OathboundError


def expect(holds: bool, rule: str) -> None:  # noqa: FBT001 - reads as a sentence at every call
    """Raise `AssertionError` with the rule unless it holds."""
    if not holds:
        raise AssertionError(rule)


def refuses(error: type[OathboundError], act: Callable[[], object], rule: str) -> None:
    """Raise `AssertionError` with the rule unless `act` raises the error; any other is raised as it is."""
    try:
        act()
    except error:
        return
    raise AssertionError(rule)
