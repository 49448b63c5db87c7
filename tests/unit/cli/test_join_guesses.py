"""What `join` makes of the records that it is shown."""

import tomllib

import polars as pl
import pytest

from oathbound.cli.verbs.join import command
from oathbound.core.errors import WrongInput


def shown(folder, name, **columns):
    path = folder / name
    frame = pl.DataFrame(columns)
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


@pytest.mark.parametrize("name", ["scans.csv", "scans.parquet"])
def test_a_table_of_scans_is_not_taken_for_one_of_patients(tmp_path, name):
    table = shown(tmp_path, name, subject_id=[7, 7], path=["a.png", "b.png"], label=["ill", "well"])
    with pytest.raises(WrongInput, match="lists scans") as refused:
        command(tmp_path / "site", "north", records=table)
    assert 'source = "scans"' in refused.value.hint
    assert "site.toml" in refused.value.hint
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("name", ["people.csv", "people.parquet"])
def test_a_table_of_patients_is(tmp_path, name):
    command(tmp_path / "site", "north", records=shown(tmp_path, name, subject_id=[7, 9], age=[50, 60]))
    text = (tmp_path / "site" / "site.toml").read_text()
    assert tomllib.loads(text)["records"]["source"] == "table"
    assert all(kind in text for kind in ('"scans"', '"wfdb"'))


def test_a_damaged_table_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(WrongInput, match="not a table that can be read"):
        command(tmp_path / "site", "north", records=tmp_path / "a.parquet")
