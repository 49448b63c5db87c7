"""A site's part in training: bytes in, bytes out, with its own folder, keys, clock and log.

The coordinator is not trusted. Whatever it asks, the site trains the policy that it swore to, for the run
whose start it cosigned, in rounds of its own numbers that enough witnesses have seen, on fresh consents, and
within its own budget. `spec/sites.md` numbers what is checked.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from oathbound.core.errors import ConsentRefused, NotAuthentic, ProtocolRefused, Refused
from oathbound.core.study import Policy
from oathbound.data.commitment import group_of
from oathbound.data.store import SiteStore
from oathbound.evidence.envelope import sign
from oathbound.evidence.heads import CLOCK_SKEW_SECONDS, origin
from oathbound.evidence.keys import Party
from oathbound.evidence.merkle import leaf_hash, root
from oathbound.evidence.note import decode, open_checkpoint, witnesses
from oathbound.evidence.predicates import Admission, Charged, Round, TrainedWithSecureSum
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.models.model import flat
from oathbound.train.ftrl import Turns
from oathbound.train.messages import STEP_MAGIC
from oathbound.train.node import Node
from oathbound.train.plan import Plan
from oathbound.train.secure_sum.client import Client
from oathbound.train.secure_sum.terms import Terms
from oathbound.train.trainer import Trainer
from oathbound.workflow.asking import (
    Afford,
    Begin,
    Close,
    Cosign,
    Gather,
    Position,
    Question,
    Review,
    Where,
    pack,
)
from oathbound.workflow.families import family_of
from oathbound.workflow.folders import SiteFolder
from oathbound.workflow.ledgers import check_remembered
from oathbound.workflow.members import MemberRows, Members
from oathbound.workflow.notary import Consortium, SiteWitness, check_sworn, said_by, stands, state, stated_by
from oathbound.workflow.records import rows_of, source_of
from oathbound.workflow.rounds import (
    check_number,
    gather_site,
    is_fresh,
    latest_round,
    members_of,
    round_label,
)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The node of a round, and when the consents that the round rests on were read."""

    node: Node
    as_of: int


