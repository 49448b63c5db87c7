"""How evidence is written: a statement is signed once, logged at its maker's and in the study, and witnessed.

Everything here can be repeated after a crash. A statement that a log already holds is not signed again; one
that reached the site's log and not the study's is delivered on the next try.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from oathbound.core.errors import NotAuthentic, NothingExamined, Refused, Unavailable
from oathbound.core.study import Policy
from oathbound.evidence.envelope import identity, open_envelope, sign
from oathbound.evidence.heads import CLOCK_SKEW_SECONDS, origin
from oathbound.evidence.keys import Party, Secret
from oathbound.evidence.log import Log
from oathbound.evidence.merkle import leaf_hash, root
from oathbound.evidence.note import Checkpoint, cosign, decode, open_checkpoint, sign_checkpoint, witnesses
from oathbound.evidence.predicates import ModelMade, Oath, Predicate, predicate_of
from oathbound.workflow.folders import SiteFolder, StudyFolder, read_file, write_file

_P = TypeVar("_P", bound=Predicate)


class Witness(Protocol):
    """A site that cosigns logs: a folder on this machine, or one that is asked elsewhere."""

    @property
    def name(self) -> str:
        """The site's name."""
        ...

    def review(self, leaves: Sequence[bytes]) -> None:
        """Raise `NotAuthentic` for leaves of the study's log that the site would not cosign."""
        ...

    def cosign(self, note: bytes, leaves: Sequence[bytes], now: int) -> bytes:
        """Return the note with the site's cosignature; `leaves` are the log's, and more than the note's.

        `now` is the time at which a site on this machine cosigns; another uses its own clock.
        """
        ...


@dataclass(frozen=True, slots=True)
class Consortium:
    """Those who take part in one study: its policy, their public keys by name, and the sites that cosign."""

    policy: Policy
    parties: Mapping[str, Party]
    sites: Sequence[Witness]

    @classmethod
    def of(cls, study: StudyFolder) -> Self:
        """Return the consortium of a study whose sites all lie on this machine."""
        policy, parties = study.policy, study.parties()
        return cls(policy, parties, [SiteWitness(site, policy, parties) for site in study.sites()])


@dataclass(frozen=True, slots=True)
class SiteWitness:
    """A site whose folder lies here. It remembers, durably, the last checkpoint of each log."""

    site: SiteFolder
    policy: Policy
    parties: Mapping[str, Party]

    @property
    def name(self) -> str:
        """The site's name."""
        return self.site.file.name

    def review(self, leaves: Sequence[bytes]) -> None:
        """Refuse a study's log that does not hold exactly what the site has stated."""
        party = self.site.secret().party()
        mine = {party.fingerprint: party}
        with self.site.log(self.policy) as own:
            kept = set(own.leaves())
        if any(leaf not in kept and _identity(leaf, mine) for leaf in leaves):
            raise NotAuthentic(
                f"{self.name} refuses to cosign the study's log: the site's own has lost statements",
                hint=f"restore the folder {self.site.path}: it, or a part of it, is older than the study",
            )
        if not kept <= set(leaves):
            raise NotAuthentic(
                f"{self.name} refuses to cosign the study's log: it leaves out what the site has stated",
                hint="a verb was interrupted at that site: run it again, and it delivers its statement",
            )

    def cosign(self, note: bytes, leaves: Sequence[bytes], now: int) -> bytes:
        """Cosign at `now`, unless the note is nobody's of this study, or its log was rewritten."""
        operator = decode(note)[0].origin.rpartition("/")[2]
        if operator not in self.parties:
            raise NotAuthentic(f"{self.name} is asked to cosign a log that is of nobody in this study")
        checkpoint = open_checkpoint(note, self.parties[operator], origin(self.policy, operator))
        if operator == self.policy.coordinator.name:
            self.review(leaves[: checkpoint.size])
        cosigned = cosign(note, self.site.secret(), now)
        self._remember(checkpoint, cosigned, [leaf_hash(leaf) for leaf in leaves])
        return cosigned

    def _remember(self, checkpoint: Checkpoint, note: bytes, leaf_hashes: Sequence[bytes]) -> None:
        """Write down what was cosigned, before anybody sees it, if the log only grew since the last time.

        Raises `NotAuthentic` for a log whose leaves are not those of its checkpoint, or that was rewritten.
        """
        memory = self.site.path / "witness" / f"{checkpoint.origin.replace('/', '_')}.note"
        last = decode(read_file(memory))[0] if memory.exists() else None
        grown = last is None or (last.size <= checkpoint.size and root(leaf_hashes[: last.size]) == last.root)
        if root(leaf_hashes[: checkpoint.size]) != checkpoint.root or not grown:
            raise NotAuthentic(
                f"{self.name} refuses to cosign the log {checkpoint.origin}: it was rewritten",
                hint="restore the log from a copy; no site cosigns a log that lost a statement",
            )
        write_file(memory, note)


