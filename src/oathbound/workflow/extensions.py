"""Extensions: code from outside oathbound, which runs only where the policy names it, and as it pins it.

`spec/extensions.md` numbers the rules. Nothing of an extension is imported before its pin is checked.
"""

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distribution, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field

from oathbound.core.canonical import digest_of
from oathbound.core.errors import NotAcceptable, OathboundError, Unavailable, WrongInput
from oathbound.core.record import Digest, Name, Record
from oathbound.core.study import Extension, Policy

Group = Literal["sources", "models", "audits", "engines"]
GROUPS: Final[tuple[Group, ...]] = get_args(Group)

_PREFIX: Final = "oathbound."
_ENTRY_POINTS: Final = "entry_points.txt"
_WHEEL: Final = "install it from its wheel, and not with -e"
_CODE: Final = (".py", ".pyw", ".pyc", ".so", ".pyd")
"""How the names of files end that Python can import, on any platform."""

_COMPILED: Final = re.compile(r".+\..+\.pyc(\.\d+)?")
"""What the interpreter writes into `__pycache__`: with its tag, which makes it none that can be imported."""


class Pin(Record):
    """What a policy says of an extension's code, as `core.study.Extension` has it."""

    group: Group
    name: Name
    distribution: Name
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.+!_-]{1,100}$")]
    digest: Digest


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry point that is installed here, and its pin, or why there is none."""

    group: Group
    name: str
    pin: Pin | OathboundError


def digest_of_distribution(name: str) -> tuple[str, str]:
    """Return the version of an installed distribution, and the digest of its files (rules 3 and 4).

    Bytes are read from disk: what the installer wrote down of them is not believed. Raises `Unavailable` for
    one that is not installed, or whose code lies elsewhere, as that of an editable installation does.
    """
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise Unavailable(f"{name} is not installed", hint=f"pip install {name}") from None
    _check_readable(found, name)
    return found.version, _digest(_code(found))


def installed() -> tuple[Listed, ...]:
    """Return every extension that is installed here, by group and name; nothing of them is imported."""
    listed = []
    for group in GROUPS:
        for entry_point in sorted(_offered(group), key=lambda each: each.name):
            try:
                pin: Pin | OathboundError = _pin(entry_point, _code(_holder(entry_point)))
            except (Unavailable, WrongInput) as error:
                pin = error
            listed.append(Listed(group, entry_point.name, pin))
    return tuple(listed)


def check_extensions(policy: Policy) -> None:
    """Check that every extension of the policy is installed here as it pins it; import nothing.

    Raises `Unavailable` for one that is not here, `NotAcceptable` for one that is other code.
    """
    for extension in policy.extensions:
        check(extension)


def check(extension: Extension) -> EntryPoint:
    """Return the entry point that an extension pins (rules 2 to 6); nothing of it was imported yet.

    Raises `Unavailable` where it is not installed, or twice, and `NotAcceptable` where it is other code than
    the sites agreed on.
    """
    what = f"the extension {extension.name} ({extension.group})"
    offered = tuple(each for each in _offered(extension.group) if each.name == extension.name)  # 2
    if not offered:
        raise Unavailable(
            f"{what} is not installed", hint=f"pip install {extension.distribution}=={extension.version}"
        )
    if len(offered) > 1:
        raise Unavailable(f"{what} is installed more than once", hint="uninstall all but the one pinned")
    files = _code(_holder(offered[0]))  # 3, 4
    here = _pin(offered[0], files)
    for key in ("distribution", "version", "digest"):  # 5
        mine, pinned = getattr(here, key), getattr(extension, key)
        if mine != pinned:
            raise NotAcceptable(
                f"{what} is not the one that the policy pins: {key} {mine}, not {pinned}",
                hint=f"install {extension.distribution}=={extension.version} again, as all sites have it",
            )
    if _imported_from(offered[0]) not in {file.resolve() for file in files.values()}:  # 6
        raise NotAcceptable(
            f"{what} would be imported from elsewhere than its distribution",
            hint="another package of its name comes first on Python's path; remove it",
        )
    return offered[0]


def load(policy: Policy, group: Group, name: str) -> Any:
    """Return what an extension's entry point names, once its pin is checked; never anything in its place.

    Raises `WrongInput` where the policy has no such extension, `Unavailable` where it cannot be imported, and
    what `check` raises.
    """
    extension = policy.extension(group, name)
    if extension is None:  # 1
        pinned = ", ".join(each.name for each in policy.extensions if each.group == group)
        raise WrongInput(
            f"the study has nothing called {name} among its {group}",
            hint=f"its policy pins: {pinned}" if pinned else "its policy pins no extension of this kind",
        )
    entry_point = check(extension)
    try:
        return entry_point.load()  # 7
    except (Exception, SystemExit) as error:  # foreign code may raise anything, or end the process with a 0
        raise Unavailable(
            f"the extension {name} ({group}) cannot be loaded: {type(error).__name__}",
            hint=f"what it needs may be missing: python -c 'import {entry_point.module}' says more",
        ) from error


def _offered(group: str) -> tuple[EntryPoint, ...]:
    try:
        return tuple(entry_points(group=_PREFIX + group))
    except (TypeError, ValueError):  # what the standard library makes of damaged files, whosever they are
        raise Unavailable(
            "the entry points of a distribution that is installed here are damaged",
            hint="install what was installed last again",
        ) from None


def _holder(entry_point: EntryPoint) -> Distribution:
    found = entry_point.dist
    if found is not None:
        _check_readable(found, entry_point.name)
    if found is None or not found.metadata["Name"]:
        raise Unavailable(f"no distribution holds the entry point {entry_point.name}", hint=_WHEEL)
    return found


def _check_readable(found: Distribution, what: str) -> None:
    try:
        len(found.metadata)
    except UnicodeDecodeError:
        raise Unavailable(f"the metadata of {what} is not UTF-8", hint=_WHEEL) from None


def _pin(entry_point: EntryPoint, files: Mapping[str, Path]) -> Pin:
    """Return the pin of an entry point; `WrongInput` for a name that a policy could not hold."""
    found = _holder(entry_point)
    pin = {
        "group": entry_point.group.removeprefix(_PREFIX),
        "name": entry_point.name,
        "distribution": re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower(),  # as PEP 503 writes it
        "version": found.version,
        "digest": _digest(files),
    }
    return Pin.parse(pin, what=f"the extension {entry_point.name!r}")


def _digest(files: Mapping[str, Path]) -> str:
    return digest_of({path: _sha256(file) for path, file in files.items()})


def _code(found: Distribution) -> dict[str, Path]:
    """Return every file of a distribution that Python could import, and its entry points, by path.

    All that lies on disk under its top-level names counts, listed by the installer or not: a file that was
    put there later would be imported too. Not so what installation varies: bytecode kept beside a source,
    scripts in `bin`, other metadata.
    """
    name = found.metadata["Name"]
    try:
        listed = found.files or []
    except (TypeError, ValueError, csv.Error):  # what the standard library makes of a damaged RECORD
        raise Unavailable(f"the list of the files of {name} is damaged", hint=_WHEEL) from None
    if not all(file.parts for file in listed):
        raise Unavailable(f"the list of the files of {name} has a row without a path", hint=_WHEEL)
    records = (file for file in listed if re.fullmatch(r"[^/]+\.dist-info/RECORD", str(file)))
    metadata = next((file.parts[0] for file in records), None)
    if metadata is None:
        raise Unavailable(f"{name} was not installed from a wheel", hint=_WHEEL)
    if any(file.suffix == ".pth" for file in listed):
        raise Unavailable(f"the code of {name} is not where it is installed: it is editable", hint=_WHEEL)
    root = Path(str(found.locate_file("")))
    tops = {file.parts[0] for file in listed} - {"..", "/", metadata}
    files = {
        file.relative_to(root).as_posix(): file
        for top in sorted(tops)
        for file in _under(root / top, name)
        if file.parent != root / "bin" or file.suffix in _CODE
    }
    try:
        "".join(files).encode()
    except UnicodeEncodeError:
        raise Unavailable(f"{name} holds a file whose name is not UTF-8", hint=_WHEEL) from None
    if not files:
        raise Unavailable(f"{name} has no code", hint=_WHEEL)
    return files | {_ENTRY_POINTS: root / metadata / _ENTRY_POINTS}


def _under(path: Path, name: str) -> Iterator[Path]:
    """Yield every file at or below a path, but what the interpreter compiled."""
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path):
        here = Path(folder)
        folders.sort()
        if here.is_symlink() or any((here / each).is_symlink() for each in folders):
            raise Unavailable(f"{name} holds a link to a folder", hint=_WHEEL)
        cache = here.name == "__pycache__"
        yield from (here / each for each in sorted(names) if not (cache and _COMPILED.fullmatch(each)))


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as data:
            return hashlib.file_digest(data, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"{file} cannot be read: {error.strerror}", hint=_WHEEL) from None


def _imported_from(entry_point: EntryPoint) -> Path | None:
    """Return the file that Python would import an entry point's top-level package from."""
    top = re.split(r"[.:\[]", entry_point.value, maxsplit=1)[0].strip()
    try:
        spec = find_spec(top)  # of a top-level name, which imports nothing
    except ValueError:
        return None
    return Path(spec.origin).resolve() if spec and spec.origin else None
