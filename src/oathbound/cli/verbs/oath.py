"""`oathbound oath`."""

from pathlib import Path

from oathbound.cli.output import Format, answer
from oathbound.cli.verbs.options import FormatOption, SiteOption, StudyArgument


def command(site: SiteOption, study: StudyArgument = Path(), form: FormatOption = Format.TEXT) -> None:
    """At a site: show the policy, and swear to it."""
    from oathbound.cli.answers import OathAnswer
    from oathbound.cli.words import extension_lines, privacy_words, sum_words
    from oathbound.workflow.folders import StudyFolder
    from oathbound.workflow.oath import swear

    folder = StudyFolder.open(study)
    oath = swear(folder, site)
    policy, consent = folder.policy, folder.policy.consent
    gates = ", ".join(f"{gate.test} {gate.metric} at most {gate.at_most}" for gate in policy.gates)
    text = "\n".join(
        (
            f"study       {policy.study}: {policy.purpose}",
            f"sites       {', '.join(member.name for member in policy.sites)}",
            f"privacy     {privacy_words(policy.budget)}",
            f"aggregator  {sum_words(policy)}",
            f"consent     {consent.training_purpose} to train, {consent.audit_purpose} to audit",
            *(
                [f"conditions  the study promises to meet {', '.join(consent.meets)}"]
                if consent.meets
                else []
            ),
            f"classes     {', '.join(consent.classes) or 'none: nothing can be withheld'}",
            f"stale       after {consent.staleness_hours} hours",
            f"rounds      consents are read again after at most {policy.training.round_steps} steps",
            f"gates       {gates}",
            *(f"runs code   {line}" for line in extension_lines(policy)),
            f"{site} swore to {oath.policy_digest}",
        )
    )
    answer(text, OathAnswer(site=oath.site, policy=oath.policy_digest), form)
