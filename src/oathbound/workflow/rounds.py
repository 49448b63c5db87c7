"""Rounds and audits: before each, a site reads its consents again and says whose records it may still use.

A withdrawal, a denial or a consent that ended takes effect here: the next round, or the audit, goes without
that patient. Nobody is ever added: a cohort is drawn once. `spec/cohort.md` numbers the rules.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Final

from oathbound.core.errors import ConsentRefused, ProtocolRefused, Refused, Unavailable
from oathbound.core.study import Policy
from oathbound.data.cohort import PARTS
from oathbound.data.commitment import cohort_leaf, cohort_root
from oathbound.data.consent import Permit, Request, decide
from oathbound.data.disclosure import rounded
from oathbound.data.fhir import ConsentFile, read_consents
from oathbound.data.store import SiteStore, Use
from oathbound.evidence.log import Log
from oathbound.evidence.predicates import Admission, Audited, AuditRoots, Round
from oathbound.workflow.folders import SiteFolder
from oathbound.workflow.notary import deliver, state, stated

_ROUND: Final = "round-"


def read_again(site: SiteFolder, store: SiteStore) -> ConsentFile:
    """Read the site's file of consents into its state, and return what was read."""
    consents = read_consents(site.consents)
    store.replace_consents(consents.consents)
    return consents


def use_of(policy: Policy, purpose: str) -> Request:
    """Return what a patient is asked for: one purpose, on the policy's classes of data and conditions."""
    return Request(purpose, frozenset(policy.consent.classes), frozenset(policy.consent.meets))


def round_label(number: int) -> str:
    """Return the label of a round in its cohort's commitment."""
    return f"{_ROUND}{number}"


def audit_label(number: int, part: str) -> str:
    """Return the label of one part of an audit's patients in their commitment."""
    return f"audit-{number}-{part}"


def commit(store: SiteStore, policy: Policy, subjects: Collection[int], *, site: str, label: str) -> str:
    """Return the root of the trie of these patients, in which each one's place is fixed by their own key.

    The leaves are kept: a proof for one patient needs them, and nobody else's key.
    """
    keys, run = store.patient_keys(subjects), policy.digest
    leaves = [cohort_leaf(keys[subject], site=site, run=run, label=label) for subject in subjects]
    store.keep_leaves(policy.study, label, leaves)
    return "sha256:" + cohort_root(leaves).hex()


def latest_round(site: SiteFolder, policy: Policy) -> Round | None:
    """Return the last round that a site has stated its cohort of, or None."""
    with site.log(policy) as own:
        rounds = stated(own, Round, {site.file.name: site.secret().party()})
    return max(rounds, key=lambda each: each.round, default=None)


def is_fresh(as_of: int, policy: Policy, now: int) -> bool:
    """Return whether consents read at `as_of` may still be used at `now`."""
    return now - as_of <= policy.consent.staleness_hours * 3600


def check_reads(site: SiteFolder, own: Log, now: int) -> None:
    """Refuse a time before one at which the site says that it read its consents."""
    mine = {site.file.name: site.secret().party()}
    reads: list[Admission | Round | Audited] = [
        *stated(own, Admission, mine),
        *stated(own, Round, mine),
        *stated(own, Audited, mine),
    ]
    if now < max((read.as_of for read in reads), default=now):
        raise Unavailable(
            f"by this machine's clock {site.file.name} read its consents in the future",
            hint="set the clock right",
        )


def check_number(site: SiteFolder, last: Round | None, number: int, policy: Policy) -> None:
    """Refuse a number that would use up those of the rounds to come.

    A site may miss as many rounds as the policy has attempts.
    """
    if number > (last.round if last else 0) + policy.training.attempts:
        raise ProtocolRefused(
            f"{site.file.name} is asked for a round far above the last that it stated",
            hint="a round follows the newest of any site: look which of them states such a number",
        )


def gather_site(
    site: SiteFolder, store: SiteStore, policy: Policy, *, run: str, number: int, now: int
) -> None:
    """State, in the site's own log, whose records it may use in a round; once, however often it is called.

    Raises `ConsentRefused` when fewer are left than the policy lets anybody count, and `Unavailable` when
    this machine's clock is behind the last consents that the site stated.
    """
    name, secret, cohort = site.file.name, site.secret(), store.cohort(policy.study)
    last = latest_round(site, policy)
    with site.log(policy) as own:
        check_reads(site, own, now)
        if last is not None and last.round == number:
            members_of(site, store, policy, number)  # refuses a state older than the statement
            return
        consents = read_again(site, store)
        left = left_before(store, policy.study, number)
        members = _allowed(store, policy.consent.training_purpose, policy, now, cohort.members - left)
        members &= _by_the_key_of_admission(store, policy, members, site=name)
        if len(members) < policy.audit.minimum_patients:
            raise ConsentRefused(
                f"of the members of {name} fewer than {policy.audit.minimum_patients} still consent",
                hint="their budget stays charged; a new study admits other patients",
            )
        store.record_use(policy.study, Use(round_label(number), now, cohort.members - members))
        gathered = Round(
            policy_digest=policy.digest,
            site=name,
            run=run,
            round=number,
            as_of=now,
            unreadable_consents=rounded(consents.quarantined),
            members=rounded(len(members)) or 0,
            root=commit(store, policy, members, site=name, label=round_label(number)),
        )
        state(gathered, secret, own)


