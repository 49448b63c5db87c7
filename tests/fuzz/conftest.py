"""The fuzzer's modules lie beside its test, and are scripts first: they are found here and nowhere else."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
