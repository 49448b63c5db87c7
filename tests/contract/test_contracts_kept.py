"""What oathbound brings itself keeps the contracts that it asks of extensions."""

from datetime import datetime

import pytest

pytest.importorskip("torch", reason="training and audits are extras")
import polars as pl

from oathbound.audit.catalog import membership, sensitive_disclosure
from oathbound.core.shape import (
    BeatNet,
    EventTransformer,
    Features,
    LogisticRegression,
    Recordings,
    ScanNet,
    TabularNet,
    Vocabulary,
)
from oathbound.data.meds import open_meds
from oathbound.data.table import open_table
from oathbound.models import convolutional, tabular, transformer
from oathbound.models.family import Family, encoder_of
from oathbound.testing.contracts.audits import AuditContract
from oathbound.testing.contracts.engines import EngineContract
from oathbound.testing.contracts.models import ModelContract
from oathbound.testing.contracts.sources import SourceContract
from oathbound.train.engines import local, parallel

DAY = datetime(2020, 1, 1)  # noqa: DTZ001 - MEDS times have no zone
ROWS = [
    (4_000_001, None, "SEX//F", None),
    (4_000_001, DAY, "LAB", 1.5),
    (4_000_002, DAY, "LAB", 2.5),
    (4_000_002, None, "SEX//M", None),
    (4_000_003, DAY, "LAB", 1.5),
    (4_000_003, None, "SEX//F", None),
    (4_000_004, DAY.replace(day=3), "LAB", None),
    (4_000_004, DAY.replace(day=2), "LAB", None),
    (4_000_005, DAY, "OTHER", 1.0),
    (4_000_006, DAY, None, 1.0),
]
VOCABULARY = {"codes": ["a", "b"], "edges": {"b": ["2"]}, "ages": ["40"], "gaps": ["3", "30"]}
FEATURES = {
    "present": ["a"],
    "numbers": [{"code": "b", "centre": "2", "scale": "1", "missing": ["0"]}],
    "label": {"code": "c", "at_least": "2"},
}
RECORDINGS = {"most": 5, "centre": "0", "scale": "1", "classes": ["a", "b"]}


class TestMeds(SourceContract):
    def opener(self):
        return open_meds

    def options(self, folder):
        (folder / "records" / "data").mkdir(parents=True)
        schema = {
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float32,
        }
        pl.DataFrame(ROWS, schema=schema, orient="row").write_parquet(
            folder / "records" / "data" / "0.parquet"
        )
        return {"path": "records"}


class TestTable(SourceContract):
    def opener(self):
        return open_table

    def options(self, folder):
        rows = [(subject, time, code, value) for subject, time, code, value in ROWS if time]
        schema = ("person", "date", "code", "value")
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(folder / "rows.parquet")
        return {"path": "rows.parquet", "subject": "person", "time": "date", "take": "all"}


class TestTransformer(ModelContract):
    def make(self):
        architecture = EventTransformer(
            name="event-transformer", layers=1, width=8, heads=2, length=24, seed=1
        )
        encoder = encoder_of(architecture, Vocabulary.parse(VOCABULARY, what="vocabulary"))
        return Family(transformer.build(architecture, encoder.size), encoder)


class TestTabularNet(ModelContract):
    architecture = TabularNet(name="tabular-net", hidden=(4,), seed=1)

    def make(self):
        encoder = encoder_of(self.architecture, Features.parse(FEATURES, what="features"))
        return Family(tabular.build(self.architecture, encoder.size), encoder)


class TestLogisticRegression(TestTabularNet):
    architecture = LogisticRegression(name="logistic-regression")


class TestScanNet(ModelContract):
    architecture = ScanNet(name="scan-net", widths=(4, 8), seed=1)
    shape = (7, 10)

    def make(self):
        seen = Recordings.parse({**RECORDINGS, "shape": self.shape}, what="recordings")
        return Family(convolutional.build(self.architecture, seen), encoder_of(self.architecture, seen))


class TestBeatNet(TestScanNet):
    architecture = BeatNet(name="beat-net", widths=(3, 4), activation="gelu", seed=1)
    shape = (25,)


class TestSquaringBeatNet(TestBeatNet):
    architecture = BeatNet(name="beat-net", widths=(3, 4), activation="square", seed=1)


class TestMembership(AuditContract):
    VERSION = 2

    def audit(self):
        return membership.TEST

    def measures(self):
        scores = ("loss", "min-k", "min-k-plus-plus")
        return {"auc": scores, "tpr-at-1-percent": scores}


class TestSensitiveDisclosure(AuditContract):
    VERSION = 2

    def audit(self):
        return sensitive_disclosure.TEST

    def measures(self):
        return {"excess": ("emission",)}


class TestLocalEngine(EngineContract):
    def engine(self):
        return local.run


class TestParallelEngine(EngineContract):
    def engine(self):
        return parallel.run
