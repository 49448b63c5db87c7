"""However a code is written, the catalogue says one thing of it, and no text stops it."""

from hypothesis import given
from hypothesis import strategies as st

from oathbound.audit.harm.codes import read
from oathbound.audit.harm.harm import shipped

SETS = list(shipped().values())
letters = st.sampled_from("ABCFVXZ")


@given(st.text(max_size=60))
def test_any_text_is_read_as_something(text):
    read(text)
    assert all(harm.match(text) in {None, "states", "implies"} for harm in SETS)


@given(
    letters, st.from_regex(r"[0-9][0-9AB]", fullmatch=True), st.from_regex(r"[0-9AB]{0,4}", fullmatch=True)
)
def test_dots_slashes_and_case_change_nothing(letter, category, rest):
    plain = f"{letter}{category}{rest}"
    dotted = f"{letter}{category}.{rest}" if rest else plain
    writings = [
        f"ICD10CM//{plain}",
        f"ICD10CM/{dotted}",
        f"icd-10-cm//{dotted.lower()}",
        f"DIAGNOSIS//ICD//10//{plain}",
        f"DIAGNOSIS//ICD10CM//{dotted}//x",
    ]
    assert len({read(code) for code in writings}) == 1
    for harm in SETS:
        assert len({harm.match(code) for code in writings}) == 1
