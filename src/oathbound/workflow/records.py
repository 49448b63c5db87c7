"""A site's records, as its node or its audit works on them; they stay in this process."""

from collections.abc import Collection

import numpy as np

from oathbound.core.errors import WrongInput
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


def rows_of(source: Source, cohort: Cohort, subjects: Collection[int], encoder: Encoder) -> Rows:
    """Return what a model sees of those patients of the cohort, one row each, in the order of ids.

    Raises `WrongInput` for a patient without an event.
    """
    wanted = np.array(sorted(subjects), dtype=np.int64)
    empty = encoder.encode_all(())
    rows = np.zeros((len(wanted), *empty.shape[1:]), dtype=empty.dtype)
    without = np.ones(len(wanted), dtype=bool)
    for columns in columns_of(source, cohort):
        found, encoded = encoder.encode_columns(columns)
        kept = np.isin(found, wanted, assume_unique=True)
        places = np.searchsorted(wanted, found[kept])
        rows[places], without[places] = encoded[kept], False
    if without.any():
        raise WrongInput(f"the records hold no events of {spoken(int(without.sum()))} admitted patients")
    return rows
