"""The report: one self-contained page, made from a verified bundle and from nothing else.

`render` decides nothing. The verdict and epsilon are those that `verify` recomputed, and counts were rounded
and suppressed inside the sites, before they were signed. The same bundle gives the same bytes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Context, Decimal
from itertools import groupby
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from oathbound import __version__
from oathbound.core.event import PrivacyEvent, Unbounded
from oathbound.core.finding import Auc, DidNotRun, Excess, Finding, Measure, NotMeasurable, TruePositiveRate
from oathbound.core.gates import EVERYWHERE, Claim
from oathbound.core.intervals import UNIT
from oathbound.core.record import decimal_text
from oathbound.core.study import Gate
from oathbound.evidence.predicates import Admission, Charged, Exclusion
from oathbound.evidence.verify import Verified
from oathbound.report.figures import STATES, Scale, axis, interval, interval_text, signed, statistic
from oathbound.report.words import METRICS, QUESTIONS, VERDICTS, Metric

FEWER: Final = "fewer than 10"
"""How a count is shown that a site suppressed because it is small."""

GREATEST_FACTOR: Final = 1000
"""The greatest e ** epsilon that is worth a number."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows become cards on a narrow screen; the first cell of a row names it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One claim as a line of a figure. `pooled` is the line over all sites."""

    site: str
    pooled: bool
    figure: Markup
    interval: str
    patients: str
    state: str
    word: str
    note: str


@dataclass(frozen=True, slots=True)
class GateFigure:
    """All claims about one gate, on one axis, grouped by the attacker's score."""

    gate: Gate
    metric: Metric
    axis: Markup
    scores: tuple[tuple[str, tuple[ClaimRow, ...]], ...]


@dataclass(frozen=True, slots=True)
class Attack:
    """One audit test: the question, what its attacker has, the figures, and the facts of every site."""

    test: str
    question: str
    threats: tuple[tuple[str, str], ...]
    gates: tuple[GateFigure, ...]
    facts: Table
    tokens: int


def render(verified: Verified, *, bundle_digest: str) -> str:
    """Return the page as HTML text; `bundle_digest` is `core.canonical.digest` of the bundle's bytes."""
    simulated = _simulated(verified.admissions)
    return _PAGE.render(
        v=verified,
        policy=verified.policy,
        bundle_digest=bundle_digest,
        version=__version__,
        verdict=verified.judgement.verdict,
        said=VERDICTS[verified.judgement.verdict],
        simulated=simulated,
        every_site_simulated=sum(map(len, simulated.values())) == len(verified.admissions),
        factor=_factor(verified.epsilon),
        admitted=_admitted(verified.admissions),
        charged=_charged(verified.charges),
        attacks=tuple(_attacks(verified)),
        confidences=tuple(dict.fromkeys(c.confidence for c in verified.judgement.claims if c.confidence)),
        not_run=_not_run(verified),
        digests=_digests(verified, bundle_digest),
    )


def _simulated(admissions: Iterable[Admission]) -> dict[str, list[str]]:
    """Return what the simulated sites say of themselves, and which sites say it."""
    said: dict[str, list[str]] = {}
    for admission in admissions:
        if admission.simulated is not None:
            said.setdefault(admission.simulated, []).append(admission.site)
    return said


def _admitted(admissions: Iterable[Admission]) -> Table:
    return Table(
        "Patients admitted at each site",
        ("Site", "Considered", "Members", "Held out", "Reference", "Not admitted, and why", "Consents as of"),
        tuple(
            (
                admission.site,
                _count(admission.considered),
                _count(admission.members),
                _count(admission.held_out),
                FEWER if admission.reference is None else _count(admission.reference),
                "\n".join(map(_exclusion, admission.excluded)) or "nobody",
                _time(admission.as_of),
            )
            for admission in admissions
        ),
    )


def _exclusion(exclusion: Exclusion) -> str:
    return f"{exclusion.reason}: {FEWER if exclusion.patients is None else _count(exclusion.patients)}"