class Site:
    """One hospital in one study: a `Peer`. Use it from one thread; `opened` opens and closes it."""

    def __init__(
        self, folder: SiteFolder, policy: Policy, parties: Mapping[str, Party], clock: Callable[[], int]
    ) -> None:
        self._folder = folder
        self._policy = policy
        self._parties = parties
        self._clock = clock
        self._witness = SiteWitness(folder, policy, parties)
        self._opened_store: SiteStore | None = None
        self._made: Plan | None = None
        self._sworn = False
        self._start = b""  # the checkpoint that was verified last; it is shown again with most questions
        self._read: MemberRows | None = None
        self._opened: _Opened | None = None

    @classmethod
    @contextmanager
    def opened(
        cls, folder: SiteFolder, policy: Policy, parties: Mapping[str, Party], clock: Callable[[], int]
    ) -> Iterator["Site"]:
        """Yield the site in a folder; `clock` tells its time."""
        site = cls(folder, policy, parties, clock)
        try:
            yield site
        finally:
            if site._opened_store is not None:
                site._opened_store.close()

    def receive(self, message: bytes) -> bytes:
        """Return the site's answer to a question (`asking`), or to a message of a step.

        Raises `ProtocolRefused` for a message of another form or policy, or out of order, `Refused` before
        the oath, and what the work itself raises.
        """
        kinds: dict[bytes, Callable[[bytes], bytes]] = {
            Where.magic: self._where,
            Afford.magic: self._afford,
            Review.magic: self._review,
            Cosign.magic: self._cosign,
            Gather.magic: self._gather,
            Begin.magic: self._begin,
            Close.magic: self._close,
        }
        kind = message[: message.find(b"\n") + 1]
        return kinds.get(kind, self._step)(message)

    def _where(self, message: bytes) -> bytes:
        question, _, _ = Where.decode(message)
        self._check_policy(question)
        policy, name, secret = self._policy, self._folder.file.name, self._folder.secret()
        with self._folder.log(policy) as own:
            leaves, admitted = own.leaves(), bool(stated_by(secret.party(), own, Admission))
        last, charged, highest, resumable = None, 0, 0, False
        if admitted:
            store, last = self._store(), latest_round(self._folder, policy)
            charges = store.charged(policy.study)
            charged, highest = charges.count, charges.highest
            resumable = last is not None and self._resumable(last)
        position = Position(
            policy_digest=policy.digest,
            site=name,
            nonce=question.nonce,
            charged=charged,
            highest=highest,
            round=last.round if last else 0,
            resumable=resumable,
        )
        return pack((sign(position.statement(), secret), *leaves))

    def _afford(self, message: bytes) -> bytes:
        question, _, _ = Afford.decode(message)
        self._check_sworn(question)
        if self._policy.budget is not None:
            budget, limit = self._policy.budget, self._folder.file.budget
            self._store().check_affordable(
                self._policy.study, budget.epsilon, budget.delta, limit.epsilon, limit.delta
            )
        return b""

    def _review(self, message: bytes) -> bytes:
        question, _, leaves = Review.decode(message)
        self._check_policy(question)
        self._witness.review(leaves)  # first: who lost all that it stated has lost its oath, too
        self._check_sworn(question)
        return b""

    def _cosign(self, message: bytes) -> bytes:
        question, (note,), leaves = Cosign.decode(message)
        self._check_sworn(question)
        return pack((self._witness.cosign(note, leaves, self._clock()),))  # 9

    def _gather(self, message: bytes) -> bytes:
        question, (start,), _ = Gather.decode(message)
        self._check_sworn(question)
        run, last, policy = self._run(start), latest_round(self._folder, self._policy), self._policy
        self._opened = None  # a node of the round before must not go on with whom this one may leave out
        if last is not None and question.round < last.round:  # 5, and what follows
            raise ProtocolRefused(f"{self._folder.file.name} has stated its cohort of a later round")
        if last is not None and question.round == last.round and not self._resumable(last):
            raise ProtocolRefused(
                f"the consents of {self._folder.file.name} of round {last.round} may not be used any more",
                hint="train again: a new round begins",
            )
        check_number(self._folder, last, question.round, policy)
        self._rows()  # 10
        gather_site(self._folder, self._store(), policy, run=run, number=question.round, now=self._clock())
        return self._leaves()

    def _begin(self, message: bytes) -> bytes:
        question, (start, note), leaves = Begin.decode(message)
        self._check_sworn(question)
        self._opened = None
        run, policy, folder = self._run(start), self._policy, self._folder
        last = latest_round(folder, policy)
        if last is None or last.round != question.round or last.run != run:  # 5
            raise ProtocolRefused(f"{folder.file.name} has stated another round last")
        self._check_witnessed(start, note, leaves, last.round)
        self._check_length(leaves[: decode(note)[0].size], run, question)
        if not is_fresh(last.as_of, policy, self._clock()):  # 8
            raise self._stale()
        members = members_of(folder, self._store(), policy, last.round)
        self._opened = _Opened(self._node(run, last.round, members, question.last_step), last.as_of)
        return b""

    def _close(self, message: bytes) -> bytes:
        question, (start,), _ = Close.decode(message)
        self._check_sworn(question)
        self._opened = None
        run, policy = self._run(start), self._policy
        count = self._store().close_charges(policy.study).count
        charged = Charged(
            policy_digest=policy.digest, site=self._folder.file.name, run=run, event=self._plan().event(count)
        )
        with self._folder.log(policy) as own:
            state(charged, self._folder.secret(), own)
        return self._leaves()

    def _step(self, message: bytes) -> bytes:
        """Give the message to the round's node, as long as the round's consents are fresh here."""
        if self._opened is None:
            raise ProtocolRefused(f"no round is open at {self._folder.file.name}")
        # 8; a step that was begun while the coordinator's clock allowed it may end here a little later
        if message.startswith(STEP_MAGIC) and not is_fresh(
            self._opened.as_of, self._policy, self._clock() - CLOCK_SKEW_SECONDS
        ):
            raise self._stale()
        return self._opened.node.receive(message)

    def _check_policy(self, question: Question) -> None:
        """(1) Refuse a question about another policy than the one that this site was opened with."""
        if question.policy != self._policy.digest:
            raise ProtocolRefused(
                f"{self._folder.file.name} is asked about another policy",
                hint="every site must have the coordinator's study.toml, and swear to it again if it changed",
            )

    def _check_sworn(self, question: Question) -> None:
        """(2) Refuse a policy that this site has not sworn to."""
        self._check_policy(question)
        if not self._sworn:
            with self._folder.log(self._policy) as own:
                check_sworn(self._folder.secret().party(), own.leaves(), self._policy)
            self._sworn = True

    def _run(self, start: bytes) -> str:
        """(3, 4) Return the run that starts from a checkpoint, which this site and enough others cosigned."""
        name = self._folder.file.name
        if start != self._start:
            trusted = {party.fingerprint: party for party in self._parties.values()}
            stood = stands(start, Consortium(self._policy, self._parties, ()))
            if not stood or name not in {each.name for each in witnesses(start, trusted)}:
                raise ProtocolRefused(f"{name} has not cosigned the checkpoint that training starts from")
            self._start = start
        run = decode(start)[0].identity
        with self._folder.log(self._policy) as own:
            runs = {earlier.run for earlier in stated_by(self._folder.secret().party(), own, Round)}
        if runs - {run}:
            raise ProtocolRefused(f"{name} takes part in another run of this study")
        return run

    def _check_witnessed(self, start: bytes, note: bytes, leaves: list[bytes], number: int) -> None:
        """(6) Refuse a round that is not in a log that enough witnesses have seen grow from the start."""
        policy, consortium = self._policy, Consortium(self._policy, self._parties, ())
        operator = policy.coordinator.name
        hashes = [leaf_hash(leaf) for leaf in leaves]
        for each in (start, note):
            head = open_checkpoint(each, self._parties[operator], origin(policy, operator))
            if head.size > len(leaves) or root(hashes[: head.size]) != head.root:
                raise NotAuthentic(f"{self._folder.file.name} is shown a log that is not of its checkpoints")
        with self._folder.log(policy) as own:
            stated_here = set(own.leaves())
        if not stands(note, consortium) or not stated_here <= set(leaves[: decode(note)[0].size]):
            raise ProtocolRefused(f"the sites have not witnessed round {number} of {self._folder.file.name}")

    def _check_length(self, witnessed: list[bytes], run: str, question: Begin) -> None:
        """(7) Refuse a round of more steps than the policy allows between two readings of consents."""
        coordinator = self._parties[self._policy.coordinator.name]
        over = [
            each
            for each in said_by(coordinator, witnessed, TrainedWithSecureSum)
            if (each.policy_digest, each.run) == (self._policy.digest, run)
        ]
        taken = max((each.last_step for each in over), default=0)
        with self._folder.log(self._policy) as own:
            read = len(stated_by(self._folder.secret().party(), own, Round))
        most = self._policy.training.round_steps
        if question.last_step > min(taken + most, read * most):
            raise ProtocolRefused("a round of more steps than the policy allows")

    def _resumable(self, last: Round) -> bool:
        """Return whether a round that is stated may still begin."""
        return is_fresh(last.as_of, self._policy, self._clock()) and not self._store().withdrew_since(
            last.as_of
        )

    def _stale(self) -> ConsentRefused:
        return ConsentRefused(
            f"the consents of {self._folder.file.name} of this round have grown stale",
            hint="train again: a new round begins, for which they are read",
        )

    def _leaves(self) -> bytes:
        with self._folder.log(self._policy) as own:
            return pack(own.leaves())

    def _store(self) -> SiteStore:
        if self._opened_store is None:
            self._opened_store = SiteStore.open(self._folder.state)
        return self._opened_store

    def _plan(self) -> Plan:
        if self._made is None:
            self._made = Plan.of(self._policy, flat(family_of(self._policy).model).size)
        return self._made

    def _rows(self) -> MemberRows:
        """Reserve the budget of the site's members, then read their records; once while the site is open."""
        if self._read is None:
            policy, store = self._policy, self._store()
            cohort = store.cohort(policy.study)
            if cohort.policy_digest != policy.digest:
                raise Refused(f"{self._folder.file.name} admitted its patients for another policy")
            check_remembered(self._folder, store)
            if policy.budget is None:
                store.reserve_unbounded(policy.study)
            else:
                budget, limit = policy.budget, self._folder.file.budget
                store.reserve(policy.study, budget.epsilon, budget.delta, limit.epsilon, limit.delta)
            rows = rows_of(
                source_of(self._folder, policy),
                cohort,
                cohort.members,
                family_of(policy).encoder,
                self._folder.path,
            )
            self._read = MemberRows(np.array(sorted(cohort.members), dtype=np.int64), rows)
        return self._read

    def _sampler(self, members: frozenset[int]) -> Members | Turns:
        """Return who is in which step of a round: by coins, or, with bands, by turns."""
        policy, bands = self._policy, self._policy.training.bands
        if bands is None:
            return self._rows().of(members)
        keys = self._store().patient_keys(members)
        groups = {subject: group_of(key, policy.digest, bands) for subject, key in keys.items()}
        past = self._store().past(policy.study)
        return Turns(self._rows().in_groups(groups), past, self._plan().coefficients)

    def _node(self, run: str, number: int, members: frozenset[int], last_step: int) -> Node:
        """Return the node of one round: the rows of whom it may use, its ledger, its noise and its keys."""
        plan, policy, name = self._plan(), self._policy, self._folder.file.name
        trainer = Trainer(
            site=name,
            run=run,
            plan=plan,
            last_step=last_step,
            model=family_of(policy).model,
            sampler=self._sampler(members),
            ledger=self._store().ledger(policy.study, policy.training.attempts, use=round_label(number)),
            noise=DiscreteGaussian(plan.privacy.share_sigma) if plan.privacy else None,
        )
        keys = {site.name: self._parties[site.name].statement_keys()[0] for site in policy.sites}
        terms = Terms.of(policy, run=run, keys=keys, dimension=plan.words)
        return Node(trainer, Client(terms, name, self._folder.secret().statement_keys()[0]))
