"""The copy of a log's latest checkpoint is mended when a crash came between two writes."""

import pytest

from oathbound.evidence.log import Log
from oathbound.evidence.merkle import root
from oathbound.evidence.note import sign_checkpoint

ORIGIN = "oathbound/study/hospital-a"


@pytest.fixture
def latest(tmp_path, hospital):
    with Log.open(tmp_path, ORIGIN) as log:
        for leaf in (b"a", b"b"):
            log.append(leaf)
            log.write_checkpoint(sign_checkpoint(ORIGIN, log.size, root(log.leaf_hashes()), hospital))
    return (tmp_path / "checkpoints" / "2").read_bytes()


def test_a_copy_that_is_missing_is_written_when_the_log_is_opened(tmp_path, latest):
    (tmp_path / "checkpoint").unlink()
    Log.open(tmp_path, ORIGIN).close()
    assert (tmp_path / "checkpoint").read_bytes() == latest


def test_a_copy_of_an_earlier_checkpoint_is_replaced(tmp_path, latest):
    (tmp_path / "checkpoint").write_bytes((tmp_path / "checkpoints" / "1").read_bytes())
    Log.open(tmp_path, ORIGIN).close()
    assert (tmp_path / "checkpoint").read_bytes() == latest


@pytest.mark.usefixtures("latest")
def test_a_copy_that_is_right_is_left_alone(tmp_path):
    before = (tmp_path / "checkpoint").stat()
    Log.open(tmp_path, ORIGIN).close()
    after = (tmp_path / "checkpoint").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
