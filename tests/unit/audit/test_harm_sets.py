"""Sets of codes: files that are refused, a study's own, parents, and the one `SensitiveSet` of a plan."""

import itertools
import logging
from pathlib import Path

import polars as pl
import pytest

from oathbound.audit.harm.harm import (
    Harm,
    digest_of_catalogue,
    extended,
    find,
    harm_of,
    parse_set,
    resolve,
    shipped,
)
from oathbound.core.audit_plan import Prompting
from oathbound.core.errors import NothingExamined, WrongInput

CATALOGUE = shipped()
LENGTHS = Prompting(prompt_events=2, horizon=6, chains=1)
OWN = b"""
format = "oathbound/harm/v1"
name = "lupus"
harm = "sensitive"
title = "lupus"
[[group]]
topic = "lupus"
system = "icd10cm"
states = ["M32"]
unless = ["M32.0"]
source = "ICD-10-CM tabular list 2024: M32"
comment = "Drug-induced lupus passes."
"""


def test_every_group_has_a_source_and_no_two_sets_one_name():
    assert sorted(CATALOGUE) == [
        "genetic",
        "identifying",
        "infectious",
        "mental-health",
        "reproductive",
        "substance-use",
        "violence",
    ]
    assert all(group.source and group.comment for harm in CATALOGUE.values() for group in harm.group)
    with pytest.raises(WrongInput, match="two sets"):
        extended(CATALOGUE, [CATALOGUE["violence"]])


def test_a_study_adds_a_set():
    own = extended(CATALOGUE, [parse_set(OWN, what="own.toml")])
    codes = ["ICD10CM//M32.1", "ICD10CM//M32.0", "ICD10CM//B20"]
    found = resolve(codes, ["lupus"], LENGTHS, catalogue=own)
    assert (found.codes, found.implied_by) == (("ICD10CM//M32.1",), ())
    assert digest_of_catalogue(own) != digest_of_catalogue(CATALOGUE)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"lupus", b"\xff", "not TOML"),
        (b"states", b"says", "unknown key"),
        (b'"M32"', b'"M32", "M32"', "twice"),
        (b'"M32"', b'"m32"', "not written as"),
        (b'states = ["M32"]', b"states = []", "without codes"),
        (b'source = "ICD-10-CM tabular list 2024: M32"', b"", "source: missing"),
        (b'harm = "sensitive"', b'harm = "routine"', "harm"),
        (b"[[group]]", b"[[group", "not TOML"),
        (b"harm/v1", b"harm/v2", "format"),
        (b'"lupus"', b"1979-05-27", "serializable"),
        (b'"lupus"', b"nan", "name"),
    ],
)
def test_a_file_that_is_not_a_set_is_refused(old, new, problem):
    assert old in OWN
    with pytest.raises(WrongInput, match=problem):
        parse_set(OWN.replace(old, new), what="own.toml")


def test_a_file_that_is_too_large_or_too_deep_is_refused():
    with pytest.raises(WrongInput, match="larger"):
        parse_set(OWN + b"#" * 2**20, what="own.toml")
    with pytest.raises(WrongInput, match="TOML"):
        parse_set(b"x = " + b"[" * 100_000, what="own.toml")


def test_a_plan_names_sets_and_gets_their_codes():
    codes = ["A", "ATC/J05AR01", "ICD10CM//B20", "ICD10CM//F20.0", "ICD10CM//B20"]
    found = resolve(codes, ["infectious", "mental-health"], LENGTHS)
    assert found.codes == ("ICD10CM//B20", "ICD10CM//F20.0")
    assert found.implied_by == ("ATC/J05AR01",)
    assert (found.prompt_events, found.horizon, found.chains) == (2, 6, 1)


