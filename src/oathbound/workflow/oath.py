"""`oath`: a site reads the policy and swears to it."""

from oathbound.core.catalogue import check_gates
from oathbound.core.errors import NotAuthentic, Refused
from oathbound.evidence.predicates import Oath
from oathbound.workflow.extensions import check_extensions
from oathbound.workflow.folders import StudyFolder
from oathbound.workflow.notary import state, stated
from oathbound.workflow.rounds import use_of


def swear(study: StudyFolder, name: str) -> Oath:
    """Sign the policy's digest with the site's key, and log the oath at the site and in the study.

    A site swears only to code that it has. Raises `NotAuthentic` when the policy names other keys for the
    site, `Refused` when the site has sworn to another policy under the same study name, and what
    `check_extensions` raises.
    """
    site, policy = study.site(name), study.policy
    check_gates(policy)
    for purpose in (policy.consent.training_purpose, policy.consent.audit_purpose):
        use_of(policy, purpose)
    check_extensions(policy)
    secret = site.secret()
    member = policy.site(name)
    if member is None or secret.party().fingerprint != member.fingerprint:
        raise NotAuthentic(
            f"the policy names other keys for {name} than those in its folder",
            hint="compare the fingerprint that `oathbound join` printed with the one in study.toml",
        )
    oath = Oath(policy_digest=policy.digest, site=name)
    with study.locked(), site.log(policy) as own, study.log() as log:
        sworn = {earlier.policy_digest for earlier in stated(own, Oath, {name: secret.party()})}
        if sworn - {policy.digest}:
            raise Refused(
                f"{name} has sworn to another policy of the study {policy.study}",
                hint="a policy is not changed after an oath; give the changed study another name",
            )
        study.keep_party(secret.party())
        state(oath, secret, own, log)
    return oath
