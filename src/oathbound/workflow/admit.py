"""`admit`: records x consent -> cohort, at a site, before anything is trained."""

from datetime import UTC, datetime

from oathbound.core.canonical import digest
from oathbound.core.errors import NothingExamined, Refused, WrongInput
from oathbound.core.shape import Features, Recordings
from oathbound.core.study import Policy
from oathbound.data.cohort import PARTS, Cohort, Shares, Terms, Window, admit
from oathbound.data.columns import columns_of
from oathbound.data.disclosure import rounded
from oathbound.data.source import Source
from oathbound.data.store import SiteStore
from oathbound.evidence.predicates import Admission, Exclusion, Missing, Roots
from oathbound.models.features import count_missing, with_a_label
from oathbound.models.recordings import RecordingEncoder, count_unlabelled, with_a_class
from oathbound.workflow.folders import SiteFolder, StudyFolder
from oathbound.workflow.ledgers import check_remembered, forgotten
from oathbound.workflow.notary import check_sworn, state, stated, stated_by
from oathbound.workflow.records import source_of
from oathbound.workflow.rounds import commit, read_again, use_of


def admit_site(study: StudyFolder, name: str, *, now: int) -> Admission:
    """Read the site's consents, draw its cohort, commit to it and log the commitment.

    A site that has admitted for this policy keeps its cohort: the draw is made once. Raises `Refused` before
    the oath and after training has started, and `NothingExamined` when nobody is left.
    """
    site, policy = study.site(name), study.policy
    secret = site.secret()
    with study.locked(), site.log(policy) as own, study.log() as log, SiteStore.open(site.state) as store:
        mine = {name: secret.party()}
        check_sworn(mine[name], own.leaves(), policy)
        check_remembered(site, store)
        # What the site's own log lost, the study's still knows; it is put back, never made anew.
        earlier = stated(own, Admission, mine) or stated_by(mine[name], log, Admission)
        if not earlier:
            if log.checkpoints():
                raise Refused("training has started; a cohort is drawn before it")
            earlier = [_admit(site, policy, store, now)]
        elif not store.holds_cohort(policy.study):  # the study's log alone remembers
            raise forgotten(site, policy.study)
        state(earlier[0], secret, own, log)
    return earlier[0]


def _admit(site: SiteFolder, policy: Policy, store: SiteStore, now: int) -> Admission:
    consents = read_again(site, store)
    by_patient = store.consents()
    keys = store.patient_keys(by_patient)
    source = source_of(site, policy)
    terms = Terms(
        study=policy.study,
        policy_digest=policy.digest,
        training=use_of(policy, policy.consent.training_purpose),
        audit=use_of(policy, policy.consent.audit_purpose),
        window=Window(*policy.drawing.window),
        shares=Shares(policy.drawing.held_out, policy.drawing.reference),
        unbounded=store.unbounded_patients() if policy.budget else frozenset(),
    )
    drawn = admit(source, terms, consents=by_patient, keys=keys, at=datetime.fromtimestamp(now, UTC))
    _check_size(drawn.cohort, policy)
    missing = _missing(policy, source, drawn.cohort, site.file.name)
    store.record_cohort(
        policy.study, policy.digest, {part: drawn.cohort.part(part) for part in PARTS}, as_of=now
    )
    described = source.describe()
    excluded = tuple(
        Exclusion(reason=reason, patients=count) for reason, count in drawn.tally.rounded().items()
    )
    return Admission(
        policy_digest=policy.digest,
        site=site.file.name,
        as_of=now,
        source=described.kind,
        schema_digest=described.schema,
        simulated=described.simulated,
        considered=rounded(drawn.tally.considered) or 0,
        unreadable_consents=rounded(consents.quarantined),
        rows_of_nobody=described.dropped.rows,
        absent_numbers=described.dropped.numbers,
        missing=missing,
        excluded=excluded,
        members=rounded(len(drawn.cohort.members)) or 0,
        held_out=rounded(len(drawn.cohort.held_out)) or 0,
        reference=rounded(len(drawn.cohort.reference)),
        nonce_digest=digest(site.secret().audit_nonce(policy.digest).encode()),
        roots=Roots(
            **{
                part: commit(store, policy, drawn.cohort.part(part), site=site.file.name, label=part)
                for part in PARTS
            }
        ),
    )


def _missing(policy: Policy, source: Source, cohort: Cohort, site: str) -> tuple[Missing, ...]:
    """Return how many of the admitted have a value that means "not measured", or nothing to learn from.

    Raises `NothingExamined` where no member has anything, and `WrongInput` for recordings that are not as
    the policy's model sees them: training would find neither before it has charged somebody.
    """
    if policy.recordings:
        return _of_recordings(policy.recordings, source, cohort, site)
    return _of_features(policy.features, source, cohort, site) if policy.features else ()


def _of_recordings(recordings: Recordings, source: Source, cohort: Cohort, site: str) -> tuple[Missing, ...]:
    encoder, unlabelled, taught = RecordingEncoder(recordings), 0, False
    for columns in columns_of(source, cohort):
        try:
            encoder.checked(columns)
        except WrongInput as error:
            raise WrongInput(f"{site}: {error.message}", hint=error.hint) from None
        unlabelled += count_unlabelled(recordings, (columns,))
        taught = taught or not cohort.members.isdisjoint(with_a_class(recordings, columns).tolist())
    if not taught:
        raise NothingExamined(
            f"{site}: no admitted member has a recording of a class that the policy lists",
            hint="are the classes those of the source? see classes in the policy, and label in the table",
        )
    return (Missing(code="recording of a class that is listed", patients=rounded(unlabelled)),)


def _of_features(features: Features, source: Source, cohort: Cohort, site: str) -> tuple[Missing, ...]:
    counts, taught = count_missing(features, ()), False
    for columns in columns_of(source, cohort):
        counts.update(count_missing(features, (columns,)))
        taught = taught or not cohort.members.isdisjoint(with_a_label(features, columns).tolist())
    if not taught:
        raise NothingExamined(
            f"{site}: no admitted member has the label that the policy names",
            hint="is it a code of the source, with a number? see label in the policy",
        )
    return tuple(
        Missing(code=code, coded_as=coded_as, patients=rounded(count))
        for (code, coded_as), count in counts.items()
    )


def _check_size(cohort: Cohort, policy: Policy) -> None:
    """Refuse a cohort so small that its members could be told from its counts."""
    if (rounded(len(cohort.members)) or 0) > policy.training.members:
        raise Refused(
            f"more members than the {policy.training.members} that the policy plans for all sites",
            hint="a policy whose plan fits its cohorts is another study, sworn to again",
        )
    least = policy.audit.minimum_patients
    if min(len(cohort.members), len(cohort.held_out)) < least:
        raise NothingExamined(
            f"fewer than {least} members, or fewer than {least} held-out patients, were admitted",
            hint="minimum_patients is the least; look at consents, window, held_out and unreadable records",
        )
