"""What a MEDS code says it is: a code of a known vocabulary, or words. `spec/harm.md` has the rules.

Vocabularies are named in many ways (`ICD10CM//B20`, `DIAGNOSIS//ICD//10//B20`, `ICD10/B20`), and codes are
written with and without their dots. What is read here is one form: the system, and the code in capitals
without dots or hyphens.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

System = Literal[
    "icd10cm",
    "icd9cm",
    "icd10pcs",
    "icd9pcs",
    "snomed",
    "loinc",
    "atc",
    "rxnorm",
    "ndc",
    "cpt",
    "hcpcs",
    "drug",
    "term",
    "local",
]
"""A vocabulary of codes. `drug` and `term` are words in a code that is of none of them; `local` is a source's
own code, whatever it is."""

BY_PREFIX: Final[frozenset[System]] = frozenset({"icd10cm", "icd9cm", "icd10pcs", "icd9pcs", "atc", "ndc"})
"""The vocabularies in which a code begins with the code of its class. In others a code is matched whole."""

IN_WORDS: Final[frozenset[System]] = frozenset({"drug", "term"})
_AS_WRITTEN: Final[frozenset[System]] = frozenset({"drug", "term", "local"})

_NAMES: Final[Mapping[str, System]] = {
    "ICD10": "icd10cm",
    "ICD10CM": "icd10cm",
    "ICD10DX": "icd10cm",
    "ICD10PCS": "icd10pcs",
    "ICD10PROC": "icd10pcs",
    "ICD9": "icd9cm",
    "ICD9CM": "icd9cm",
    "ICD9DX": "icd9cm",
    "ICD9PCS": "icd9pcs",
    "ICD9PROC": "icd9pcs",
    "SNOMED": "snomed",
    "SNOMEDCT": "snomed",
    "SNOMEDCTUS": "snomed",
    "SCT": "snomed",
    "LOINC": "loinc",
    "LNC": "loinc",
    "ATC": "atc",
    "RXNORM": "rxnorm",
    "NDC": "ndc",
    "CPT": "cpt",
    "CPT4": "cpt",
    "HCPCS": "hcpcs",
}
"""The systems, as their names read in capitals without any other character."""

_NO_DRUGS: Final = frozenset({"ADMISSION_DX", "ALLERGY", "APACHE_DX", "DIAGNOSIS", "DRG", "MICRO"})
"""Families of codes in words that name a medicine which was not given."""

_OF_PROCEDURES: Final[Mapping[System, System]] = {"icd10cm": "icd10pcs", "icd9cm": "icd9pcs"}

_FORMS: Final[Mapping[System, str]] = {
    "icd10cm": r"[A-Z][0-9][0-9A-Z]{1,5}",
    "icd9cm": r"([0-9]{3}|V[0-9]{2}|E[0-9]{3})[0-9]{0,2}",
    "icd10pcs": r"[0-9A-HJ-NP-Z]{7}",
    "icd9pcs": r"[0-9]{2,4}",
    "snomed": r"[1-9][0-9]{5,17}",
    "loinc": r"[0-9]{2,8}",
    "atc": r"[A-Z]([0-9]{2}([A-Z]([A-Z]([0-9]{2})?)?)?)?",
    "rxnorm": r"[1-9][0-9]{0,7}",
    "ndc": r"[0-9]{11}",
    "cpt": r"[0-9]{4}[0-9FTU]",
    "hcpcs": r"[A-V][0-9]{4}",
}
"""A code of each system, folded."""

_LISTED: Final[Mapping[System, str]] = {
    "icd10cm": r"[A-Z][0-9][0-9A-Z](\.[0-9A-Z]{1,4})?",
    "icd9cm": r"([0-9]{3}|V[0-9]{2})(\.[0-9]{1,2})?|E[0-9]{3}(\.[0-9])?",
    "icd10pcs": r"[0-9A-HJ-NP-Z]{2,7}",
    "icd9pcs": r"[0-9]{2}(\.[0-9]{1,2})?",
    "snomed": r"[1-9][0-9]{5,17}",
    "loinc": r"[0-9]{1,7}-[0-9]",
    "atc": r"[A-Z][0-9]{2}[A-Z]([A-Z]([0-9]{2})?)?",
    "rxnorm": r"[1-9][0-9]{0,7}",
    "ndc": r"[0-9]{5}-[0-9]{4}",
    "cpt": r"[0-9]{4}[0-9FTU]",
    "hcpcs": r"[A-V][0-9]{4}",
    "drug": r"[a-z0-9]+( [a-z0-9]+)*",
    "term": r"[a-z0-9]+( [a-z0-9]+)*",
    "local": r"[!-~]([ -~]*[!-~])?",
}
"""How an entry of the catalogue is written: as the publisher writes the code, or words, folded."""


@dataclass(frozen=True, slots=True)
class Coded:
    """A code of a vocabulary, folded."""

    system: System
    value: str


@dataclass(frozen=True, slots=True)
class Worded:
    """A code in words: lower case, single spaces, a space at either end. `drugs`: it may name a medicine."""

    words: str
    drugs: bool


def read(code: str) -> Coded | Worded:
    """Return what a MEDS code is.

    The name of a vocabulary is looked for in the first two parts between slashes, and the code in the part
    after it. What has no such name, or no well-formed code there, is words.
    """
    parts = [part.strip() for part in re.split(r"/+", code)]
    for at, name in enumerate(parts[:2]):
        system, after = _system(name, parts[at + 1 :])
        if system is None or not after:
            continue
        if parts[0].upper().startswith("PROC"):
            system = _OF_PROCEDURES.get(system, system)
        value = _folded(system, after[0])
        if re.fullmatch(_FORMS[system], value):
            return Coded(system, value)
    return Worded(f" {folded_words(code)} ", drugs=parts[0].upper() not in _NO_DRUGS)


def _system(name: str, after: list[str]) -> tuple[System | None, list[str]]:
    """Return the system that a part names, and the parts after it; `ICD` is named by two parts."""
    name = re.sub(r"[^A-Z0-9]", "", name.upper())
    if name == "ICD" and after:
        name, after = name + re.sub(r"[^A-Z0-9]", "", after[0].upper()), after[1:]
    return _NAMES.get(name), after


def _folded(system: System, value: str) -> str:
    """Return a code in capitals, without dots, hyphens and spaces; an NDC as its eleven digits, if known."""
    if system == "ndc":
        segments = value.split("-")
        if len(segments) > 1:  # FDA: 4-4-2, 5-3-2 and 5-4-1 become 5-4-2 by zeros on the left
            return "".join(part.zfill(width) for part, width in zip(segments, (5, 4, 2), strict=False))
    return re.sub(r"[.\-\s]", "", value.upper())


def folded_words(text: str) -> str:
    """Return the words of a text: lower case letters and digits, with single spaces between."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def entry(system: System, written: str) -> str:
    """Return an entry of the catalogue, folded; `ValueError` if no code of the system is written so.

    Of SNOMED CT and LOINC the check digit is checked too: it finds a mistyped or swapped digit.
    """
    if not re.fullmatch(_LISTED[system], written):
        raise ValueError(f"{written!r} is not written as a code of {system}")
    if system in _CHECKED and not _CHECKED[system](written.replace("-", "")):
        raise ValueError(f"the check digit of {written!r} does not fit")
    return written if system in _AS_WRITTEN else _folded(system, written)


def _luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of LOINC: modulus 10 of Luhn (LOINC users' guide, app. C)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled // 10 + doubled % 10
    return total % 10 == 0


_DIHEDRAL: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_SHIFT: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _verhoeff(digits: str) -> bool:
    """Whether the last digit is the check digit of SNOMED CT (Verhoeff 1969; SNOMED CT RF2, appendix B)."""
    check = 0
    shifted = list(range(10))
    for digit in reversed(digits):
        check = _DIHEDRAL[check][shifted[int(digit)]]
        shifted = [_SHIFT[place] for place in shifted]
    return check == 0


_CHECKED: Final[Mapping[System, Callable[[str], bool]]] = {"loinc": _luhn, "snomed": _verhoeff}
