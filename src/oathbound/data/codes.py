"""The two code trees that consent is written in, and which code covers which.

Purposes are HL7 v3 PurposeOfUse, data classes v3 ActInformationSensitivityPolicy, as HL7 Terminology 6 orders
them. A code that these trees do not list is unknown, and unknown never permits.
"""

from collections.abc import Mapping
from typing import Final

PURPOSE_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
CLASS_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

_PURPOSES: Final[Mapping[str, str]] = {
    "HMARKT": "",
    "HOPERAT": "CAREMGT DONAT FRAUD GOV HACCRED HCOMPL HDECD HDIRECT HDM HLEGAL HOUTCOMS HPRGRP HQUALIMP"
    " HSYSADMIN MEMADMIN MILCDM PATADMIN PATSFTY PERFMSR RECORDMGT SYSDEV TRAIN",
    "HSYSADMIN": "LABELING METAMGT",
    "SYSDEV": "HTEST",
    "HPAYMT": "CLMATTCH COVAUTH COVERAGE REMITADV",
    "COVERAGE": "ELIGDTRM ELIGVER ENROLLM MILDCRG",
    "HRESCH": "BIORCH CLINTRCH DSRCH POARCH TRANSRCH",
    "CLINTRCH": "CLINTRCHNPC CLINTRCHPC PRECLINTRCH",
    "PATRQT": "FAMRQT PWATRNY SUPNWK",
    "PUBHLTH": "DISASTER THREAT",
    "TREAT": "CLINTRL COC ETREAT POPHLTH",
    "ETREAT": "BTG ERTREAT",
}

_CLASSES: Final[Mapping[str, str]] = {
    "ETH": "",
    "GDIS": "",
    "HIV": "",
    "MST": "",
    "SCA": "",
    "SDV": "",
    "SEX": "",
    "SPI": "BH MH PSY PSYTHPN SUD",
    "BH": "COGN DVD EMOTDIS",
    "SUD": "ETHUD OPIOIDUD",
    "STD": "",
    "TBOO": "",
    "VIO": "",
    "SICKLE": "",
}

# HL7 draws these apart; one person's record does not. Whoever withholds one withholds the others. Permits are
# never widened so.
_KIN: Final = (("ETH", "SUD"), ("BH", "MH", "PSY", "PSYTHPN"), ("SCA", "SICKLE"))


def _ancestries(tree: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return each code's ancestors, itself included."""
    parent = {child: code for code, children in tree.items() for child in children.split()}

    def climb(code: str) -> frozenset[str]:
        return frozenset({code}) | (climb(parent[code]) if code in parent else frozenset())

    return {code: climb(code) for code in {*tree, *parent}}


def _overlaps(covers: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return each code's ancestors and descendants, itself included: all that overlap with it."""
    return {
        code: above | {other for other, its_above in covers.items() if code in its_above}
        for code, above in covers.items()
    }


def _withholding(overlaps: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    kin = {code: group for group in _KIN for code in group}
    return {
        code: touched.union(*(overlaps[relative] for near in touched for relative in kin.get(near, ())))
        for code, touched in overlaps.items()
    }


PURPOSE_COVERED_BY: Final = _ancestries(_PURPOSES)
"""For each purpose, the purposes whose permission covers all of it."""

PURPOSE_TOUCHED_BY: Final = _overlaps(PURPOSE_COVERED_BY)
"""For each purpose, the purposes whose denial forbids some of it."""

CLASS_COVERED_BY: Final = _ancestries(_CLASSES)
"""For each data class, the classes whose permission covers all of it."""

CLASS_TOUCHED_BY: Final = _withholding(_overlaps(CLASS_COVERED_BY))
"""For each data class, the classes whose withholding withholds some of it."""
