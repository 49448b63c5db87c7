"""Mutants that no test can notice, because they change nothing that anybody can see; each with its reason."""

from typing import Final

EQUIVALENT: Final[dict[str, str]] = {}
