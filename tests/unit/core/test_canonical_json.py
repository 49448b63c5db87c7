import pytest

from oathbound.core.canonical import MAX_JSON_BYTES, canonical, from_canonical
from oathbound.core.errors import NotAuthentic


@pytest.mark.parametrize("value", [0.5, [0.5], {"a": 0.5}, {"a": [{"b": (1, 0.5)}]}, [[{"a": 1.0}]]])
def test_a_float_is_not_signed_however_deep(value):
    with pytest.raises(TypeError, match="float"):
        canonical(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b" 1",
        b"1.0",
        b"1e2",
        b"-0",
        b"NaN",
        b'{"b":1,"a":1}',
        b'{"a":1,"a":1}',
        b'{"a": 1}',
        b'"\\u0041"',
        b"9007199254740992",
        b"1" * 5000,
        b"[" * 100_000,
        b"[" * 900 + b"0.5" + b"]" * 900,
        b'"\\ud800"',
    ],
)
def test_what_is_not_the_one_form_is_refused(data):
    with pytest.raises(NotAuthentic, match="it is not canonical JSON"):
        from_canonical(data, what="it")


def test_what_is_the_one_form_is_read():
    for value in (None, True, 0, -(2**53) + 1, "\u00e9", [], {"a": [1, {"b": "c"}]}):
        assert from_canonical(canonical(value), what="it") == value


def test_what_is_too_large_is_not_read():
    with pytest.raises(NotAuthentic, match="larger"):
        from_canonical(b'"' + b"a" * MAX_JSON_BYTES + b'"', what="it")
