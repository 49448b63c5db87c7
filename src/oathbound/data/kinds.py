"""The kinds of source that a site can name in its site.toml."""

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias

from oathbound.core.errors import Unavailable, WrongInput

if TYPE_CHECKING:  # the kinds are listed where nothing is installed that reads them
    from oathbound.data.source import Source

_OPENERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "heart": ("oathbound.data.heart", "open_heart"),
        "meds": ("oathbound.data.meds", "open_meds"),
        "nafld": ("oathbound.data.nafld", "open_nafld"),
        "nodules": ("oathbound.data.nodules", "open_nodules"),
        "scans": ("oathbound.data.scans", "open_scans"),
        "table": ("oathbound.data.table", "open_table"),
        "wfdb": ("oathbound.data.signals", "open_wfdb"),
    }
)

KINDS: Final = frozenset(_OPENERS)

Opener: TypeAlias = "Callable[[Mapping[str, str], Path], Source]"
"""Opens a source with its options; relative paths in them start at the folder."""


def open_source(kind: str, options: Mapping[str, str], base: Path) -> "Source":
    """Open a source; relative paths in `options` start at `base`, the folder of the site.

    Kinds: `meds` (option `path`); `table`, `scans` and `wfdb` (options: `data/table.py`, `data/scans.py`,
    `data/signals.py`); and the demo's `nafld` (no option), `heart` and `nodules` (option `site`). The options
    `parts` and `part`, of any kind, make a simulated hospital of a part of the data. Raises `WrongInput` for
    another kind, an option that the kind does not know, or data that is not what it should be.
    """
    if kind not in _OPENERS:
        raise WrongInput(f"unknown kind of source: {kind}", hint=f"one of: {', '.join(sorted(_OPENERS))}")
    # Imported here, so that a site with one kind needs the packages of that kind only.
    module, function = _OPENERS[kind]
    return open_with(getattr(importlib.import_module(module), function), options, base)


def described(kind: str) -> str:
    """Return what a kind of source reads, and its options: the first words of its module, not imported."""
    found = importlib.util.find_spec(_OPENERS[kind][0])
    if found is None or found.origin is None:
        raise Unavailable(f"what the source {kind} reads is not installed", hint="install oathbound anew")
    module = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    return inspect.cleandoc(ast.get_docstring(module) or "")


def open_with(opener: Opener, options: Mapping[str, str], base: Path) -> "Source":
    """Open a source, or the part of it that the options `parts` and `part` name."""
    from oathbound.data.division import OPTIONS, Divided, Division  # noqa: PLC0415 - as above

    own = {key: value for key, value in options.items() if key not in OPTIONS}
    source = opener(own, base)
    division = {key: value for key, value in options.items() if key in OPTIONS}
    return Divided(source, Division.parse(division)) if division else source
