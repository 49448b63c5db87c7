import numpy as np
import pytest

from oathbound.core.canonical import canonical, digest
from oathbound.core.errors import ProtocolRefused
from oathbound.train.messages import (
    MOST_ANNOUNCEMENT_BYTES,
    Label,
    Step,
    frame,
    unframe,
    weight_bytes,
)

WEIGHTS = np.array([0.5, -1.0, 3e-9], dtype=np.float32)
NAMES = {"run": digest(b"run"), "plan": digest(b"plan"), "model": digest(weight_bytes(WEIGHTS))}
STEP = Step(Label(step=2, attempt=3, **NAMES), WEIGHTS)
MESSAGE = STEP.encode(b"")


@pytest.mark.parametrize("announcement", [b"", b"announced", bytes(MOST_ANNOUNCEMENT_BYTES)])
def test_a_message_decodes_to_itself(announcement):
    decoded, rest = Step.decode(STEP.encode(announcement), 3)
    assert rest == announcement
    assert decoded.encode(rest) == STEP.encode(announcement)
    assert (decoded.label.step, decoded.label.attempt) == (2, 3)


def test_weights_are_little_endian():
    weights = bytes.fromhex("0000003f 000080bf") + WEIGHTS[2:].astype("<f4").tobytes()
    assert MESSAGE.endswith(weights)
    assert STEP.encode(b"announced").endswith(weights + b"announced")


def test_a_message_of_another_length_is_refused():
    for wrong in (
        *(MESSAGE[:n] for n in range(len(MESSAGE))),
        STEP.encode(bytes(MOST_ANNOUNCEMENT_BYTES + 1)),
    ):
        with pytest.raises(ProtocolRefused):
            Step.decode(wrong, 3)
    for dimension in (2, 4):
        with pytest.raises(ProtocolRefused):
            Step.decode(MESSAGE, dimension)


def test_any_flipped_bit_of_a_step_is_refused_or_changes_its_label():
    for position in range(8 * len(MESSAGE)):
        flipped = bytearray(MESSAGE)
        flipped[position // 8] ^= 1 << position % 8
        try:
            assert Step.decode(bytes(flipped), 3)[0].label != STEP.label
        except ProtocolRefused:
            continue


def test_kinds_are_not_confused():
    with pytest.raises(ProtocolRefused, match="not a message of the kind"):
        Step.decode(frame(b"oathbound/snapshot/v1\n", header(), weight_bytes(WEIGHTS)), 3)


def header(**changes):
    plain = {**Label(step=2, attempt=3, **NAMES).plain(), **changes}
    return {key: value for key, value in plain.items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"site": "north"},
        {"run": None},
        {"run": "sha256:" + "A" * 64},
        {"step": 0},
        {"step": True},
        {"step": "2"},
        {"attempt": -1},
        {"attempt": 2**53 - 1},
    ],
)
def test_headers_that_the_format_does_not_know_are_refused(changes):
    message = frame(b"oathbound/step/v1\n", header(**changes), weight_bytes(WEIGHTS))
    with pytest.raises(ProtocolRefused):
        Step.decode(message, 3)


@pytest.mark.parametrize("text", [b"[]", b"1", b"{", b"\xff", b'{"a": 1}', b'{"b":1,"a":1}', b"[" * 3000])
def test_headers_that_are_not_canonical_objects_are_refused(text):
    message = b"magic\n" + len(text).to_bytes(4, "little") + text
    with pytest.raises(ProtocolRefused):
        unframe(b"magic\n", message, 0)


def test_a_header_is_bounded():
    text = canonical({"a": "x" * 5000})
    with pytest.raises(ProtocolRefused, match="wrong length"):
        unframe(b"magic\n", b"magic\n" + len(text).to_bytes(4, "little") + text, 0)


def test_weights_must_be_those_that_the_label_names():
    message = Step(Label(step=1, attempt=1, **NAMES), WEIGHTS + 1).encode(b"")
    with pytest.raises(ProtocolRefused, match="not the ones that it names"):
        Step.decode(message, 3)
