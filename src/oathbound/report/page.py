"""The report: one self-contained page, made from a verified bundle and from nothing else.

`render` decides nothing. The verdict and epsilon are those that `verify` recomputed, and counts were rounded
and suppressed inside the sites, before they were signed. The same bundle gives the same bytes.
"""

from collections.abc import Iterable
from decimal import ROUND_CEILING, Context, Decimal
from typing import Final

from oathbound import __version__
from oathbound.core.shape import Features
from oathbound.evidence.predicates import Admission
from oathbound.evidence.verify import Verified
from oathbound.report.attacks import attacks, confidences, grounds
from oathbound.report.environment import ENVIRONMENT
from oathbound.report.figures import meter, signed
from oathbound.report.limits import AVERAGES
from oathbound.report.tables import (
    admitted,
    charged,
    digests,
    not_run,
    rounds,
    trained,
    unmeasured,
    unusable,
)
from oathbound.report.words import UNMEASURED, said_of

GREATEST_FACTOR: Final = 1000
"""The greatest e ** epsilon that is worth a number."""


def render(verified: Verified, *, bundle_digest: str) -> str:
    """Return the page as HTML text; `bundle_digest` is `core.canonical.digest` of the bundle's bytes."""
    simulated = _simulated(verified.admissions)
    spent, budget = verified.epsilon, verified.policy.budget
    return _PAGE.render(
        v=verified,
        policy=verified.policy,
        bundle_digest=bundle_digest,
        version=__version__,
        verdict=verified.judgement.verdict,
        said=said_of(verified.judgement),
        unmeasured=UNMEASURED,
        grounds=tuple(grounds(verified)),
        simulated=simulated,
        every_site_simulated=sum(map(len, simulated.values())) == len(verified.admissions),
        factor=_factor(spent),
        meter=None if spent is None or budget is None else meter(spent, budget.epsilon),
        admitted=admitted(verified.admissions),
        unusable=unusable(verified.admissions),
        rounds=rounds(verified),
        missing=_missing(verified.policy.features),
        last_read=max(each.as_of for each in trained(verified)),
        charged=charged(verified.charges),
        attacks=tuple(attacks(verified)),
        confidences=confidences(verified),
        averages=AVERAGES,
        not_run=not_run(verified),
        all_measured=not any(unmeasured(verified)),
        digests=digests(verified, bundle_digest),
    )


def _simulated(admissions: Iterable[Admission]) -> dict[str, list[str]]:
    """Return what the simulated sites say of themselves, and which sites say it."""
    said: dict[str, list[str]] = {}
    for admission in admissions:
        if admission.simulated is not None:
            said.setdefault(admission.simulated, []).append(admission.site)
    return said


def _missing(features: Features | None) -> list[tuple[str, str]]:
    """Return the codes of which some values stand for none, and those values."""
    numbers = () if features is None else features.numbers
    return [(each.code, ", ".join(map(signed, each.missing))) for each in numbers if each.missing]


def _factor(epsilon: Decimal | None) -> str:
    """Return e ** epsilon, rounded up to two digits; empty where it is unbounded or too great to help."""
    if epsilon is None or epsilon.exp() > GREATEST_FACTOR:
        return ""
    return format(Context(prec=2, rounding=ROUND_CEILING).create_decimal(epsilon.exp()), "f")


_PAGE: Final = ENVIRONMENT.get_template("report.html.j2")
