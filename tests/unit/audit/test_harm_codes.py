"""What a MEDS code is read as, and what the shipped catalogue says of codes that everybody knows."""

import pytest

from oathbound.audit.harm.codes import Coded, Worded, entry, read
from oathbound.audit.harm.harm import shipped

CATALOGUE = shipped()


@pytest.mark.parametrize(
    ("code", "system", "value"),
    [
        ("ICD10CM//B20", "icd10cm", "B20"),
        ("ICD10CM/B20", "icd10cm", "B20"),
        ("ICD-10-CM//f20.0", "icd10cm", "F200"),
        ("DIAGNOSIS//ICD//10//F200", "icd10cm", "F200"),
        ("DIAGNOSIS//ICD//9//042", "icd9cm", "042"),
        ("DIAGNOSIS//ICD9CM//295.90", "icd9cm", "29590"),
        ("DIAGNOSIS//ICD10CM//B20//primary", "icd10cm", "B20"),
        ("ICD9CM/V08", "icd9cm", "V08"),
        ("PROCEDURE//ICD//10//10A07ZZ", "icd10pcs", "10A07ZZ"),
        ("PROCEDURE//ICD//9//6901", "icd9pcs", "6901"),
        ("ICD9Proc/69.01", "icd9pcs", "6901"),
        ("ICD10PCS//GZB0ZZZ", "icd10pcs", "GZB0ZZZ"),
        ("SNOMED/86406008", "snomed", "86406008"),
        ("LOINC//25836-8", "loinc", "258368"),
        ("LAB//LOINC//25836-8", "loinc", "258368"),
        ("ATC/J05AR01", "atc", "J05AR01"),
        ("RxNorm//6813", "rxnorm", "6813"),
        ("NDC//61958-0701-1", "ndc", "61958070101"),
        ("NDC//0006-0227-61", "ndc", "00006022761"),
        ("NDC//61958070101", "ndc", "61958070101"),
        ("CPT4/59840", "cpt", "59840"),
        ("HCPCS//J0571", "hcpcs", "J0571"),
    ],
)
def test_one_form_of_many(code, system, value):
    assert read(code) == Coded(system, value)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "//",
        "ICD10CM",
        "ICD10CM//",
        "ICD10CM//unknown disease",
        "DIAGNOSIS//ICD//042",
        "DIAGNOSIS//ICD//11//1C62",
        "HCPCS//Digestive system",
        "PAST_HISTORY//Organ Systems/Cardiovascular (R)/ICD/9/042",
        "NDC//0006022761",
        "MEDICATION//Methadone//Administered",
    ],
)
def test_what_is_no_code_of_a_vocabulary_is_words(code):
    assert isinstance(read(code), Worded)


@pytest.mark.parametrize(
    ("name", "code", "found"),
    [
        ("infectious", "ICD10CM//B20", "states"),
        ("infectious", "DIAGNOSIS//ICD//9//042", "states"),
        ("infectious", "DIAGNOSIS//ICD//9//07054", "states"),
        ("infectious", "DIAGNOSIS//ICD//9//07010", None),
        ("infectious", "LOINC//25836-8", "implies"),
        ("infectious", "ATC/J05AR01", "implies"),
        ("infectious", "ATC/J05AH02", None),
        ("infectious", "NDC//61958-0701-1", "implies"),
        ("infectious", "MEDICATION//Emtricitabine-Tenofovir (Truvada)//Administered", "implies"),
        ("infectious", "MEDICATION//Hepatitis B Vaccine//Administered", None),
        ("infectious", "LAB//51654//log10 cop/mL", "implies"),
        ("infectious", "LAB//516540//x", None),
        ("mental-health", "DIAGNOSIS//ICD//10//F200", "states"),
        ("mental-health", "ICD9CM/296.82", None),
        ("mental-health", "ICD9CM/296.80", "states"),
        ("mental-health", "ICD10CM//F32.9", None),
        ("substance-use", "ICD10CM//F17.210", None),
        ("substance-use", "DIAGNOSIS//ICD//9//3051", None),
        ("substance-use", "DIAGNOSIS//ICD//9//30500", "states"),
        ("substance-use", "ATC/N07BC02", "implies"),
        ("substance-use", "MEDICATION//Methadone//Administered", "implies"),
        ("substance-use", "MEDICATION//Methylnaltrexone//Administered", None),
        ("substance-use", "ALLERGY//methadone", None),
        ("substance-use", "MEDICATION//Amphetamine-Dextroamphetamine//Administered", None),
        ("substance-use", "LAB//cocaine screen//UNK", None),
        ("substance-use", "PAST_HISTORY//cocaine use", "states"),
        ("infectious", "MEDICATION//metoprolol 25 mg tb", None),
        ("infectious", "PAST_HISTORY//latent TB", "states"),
        ("identifying", "TREATMENT//speech language therapy", None),
        ("identifying", "LANGUAGE//Basque", "states"),
        ("reproductive", "CPT4/59840", "states"),
        ("reproductive", "PROCEDURE//ICD//10//10A07ZZ", "states"),
        ("reproductive", "PROCEDURE//ICD//10//10D00Z1", None),
        ("genetic", "ICD10CM//Z15.01", "states"),
        ("genetic", "DRG//HCFA//809//MAJOR HEMATOL/IMMUN DIAG EXC SICKLE CELL CRISIS & COAGUL W CC", None),
        ("violence", "DIAGNOSIS//ICD//9//E9600", "states"),
        ("violence", "ICD9CM/995.86", None),
    ],
)
def test_what_the_catalogue_says(name, code, found):
    assert CATALOGUE[name].match(code) == found


PAPERS_OWN = {  # Tonekaboni et al. 2025, table 4, and the two that only its code has
    "infectious": ["B20", "A15.0", "B16.9", "B18.2", "A56.00", "A51.0"],
    "substance-use": ["F10.20", "F11.10", "F14.10", "T40.1X1A", "F12.10", "F16.10", "F15.20"],
    "mental-health": ["F20.9", "F31.9", "F60.9", "F22", "F23", "F43.10", "F50.00", "F30.9", "F60.3"],
}


@pytest.mark.parametrize("name", PAPERS_OWN)
def test_the_categories_of_the_paper_are_covered(name):
    assert {CATALOGUE[name].match(f"ICD10CM//{code}") for code in PAPERS_OWN[name]} == {"states"}


@pytest.mark.parametrize(
    ("system", "written"),
    [
        ("icd10cm", "B2"),
        ("icd10cm", "b20"),
        ("icd9cm", "42"),
        ("icd9cm", "E95"),
        ("loinc", "25836-7"),
        ("loinc", "25863-8"),
        ("snomed", "86406009"),
        ("snomed", "84606008"),
        ("atc", "J"),
        ("atc", "J05"),
        ("ndc", "61958-701"),
        ("term", "HIV"),
        ("term", "hiv|aids"),
        ("drug", " lithium"),
        ("cpt", "5984"),
    ],
)
def test_an_entry_that_is_mistyped_or_too_wide_is_refused(system, written):
    with pytest.raises(ValueError, match=r"not written as|check digit"):
        entry(system, written)
