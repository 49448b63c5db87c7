"""How templates are read: everything is escaped, nothing may be undefined."""

from decimal import Decimal
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from oathbound.core.record import decimal_text
from oathbound.report.figures import signed
from oathbound.report.tables import count, time


def scientific(value: Decimal) -> Markup:
    """Return a small positive decimal as a power of ten."""
    mantissa, exponent = f"{value.normalize():e}".split("e")
    power = Markup("10<sup>{}</sup>").format(signed(int(exponent)))
    return power if mantissa == "1" else Markup("{} \N{MULTIPLICATION SIGN} {}").format(mantissa, power)


def upper_first(text: str) -> str:
    """Return the text with its first letter upper case, and nothing else changed."""
    return text[:1].upper() + text[1:]


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
        count=count, time=time, scientific=scientific, exact=decimal_text, upper_first=upper_first
    )
    return environment


ENVIRONMENT: Final = _environment()
