import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oathbound.data.store import SiteStore
from oathbound.workflow.folders import StudyFolder

NOW = int(time.time())
TINY = {
    "width": 8, "heads": 1, "length": 12, "members": 250, "steps": 4, "attempts": 24, "round_steps": 4,
    "minimum_patients": 10, "prompt_events": 1, "horizon": 2, "chains": 1, "threads": 1,
    "ring_norm": 1024,
}  # fmt: skip


@pytest.fixture(scope="session")
def admitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that returns a small study at the end of its admissions, made once for each wish."""
    pytest.importorskip("torch", reason="training is an extra")
    from oathbound.workflow import init  # noqa: PLC0415 - not before the skip
    from oathbound.workflow.admit import admit_site  # noqa: PLC0415 - not before the skip
    from oathbound.workflow.oath import swear  # noqa: PLC0415 - not before the skip

    made: dict[tuple[str, ...], Path] = {}

    def make(*sites: str, engine: str = "local", **changes: int) -> Path:
        wish = (*sites, engine, *map(str, changes.items()))
        if wish not in made:
            path = tmp_path_factory.mktemp("admitted") / "study"
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(init, "INVENTED_PATIENTS", 70)
                patched.setattr(init, "SITES", sites)
                init.init_example(path, now=NOW - 10)
            text = (path / "study.toml").read_text().replace('engine = "local"', f'engine = "{engine}"')
            for key, value in (TINY | changes).items():
                text, found = re.subn(rf"^{key} = [0-9]+", f"{key} = {value}", text, flags=re.MULTILINE)
                assert found == 1, key
            (path / "study.toml").write_text(text)
            study = StudyFolder.open(path)
            for verb in (swear, lambda study, site: admit_site(study, site, now=NOW)):
                for site in sites:
                    verb(study, site)
            made[wish] = path
        return made[wish]

    return make


@pytest.fixture
def small(admitted: Callable[..., Path], tmp_path: Path) -> Callable[..., StudyFolder]:
    """Return a function that returns such a study, the test's own."""

    def copy(*sites: str, **wish: object) -> StudyFolder:
        shutil.copytree(admitted(*sites or ("north", "east", "south"), **wish), tmp_path / "study")
        return StudyFolder.open(tmp_path / "study")

    return copy


@pytest.fixture
def charged() -> Callable[[StudyFolder], dict[str, tuple[int, int]]]:
    """Return a function that returns how many attempts each site has charged, and the highest."""

    def counts(study: StudyFolder) -> dict[str, tuple[int, int]]:
        found = {}
        for site in study.sites():
            with SiteStore.open(site.state) as store:
                charges = store.charged(study.policy.study)
                found[site.file.name] = (charges.count, charges.highest)
        return found

    return counts
