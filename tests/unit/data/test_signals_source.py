from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from oathbound.core.errors import NothingExamined, OathboundError, WrongInput
from oathbound.data import signals
from oathbound.data.cohort import restored
from oathbound.data.kinds import open_source
from oathbound.data.signals import AAMI, Options, windows

SHARED = Path(__file__).resolve().parents[3] / "../shared/data/mitbih"
DS1 = {"N": 45_866, "S": 944, "V": 3_788, "F": 415, "Q": 8}
"""Beats of the training records: de Chazal, O'Dwyer and Reilly, IEEE Trans Biomed Eng 51 (2004) 1196."""
SYMBOLS = dict(
    zip("NLRaVFJASEj/QBenfr", (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25, 34, 35, 38, 41), strict=True)
)
"""The letters of annot(5), and their codes."""


def needs_mitbih():
    if not SHARED.is_dir():
        pytest.skip("the shared MIT-BIH records are not here")


def record(folder, name="1", *, beats=((10, 1), (20, 5)), length=40, start="", leads=("MLII",)):
    samples = np.arange(length * len(leads), dtype="<i2") % 2000
    (folder / f"{name}.dat").write_bytes(samples.tobytes())
    lines = [f"{name} {len(leads)} 100 {length} {start}"]
    lines += [
        f"{name}.dat 16 200 12 0 0 {int(samples[place :: len(leads)].sum()) % 65536} 0 {lead}"
        for place, lead in enumerate(leads)
    ]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    words, before = [], 0
    for sample, code in beats:
        words += [code << 10 | sample - before]
        before = sample
    (folder / f"{name}.atr").write_bytes(np.array([*words, 0], "<u2").tobytes())


def opened(folder, **options):
    return open_source("wfdb", {"path": ".", "rate": "100", "before": "2", "after": "3", **options}, folder)


def columns(source):
    (piece,) = source.read(frozenset(source.subjects()) - source.unreadable())
    return piece


def test_a_beat_is_a_window_of_millivolts_with_its_class(tmp_path):
    record(tmp_path, start="10:00:00 01/01/2000")
    piece = columns(opened(tmp_path))
    assert [piece.codes[place] for place in piece.code] == ["beat//N", "beat//V"]
    assert piece.frames.dtype == np.float32
    assert piece.frames == pytest.approx(np.array([[8, 9, 10, 11, 12], [18, 19, 20, 21, 22]]) / 200, abs=1e-6)
    assert (
        piece.time.tolist() == np.array(["2000-01-01T10:00:00.1", "2000-01-01T10:00:00.2"], "M8[us]").tolist()
    )
    record(tmp_path)
    assert np.isnat(columns(opened(tmp_path)).time).all()


def test_beyond_the_ends_the_last_sample_goes_on(tmp_path):
    record(tmp_path, beats=[(1, 1), (38, 1)])
    assert columns(opened(tmp_path)).frames == pytest.approx(
        np.array([[0, 0, 1, 2, 3], [36, 37, 38, 39, 39]]) / 200, abs=1e-6
    )


def test_the_lead_is_the_named_one(tmp_path):
    record(tmp_path, leads=("V5", "MLII"))
    assert columns(opened(tmp_path, lead="MLII")).frames[0, 2] == pytest.approx(21 / 200)
    assert columns(opened(tmp_path)).frames[0, 2] == pytest.approx(20 / 200)
    with pytest.raises(NothingExamined, match="no recording"):
        opened(tmp_path, lead="V1")


def test_resampling_keeps_a_slow_wave_and_cuts_a_fast_one():
    """From 360 Hz to 125 Hz: 10 Hz stays within 1 %, 100 Hz falls below 1 %."""
    at, asked = np.array([1800, 2111]), Options.parse({"path": "x"})
    seconds = at[:, None] / 360 + np.arange(-62, 125) / 125
    for hertz, least, most in ((10, 0.99, 1.01), (100, 0.0, 0.01)):
        wave = np.sin(2 * np.pi * hertz * np.arange(4000) / 360).astype(np.float32)
        found = windows(wave, at, 360.0, asked)
        assert least <= np.abs(found).max() <= most
        if least:
            assert found == pytest.approx(np.sin(2 * np.pi * hertz * seconds), abs=0.01)


def test_paced_records_are_left_out_and_bad_ones_take_their_person(tmp_path):
    for name in "12345":
        record(tmp_path, name)
    record(tmp_path, "2", beats=[(10, 12), (20, 1)])
    (tmp_path / "3.dat").write_bytes(b"cut")
    (tmp_path / "4.atr").unlink()
    record(tmp_path, "5", beats=[(10, 28)])
    source = opened(tmp_path)
    assert source.subjects() == (1, 2, 3, 4, 5)
    assert source.unreadable() == {2, 3, 4, 5}
    assert {reason for reason, _ in source.describe().dropped.why} == {
        "a file is missing, damaged or of another format",
        "a file of a record is missing, damaged or not of its header",
        "all records have paced beats",
        "no beat is annotated",
    }
    with pytest.raises(WrongInput, match="gone"):
        source.columns(restored("study", "sha256:0", {"members": [1], "held_out": [3]}))


