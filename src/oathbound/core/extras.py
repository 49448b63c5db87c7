"""Packages that a base install, which verifies, does without, and what installs them."""

from types import MappingProxyType
from typing import Final

from oathbound.core.errors import Unavailable

_EXTRAS: Final = MappingProxyType(
    {
        **dict.fromkeys(("numpy", "pandas", "polars", "safetensors", "torch"), "train,audit"),
        **dict.fromkeys(("PIL", "pydicom"), "scans"),
        "nvflare": "nvflare",
    }
)


def not_installed(error: ModuleNotFoundError) -> Unavailable | None:
    """Return what to tell of a package that an extra brings; None of any other."""
    extra = _EXTRAS.get((error.name or "").split(".")[0])
    if extra is None:
        return None
    return Unavailable(f"{error.name} is not installed", hint=f"pip install 'oathbound[{extra}]'")
