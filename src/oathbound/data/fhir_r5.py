"""FHIR R5 Consent (hl7.org/fhir/R5/consent.html) to the internal form.

R5 says one `decision`, the base rule. Its provisions are exceptions to it, and theirs to them: each has the
opposite effect of what it is an exception to.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from oathbound.core.errors import WrongInput
from oathbound.data.consent import Consent, Status
from oathbound.data.fhir_elements import (
    HARMLESS,
    Effect,
    Element,
    Id,
    Meta,
    Period,
    Reference,
    Rule,
    given,
    patient,
    rules,
    updated,
    wrong,
)

# `grantee` is not among these: rights that are given to somebody are not given to everybody.
_HARMLESS: Final = HARMLESS | {
    "grantor",
    "manager",
    "controller",
    "sourceAttachment",
    "sourceReference",
    "regulatoryBasis",
    "policyBasis",
    "policyText",
    "verification",
}


class _Consent(Element):
    resourceType: Literal["Consent"]  # noqa: N815 - FHIR's name
    id: Id
    meta: Meta | None = None
    status: Literal["draft", "active", "inactive", "not-done", "entered-in-error", "unknown"]
    subject: Reference
    date: Annotated[str, Field(pattern=r"^\d{4}(-\d\d(-\d\d)?)?$")] | None = None
    period: Period | None = None
    decision: Effect | None = None
    provision: Annotated[tuple[Rule, ...], Field(min_length=1)] | None = None


def consent(decoded: Mapping[str, Any]) -> Consent:
    """Return the consent in a decoded R5 resource; `WrongInput` if it is wrong."""
    try:
        resource = _Consent.model_validate(decoded)
    except (ValidationError, RecursionError) as error:
        raise wrong(error, "R5") from None
    if resource.decision is None and resource.provision is not None:
        raise WrongInput(
            "a consent holds provisions without a decision",
            hint="R5 provisions are exceptions to the decision: permit or deny",
        )
    base = Rule(period=resource.period, provision=resource.provision)
    # A consent of unknown status may be in force: what it denies stands, and it permits nothing.
    unknown = resource.status == "unknown"
    status: Status = "active" if resource.status == "unknown" else resource.status
    return Consent(
        id=resource.id,
        patient=patient(resource.subject.reference),
        status=status,
        updated=updated(resource.meta),
        given=given(resource.date),
        understood=not unknown and not resource.unread(_HARMLESS),
        provision=rules(base, resource.decision, _effect) if resource.decision else None,
    )


def _effect(rule: Rule, around: Effect | None) -> Effect:
    if rule.type is not None:
        raise WrongInput(
            "a provision of an R5 consent has a type",
            hint="R4 provisions have a type; R5 ones are the opposite of what they are exceptions to",
        )
    return "permit" if around == "deny" else "deny"
