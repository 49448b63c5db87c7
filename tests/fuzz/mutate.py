"""Changes to a valid input: to its bytes, to its text, and to the JSON in it, whose length stays stated."""

import json
from random import Random
from typing import Any, Final

import rfc8785

NUMBERS: Final = (
    0, -1, 1, 2, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64,
    10**19, 10**400, -(2**63), 0.5, -0.0, 1e308, 1e-320,
)  # fmt: skip
TEXTS: Final = (
    "", "0", "-0", "1", "-1", "1e9", "1e-99", "0.1", "NaN", "Infinity", "9" * 18, "9" * 5000, "0." + "1" * 40,
    "1e99", "\0", "\n", "\u202e", "\ud800", "\U0001f600", "a" * 65, "..", "../../etc/passwd", "/", "sha256:",
    "sha256:" + "0" * 64, "sha256:" + "G" * 64, "north", "east", "coordinator", "AAAA", "A===", "\u0663",
    "1_0", "0000-00-00", "9999-12-31", "2024-02-30", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00+99:99",
    "0001-01-01T00:00:00+14:00",
    "pass", "fail", "membership", "auc", "excess", "not-measurable", "unbounded", "sampled-gaussian",
    "banded-toeplitz",
)  # fmt: skip
TOKENS: Final = (
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b"true", b"false", b"1e999", b"-", b"\\u0000",
    b"\\ud800", b"[" * 2000, b'{"a":' * 2000, b"a.b.c = 1\n", b"[[x]]\n", b"[x]\n", b'"""', b"'''", b"inf",
    b"nan", b"\n", b"1979-05-27T07:32:00Z", b"0x" + b"f" * 40, b"_" * 10, b"\r\n", b"\t", "\u2014 ".encode(),
    b"=", b"+", b"/", b" ", "\ufeff".encode(), b"1" * 5000, b"\0", b"\xff", b"\x80", b"PK\x01\x02",
    b"PK\x05\x06", b"PAR1", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f",
)  # fmt: skip
LENGTHS: Final = (2, 4, 8)
LARGEST: Final = 1 << 17


def mutated(data: bytes, others: list[bytes], random: Random) -> bytes:
    """Return `data` after one to five changes; `others` are inputs that parts may come from."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
        # JSON whose form is broken ends early, so most changes keep it.
        inside = data[:1] in b"{[" and random.random() < 0.6
        change = _json if inside else random.choice(CHANGES)
        data = change(data, others, random)[:LARGEST]
    return data


def _place(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 1, 2, 4, 8, 16, 64, 256)))


def _bits(data: bytes, _: list[bytes], random: Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _bytes(data: bytes, _: list[bytes], random: Random) -> bytes:
    start, end = _place(data, random)
    return data[:start] + random.randbytes(end - start) + data[end:]


def _cut(data: bytes, _: list[bytes], random: Random) -> bytes:
    start, end = _place(data, random)
    return random.choice((data[:start] + data[end:], data[:start], data[start:]))


def _repeat(data: bytes, _: list[bytes], random: Random) -> bytes:
    start, end = _place(data, random)
    return data[:end] + data[start:end] * random.choice((1, 2, 10, 300)) + data[end:]


def _insert(data: bytes, _: list[bytes], random: Random) -> bytes:
    start, end = _place(data, random)
    return data[:start] + random.choice(TOKENS) + data[random.choice((start, end)) :]


def _splice(data: bytes, others: list[bytes], random: Random) -> bytes:
    other = random.choice(others)
    start, end = _place(other, random)
    here, after = _place(data, random)
    return random.choice((data[:here] + other[start:], data[:here] + other[start:end] + data[after:]))


def _number(data: bytes, _: list[bytes], random: Random) -> bytes:
    """Write a boundary over a few bytes, as a number of two, four or eight."""
    size = random.choice(LENGTHS)
    if len(data) < size:
        return data
    start = random.randrange(len(data) - size + 1)
    bound = 1 << 8 * size
    value = random.choice(
        (0, 1, 255, bound - 1, bound // 2, len(data) % bound, random.randrange(300) % bound)
    )
    return data[:start] + value.to_bytes(size, random.choice(("little", "big"))) + data[start + size :]


def _json(data: bytes, others: list[bytes], random: Random) -> bytes:
    """Change a value inside the first JSON in `data`; a length that stands before it is corrected."""
    start = min((place for place in map(data.find, (b"{", b"[")) if place >= 0), default=-1)
    if start < 0:
        return _insert(data, others, random)
    try:
        text = data[start:].decode("utf-8", "surrogateescape")
        value, characters = json.JSONDecoder().raw_decode(text)
        end = len(text[:characters].encode("utf-8", "surrogateescape"))
        new: bytes = _encoded(_changed(value, random), random)
    except (ValueError, TypeError, RecursionError, OverflowError):
        return _insert(data, others, random)
    before = data[:start]
    for size in LENGTHS:
        if len(before) >= size and int.from_bytes(before[-size:], "little") == end:
            before = before[:-size] + (len(new) % 2 ** (8 * size)).to_bytes(size, "little")
    return before + new + data[start + end :]


def _encoded(value: Any, random: Random) -> bytes:
    if random.random() < 0.9:  # canonical, to come further
        try:
            return bytes(rfc8785.dumps(value))
        except ValueError:
            pass
    return json.dumps(value, indent=random.choice((None, 1)), ensure_ascii=random.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )


def _changed(value: Any, random: Random) -> Any:
    """Return the value with one part changed, at a random depth."""
    if not value or random.random() < 0.15:
        return _another(value, random)
    if isinstance(value, list):
        return _changed_list(value, random)
    return _changed_object(value, random) if isinstance(value, dict) else _another(value, random)


def _changed_list(value: list[Any], random: Random) -> list[Any]:
    place, how = random.randrange(len(value)), random.randrange(8)
    if how == 0:
        instead = []
    elif how == 1:
        instead = [value[place]] * random.choice((2, 3, 100))
    else:
        instead = [_changed(value[place], random)]
    return [*value[:place], *instead, *value[place + 1 :]]


def _changed_object(value: dict[str, Any], random: Random) -> dict[str, Any]:
    key, other = random.choice(list(value)), random.choice(list(value))
    how = random.randrange(10)
    if how == 0:
        return {name: part for name, part in value.items() if name != key}
    if how == 1:
        return {**value, random.choice((*TEXTS, other)): random.choice((value[key], 1, None))}
    return {**value, key: value[other] if how == 2 else _changed(value[key], random)}


def _another(value: Any, random: Random) -> Any:
    """Return something in place of a value: mostly of its own type."""
    if random.random() < 0.25:
        deep: Any = value
        for _ in range(random.choice((1, 5, 60, 900))):
            deep = [deep]
        return random.choice((None, True, [], {}, "", 0, 1.5, [value], {"a": value}, [value] * 300, deep))
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return random.choice((*NUMBERS, value + 1, value - 1, value * 5, -value))
    if isinstance(value, str):
        if value and random.random() < 0.4:
            place = random.randrange(len(value))
            return value[:place] + random.choice((*TEXTS, value[place] * 2)) + value[place + 1 :]
        return random.choice(TEXTS)
    return random.choice((None, [], {}, "a", 0, [value], True))


CHANGES: Final = (_bits, _bytes, _cut, _repeat, _insert, _splice, _number, _json)
