"""Sources of scans and beats keep the contract, frames and all."""

import numpy as np
import pytest

pytest.importorskip("pydicom", reason="scans are an extra")
pytest.importorskip("PIL", reason="scans are an extra")

from oathbound.data.scans import open_scans
from oathbound.data.signals import open_wfdb
from oathbound.testing.contracts.sources import SourceContract

PEOPLE = {4_000_001: (1, 2), 4_000_002: (3,), 4_000_003: (2, 1), 4_000_004: (1,), 4_000_005: (4,)}
"""What each person's recordings show; the third is a copy of the first."""


class TestScans(SourceContract):
    def opener(self):
        return open_scans

    def options(self, folder):
        rows = ["subject_id,path,label,taken"]
        for subject, shown in PEOPLE.items():
            for value in shown:
                np.savez(folder / f"{value}.npz", scan=np.full((3, 3), value, np.float32))
                rows.append(f"{subject},{value}.npz,{'ab'[value % 2]},2020-01-0{value}")
        (folder / "bad.npz").write_bytes(b"PK")
        (folder / "scans.csv").write_text("\n".join([*rows, "4000006,bad.npz,a,2020-01-01"]) + "\n")
        return {"path": "scans.csv", "rows": "2", "columns": "4", "time": "taken", "faces": "refuse"}


class TestWfdb(SourceContract):
    def opener(self):
        return open_wfdb

    def options(self, folder):
        for subject, shown in PEOPLE.items():
            samples = np.zeros(200, "<i2")
            words, before = [], 0
            for value in sorted(shown):
                place = 40 * value
                samples[place - 1 : place + 2] = 10 * value
                words.append((1 + 4 * (value % 2)) << 10 | place - before)
                before = place
            (folder / f"{subject}.dat").write_bytes(samples.tobytes())
            (folder / f"{subject}.hea").write_text(
                f"{subject} 1 100 200\n{subject}.dat 16 200 12 0 0 {int(samples.sum()) % 65536} 0 MLII\n"
            )
            (folder / f"{subject}.atr").write_bytes(np.array([*words, 0], "<u2").tobytes())
        (folder / "4000006.hea").write_text("cut")
        return {"path": ".", "lead": "MLII", "rate": "100", "before": "2", "after": "3"}
