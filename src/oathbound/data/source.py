"""Where patients come from: one small Protocol, and the kinds of source that a site can name.

No cohort, no rows: `patients` takes a `Cohort`, which only an admission can make. Before there is one, a
source answers questions about its shape and its subjects' ids, and tells nothing else about a record.
"""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Patient
from oathbound.data.cohort import Cohort
from oathbound.data.description import SourceDescription
from oathbound.data.division import OPTIONS, Divided, Division


class Source(Protocol):
    """The records of one site. A source yields patients, never rows."""

    def describe(self) -> SourceDescription:
        """Return what the admission's statement says about the source."""
        ...

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of all subjects, ascending."""
        ...

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose events equal those of one of them with a smaller id."""
        ...

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Yield the patients of the cohort, each once and whole. Nobody else's rows are read out."""
        ...


_OPENERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"meds": ("oathbound.data.meds", "open_meds"), "nafld": ("oathbound.data.nafld", "open_nafld")}
)


def open_source(kind: str, options: Mapping[str, str], base: Path) -> Source:
    """Open a source; relative paths in `options` start at `base`, the folder of the site.

    Kinds: `meds` (option `path`) and `nafld` (no option). The options `parts` and `part`, of any kind, make
    a simulated hospital of a part of the data. Raises `WrongInput` for another kind, an option that the kind
    does not know, or data that is not what it should be.
    """
    if kind not in _OPENERS:
        raise WrongInput(f"unknown kind of source: {kind}", hint=f"one of: {', '.join(sorted(_OPENERS))}")
    # Imported here, so that a site with one kind needs the packages of that kind only.
    module, function = _OPENERS[kind]
    own = {key: value for key, value in options.items() if key not in OPTIONS}
    source: Source = getattr(importlib.import_module(module), function)(own, base)
    division = {key: value for key, value in options.items() if key in OPTIONS}
    return Divided(source, Division.parse(division)) if division else source