def _charged(charges: Iterable[Charged]) -> Table:
    """Return what each site charged to each of its members, as the facts that epsilon is computed from."""
    return Table(
        "What each site charged to each of its members",
        ("Site", "Steps charged", "Mechanism"),
        tuple(
            (charged.site, _count(charged.event.attempts), _mechanism(charged.event)) for charged in charges
        ),
    )


def _mechanism(event: PrivacyEvent) -> str:
    if isinstance(event, Unbounded):
        return "none: no noise, no bound"
    return (
        f"each patient drawn with probability {decimal_text(event.sampling_rate)}, norm at most "
        f"{_count(event.ring_norm)}; noise of deviation {decimal_text(event.share_sigma)} from each of "
        f"{event.shares} sites, of which {event.honest_shares} are relied on"
    )


def _attacks(verified: Verified) -> Iterator[Attack]:
    """Yield the tests that the gates name, in the gates' order, and then any other that was run."""
    findings = [found.finding for found in verified.findings]
    gates = verified.policy.gates
    for test in dict.fromkeys([gate.test for gate in gates] + [finding.test for finding in findings]):
        own = [finding for finding in findings if finding.test == test]
        yield Attack(
            test=test,
            question=QUESTIONS.get(test, f"What does the test {test} find?"),
            threats=tuple(dict.fromkeys((finding.threat.sees, finding.threat.knows) for finding in own)),
            gates=tuple(_gate_figure(gate, verified.judgement.claims) for gate in gates if gate.test == test),
            facts=_facts(own),
            tokens=sum(f.outcome.tokens for f in own if not isinstance(f.outcome, DidNotRun)),
        )


def _gate_figure(gate: Gate, claims: Iterable[Claim]) -> GateFigure:
    own = [claim for claim in claims if (claim.test, claim.metric) == (gate.test, gate.metric)]
    metric = METRICS.get(gate.metric) or Metric(gate.metric, "", None)
    ends = [end for claim in own for end in (claim.lower, claim.estimate, claim.upper) if end is not None]
    beyond = gate.at_most + UNIT  # so that the axis goes on past the gate
    scale = Scale.over([gate.at_most, beyond, *ends, *([] if metric.chance is None else [metric.chance])])
    by_score = groupby(sorted(own, key=lambda claim: claim.score), key=lambda claim: claim.score)
    return GateFigure(
        gate=gate,
        metric=metric,
        axis=axis(scale, gate.at_most),
        scores=tuple(
            (score, tuple(_claim_row(claim, scale, metric) for claim in group)) for score, group in by_score
        ),
    )


def _claim_row(claim: Claim, scale: Scale, metric: Metric) -> ClaimRow:
    pooled = claim.site == EVERYWHERE
    # What would settle one site's claim matters to nobody: a pass does not need it.
    alone = pooled or claim.estimate is None
    return ClaimRow(
        site=claim.site,
        pooled=pooled,
        figure=interval(claim, scale, chance=metric.chance),
        interval=interval_text(claim),
        patients="—" if claim.estimate is None else f"{_count(claim.members)} / {_count(claim.held_out)}",
        state=claim.state.value,
        word=STATES[claim.state],
        note=claim.note if alone else "",
    )


def _facts(findings: Iterable[Finding]) -> Table:
    """Return the published facts of one test: every site, every attempt, members beside held-out."""
    rows: list[tuple[str, ...]] = []
    attempts: dict[str, int] = {}
    for finding in findings:
        attempt = attempts[finding.site] = attempts.get(finding.site, 0) + 1
        site = finding.site if attempt == 1 else f"{finding.site}, attempt {attempt}"
        if isinstance(finding.outcome, DidNotRun):
            rows.append((site, "—", "—", "—", f"did not run: {finding.outcome.reason}"))
        else:
            rows.extend((site, *_measured(measure)) for measure in finding.outcome.measures)
    return Table(
        "What the sites measured, members beside held-out patients",
        ("Site", "Measure", "Members", "Held out", "Result"),
        tuple(rows),
    )


