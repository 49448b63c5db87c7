"""Each check of verification, taken out, makes a test fail: see `remove_checks.py`."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("remove_checks.py")


def test_every_check_is_noticed_when_it_is_gone():
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