def test_a_code_that_one_set_states_and_another_implies_is_stated():
    own = OWN.replace(b'states = ["M32"]', b'implies = ["B20"]\nstates = ["M32"]')
    catalogue = extended(CATALOGUE, [parse_set(own, what="own.toml")])
    found = resolve(["ICD10CM//B20", "ICD10CM//M32.1"], ["lupus", "infectious"], LENGTHS, catalogue=catalogue)
    assert (found.codes, found.implied_by) == (("ICD10CM//B20", "ICD10CM//M32.1"), ())


def test_sets_that_are_unknown_none_or_not_in_the_vocabulary_are_refused():
    with pytest.raises(WrongInput, match="is called cancer"):
        resolve(["ICD10CM//B20"], ["cancer"], LENGTHS)
    with pytest.raises(WrongInput, match="is named"):
        resolve(["ICD10CM//B20"], [], LENGTHS)
    with pytest.raises(NothingExamined, match="no code that states infectious"):
        resolve(["ATC/J05AR01", "A"], ["infectious"], LENGTHS)
    with pytest.raises(NothingExamined, match="violence"):
        resolve(["ICD10CM//B20"], ["infectious", "violence"], LENGTHS)


def test_a_code_is_what_the_codes_above_it_are():
    parents = {"LOCAL//1": ["SNOMED//235856003"], "SNOMED//235856003": ["SNOMED//50711007"]}
    infectious = CATALOGUE["infectious"]
    assert find(["LOCAL//1", "LOCAL//2"], infectious, parents).states == ("LOCAL//1",)
    assert find(["LOCAL//1"], infectious).states == ()
    assert harm_of("LOCAL//1", CATALOGUE, parents) is Harm.SENSITIVE
    assert harm_of("LOCAL//1", CATALOGUE) is Harm.ROUTINE


def test_parents_in_a_circle_end():
    parents = {"A": ["B"], "B": ["A"]}
    assert find(["A"], CATALOGUE["infectious"], parents).states == ()
    with pytest.raises(WrongInput, match="too many codes above"):
        find(["0"], CATALOGUE["infectious"], {str(i): [str(i + 1)] for i in range(20_000)})


def test_classes_of_harm():
    assert harm_of("ICD10CM//I10", CATALOGUE) is Harm.ROUTINE
    assert harm_of("MEDS_DEATH", CATALOGUE) is Harm.IDENTIFYING
    assert harm_of("ATC//J05AR01", CATALOGUE) is Harm.SENSITIVE
    assert harm_of("GENDER//F", CATALOGUE) is Harm.ROUTINE
    assert Harm.ROUTINE < Harm.IDENTIFYING < Harm.SENSITIVE


# What a person read through, code by code, and found no false positive in: numbers of codes, stating and
# implying.
READ_THROUGH = {
    "mimic_iv_demo": {
        "genetic": (0, 0),
        "identifying": (6, 0),
        "infectious": (11, 19),
        "mental-health": (24, 45),
        "reproductive": (0, 0),
        "substance-use": (62, 9),
        "violence": (2, 0),
    },
    "eicu_demo": {
        "genetic": (4, 0),
        "identifying": (9, 0),
        "infectious": (2, 2),
        "mental-health": (7, 14),
        "reproductive": (0, 0),
        "substance-use": (14, 3),
        "violence": (0, 0),
    },
}


@pytest.mark.parametrize("cohort", READ_THROUGH)
def test_the_codes_of_real_records(cohort):
    path = Path(__file__).resolve().parents[3] / "../shared/data" / cohort / "metadata/codes.parquet"
    if not path.exists():
        pytest.skip(f"{cohort} is not there: the catalogue was NOT tried on real codes")
    codes = pl.read_parquet(path)["code"].to_list()
    counted = {}
    for name, harm in CATALOGUE.items():
        found = find(codes, harm)
        counted[name] = (len(found.states), len(found.implies))
        for code in itertools.chain(found.states, found.implies):
            logging.getLogger(__name__).info("%s %s %s", cohort, name, code)
    logging.getLogger(__name__).info("%s: %s", cohort, counted)
    assert counted == READ_THROUGH[cohort]
