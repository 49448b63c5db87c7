"""Public data sets that anybody may download: where they lie, digests, licences, conversions.

Digests and sizes are those that PhysioNet publishes beside its files (`SHA256SUMS.txt`, and each folder's
index), as its own laboratory keeps them: github.com/MIT-LCP/croissant-baker, `tests/data/input`, at commit
ac60540803ba8e85b7b8c9a670cd4d26933c82e6. The files themselves were hashed too, but for `data/train/0.parquet`
and `lab.csv.gz`: of these the published digest was read, and no copy was at hand.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final

from oathbound.data import eicu

RECORDS: Final = "meds"
"""The folder of a downloaded set that holds its records."""

ORIGINAL: Final = "original"
"""The folder that holds the files as published, where the records were made from them."""


@dataclass(frozen=True, slots=True)
class Published:
    """One file as its publisher keeps it: its path below the set's address, bytes, SHA-256 in hexadecimal."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one public data set is downloaded and becomes records.

    `address` is an https folder, with its closing slash. `convert` makes the folder of records, its second
    argument, which is not there yet, from the folder of files; None where the files are MEDS as published.
    `parts` are the MEDS data sets within the folder of records.
    """

    name: str
    version: str
    title: str
    people: int
    sites: int
    address: str
    files: tuple[Published, ...]
    licence: str
    terms: str
    cite: tuple[str, ...]
    changes: str
    parts: tuple[str, ...] = (".",)
    convert: Callable[[Path, Path], None] | None = None

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def folder(self) -> PurePosixPath:
        """The folder that the files go to, within that of the set."""
        return PurePosixPath(ORIGINAL if self.convert else RECORDS)

    @property
    def notice(self) -> str:
        """What goes with every copy: where it is from, its licence, what was changed, and whom to cite."""
        return "\n".join(
            (
                f"# {self.title} {self.version}",
                "",
                f"From     {self.address}",
                f"Licence  {self.licence}: {self.terms}",
                f"Changes  {self.changes}",
                "",
                "Real people, who are not to be identified. Whoever uses the data cites:",
                *(f"* {reference}" for reference in self.cite),
            )
        )


_ODBL: Final = "Open Database License 1.0"
_TERMS: Final = (
    "use, share and change it, if you name its authors and publish changed copies under the same licence; "
    "https://opendatacommons.org/licenses/odbl/1-0/"
)
_PHYSIONET: Final = (
    "Goldberger et al., PhysioBank, PhysioToolkit, and PhysioNet, Circulation 101(23), 2000, e215-e220"
)
_LICENCE_FILE: Final = Published(
    "LICENSE.txt", 25815, "bcdfcd4f31c790e30fb645dc36414907172405897adff329ad379eed85d12017"
)

MIMIC_IV_DEMO: Final = Recipe(
    name="mimic-iv-demo",
    version="0.0.1",
    title="MIMIC-IV demo data in the Medical Event Data Standard",
    people=100,
    sites=1,
    address="https://physionet.org/files/mimic-iv-demo-meds/0.0.1/",
    files=(
        _LICENCE_FILE,
        Published(
            "data/held_out/0.parquet",
            271428,
            "02188079b269327eb9dd93df32cd7f2cb9534de9a128728a9329f647d4b2e518",
        ),
        Published(
            "data/train/0.parquet",
            4860946,
            "b02868e5f2e3508baaa53d11241781a37ee11bdea140054b24a8c57a8dfee4f0",
        ),
        Published(
            "data/tuning/0.parquet",
            424019,
            "7476d07c309d1183f4e841996b7c84721e39ca8ee7bf545f6061bb2a73e04190",
        ),
        Published(
            "metadata/codes.parquet",
            390097,
            "34207cf305825e43299ebfcb08d32ccca48bac253a21ae0cd9d277e72ddf1655",
        ),
        Published(
            "metadata/subject_splits.parquet",
            1349,
            "1c332dbe5151ac90e0972c16f2f01697d49bd536ce0023dc835b9a79326f4472",
        ),
    ),
    licence=_ODBL,
    terms=_TERMS,
    cite=(
        "van de Water et al., MIMIC-IV demo data in MEDS 0.0.1, PhysioNet, 2025, doi 10.13026/t2y8-ea41",
        "Johnson et al., MIMIC-IV Clinical Database Demo 2.2, PhysioNet, 2023, doi 10.13026/dp1f-ex47",
        _PHYSIONET,
    ),
    changes="none",
)

EICU_DEMO: Final = Recipe(
    name="eicu-demo",
    version="2.0.1",
    title="eICU Collaborative Research Database Demo",
    people=1841,
    sites=186,
    address="https://physionet.org/files/eicu-crd-demo/2.0.1/",
    files=(
        _LICENCE_FILE,
        Published(
            "admissionDx.csv.gz", 95877, "607020180f1c7fbbc994a23552d6a4fdc70b86d4abc8e1b36f3ee28e96f15c42"
        ),
        Published(
            "allergy.csv.gz", 35475, "be890a4cfaf7a194596583f882f491ced515f1714e3d07fc59413a83af5dad31"
        ),
        Published(
            "apacheApsVar.csv.gz", 68194, "2dc6d63f9807c7e663ffa253998691605d527b702ac1db8cc5dda92308061e78"
        ),
        Published(
            "diagnosis.csv.gz", 360548, "c99770c25fdeaee1eb34e490f982bd17459bc8902f951a2ae23adef65e7b1b52"
        ),
        Published("hospital.csv.gz", 759, "4ed356f9c4e7c8ce80e89241697e94b77f21c2f325cd6ad126794b1e92805ef4"),
        Published(
            "infusiondrug.csv.gz", 403703, "3b9f024d28682884a820763ac516ae68b247ebf17903fee4f38240c04886d527"
        ),
        Published("lab.csv.gz", 5729763, "e06852850abeb65211bc22ac43f17121ba41b14656fac862396449af84d8273a"),
        Published(
            "medication.csv.gz", 1458011, "480a251570a27932110452f66f248061f712c306663c274f78f90875648cb720"
        ),
        Published(
            "microLab.csv.gz", 3580, "0250a23d70033f27e1954ced50935cefedaaf3fddd5a5cf5bda2d5a6927eb94d"
        ),
        Published(
            "pastHistory.csv.gz", 142402, "3af6e3101c037347365d81daf73ea487ba12e14a6a10f0b2ed53beed2e30c7d5"
        ),
        Published(
            "patient.csv.gz", 136791, "15e1eb52169828e3cfff3b67132a087298de4d0365bbb31bb294f6043bffd474"
        ),
        Published(
            "treatment.csv.gz", 460899, "daefee030fa1ad29593dce880ad86bdfbdbb1e33fcb3e78fa21d71cb01a08628"
        ),
        Published(
            "vitalAperiodic.csv.gz",
            2619980,
            "c294f46647990cb648b3ebfa589e83f330bdc0c2c922b5e8f23aa0ef99954635",
        ),
    ),
    licence=_ODBL,
    terms=_TERMS,
    cite=(
        "Johnson et al., eICU-CRD Demo 2.0.1, PhysioNet, 2021, doi 10.13026/4mxk-na84",
        "Pollard et al., The eICU Collaborative Research Database, Scientific Data 5, 2018, 180178",
        _PHYSIONET,
    ),
    changes=(
        "original/ is as published; meds/ was made from it by oathbound (conversion 1): one folder a region, "
        "on a made-up clock"
    ),
    parts=eicu.REGIONS,
    convert=eicu.convert,
)

RECIPES: Final[Mapping[str, Recipe]] = MappingProxyType(
    {recipe.name: recipe for recipe in (MIMIC_IV_DEMO, EICU_DEMO)}
)
"""Every recipe by its name."""
