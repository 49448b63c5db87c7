"""What is pinned is whole: every recipe has digests, a licence and citations, and paths that stay inside."""

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest

from oathbound.data import eicu
from oathbound.data.recipes import RECIPES, Recipe

every = pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)


def test_the_sets():
    assert set(RECIPES) == {"mimic-iv-demo", "eicu-demo"}


@every
def test_files_are_pinned_and_stay_inside(recipe: Recipe):
    assert recipe.files
    assert len({file.path for file in recipe.files}) == len({file.sha256 for file in recipe.files})
    assert len(recipe.files) == len({file.path for file in recipe.files})
    for file in recipe.files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert 0 < file.size < 50_000_000
        assert re.fullmatch(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", file.path)
        assert not {"..", "."} & set(PurePosixPath(file.path).parts)


@every
def test_addresses_are_of_one_version_over_https(recipe: Recipe):
    address = urlsplit(recipe.address)
    assert (address.scheme, address.netloc) == ("https", "physionet.org")
    assert address.path.endswith(f"/{recipe.version}/")
    assert address.query == address.fragment == ""


@every
def test_the_notice_names_licence_and_authors(recipe: Recipe):
    assert "Open Database License 1.0" in recipe.notice
    assert "opendatacommons.org" in recipe.notice
    assert all(reference in recipe.notice for reference in recipe.cite)
    assert sum("doi 10.13026/" in reference for reference in recipe.cite) >= 1
    assert any(file.path == "LICENSE.txt" for file in recipe.files)


def test_every_table_that_is_read_is_downloaded():
    files = {file.path for file in RECIPES["eicu-demo"].files}
    assert files == {"LICENSE.txt", *(f"{table}.csv.gz" for table in eicu.TABLES)}
