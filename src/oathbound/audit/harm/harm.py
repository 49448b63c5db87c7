"""Which codes would harm a person if a model gave them away: a reviewed catalogue, and a study's own sets.

A set of codes is one TOML file (`spec/harm.md`); those of this folder are the catalogue, whose page is
`docs/audits/harm-classes.md`. Of each vocabulary it lists codes that *state* a fact, and codes that *imply*
it: an antiretroviral implies HIV. The disclosure test looks for the first, and takes both out of its prompts.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from oathbound.audit.harm.codes import BY_PREFIX, IN_WORDS, Coded, System, Worded, entry, read
from oathbound.core.audit_plan import Prompting, SensitiveSet
from oathbound.core.canonical import digest_of
from oathbound.core.errors import NothingExamined, WrongInput
from oathbound.core.record import Name, Record, Text

MAX_BYTES: Final = 1024 * 1024
"""The largest file of a set that is read."""

_MOST_PARENTS: Final = 10_000
"""The most ancestors of one code that are followed."""

Entries = Annotated[tuple[Annotated[Text, Field(max_length=100)], ...], Field(max_length=2000)]


class Harm(IntEnum):
    """What it does to a person if a code about them becomes known."""

    ROUTINE = 0
    IDENTIFYING = 1
    SENSITIVE = 2


class Group(Record):
    """Codes of one vocabulary about one topic. `unless` takes out what `states` and `implies` would match."""

    topic: Text
    system: System
    states: Entries = ()
    implies: Entries = ()
    unless: Entries = ()
    source: Text
    comment: Text

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if not (self.states or self.implies):
            raise ValueError("a group without codes")
        listed = [entry(self.system, each) for each in (*self.states, *self.implies, *self.unless)]
        if len(set(listed)) != len(listed):
            raise ValueError("a group names a code twice")
        return self


class HarmSet(Record):
    """One set: a harm that people would name in one word, over all vocabularies."""

    format: Literal["oathbound/harm/v1"]
    name: Name
    harm: Literal["identifying", "sensitive"]
    title: Text
    group: tuple[Group, ...] = Field(min_length=1, max_length=500)

    @cached_property
    def matchers(self) -> tuple["_Matcher", ...]:
        """What compares a code with each group."""
        return tuple(_Matcher.of(group) for group in self.group)

    def match(self, code: str) -> Literal["states", "implies"] | None:
        """Return what a MEDS code does about this set: the stronger of what its groups find."""
        form = read(code)
        found = {matcher.match(code, form) for matcher in self.matchers}
        return "states" if "states" in found else "implies" if "implies" in found else None


@dataclass(frozen=True, slots=True)
class _Matcher:
    system: System
    states: "_Entries"
    implies: "_Entries"
    unless: "_Entries"

    @classmethod
    def of(cls, group: Group) -> Self:
        made = (_Entries.of(group.system, each) for each in (group.states, group.implies, group.unless))
        return cls(group.system, *made)

    def match(self, code: str, form: Coded | Worded) -> Literal["states", "implies"] | None:
        asked: str | Coded | Worded = form
        if self.system == "local":
            asked = code
        elif isinstance(form, Coded):
            if form.system != self.system:
                return None
        elif self.system not in IN_WORDS or (self.system == "drug" and not form.drugs):
            return None
        if self.unless.match(asked):
            return None
        return "states" if self.states.match(asked) else "implies" if self.implies.match(asked) else None


@dataclass(frozen=True, slots=True)
class _Entries:
    """Folded entries of one system: codes, prefixes of codes, first parts of local codes, or whole words."""

    codes: frozenset[str]
    lengths: tuple[int, ...]
    words: re.Pattern[str] | None

    @classmethod
    def of(cls, system: System, written: Sequence[str]) -> Self:
        folded = frozenset(entry(system, each) for each in written)
        if system in IN_WORDS:
            return cls(folded, (), re.compile(f" ({'|'.join(sorted(folded))}) ") if folded else None)
        return cls(folded, tuple(sorted({len(each) for each in folded})) if system in BY_PREFIX else (), None)

    def match(self, form: str | Coded | Worded) -> bool:
        if isinstance(form, str):  # a local code: the entry, or more parts after it
            parts = form.split("//")
            return any("//".join(parts[:count]) in self.codes for count in range(1, len(parts) + 1))
        if isinstance(form, Worded):
            return self.words is not None and self.words.search(form.words) is not None
        if self.lengths:
            return any(form.value[:length] in self.codes for length in self.lengths)
        return form.value in self.codes


Catalogue = Mapping[str, HarmSet]
"""Sets by name."""


def parse_set(data: bytes, *, what: str) -> HarmSet:
    """Return the set in a TOML file, or raise `WrongInput`, which names `what` and the key."""
    if len(data) > MAX_BYTES:
        raise WrongInput(f"{what} is larger than {MAX_BYTES} bytes", hint="divide it into several sets")
    try:
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        raise WrongInput(f"{what} is not TOML in UTF-8", hint="spec/harm.md has the format") from None
    return HarmSet.parse(values, what=what)


def shipped() -> Catalogue:
    """Return the catalogue of this version of oathbound."""
    folder = sorted(files("oathbound.audit.harm").iterdir(), key=lambda file: file.name)
    return extended(
        {}, (parse_set(file.read_bytes(), what=file.name) for file in folder if file.name.endswith(".toml"))
    )


def extended(catalogue: Catalogue, own: Iterable[HarmSet]) -> Catalogue:
    """Return the catalogue with more sets; `WrongInput` for a name that is taken, since none is replaced."""
    sets = dict(catalogue)
    for each in own:
        if each.name in sets:
            raise WrongInput(
                f"two sets of codes are called {each.name}", hint="give the study's own set a name of its own"
            )
        sets[each.name] = each
    return MappingProxyType(sets)


def digest_of_catalogue(catalogue: Catalogue) -> str:
    """Return the digest of the sets, in order of name: what a plan that names them is about."""
    return digest_of([catalogue[name].plain() for name in sorted(catalogue)])


@dataclass(frozen=True, slots=True)
class Found:
    """The codes of a vocabulary that state what a set is about, and those that imply it; in its order."""

    states: tuple[str, ...]
    implies: tuple[str, ...]


Parents = Mapping[str, Sequence[str]]
"""Of a code, the codes above it, as `parent_codes` of MEDS `codes.parquet` has them."""

_NO_PARENTS: Final[Parents] = MappingProxyType({})


def find(codes: Iterable[str], harm: HarmSet, parents: Parents = _NO_PARENTS) -> Found:
    """Return which of `codes` the set is about. A code is what any code above it is."""
    matched = {"states": list[str](), "implies": list[str]()}
    for code in dict.fromkeys(codes):
        found = {harm.match(each) for each in _with_ancestors(code, parents)}
        if stronger := "states" if "states" in found else "implies" if "implies" in found else None:
            matched[stronger].append(code)
    return Found(tuple(matched["states"]), tuple(matched["implies"]))


def harm_of(code: str, catalogue: Catalogue, parents: Parents = _NO_PARENTS) -> Harm:
    """Return the harm of a code: that of the gravest set which it, or a code above it, states or implies."""
    above = list(_with_ancestors(code, parents))
    classes = (
        Harm[harm.harm.upper()] for harm in catalogue.values() if any(harm.match(each) for each in above)
    )
    return max(classes, default=Harm.ROUTINE)


def resolve(
    codes: Iterable[str],
    sets: Sequence[str],
    prompting: Prompting,
    *,
    catalogue: Catalogue | None = None,
    parents: Parents = _NO_PARENTS,
) -> SensitiveSet:
    """Return the sets as one `SensitiveSet` of the vocabulary `codes`.

    Raises `WrongInput` for a set that the catalogue lacks, or none, and `NothingExamined` where a set has no
    code in the vocabulary that states it: a test of it would find nothing, and seem to pass.
    """
    catalogue = shipped() if catalogue is None else catalogue
    if not sets:
        raise WrongInput("no set of sensitive codes is named", hint=f"one or more of: {', '.join(catalogue)}")
    codes = tuple(dict.fromkeys(codes))
    found = []
    for name in sets:
        if name not in catalogue:
            raise WrongInput(
                f"no set of sensitive codes is called {name}", hint=f"one of: {', '.join(catalogue)}"
            )
        found.append(find(codes, catalogue[name], parents))
        if not found[-1].states:
            raise NothingExamined(
                f"the vocabulary has no code that states {name}",
                hint="take the set out, or list its codes in the vocabulary",
            )
    states = {code for each in found for code in each.states}
    implied = {code for each in found for code in each.implies} - states
    return SensitiveSet(
        name="; ".join(catalogue[name].title for name in sets),
        codes=tuple(code for code in codes if code in states),
        implied_by=tuple(code for code in codes if code in implied),
        **{name: getattr(prompting, name) for name in Prompting.model_fields},
    )


def _with_ancestors(code: str, parents: Parents) -> Iterator[str]:
    """Yield a code and all above it, each once."""
    seen, ahead = {code}, [code]
    while ahead:
        current = ahead.pop()
        yield current
        above = [each for each in parents.get(current, ()) if each not in seen]
        seen.update(above)
        ahead += above
        if len(seen) > _MOST_PARENTS:
            raise WrongInput("a code has too many codes above it", hint="mend parent_codes of the vocabulary")
