"""The base of every noun: frozen, strict, closed, and exact where it is signed.

Records are read from JSON or TOML through `parse`, never built from unchecked dictionaries. A number that a
promise depends on is decimal text (`"3.0"`), because a float does not survive signing.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails

from oathbound.core.errors import WrongInput

_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,40})?(e-?[1-9][0-9]?)?")


def _exact(value: object) -> Decimal:
    if isinstance(value, Decimal) and value.is_finite():
        return value
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = Decimal(value)
        if not _DECIMAL.fullmatch(decimal_text(number)):
            raise ValueError("a number with too many digits")
        return number
    if isinstance(value, (int, float)):
        # pydantic turns a ValueError, and only that, into an error that names the key
        raise ValueError(f'write the number in quotes: "{value}"')  # noqa: TRY004
    raise ValueError('not a decimal number such as "3.0" or "1e-6"')


def decimal_text(value: Decimal) -> str:
    """Return the one text of a decimal: plain digits, no exponent, no trailing zeros after the point."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


Exact = Annotated[Decimal, BeforeValidator(_exact), PlainSerializer(decimal_text, return_type=str)]
"""A decimal number, written as text in quotes. Floats are refused."""

_NAME: Final = r"^[a-z][a-z0-9-]{0,62}$"
_DIGEST: Final = r"^sha256:[0-9a-f]{64}$"
_PATTERNS: Final = {
    _NAME: "a name is lower-case letters, digits and hyphens, and begins with a letter",
    _DIGEST: "not a digest: sha256: and 64 hexadecimal digits",
}
"""What is said of a text that does not match, in words."""

Name = Annotated[str, StringConstraints(pattern=_NAME)]
"""A short name: lower-case letters, digits and hyphens."""

Digest = Annotated[str, StringConstraints(pattern=_DIGEST)]
"""A SHA-256 digest as `sha256:` and 64 lower-case hexadecimal digits."""

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
"""A count of things."""


def _printable(text: str) -> str:
    # A control or direction character could make a terminal show something else than what was signed.
    if not text.isprintable():
        raise ValueError("holds a character that is not printable")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_printable)]
"""A sentence for a person: printable characters, on one line."""


class Record(BaseModel):
    """A value: immutable, strictly typed, and without room for a key that it does not know."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", ser_json_inf_nan="null", allow_inf_nan=False
    )

    @classmethod
    def parse(cls, data: Mapping[str, Any] | bytes | str, *, what: str) -> Self:
        """Return the record in `data`, a mapping or JSON text; `WrongInput` names `what` and the key."""
        if isinstance(data, Mapping):
            try:
                data = json.dumps(data)
            except TypeError as error:
                raise WrongInput(f"{what}: {error}", hint="dates and times are written in quotes") from None
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise WrongInput(f"{what}: {_first(error)}", hint=_hint(error)) from None

    def plain(self) -> dict[str, Any]:
        """Return the record as JSON values: what is signed, logged and written to files."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return plain


def _details(error: ValidationError) -> ErrorDetails:
    """Return the error to speak of: an unknown key first, since it is often a missing one misspelt."""
    details = error.errors(include_url=False, include_input=False)
    return next((detail for detail in details if detail["type"] == "extra_forbidden"), details[0])


def _first(error: ValidationError) -> str:
    detail = _details(error)
    where = ".".join(str(part) for part in detail["loc"]) or "the file"
    messages = {"extra_forbidden": "unknown key", "missing": "missing"}
    message = messages.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    message = _PATTERNS.get(detail.get("ctx", {}).get("pattern", ""), message)
    more = error.error_count() - 1
    return f"{where}: {message}" + (f" (and {more} more)" if more else "")


def _hint(error: ValidationError) -> str:
    if _details(error)["type"] == "extra_forbidden":
        return (
            "check the spelling; a key that oathbound does not know is an error, for a promise is read whole"
        )
    return "`oathbound explain` lists every key of the files that people write"
