"""A site's records, as its node or its audit works on them; they stay in this process."""

import math
import mmap
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.patient import Columns
from oathbound.core.study import Policy
from oathbound.data.cohort import Cohort
from oathbound.data.columns import columns_of
from oathbound.data.disclosure import spoken
from oathbound.data.kinds import KINDS, open_source, open_with
from oathbound.data.source import Source
from oathbound.models.family import Encoder
from oathbound.models.model import Rows
from oathbound.workflow.extensions import load
from oathbound.workflow.folders import SiteFolder

MOST_IN_MEMORY: Final = 256 * 1024**2
"""Bytes of rows of one site that are kept in memory."""


def source_of(site: SiteFolder, policy: Policy | None = None) -> Source:
    """Return the site's source of records: one that oathbound has, or that an extension of the policy brings.

    Raises `WrongInput` for any other, and what `extensions.load` raises.
    """
    records = site.file.records
    if policy is None or records.source in KINDS:
        return open_source(records.source, records.options, site.path)
    source = open_with(load(policy, "sources", records.source), records.options, site.path)
    if source.describe().kind != records.source:
        raise WrongInput(f"the source {records.source} describes itself as another kind")
    return source


def rows_of(
    source: Source, cohort: Cohort, subjects: Collection[int], encoder: Encoder, folder: Path
) -> Rows:
    """Return what a model sees of those patients of the cohort, one row each, in the order of ids.

    Rows that memory should not hold lie in a file without a name in `folder`, which goes when the process
    does, and what is read of them is read from there. Raises `WrongInput` for a patient without an event,
    `Unavailable` where there is no room for the file.
    """
    wanted = np.array(sorted(subjects), dtype=np.int64)
    empty = encoder.encode_all(())
    shape = (len(wanted), *empty.shape[1:])
    pieces = _encoded(columns_of(source, cohort), wanted, encoder)
    if math.prod(shape) * empty.itemsize > MOST_IN_MEMORY:
        return _laid_out(pieces, shape, empty.dtype, folder)
    rows = np.zeros(shape, dtype=empty.dtype)
    for places, encoded in pieces:
        rows[places] = encoded
    return rows


def _encoded(
    records: Iterable[Columns], wanted: NDArray[np.int64], encoder: Encoder
) -> Iterator[tuple[NDArray[np.int64], Rows]]:
    """Yield the rows of patients and their places among those wanted, until everybody has one."""
    without = np.ones(len(wanted), dtype=bool)
    for columns in records:
        found, encoded = encoder.encode_columns(columns)
        kept = np.isin(found, wanted, assume_unique=True)
        places = np.searchsorted(wanted, found[kept])
        yield places, encoded[kept]
        without[places] = False
    if without.any():
        raise WrongInput(f"the records hold no events of {spoken(int(without.sum()))} admitted patients")


def _laid_out(
    pieces: Iterable[tuple[NDArray[np.int64], Rows]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    folder: Path,
) -> Rows:
    """Return rows that are on disk. They are written, not mapped to be written: a full disk is an error."""
    size = math.prod(shape[1:]) * dtype.itemsize
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for places, encoded in pieces:
                for place, row in zip(places.tolist(), encoded, strict=True):
                    file.seek(place * size)
                    file.write(row.tobytes())
            file.flush()
            mapped = mmap.mmap(file.fileno(), shape[0] * size, access=mmap.ACCESS_READ)
    except OSError as error:
        raise Unavailable(
            f"what the model sees cannot be laid out in {folder}: {error.strerror}",
            hint="make room there for the records in half precision",
        ) from None
    return np.ndarray(shape, dtype, buffer=mapped)
