"""Verification of a bundle, offline: fourteen numbered steps, the same as in `spec/verify.md`.

Nothing in a bundle is believed because the bundle says it. Keys come from the verifier's trust file, order
from cosigned logs, epsilon from recorded events, the verdict from findings and gates. `verify` returns what
it verified, or raises: `NotAuthentic` when evidence is not what somebody signed, `NotAcceptable` when it is,
and breaks the policy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Final

from oathbound.core.errors import NotAcceptable, NotAuthentic
from oathbound.core.gates import Judgement
from oathbound.core.study import Policy
from oathbound.evidence.bundle import unpack
from oathbound.evidence.contents import Contents
from oathbound.evidence.heads import check_clocks, checkpoint_cited, heads_of, witnessed_head
from oathbound.evidence.keys import Party
from oathbound.evidence.predicates import (
    Admission,
    Audited,
    Charged,
    Found,
    ModelMade,
    Round,
    TrainedWithSecureSum,
)
from oathbound.evidence.stated import each, last_decision, one_of_each_site, open_leaf, the_one
from oathbound.evidence.steps import (
    attempts_of,
    check_admissions,
    check_audited,
    check_complete,
    check_findings,
    check_oaths,
    check_order,
    check_role,
    check_rounds,
    check_training,
    epsilon_spent,
    first_trained,
    judgement_of,
    policy_of,
)
from oathbound.evidence.trust import Trust

STEPS: Final = {
    1: "the file is a bundle in its one form",
    2: "every party in it is one that the trust file names",
    3: "every statement is signed by one of them, with both of its signatures",
    4: "every site swore to one and the same policy, with the keys that it names",
    5: "every log's checkpoints are its operator's, and its leaves have their roots",
    6: "every statement was made by the party whose it is to make",
    7: "enough other sites cosigned every checkpoint",
    8: "nothing that a site logged is missing, and nothing was added to it",
    9: "things happened in the order that the policy promises",
    10: "the cohorts were admitted by consent, and every round's was fresh",
    11: "training followed the plan, and made this model",
    12: "the privacy that was spent, recomputed, is within the budget",
    13: "every finding is whole, about this model and these patients, with the seed committed to",
    14: "the verdict, recomputed from findings and gates, is the one that was decided",
}


@dataclass(frozen=True, slots=True)
class Verified:
    """What a bundle proves. Every field is signed by its maker, or computed here."""

    policy: Policy
    policy_digest: str
    parties: tuple[Party, ...]
    model: ModelMade
    training: tuple[TrainedWithSecureSum, ...]
    rounds: tuple[Round, ...]
    admissions: tuple[Admission, ...]
    charges: tuple[Charged, ...]
    audits: tuple[Audited, ...]
    findings: tuple[Found, ...]
    epsilon: Decimal | None
    judgement: Judgement
    started: int
    decided: int
    steps: tuple[str, ...]


@contextmanager
def _step(number: int) -> Iterator[None]:
    """Give an error the number of the step that it came from."""
    try:
        yield
    except (NotAuthentic, NotAcceptable) as error:
        error.step = number
        raise


def verify(data: bytes, trust: Trust, *, at: int) -> Verified:  # noqa: PLR0915 - read in one piece
    """Return what the bundle `data` proves to somebody who trusts `trust`, as of POSIX time `at`.

    Raises `NotAuthentic` or `NotAcceptable`, each with the number of the step that refused. The verdict is
    in the result: a refused release is authentic, and `judgement.verdict` says that it was refused.
    """
    # (1) the file is a bundle in its one form
    with _step(1):
        contents = Contents.of(unpack(data))

    # (2) every party in it is one that the trust file names
    with _step(2):
        decoded = {name: Party.decode(public) for name, public in contents.parties.items()}
        if any(party.name != name for name, party in decoded.items()):
            raise NotAuthentic("a party's keys lie under another party's name")
        parties = trust.admit(decoded.values())
        if not contents.logs.keys() <= decoded.keys():
            raise NotAuthentic("the bundle holds a log of nobody whose keys it holds")

    # (3) every statement is signed by one of them, with both of its signatures
    with _step(3):
        leaves = chain.from_iterable(log.leaves for log in contents.logs.values())
        statements = {leaf: open_leaf(leaf, parties) for leaf in dict.fromkeys(leaves)}

    # (4) every site swore to one and the same policy, with the keys that it names
    with _step(4):
        policy = policy_of(contents.policy)
        check_oaths(policy, list(statements.values()), decoded)

    # (5) every log's checkpoints are its operator's, and its leaves have their roots
    with _step(5):
        if sorted(contents.logs) != sorted(decoded):
            raise NotAcceptable("the bundle must hold exactly one log of each party")
        heads = {name: heads_of(name, log, decoded[name], policy) for name, log in contents.logs.items()}

    # (6) every statement was made by the party whose it is to make
    with _step(6):
        for statement in statements.values():
            check_role(statement, policy)

    # (7) enough other sites cosigned every checkpoint
    with _step(7):
        seen = {
            name: tuple(witnessed_head(note, head, policy, parties, at) for note, head in heads[name])
            for name in heads
        }

    # (8) nothing that a site logged is missing, and nothing was added to it
    with _step(8):
        study = [statements[leaf] for leaf in contents.logs[policy.coordinator.name].leaves]
        history = {
            site.name: [statements[leaf] for leaf in contents.logs[site.name].leaves] for site in policy.sites
        }
        check_complete(study, history, seen, policy)

    # (9) things happened in the order that the policy promises
    with _step(9):
        training, model = each(study, TrainedWithSecureSum), the_one(study, ModelMade)
        decided = last_decision(study)
        start = checkpoint_cited(seen[policy.coordinator.name], model.run, "the model")
        made = checkpoint_cited(seen[policy.coordinator.name], each(study, Found)[0].run, "a finding")
        check_order(study, start, made)
        for operator, log in seen.items():
            check_clocks(log, operator)

    # (10) the cohorts were admitted by consent, and every round's was fresh
    with _step(10):
        admissions = one_of_each_site(study, Admission, policy)
        check_admissions(admissions, policy, start)
        rounds = check_rounds(study, seen[policy.coordinator.name], admissions, policy)

    # (11) training followed the plan, and made this model
    with _step(11):
        charges = one_of_each_site(study, Charged, policy)
        check_training(training, model, charges, policy)

    # (12) the privacy that was spent, recomputed, is within the budget
    with _step(12):
        epsilon = epsilon_spent(charges, policy)

    # (13) every finding is whole, about this model and these patients, with the seed committed to
    with _step(13):
        found = [[s.predicate for s in own if isinstance(s.predicate, Found)] for own in history.values()]
        attempts = list(chain.from_iterable(attempts_of(of_site) for of_site in found))
        check_findings(attempts, model, policy, admissions)
        trained = first_trained(rounds, training)
        for admission in admissions:
            check_audited(
                history[admission.site],
                policy,
                trained=trained[admission.site],
                admission=admission,
                made=made,
                head=seen[admission.site][-1],
            )

    # (14) the verdict, recomputed from findings and gates, is the one that was decided
    with _step(14):
        judgement = judgement_of(policy, attempts)
        if decided.verdict != judgement.verdict.value or decided.model != model.model:
            raise NotAcceptable(
                f"the decision says {decided.verdict}, the findings and gates say {judgement.verdict.value}",
                hint="a decision is never believed over the findings that it rests on",
            )

    return Verified(
        policy=policy,
        policy_digest=policy.digest,
        parties=tuple(decoded.values()),
        model=model,
        training=tuple(training),
        rounds=rounds,
        admissions=admissions,
        charges=charges,
        audits=tuple(each(study, Audited)),
        findings=tuple(found for found, _ in attempts),
        epsilon=epsilon,
        judgement=judgement,
        started=min(start.times),
        decided=max(time for log in seen.values() for time in log[-1].times),
        steps=tuple(STEPS.values()),
    )
