"""Whether a site's state has forgotten what the site's logs say that it did: an older copy was put back."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from oathbound.core.errors import Refused, Unavailable
from oathbound.data.store import SiteStore
from oathbound.evidence.keys import Party
from oathbound.evidence.predicates import Admission, Charged, Round
from oathbound.workflow.folders import SiteFolder
from oathbound.workflow.notary import said_by


def check_remembered(site: SiteFolder, store: SiteStore) -> None:
    """Refuse a state that has forgotten what any of the site's studies has used of its patients.

    Budgets add over studies, so what one of them forgot another would spend again.
    """
    party = site.secret().party()
    for study, leaves in said_in(site):
        check_ledger(store, study, party, leaves)


def check_ledger(store: SiteStore, study: str, party: Party, leaves: Sequence[bytes]) -> None:
    """Refuse a state that has forgotten what the site said of one study; `leaves` are of its own log."""
    admitted, used = said_by(party, leaves, Admission), said_by(party, leaves, Round)
    charged = max((each.event.attempts for each in said_by(party, leaves, Charged)), default=0)
    if (
        (admitted and not store.holds_cohort(study))
        or (used and not store.has_reserved(study))
        or store.charged(study).count < charged
    ):
        raise Refused(
            f"state.sqlite of {party.name} is an old copy: it has forgotten what the study {study} did",
            hint="restore the newest state.sqlite there: what was charged must not be forgotten",
        )


def said_in(site: SiteFolder) -> Iterator[tuple[str, list[bytes]]]:
    """Yield the site's studies, with the leaves of its own log; not one in use, whose user looks itself."""
    for study in site.studies():
        leaves = None
        with suppress(Unavailable), site.log_of(study) as own:
            leaves = list(own.leaves())
        if leaves is not None:
            yield study, leaves
