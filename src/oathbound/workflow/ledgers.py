"""Whether a site's state has forgotten what the site's logs say that it did: an older copy was put back."""

from oathbound.core.errors import Refused
from oathbound.data.store import SiteStore
from oathbound.evidence.predicates import Admission, Charged, Round, SitePredicate
from oathbound.workflow.folders import SiteFolder
from oathbound.workflow.notary import said_by


def check_remembered(site: SiteFolder, store: SiteStore) -> None:
    """Refuse a state that has forgotten what any of the site's studies has used of its patients.

    Budgets add over studies, so what one of them forgot another would spend again.
    """
    party = site.secret().party()
    for study, leaves in site.said().items():
        said = said_by(party, leaves, SitePredicate)
        kinds = {type(each) for each in said}
        charged = max((each.event.attempts for each in said if isinstance(each, Charged)), default=0)
        if (
            (Admission in kinds and not store.holds_cohort(study))
            or (Round in kinds and not store.has_reserved(study))
            or store.charged(study).count < charged
        ):
            raise forgotten(site, study)


def forgotten(site: SiteFolder, study: str) -> Refused:
    """Return the refusal of a state that has forgotten something of a study."""
    return Refused(
        f"state.sqlite of {site.file.name} has forgotten what the study {study} did: it is an old copy",
        hint="restore the site's state, the newest; the site engineer's guide says what to do if it is lost",
    )
