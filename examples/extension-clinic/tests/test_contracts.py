"""The contract suites of oathbound on each part of this extension."""

from pathlib import Path

from oathbound_clinic.audit import TEST
from oathbound_clinic.engine import run
from oathbound_clinic.model import make
from oathbound_clinic.source import open_csv

from oathbound.audit.target import AuditTest
from oathbound.core.shape import ExtensionModel, Vocabulary
from oathbound.data.kinds import Opener
from oathbound.models.family import Family
from oathbound.testing.contracts.audits import AuditContract
from oathbound.testing.contracts.engines import EngineContract
from oathbound.testing.contracts.models import ModelContract
from oathbound.testing.contracts.sources import SourceContract
from oathbound.train.engine import Engine

EVENTS = """subject_id,time,code,value
1000007,,SEX//F,
1000007,2020-03-01,LAB//glucose,101.5
1000007,2020-01-01T08:00:00,DIAGNOSIS//asthma,
1000003,2020-02-02,LAB//glucose,99
1000003,2020-02-02,LAB//glucose,inf
1000009,2020-02-02,LAB//glucose,99
1000009,2020-02-02,LAB//glucose,
1000011,2020-02-02,DIAGNOSIS//asthma,
1000012,2020-02-03,DIAGNOSIS//asthma,
1000013,no date,DIAGNOSIS//asthma,
,2020-02-03,DIAGNOSIS//asthma,
"""


class TestSource(SourceContract):
    """`csv-events`."""

    def opener(self) -> Opener:
        """Return the entry point."""
        return open_csv

    def options(self, folder: Path) -> dict[str, str]:
        """Write the events above."""
        (folder / "events.csv").write_text(EVENTS)
        return {"path": "events.csv"}


class TestModel(ModelContract):
    """`code-chain`."""

    def make(self) -> Family:
        """Return one over two codes."""
        seen = Vocabulary.parse({"codes": ["a", "b"], "edges": {}, "ages": [], "gaps": ["7"]}, what="seen")
        return make(ExtensionModel(name="code-chain", options={"length": "24"}, seed=1), seen)


class TestAudit(AuditContract):
    """`neighbourhood`."""

    def audit(self) -> AuditTest:
        """Return the entry point."""
        return TEST

    def measures(self) -> dict[str, tuple[str, ...]]:
        """Return what a study says of it."""
        return {"auc": ("neighbourhood",)}


class TestEngine(EngineContract):
    """`by-turns`."""

    def engine(self) -> Engine:
        """Return the entry point."""
        return run
