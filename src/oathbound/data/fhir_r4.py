"""FHIR R4 Consent (hl7.org/fhir/R4/consent.html; profile IHE PCF 1.1) to the internal form."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import ValidationError

from oathbound.core.errors import WrongInput
from oathbound.data.consent import Consent
from oathbound.data.fhir_elements import (
    HARMLESS,
    Codings,
    Effect,
    Element,
    Id,
    Meta,
    Reference,
    Rule,
    given,
    patient,
    rules,
    updated,
    wrong,
)

_HARMLESS: Final = HARMLESS | {
    "performer",
    "organization",
    "sourceAttachment",
    "sourceReference",
    "policy",
    "policyRule",
    "verification",
}
_SCOPES: Final = frozenset({"research", "patient-privacy"})
_SCOPE_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/consentscope"


class _Scope(Element):
    coding: Codings


class _Consent(Element):
    resourceType: Literal["Consent"]  # noqa: N815 - FHIR's name
    id: Id
    meta: Meta | None = None
    status: Literal["draft", "proposed", "active", "rejected", "inactive", "entered-in-error"]
    scope: _Scope
    patient: Reference
    dateTime: str | None = None  # noqa: N815 - FHIR's name
    provision: Rule | None = None


def consent(decoded: Mapping[str, Any]) -> Consent:
    """Return the consent in a decoded R4 resource; `WrongInput` if it is wrong."""
    try:
        resource = _Consent.model_validate(decoded)
    except (ValidationError, RecursionError) as error:
        raise wrong(error, "R4") from None
    root = resource.provision
    return Consent(
        id=resource.id,
        patient=patient(resource.patient.reference),
        status=resource.status,
        updated=updated(resource.meta),
        given=given(resource.dateTime),
        understood=_understood(resource.scope) and not resource.unread(_HARMLESS),
        provision=rules(root, root.type, _effect) if root else None,
    )


def _understood(scope: _Scope) -> bool:
    return not scope.unread(frozenset({"id", "extension", "text"})) and any(
        coding.system == _SCOPE_SYSTEM and coding.code in _SCOPES for coding in scope.coding
    )


def _effect(rule: Rule, _around: Effect | None) -> Effect:
    if rule.type is None:
        raise WrongInput(
            "a nested provision has no type", hint="R4 requires permit or deny in all but the root"
        )
    return rule.type
