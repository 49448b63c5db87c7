"""The page's tables: rows of texts, taken from what was verified as it was signed; nothing is added up.

A count was rounded inside its site, and one that is absent was too small to be shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, assert_never

from oathbound.core.catalogue import CATALOGUE, listed
from oathbound.core.claims import Verdict
from oathbound.core.event import PrivacyEvent, SampledGaussian, Unbounded
from oathbound.core.finding import (
    Auc,
    AucDifference,
    Baseline,
    DidNotRun,
    Excess,
    Finding,
    Measure,
    NotMeasurable,
    OneRun,
    Reconstruction,
    Tail,
    TruePositiveRate,
)
from oathbound.core.one_run import shown
from oathbound.core.reconstruction import found_in
from oathbound.core.record import decimal_text
from oathbound.evidence.predicates import Admission, Audited, Charged, Exclusion, Round
from oathbound.evidence.verify import Verified
from oathbound.report.figures import statistic
from oathbound.report.words import QUESTIONS

FEWER: Final = "fewer\N{NO-BREAK SPACE}than\N{NO-BREAK SPACE}10"
"""How a count is shown that a site suppressed because it is small."""

UNPLANNED: Final = "not planned, or not possible with this model"
"""Why a test of the catalogue was not run."""

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""English whatever the locale is, for the same bundle gives the same bytes."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows become cards on a narrow screen; the first cell of a row names it.

    The `numbers` columns that follow the first hold short numbers.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: int = 0


def count(value: int | None) -> str:
    """Return a count with its thousands apart, or the words for one that was suppressed."""
    return FEWER if value is None else f"{value:,}"


def time(seconds: int) -> str:
    """Return a POSIX time as a date and a time of day, UTC, which a line breaks only between the two."""
    at = datetime.fromtimestamp(seconds, UTC)
    date = (str(at.day), _MONTHS[at.month - 1], str(at.year))
    return "\N{NO-BREAK SPACE}".join(date) + f", {at:%H:%M}\N{NO-BREAK SPACE}UTC"


def admitted(admissions: Iterable[Admission]) -> Table:
    """Return who was admitted at each site, and why others were not, in the site's words."""
    return Table(
        "Patients admitted at each site",
        ("Site", "Considered", "Members", "Held out", "Reference", "Not admitted, and why", "Consents as of"),
        tuple(
            (
                admission.site,
                count(admission.considered),
                count(admission.members),
                count(admission.held_out),
                count(admission.reference),
                "\n".join(map(_exclusion, admission.excluded)) or "nobody",
                time(admission.as_of),
            )
            for admission in admissions
        ),
        numbers=4,
    )


def _exclusion(exclusion: Exclusion) -> str:
    return f"{exclusion.reason}: {count(exclusion.patients)}"


def unusable(admissions: Iterable[Admission]) -> Table:
    """Return what could not be used of the sites' consents and records; a site without any is left out."""
    found = ((admission.site, "\n".join(_unusable(admission))) for admission in admissions)
    return Table(
        "What could not be used, and was left out",
        ("Site", "Left out"),
        tuple(row for row in found if row[1]),
    )


def _unusable(admission: Admission) -> Iterator[str]:
    for what, number in (
        ("consents that cannot be read", admission.unreadable_consents),
        ("rows without a patient", admission.rows_of_nobody),
        ("values that are no number", admission.absent_numbers),
    ):
        if number != 0:
            yield f"{what}: {count(number)}"


def trained(verified: Verified) -> list[Round]:
    """Return the sites' rounds that took steps; of any other, no record was used."""
    taken = {segment.round for segment in verified.training}
    return [each for each in verified.rounds if each.round in taken]


def rounds(verified: Verified) -> Table:
    """Return, for each site, the members in the first and the last round of training, and the audited."""
    used = trained(verified)
    return Table(
        "Patients left after each site had read its consents again",
        ("Site", "Admitted", "In the first round", "In the last round", "Consents last read", "Audited"),
        tuple(
            (
                admission.site,
                count(admission.members),
                *_of_site([each for each in used if each.site == admission.site]),
                "\n".join(_audited(each) for each in verified.audits if each.site == admission.site)
                or "the cohort as admitted",
            )
            for admission in verified.admissions
        ),
        numbers=3,
    )


def _of_site(used: list[Round]) -> tuple[str, str, str]:
    return count(used[0].members), count(used[-1].members), time(used[-1].as_of)


def _audited(audit: Audited) -> str:
    reference = f", {count(audit.reference)} for reference models" if audit.reference else ""
    whom = f"{count(audit.members)} members, {count(audit.held_out)} held out{reference}"
    return f"{whom}; read {time(audit.as_of)}"