def _measured(measure: Measure) -> tuple[str, str, str, str]:
    """Return a measure's name, what it says of members and of held-out patients, and its result."""
    match measure:
        case Auc():
            name, members, held_out = f"AUC of {measure.score}", "", ""
            result = f"AUC {statistic(measure.estimate)}, standard error {statistic(measure.standard_error)}"
        case TruePositiveRate():
            name = f"recognised by {measure.score}"
            members = f"{_count(measure.lower_hits)} to {_count(measure.upper_hits)} of "
            held_out = "1 % of "
            result = "at either end of the threshold"
        case Excess():
            name = f"excess of {measure.score}"
            members, held_out = (
                f"mean {statistic(mean)}, of " for mean in (measure.member_mean, measure.held_out_mean)
            )
            result = (
                f"difference {statistic(measure.estimate)}, standard error "
                f"{statistic(measure.standard_error)}; standardised over {measure.strata}"
            )
        case NotMeasurable():
            return f"{measure.metric} of {measure.score}", "—", "—", f"not measurable: {measure.reason}"
    return name, f"{members}{_count(measure.members)}", f"{held_out}{_count(measure.held_out)}", result


def _not_run(verified: Verified) -> Table:
    """Return what was asked for, or tried, and gave no number, whether or not a gate asks for it."""
    rows = [
        (
            claim.site,
            claim.test,
            f"{claim.metric} of {claim.score}" if claim.score else claim.metric,
            claim.note,
        )
        for claim in verified.judgement.claims
        if claim.estimate is None
    ]
    gated = {(gate.test, gate.metric) for gate in verified.policy.gates}
    for finding in (found.finding for found in verified.findings):
        if isinstance(finding.outcome, DidNotRun):
            if finding.test not in {test for test, _ in gated}:
                rows.append((finding.site, finding.test, "all of it", finding.outcome.reason))
            continue
        rows.extend(
            (finding.site, finding.test, f"{measure.metric} of {measure.score}", measure.reason)
            for measure in finding.outcome.measures
            if isinstance(measure, NotMeasurable) and (finding.test, measure.metric) not in gated
        )
    return Table(
        "What gave no result, and why", ("Site", "Test", "Measure", "Reason"), tuple(dict.fromkeys(rows))
    )


def _digests(verified: Verified, bundle_digest: str) -> Table:
    policy, training, model = verified.policy, verified.training[0], verified.model
    return Table(
        "Digests and fingerprints (SHA-256)",
        ("Of", "Digest"),
        (
            ("the bundle", bundle_digest),
            ("the policy", verified.policy_digest),
            ("the model", model.model),
            ("the weights of the model", model.weights),
            *((f"{name} of the model", value) for name, value in sorted(model.files.items())),
            ("the first weights", training.first_weights),
            ("the checkpoint that training started from", training.run),
            (f"the keys of {policy.coordinator.name}, coordinator", policy.coordinator.fingerprint),
            *((f"the keys of {site.name}", site.fingerprint) for site in policy.sites),
            *(
                (f"the {part} of {admission.site}", root)
                for admission in verified.admissions
                for part, root in (
                    ("members", admission.roots.members),
                    ("held-out patients", admission.roots.held_out),
                    ("reference patients", admission.roots.reference),
                )
            ),
            *(
                (f"the seed of {found.finding.test} at {found.finding.site}", found.finding.seed)
                for found in verified.findings
            ),
        ),
    )


def _factor(epsilon: Decimal | None) -> str:
    """Return e ** epsilon, rounded up to two digits; empty where it is unbounded or too great to help."""
    if epsilon is None or epsilon.exp() > GREATEST_FACTOR:
        return ""
    return format(Context(prec=2, rounding=ROUND_CEILING).create_decimal(epsilon.exp()), "f")


def _count(value: int) -> str:
    return f"{value:,}"


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _scientific(value: Decimal) -> Markup:
    """Return a small positive decimal as a power of ten."""
    mantissa, exponent = f"{value.normalize():e}".split("e")
    power = Markup("10<sup>{}</sup>").format(signed(int(exponent)))
    return power if mantissa == "1" else Markup("{} \N{MULTIPLICATION SIGN} {}").format(mantissa, power)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("oathbound.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        count=_count, time=_time, scientific=_scientific, exact=decimal_text, upper_first=_upper_first
    )
    return environment


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


_PAGE: Final = _environment().get_template("report.html.j2")
