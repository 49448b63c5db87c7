"""Each check of verification, and of the secure sum, taken out, makes a test fail: see `remove_checks.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("remove_checks.py")


@pytest.mark.parametrize("group", ["verification", "sums"])
def test_every_check_is_noticed_when_it_is_gone(group):
    done = subprocess.run([sys.executable, str(SCRIPT), group], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