def charged(charges: Iterable[Charged]) -> Table:
    """Return what each site charged to each of its members, as the facts that epsilon is computed from."""
    return Table(
        "What each site charged to each of its members",
        ("Site", "Steps charged", "Mechanism"),
        tuple((each.site, count(each.event.attempts), _mechanism(each.event)) for each in charges),
        numbers=1,
    )


def _mechanism(event: PrivacyEvent) -> str:
    if isinstance(event, Unbounded):
        return "none: no noise, no bound"
    if isinstance(event, SampledGaussian):
        drawn = f"each patient drawn with probability {decimal_text(event.sampling_rate)}"
    else:
        groups = len(event.coefficients)
        drawn = (
            f"each patient in one of {groups} fixed groups, and in {groups} sums for each turn, times "
            f"{', '.join(map(str, event.coefficients))}"
        )
    if event.sites_per_patient > 1:
        drawn += f", at up to {event.sites_per_patient} sites"
    return (
        f"{drawn}, norm at most {count(event.ring_norm)}; noise of deviation "
        f"{decimal_text(event.share_sigma)} from each of {event.shares} sites, of which "
        f"{event.honest_shares} are relied on"
    )


Place = tuple[str, int, str, str]
"""A site, its attempt, a metric and a score."""


def facts(findings: Iterable[Finding], ends: Mapping[Place, str]) -> Table:
    """Return the published facts of one test: every site, every attempt, members beside held-out.

    `ends` are the intervals that the page shows of them, as text.
    """
    rows: list[tuple[str, ...]] = []
    attempts: dict[str, int] = {}
    for finding in findings:
        attempt = attempts[finding.site] = attempts.get(finding.site, 0) + 1
        site = finding.site if attempt == 1 else f"{finding.site}, attempt {attempt}"
        if isinstance(finding.outcome, DidNotRun):
            rows.append((site, "—", "—", "—", f"did not run: {finding.outcome.reason}"))
        else:
            for measure in finding.outcome.measures:
                *fact, result = _measured(measure)
                between = ends.get((finding.site, attempt, measure.kind, measure.score))
                rows.append((site, *fact, f"{result}; interval {between}" if between else result))
    return Table(
        "What the sites measured, members beside held-out patients",
        ("Site", "Measure", "Members", "Held out", "Result"),
        tuple(rows),
    )


def _measured(measure: Measure) -> tuple[str, str, str, str]:
    """Return a measure's name, what it says of members and of held-out patients, and its result.

    Every kind of measure has its case here, or mypy says so.
    """
    match measure:
        case Auc():
            name, members, held_out = f"AUC of {measure.score}", "", ""
            result = f"AUC {_give_or_take(measure)}"
        case AucDifference():
            name = f"secret read by {measure.score}"
            members, held_out = (
                f"AUC {_give_or_take(auc)}, {count(auc.held_out)} others, carriers: "
                for auc in (measure.of_members, measure.of_held_out)
            )
            result = f"difference {statistic(measure.member_auc - measure.held_out_auc)}"
        case TruePositiveRate():
            name = f"recognised by {measure.score}"
            members = f"{count(measure.lower_hits)} to {count(measure.upper_hits)} of "
            held_out = "1 % of "
            result = "at either end of the threshold"
        case Excess():
            name = f"excess of {measure.score}"
            members, held_out = (
                f"mean {statistic(mean)}, of " for mean in (measure.member_mean, measure.held_out_mean)
            )
            by = f"; estimated by {measure.estimator}" if measure.estimator else ""
            result = f"difference {_give_or_take(measure)}; standardised over {measure.strata}{by}"
        case Tail():
            name = f"tail of {measure.score}"
            members, held_out = f"{count(measure.above_all)} above all held out, of ", ""
            result = f"{count(measure.hits)} of half of them above rank {measure.rank} of the held-out scores"
        case Baseline():
            name, members, held_out = f"without the model: {measure.score}", "", ""
            result = f"AUC {_give_or_take(measure)}"
        case OneRun():
            right = f"{count(measure.right)} of {count(measure.guesses)} guesses were right: {shown(measure)}"
            return f"planted patients by {measure.score}", f"{count(measure.planted)} planted", "—", right
        case Reconstruction():
            name, held_out = f"brought back, by {measure.score}", "decoys of "
            members, result = "attacked: ", found_in(measure)
        case NotMeasurable():
            return f"{measure.metric} of {measure.score}", "—", "—", f"not measurable: {measure.reason}"
        case _:
            assert_never(measure)
    return name, f"{members}{count(measure.members)}", f"{held_out}{count(measure.held_out)}", result