def state(predicate: Predicate, secret: Secret, *logs: Log) -> None:
    """Sign the predicate's statement and append it to each log, in turn; once, however often it is called."""
    statement = predicate.statement()
    wanted, party = identity(statement), secret.party()
    mine = {party.fingerprint: party}
    held = (leaf for log in logs for leaf in log.leaves() if _identity(leaf, mine) == wanted)
    leaf = next(held, None) or sign(statement, secret)
    for log in logs:
        if all(_identity(other, mine) != wanted for other in log.leaves()):
            log.append(leaf)


def check_sworn(party: Party, leaves: Iterable[bytes], policy: Policy) -> None:
    """Refuse a policy that a site has not sworn to; `leaves` are of its own log."""
    sworn = {oath.policy_digest for oath in said_by(party, leaves, Oath)}
    if not sworn:
        raise Refused(
            f"{party.name} has not sworn to this policy",
            hint=f"first: oathbound oath --site {party.name} STUDY",
        )
    if policy.digest not in sworn:
        raise _sworn_to_another(party.name)


def check_unchanged(log: Log, consortium: Consortium) -> None:
    """Refuse a policy other than the one that the sites of a study's log swore to."""
    for oath in stated(log, Oath, consortium.parties):
        if oath.policy_digest != consortium.policy.digest:
            raise _sworn_to_another(oath.site)


def _sworn_to_another(site: str) -> Refused:
    return Refused(
        f"{site} has not sworn to this policy, but to another one",
        hint="study.toml was changed since: put back its [policy], or give the changed study another name",
    )


def deliver(leaves: Iterable[bytes], log: Log) -> None:
    """Append to the study's log what a site has stated in its own, and a crash kept from the study's."""
    for leaf in leaves:
        log.append(leaf)


def stated(log: Log, kind: type[_P], parties: Mapping[str, Party]) -> list[_P]:
    """Return the predicates of one kind in a log, in order. `parties` are the study's, by name."""
    trusted = {party.fingerprint: party for party in parties.values()}
    predicates = (predicate_of(open_envelope(leaf, trusted).statement) for leaf in log.leaves())
    return [predicate for predicate in predicates if isinstance(predicate, kind)]


def stated_by(party: Party, log: Log, kind: type[_P]) -> list[_P]:
    """Return the predicates of one kind that one party has stated in a log, whoever else speaks there."""
    return said_by(party, log.leaves(), kind)


def said_by(party: Party, leaves: Iterable[bytes], kind: type[_P]) -> list[_P]:
    """Return the predicates of one kind that one party has signed among the leaves of a log, in order."""
    mine = {party.fingerprint: party}
    statements = (open_envelope(leaf, mine).statement for leaf in leaves if _identity(leaf, mine))
    return [said for said in map(predicate_of, statements) if isinstance(said, kind)]


def witnessed(log: Log, operator: Secret, consortium: Consortium, now: int) -> bytes:
    """Return the log's checkpoint, signed by its operator and cosigned by every other site at `now`.

    A checkpoint that covers the log and has its witnesses is returned as it is.
    """
    note = log.checkpoint()
    if note is None or decode(note)[0].size < log.size:
        check_clock(log, consortium, now)
        if operator.name == consortium.policy.coordinator.name:
            # before the checkpoint: one that a site has to refuse could never be completed
            check_complete(log, consortium)
        name = origin(consortium.policy, operator.name)
        note = sign_checkpoint(name, log.size, log.root(), operator)
        log.write_checkpoint(note)
    return _cosigned(note, log, operator, consortium, now)


def started(log: Log, operator: Secret, consortium: Consortium, now: int) -> bytes:
    """Return the checkpoint that training starts from, the log's first: taken or completed if need be."""
    notes = log.checkpoints()
    if not notes:
        return witnessed(log, operator, consortium, now)
    return _cosigned(notes[0], log, operator, consortium, now)


