"""Where patients come from: one small Protocol.

No cohort, no rows: `patients` takes a `Cohort`, which only an admission can make. Before there is one, a
source answers questions about its shape and its subjects' ids, and tells nothing else about a record.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol, runtime_checkable

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Columns, Patient
from oathbound.data.cohort import Cohort
from oathbound.data.description import SourceDescription
from oathbound.data.disclosure import spoken


class Source(Protocol):
    """The records of one site. A source yields patients, never rows."""

    def describe(self) -> SourceDescription:
        """Return what the admission's statement says about the source."""
        ...

    def subjects(self) -> tuple[int, ...]:
        """Return the ids of all subjects, ascending."""
        ...

    def unreadable(self) -> frozenset[int]:
        """Return those of the subjects who have an event that cannot be read; nobody of them is admitted.

        A record without that event would be learnt from as if it were whole.
        """
        ...

    def duplicates(self, subjects: frozenset[int]) -> frozenset[int]:
        """Return those of `subjects` whose events equal those of one of them with a smaller id."""
        ...

    def patients(self, cohort: Cohort) -> Iterator[Patient]:
        """Yield the patients of the cohort, each once and whole. Nobody else's rows are read out."""
        ...


@runtime_checkable
class ColumnSource(Source, Protocol):
    """A source that also gives its records as arrays: for sets too large for an object an event."""

    def columns(self, cohort: Cohort) -> Iterator[Columns]:
        """Yield the same as `patients`, some whole patients at a time."""
        ...


def check_there(missing: Collection[int]) -> None:
    """Refuse, with `WrongInput`, to read a cohort of which a source lacks some."""
    if missing:
        raise WrongInput(
            f"records of {spoken(len(missing))} admitted patients are gone, or can no longer be read",
            hint="restore them: a study's cohort is drawn once; another study can admit other patients",
        )


def check_options(kind: str, given: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse, with `WrongInput`, options of a source that has `known` ones, of which it needs the path."""
    unknown = sorted(set(given) - set(known))
    if unknown or not given.get("path"):
        fault = f"knows no option {unknown[0]}" if unknown else "needs a path"
        raise WrongInput(f"a {kind} source {fault}", hint=f"options: {', '.join(known)}")
