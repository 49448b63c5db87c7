"""A site's records, as the tokens that its node or its audit works on; they stay in this process."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from oathbound.core.patient import Patient
from oathbound.data.cohort import Cohort
from oathbound.data.kinds import open_source
from oathbound.data.source import Source
from oathbound.models.tokenizer import Tokenizer
from oathbound.workflow.folders import SiteFolder


def source_of(site: SiteFolder) -> Source:
    """Return the site's source of records."""
    return open_source(site.file.records.source, site.file.records.options, site.path)


def patients_of(site: SiteFolder, cohort: Cohort) -> dict[int, Patient]:
    """Return the admitted patients of a cohort, by the site's own ids."""
    return {patient.subject_id: patient for patient in source_of(site).patients(cohort)}


def tokens_of(
    site: SiteFolder, cohort: Cohort, subjects: Collection[int], tokenizer: Tokenizer, length: int
) -> NDArray[np.int64]:
    """Return the tokens of those patients of the cohort, int64 (patients, length), in the order of ids."""
    patients = patients_of(site, cohort)
    return tokenizer.encode_all([patients[subject] for subject in sorted(subjects)], length)