def test_a_table_says_whose_a_record_is(tmp_path):
    for name in ("a", "b", "c"):
        record(tmp_path, name, beats=[(10, 1)])
    with pytest.raises(WrongInput, match="of nobody"):
        opened(tmp_path)
    (tmp_path / "people.csv").write_text("record,subject_id\na,7\nb,9\nc,7\n")
    source = opened(tmp_path, subjects="people.csv")
    assert source.subjects() == (7, 9)
    assert columns(source).subject.tolist() == [7, 7, 9]
    assert opened(tmp_path, subjects="people.csv", records="b").subjects() == (9,)
    (tmp_path / "people.csv").write_text("record,subject_id\na,7\na,9\nb,1\nc,1\n")
    with pytest.raises(WrongInput, match="twice"):
        opened(tmp_path, subjects="people.csv")


def test_the_two_records_of_one_man_are_one_person(tmp_path):
    for name in ("201", "202"):
        record(tmp_path, name)
    assert opened(tmp_path).subjects() == (201, 202)
    for name in ("201", "202"):
        record(tmp_path, name, length=650_000)
        text = (tmp_path / f"{name}.hea").read_text()
        (tmp_path / f"{name}.hea").write_text(text.replace(" 100 650000", " 360 650000"))
    source = opened(tmp_path)
    assert source.subjects() == (201,)
    assert len(columns(source).subject) == 4


@pytest.mark.parametrize(
    "options",
    [
        {"rate": "0"},
        {"rate": "1.5"},
        {"after": "0"},
        {"before": "-1"},
        {"after": "99999"},
        {"records": "9"},
        {"x": ""},
    ],
)
def test_wrong_options(tmp_path, options):
    record(tmp_path)
    with pytest.raises(OathboundError):
        opened(tmp_path, **options)


def test_what_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    record(tmp_path)
    text = (tmp_path / "1.hea").read_text()
    (tmp_path / "1.hea").write_text(text.replace("1 1 100 ", "1 1 100000 "))
    with pytest.raises(NothingExamined) as refused:
        opened(tmp_path, rate="1", after="1024")
    assert "too far above" in refused.value.hint
    record(tmp_path)
    monkeypatch.setattr(signals, "MOST_BYTES", 2 * 5 * 4 - 1)
    with pytest.raises(NothingExamined) as refused:
        opened(tmp_path)
    assert "too many beats" in refused.value.hint


def test_an_empty_folder(tmp_path):
    with pytest.raises(NothingExamined):
        opened(tmp_path)


def test_the_classes_are_those_of_the_published_table():
    needs_mitbih()
    with np.load(SHARED / "beats_187.npz") as beats:
        letters, counts = np.unique(beats["symbol"][beats["split"] == 1], return_counts=True)
    found = Counter()
    for letter, count in zip(letters.tolist(), counts.tolist(), strict=True):
        found[AAMI[SYMBOLS[letter]]] += count
    assert found == DS1


def test_real_records_hold_the_beats_that_were_read_from_them_elsewhere():
    """Beat by beat: the class of each, and nearly the same wave (that set's filter and baseline differ)."""
    needs_mitbih()
    source = open_source("wfdb", {"path": "records", "lead": "MLII", "records": "100,208,217,221"}, SHARED)
    assert source.unreadable() == {217}  # paced
    piece = columns(source)
    with np.load(SHARED / "beats_187.npz") as beats:
        of = {name: beats[name] for name in ("record", "y", "X", "classes", "padded")}
    for subject, counts in (
        (100, {"N": 2239, "S": 33, "V": 1}),
        (208, {"N": 1586, "S": 2, "V": 992, "F": 373, "Q": 2}),
        (221, {"N": 2031, "V": 396}),
    ):
        mine, theirs = piece.subject == subject, of["record"] == subject
        classes = [piece.codes[place].removeprefix("beat//") for place in piece.code[mine]]
        assert Counter(classes) == counts
        assert classes == of["classes"][of["y"][theirs]].tolist()
        waves, others = piece.frames[mine], of["X"][theirs] / 200
        waves, others = (each - each.mean(axis=1, keepdims=True) for each in (waves, others))
        alike = (waves * others).sum(axis=1) / np.sqrt((waves**2).sum(axis=1) * (others**2).sum(axis=1))
        assert alike[~of["padded"][theirs]].min() > 0.85