def members_of(site: SiteFolder, store: SiteStore, policy: Policy, number: int) -> frozenset[int]:
    """Return the members whose records the site may use in a round of which it stated the cohort."""
    use = store.uses(policy.study).get(round_label(number))
    if use is None:
        raise Refused(
            f"{site.file.name} has stated its cohort of round {number}, which its state does not hold",
            hint="restore the newest state.sqlite there: what was charged must not be forgotten",
        )
    return store.cohort(policy.study).members - use.absent


def gather_audit(
    site: SiteFolder, store: SiteStore, policy: Policy, *, run: str, first: int, now: int, own: Log, log: Log
) -> Mapping[str, frozenset[int]]:
    """State whose records the site uses in an audit, and return the patients, by part of the cohort.

    `first` is the first round that took a step: who left before it was never trained on, and is no member.

    Raises `ConsentRefused` when fewer are left of a part than the policy lets anybody count, and
    `Unavailable` when this machine's clock is behind the last consents that the site stated.
    """
    name, secret, cohort = site.file.name, site.secret(), store.cohort(policy.study)
    deliver(own.leaves(), log)
    check_reads(site, own, now)
    number = 1 + max((each.number for each in stated(own, Audited, {name: secret.party()})), default=0)
    consents = read_again(site, store)
    everybody = {"members": cohort.members - left_before(store, policy.study, first + 1)}
    everybody |= {"held_out": cohort.held_out, "reference": cohort.reference}
    allowed = _allowed(
        store, policy.consent.audit_purpose, policy, now, frozenset[int]().union(*everybody.values())
    )
    parts = {part: everybody[part] & allowed for part in PARTS}
    if min(len(parts["members"]), len(parts["held_out"])) < policy.audit.minimum_patients:
        # before anything is stated: a file of consents that is cut short must not end the study
        raise ConsentRefused(
            f"at {name} fewer than {policy.audit.minimum_patients} members, or held-out patients, still "
            "consent to the audit",
            hint="see that the file of consents is whole; nothing was audited or stated",
        )
    for part, present in parts.items():
        absent = cohort.part(part) - present
        store.record_use(policy.study, Use(audit_label(number, part), now, absent))
    roots = {
        part: commit(store, policy, parts[part], site=name, label=audit_label(number, part)) for part in PARTS
    }
    audited = Audited(
        policy_digest=policy.digest,
        site=name,
        run=run,
        number=number,
        as_of=now,
        unreadable_consents=rounded(consents.quarantined),
        members=rounded(len(parts["members"])) or 0,
        held_out=rounded(len(parts["held_out"])) or 0,
        reference=rounded(len(parts["reference"])) or 0,
        roots=AuditRoots(**roots),
    )
    state(audited, secret, own, log)
    return parts


def left_before(store: SiteStore, study: str, number: int) -> frozenset[int]:
    """Return the members who were absent from a round before this one: nobody comes back."""
    return frozenset[int]().union(
        *(
            use.absent
            for label, use in store.uses(study).items()
            if label.startswith(_ROUND) and int(label.removeprefix(_ROUND)) < number
        )
    )


def _by_the_key_of_admission(
    store: SiteStore, policy: Policy, members: frozenset[int], *, site: str
) -> frozenset[int]:
    """Return those who have the key that they were admitted by.

    A key that was deleted is drawn anew where the patient's consent is read again. It is no longer the same
    patient's: a proof by the old one would miss the round, and with bands the group would be another.
    """
    admitted = frozenset(store.leaves(policy.study).get("members", ()))
    keys = store.patient_keys(members).items()
    return frozenset(
        member
        for member, key in keys
        if cohort_leaf(key, site=site, run=policy.digest, label="members") in admitted
    )


def _allowed(
    store: SiteStore, purpose: str, policy: Policy, now: int, subjects: frozenset[int]
) -> frozenset[int]:
    """Return those of `subjects` whose consent allows this purpose now, and whose key is there."""
    request = use_of(policy, purpose)
    consents, keys = store.consents(), store.patient_keys(subjects)
    at = datetime.fromtimestamp(now, UTC)
    return frozenset(
        subject
        for subject in subjects & keys.keys()
        if isinstance(decide(consents.get(subject, ()), request, at), Permit)
    )
