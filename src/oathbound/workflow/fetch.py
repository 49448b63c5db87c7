"""`data get`: a public data set, from its publisher to records that a site can name.

DIR/SOURCE.md       where it is from, its licence, what was changed, whom to cite; marks whose folder it is
DIR/original/       the files as published, where the records were made from them
DIR/meds/           the records: MEDS
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Final

from oathbound.core.errors import Unavailable, WrongInput
from oathbound.data.recipes import ORIGINAL, RECIPES, RECORDS, Recipe
from oathbound.evidence.durable import synchronise
from oathbound.workflow.download import Network, download
from oathbound.workflow.folders import alone, read_file, write_file
from oathbound.workflow.watch import Watch

_NOTICE: Final = "SOURCE.md"
_LOCK: Final = ".lock"
_NOT_YET: Final = frozenset({_LOCK, f".{_NOTICE}.new"})
"""What a run that was killed at once may leave in a folder that is still nobody's."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The MEDS folders of a data set, and how many of its files this run downloaded."""

    records: tuple[Path, ...]
    downloaded: int


def recipe_of(name: str) -> Recipe:
    """Return the recipe of that name; `WrongInput` if there is none."""
    if name not in RECIPES:
        raise WrongInput(f"no data set is named {name}", hint=f"there are: {', '.join(RECIPES)}")
    return RECIPES[name]


def fetch(recipe: Recipe, folder: Path, *, watch: Watch, network: Network | None = None) -> Fetched:
    """Download the data set into its own folder, and make its records; what is there already stays.

    Raises `WrongInput` when the folder holds something else, `NotAuthentic` when a file is not the published
    one, `Unavailable` without network, without room, or while another process is at it.
    """
    network = network or Network()
    downloaded = 0
    with _own(folder, recipe.notice + "\n"):
        for file, before in zip(recipe.files, _before(recipe), strict=True):
            downloaded += download(
                recipe.address + file.path,
                file,
                folder / recipe.folder / file.path,
                network=network,
                advance=partial(_tell, watch, recipe.size, before, file.path),
            )
        if recipe.convert is not None and not (folder / RECORDS).exists():
            _make(recipe.convert, folder)
    return Fetched(tuple(folder / RECORDS / part for part in recipe.parts), downloaded)


def _before(recipe: Recipe) -> Iterator[int]:
    """Yield for each file the bytes of those before it."""
    return accumulate((file.size for file in recipe.files[:-1]), initial=0)


def _tell(watch: Watch, size: int, before: int, path: str, done: int) -> None:
    """Tell how much of the set is here, when `done` bytes are of the file at `path`."""
    here = before + done
    watch(here, size, f"{here / 1e6:,.1f} of {size / 1e6:,.1f} MB  {path}")


def _make(convert: Callable[[Path, Path], None], folder: Path) -> None:
    """Make the records beside their place, and put them there whole."""
    new = folder / f".{RECORDS}.new"
    try:
        if new.exists():
            shutil.rmtree(new)
        convert(folder / ORIGINAL, new)
        for path in (*new.rglob("*"), new):
            synchronise(path)
        new.rename(folder / RECORDS)
        synchronise(folder)
    except OSError as error:
        raise Unavailable(
            f"{folder} cannot be written: {error.strerror or 'no room'}", hint="is the disk full?"
        ) from None


@contextmanager
def _own(folder: Path, notice: str) -> Iterator[None]:
    """Hold a folder that is new, or of this notice, for one process at a time."""
    try:
        _check(folder, notice)
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise WrongInput(f"{folder} is not a folder", hint="name a new folder") from None
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written: {error.strerror}") from None
    with alone(folder / _LOCK, "another oathbound is at work on this data set"):
        _check(folder, notice)  # again: another set may have come before the lock did
        if not (folder / _NOTICE).exists():
            write_file(folder / _NOTICE, notice.encode())
        yield


def _check(folder: Path, notice: str) -> None:
    """Raise `WrongInput` for a folder that holds something, and not this notice."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if names - _NOT_YET and (_NOTICE not in names or read_file(folder / _NOTICE) != notice.encode()):
        raise WrongInput(f"{folder} holds something else than this data set", hint="name a new folder")