def _give_or_take(measure: Auc | Excess | Baseline) -> str:
    return f"{statistic(measure.estimate)}, standard error {statistic(measure.standard_error)}"


def not_run(verified: Verified) -> Table:
    """Return what gave no number: what a gate asks for, what was tried without one, and what nobody tried."""
    sites: dict[tuple[str, str, str], list[str]] = {}
    for site, test, measure, reason in (*unmeasured(verified), *_unplanned(verified)):
        sites.setdefault((test, measure, reason), []).append(site)
    return Table(
        "What gave no result, and why",
        ("Test", "Measure", "Reason", "Sites"),
        tuple((*what, ", ".join(dict.fromkeys(where))) for what, where in sites.items()),
    )


def unmeasured(verified: Verified) -> Iterator[tuple[str, str, str, str]]:
    """Yield the site, the test, the measure and the reason of what the study planned and did not measure."""
    for claim in verified.judgement.claims:
        if claim.estimate is None and claim.state is not Verdict.FAIL:
            what = f"{claim.metric} of {claim.score}" if claim.score else claim.metric
            yield claim.site, claim.test, what, claim.note
    gated = {(gate.test, gate.metric) for gate in verified.policy.gates}
    tests = {test for test, _ in gated}
    findings = [found.finding for found in verified.findings]
    for finding in findings:
        if isinstance(finding.outcome, DidNotRun):
            if finding.test not in tests:
                yield finding.site, finding.test, "all of it", finding.outcome.reason
            continue
        for measure in finding.outcome.measures:
            if isinstance(measure, NotMeasurable) and (finding.test, measure.metric) not in gated:
                yield finding.site, finding.test, f"{measure.metric} of {measure.score}", measure.reason
    planned = {test for test in CATALOGUE if listed(test, verified.policy) is not None}
    for test in sorted(planned - tests - {finding.test for finding in findings}):
        yield "every site", test, "all of it", "no gate of the policy asks for it, and no site reported it"


def _unplanned(verified: Verified) -> Iterator[tuple[str, str, str, str]]:
    """Yield, in the same way, the tests of the catalogue that the study did not plan."""
    tests = {gate.test for gate in verified.policy.gates}
    for test in sorted(CATALOGUE.keys() - tests):
        if listed(test, verified.policy) is None:
            yield "every site", test, "all of it", f"{UNPLANNED}: {would_tell(test)}"


def would_tell(test: str) -> str:
    """Return what would be learned from a test that was not run."""
    return f"it would tell: {QUESTIONS.get(test, test)}"


def identities(verified: Verified, bundle_digest: str) -> tuple[tuple[str, str], ...]:
    """Return what the bundle, the policy and the model are, each with its digest."""
    policy, model = verified.policy, verified.model
    return (
        ("the bundle", bundle_digest),
        ("the policy", verified.policy_digest),
        *((f"the code of {each.distribution} {each.version}", each.digest) for each in policy.extensions),
        ("the model", model.model),
        ("the weights of the model", model.weights),
        *((f"{name} of the model", value) for name, value in sorted(model.files.items())),
    )


def cohorts(admissions: Iterable[Admission]) -> tuple[tuple[str, str], ...]:
    """Return who was admitted, by the roots that the sites committed to."""
    return tuple(
        (f"the {part} of {admission.site}", root)
        for admission in admissions
        for part, root in (
            ("members", admission.roots.members),
            ("held-out patients", admission.roots.held_out),
            ("reference patients", admission.roots.reference),
        )
    )


def digests(verified: Verified, bundle_digest: str) -> Table:
    """Return the digests of everything that the page is about, for whoever compares them."""
    policy, training = verified.policy, verified.training[0]
    return Table(
        "Digests and fingerprints (SHA-256)",
        ("Of", "Digest"),
        (
            *identities(verified, bundle_digest),
            ("the first weights", training.first_weights),
            ("the checkpoint that training started from", training.run),
            (f"the keys of {policy.coordinator.name}, coordinator", policy.coordinator.fingerprint),
            *((f"the keys of {site.name}", site.fingerprint) for site in policy.sites),
            *cohorts(verified.admissions),
            *((f"the members of {each.site} in round {each.round}", each.root) for each in verified.rounds),
            *(
                (f"the {part} of {each.site} in audit {each.number}", root)
                for each in verified.audits
                for part, root in (
                    ("members", each.roots.members),
                    ("held-out patients", each.roots.held_out),
                )
            ),
            *(
                (f"the seed of {found.finding.test} at {found.finding.site}", found.finding.seed)
                for found in verified.findings
            ),
        ),
    )