def stands(note: bytes, consortium: Consortium) -> bool:
    """Return whether a checkpoint of the study's log is the coordinator's, and has enough witnesses."""
    operator = consortium.policy.coordinator.name
    open_checkpoint(note, consortium.parties[operator], origin(consortium.policy, operator))
    return len(_names(note, consortium)) >= consortium.policy.witnesses_needed(operator)


def made_note(log: Log, consortium: Consortium) -> bytes | None:
    """Return the first checkpoint that holds the model and has its witnesses, or None."""
    party = consortium.parties[consortium.policy.coordinator.name]
    mine = {party.fingerprint: party}
    for place, leaf in enumerate(log.leaves()):
        if _identity(leaf, mine) and isinstance(predicate_of(open_envelope(leaf, mine).statement), ModelMade):
            covering = (note for note in log.checkpoints() if decode(note)[0].size > place)
            return next((note for note in covering if stands(note, consortium)), None)
    return None


def standing(log: Log, consortium: Consortium) -> bytes:
    """Return the checkpoint that holds the model; `NothingExamined` unless it has its witnesses."""
    note = made_note(log, consortium)
    if note is None:
        raise NothingExamined(
            "this study has no model that the sites have witnessed", hint="first: oathbound train"
        )
    return note


def check_complete(log: Log, consortium: Consortium) -> None:
    """Refuse, for each site, a study's log that does not hold exactly what the site has stated."""
    for site in consortium.sites:
        site.review(log.leaves())


def check_clock(log: Log, consortium: Consortium, now: int) -> None:
    """Refuse to go on with a log at an earlier time than it was last witnessed at: nobody could verify it."""
    trusted = {party.fingerprint: party for party in consortium.parties.values()}
    witnessed_at = ([seen.time for seen in witnesses(note, trusted)] for note in reversed(log.checkpoints()))
    times = next(filter(None, witnessed_at), [now])
    if now < max(times) - CLOCK_SKEW_SECONDS:
        raise Unavailable(
            "this machine's clock is behind the time at which the log was witnessed last",
            hint="set the clock right, and try again",
        )


def _names(note: bytes, consortium: Consortium) -> set[str]:
    """Return the names of the sites that witness a note: who keeps a log is no witness of it."""
    trusted = {party.fingerprint: party for party in consortium.parties.values()}
    operator = decode(note)[0].origin.rpartition("/")[2]
    names = {seen.name for seen in witnesses(note, trusted)} - {operator}
    return names & {site.name for site in consortium.policy.sites}


def _cosigned(note: bytes, log: Log, operator: Secret, consortium: Consortium, now: int) -> bytes:
    """Return the note with the cosignatures of all sites but the operator, kept if it was not whole.

    Raises `Unavailable` where a site's clock is not this machine's: `verify` would refuse the log.
    """
    checkpoint = open_checkpoint(
        note, consortium.parties[operator.name], origin(consortium.policy, operator.name)
    )
    expected = {site.name for site in consortium.sites} - {operator.name} - _names(note, consortium)
    if not expected:
        return note
    check_clock(log, consortium, now)
    for site in consortium.sites:
        if site.name in expected:
            note = site.cosign(note, log.leaves(), now)
    _check_cosigned(note, checkpoint, expected, consortium, now)
    log.write_checkpoint(note)
    return note


def _check_cosigned(
    note: bytes, checkpoint: Checkpoint, expected: AbstractSet[str], consortium: Consortium, now: int
) -> None:
    trusted = {party.fingerprint: party for party in consortium.parties.values()}
    times = {seen.name: seen.time for seen in witnesses(note, trusted)}
    if decode(note)[0] != checkpoint or not expected <= times.keys():
        raise NotAuthentic("a checkpoint came back from the sites without a cosignature, or as another")
    off = sorted(site for site in expected if abs(times[site] - now) > CLOCK_SKEW_SECONDS)
    if off:
        raise Unavailable(
            f"the clock of {off[0]} is ahead of this machine's, or behind it",
            hint="set both right: what a site cosigns carries its time, and `verify` compares them",
        )


def _identity(leaf: bytes, parties: Mapping[str, Party]) -> str | None:
    """Return the identity of a leaf that one of `parties` signed, None for another's."""
    try:
        return open_envelope(leaf, parties).identity
    except NotAuthentic:
        return None
