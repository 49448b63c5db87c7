"""WFDB files made by hand, byte by byte, as the format's pages have them."""

from datetime import datetime

import numpy as np
import pytest

from oathbound.data.files import Unusable
from oathbound.data.waveforms import annotations, header, millivolts

SAMPLES = [[-2, 2047, 0, 5, -2047], [100, -100, 1, 2, 3]]


def packed(values):
    """Return format 212: two samples of 12 bits in three bytes."""
    values = [value & 0xFFF for value in values]
    pairs = zip(values[::2], [*values[1::2], 0], strict=False)
    data = b"".join(bytes([a & 255, a >> 8 | (b >> 8) << 4, b & 255]) for a, b in pairs)
    return data[: (3 * len(values) + 1) // 2]


def write(folder, form="212", line="a 2 360 5", samples=SAMPLES, gain="200"):
    flat = [value for pair in zip(*samples, strict=True) for value in pair]
    data = packed(flat) if form == "212" else np.array(flat, "<i2").tobytes()
    (folder / "a.dat").write_bytes(data)
    leads = "".join(
        f"a.dat {form} {gain} 11 {zero} {lead[0]} {sum(lead) % 65536} 0 {name}\n"
        for zero, lead, name in zip((0, 50), samples, ("MLII", "V 5"), strict=True)
    )
    (folder / "a.hea").write_text(f"{line}\n# a note\n{leads}# another\n")
    return header(folder / "a.hea")


@pytest.mark.parametrize("form", ["212", "16"])
def test_samples_become_millivolts(tmp_path, form):
    found = write(tmp_path, form)
    assert (found.rate, found.samples, found.start) == (360, 5, None)
    assert [signal.lead for signal in found.signals] == ["MLII", "V 5"]
    for place, zero in ((0, 0), (1, 50)):
        expected = (np.array(SAMPLES[place]) - zero) / 200
        assert millivolts(found, place, tmp_path) == pytest.approx(expected, abs=1e-6)


def test_gain_baseline_and_units_are_as_the_header_says(tmp_path):
    found = write(tmp_path, gain="400(-3)/mV")
    assert millivolts(found, 0, tmp_path)[0] == pytest.approx((-2 + 3) / 400)
    found = write(tmp_path, gain="0.4/uV")
    assert millivolts(found, 0, tmp_path)[0] == pytest.approx(-2 / 400)


def test_a_missing_sample_is_no_number(tmp_path):
    samples = [[1, -2048, 3, 4, 5], SAMPLES[1]]
    assert np.isnan(millivolts(write(tmp_path, samples=samples), 0, tmp_path)).tolist() == [0, 1, 0, 0, 0]


def test_a_record_may_say_when_it_was_taken(tmp_path):
    found = write(tmp_path, line="a 2 250/250(0) 5 10:20:30.5 03/02/1999")
    assert found.rate == 250
    assert found.start == datetime(1999, 2, 3, 10, 20, 30)  # noqa: DTZ001 - MEDS times have no zone


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a 2 360",
        "a/3 2 360 5",
        "a 3 360 5",
        "a 2 0 5",
        "a 2 inf 5",
        "a 2 1e9 5",
        "a 2 1e-9 5",
        "a 2 360 5000000000",
        "a 2 360 -1",
        "a 2 360 5 10:00:00 x",
    ],
)
def test_a_header_that_is_wrong(tmp_path, line):
    with pytest.raises(Unusable):
        write(tmp_path, line=line)


@pytest.mark.parametrize("gain", ["0", "-1", "1e-40", "1e40", "200/mmHg", "nan", "x", f"200({10**40})"])
def test_a_lead_without_volts(tmp_path, gain):
    with pytest.raises(Unusable):
        write(tmp_path, gain=gain)


def test_a_header_leads_to_no_other_folder(tmp_path):
    write(tmp_path)
    text = (tmp_path / "a.hea").read_text()
    for other in ("../a.dat", "/etc/hostname", ".."):
        (tmp_path / "a.hea").write_text(text.replace("a.dat", other))
        with pytest.raises(Unusable):
            header(tmp_path / "a.hea")


def test_a_changed_sample_is_noticed_by_the_checksum(tmp_path):
    found = write(tmp_path)
    data = bytearray((tmp_path / "a.dat").read_bytes())
    data[0] ^= 1
    for changed in (bytes(data), bytes(data[:-1]), bytes([*data, 0])):
        (tmp_path / "a.dat").write_bytes(changed)
        with pytest.raises(Unusable):
            millivolts(found, 0, tmp_path)


def words(*pairs):
    return b"".join((code << 10 | interval).to_bytes(2, "little") for code, interval in pairs)


def test_annotations_skips_notes_and_channels(tmp_path):
    data = (
        words((28, 4), (63, 3))
        + b"(N\0\0"
        + words((1, 6), (61, 1), (62, 1), (60, 2))
        + words((59, 0))
        + (2).to_bytes(2, "little")
        + (7).to_bytes(2, "little")
        + words((5, 3), (0, 0), (1, 1))
    )
    (tmp_path / "a.atr").write_bytes(data)
    found = annotations(tmp_path / "a.atr", 200_000)
    assert found.code.tolist() == [28, 1, 5]
    assert found.sample.tolist() == [4, 10, 10 + 2 * 65536 + 7 + 3]


@pytest.mark.parametrize(
    "data",
    [b"", words((1, 5)), words((1, 5), (59, 0)), words((1, 500), (0, 0)), words((63, 1000), (0, 0))],
    ids=["empty", "no end", "cut", "beyond the signal", "a note without end"],
)
def test_annotations_that_are_wrong(tmp_path, data):
    (tmp_path / "a.atr").write_bytes(data)
    with pytest.raises(Unusable):
        annotations(tmp_path / "a.atr", 100)
