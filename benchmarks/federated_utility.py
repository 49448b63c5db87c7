"""What a federation costs a model: held-out AUC of every way to train it, beside training on pooled records.

    python benchmarks/federated_utility.py [--cohort heart|nodules] [--draws N] [--no-private]
    python benchmarks/federated_utility.py --cohort eicu|ultrasound|brain --data FOLDER
    python benchmarks/federated_utility.py --cohort ultrasound --data FOLDER --learning-rate 0.01 --steps 60

Each draw divides the people of all sites anew, at random: 70 % members, the rest held out. All ways see the
same members, and are tried on the same others. The private ways add the noise of one epsilon in three ways:

* distributed: oathbound's, by sites of which one may collude; their noise is sqrt(n / (n - 1)) times central;
* per hospital: every hospital adds the whole noise to its own sum, as where no sum is secure: sqrt(n) times;
* central: one place that everybody trusts with the records.

`pooled` is torch's Adam on all members' records in one place. Trainer, ring, noise and descent of the others
are those of a run; masks are left out, for they cancel. Nothing was tuned on these draws. eICU is the demo in
the MEDS layout, with `sites.parquet`: death in hospital, by the worst values of day one, in four regions.
Ultrasound is BUSI (Al-Dhabyani et al. 2020), malignant against benign; brain is a collection of slices of
MRI, a tumour against none: 64 x 64, at three sites by chance, groups of near copies in place of patients.
"""

import argparse
import copy
import csv
import math
import platform
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import polars as pl
import torch
from PIL import Image

from oathbound.audit.references import trained as trained_pooled
from oathbound.audit.statistics import delong
from oathbound.core import accounting
from oathbound.core.canonical import digest
from oathbound.core.patient import Columns
from oathbound.core.shape import Features, LogisticRegression, Recordings, ScanNet
from oathbound.core.study import Study
from oathbound.core.training_plan import Budget, Training
from oathbound.data import heart, nodules
from oathbound.data.meds import open_meds
from oathbound.hazmat.gaussian import DiscreteGaussian
from oathbound.models import convolutional, tabular
from oathbound.models.convolutional import Recogniser
from oathbound.models.family import encoder_of, family_of
from oathbound.models.features import FeatureEncoder
from oathbound.models.model import Model, flat, load_flat
from oathbound.models.recordings import RecordingEncoder
from oathbound.train.descent import Descent
from oathbound.train.plan import Plan, Privacy
from oathbound.train.trainer import Trainer
from oathbound.workflow.members import Members
from oathbound.workflow.sibling import Uncharged

SHARE = 0.7
SIDE = 64
DELTA = Decimal("1e-5")
EPSILONS = (Decimal(3), Decimal(8))
RUN = digest(b"run")
LOCAL = {"steps": 5, "learning_rate": "0.2"}
ALGORITHMS = {
    "fedavg": ({"algorithm": "fedavg"}, "1"),
    "fedprox": ({"algorithm": "fedprox", "proximal": "0.1"}, "1"),
    "fedadam": ({"algorithm": "fedadam"}, "0.05"),
}
"""By name: what is said of the local steps beside `LOCAL`, and the coordinator's learning rate."""


@dataclass(frozen=True)
class Cohort:
    """A model with its first weights, everybody's rows, and everybody's site."""

    model: Model
    rows: np.ndarray
    site: np.ndarray


def demo(cohort: str, module: object) -> Cohort:
    """Return a demo's cohort and the model of its private study."""
    tables = "".join(
        f'[[policy.sites]]\nname = "{name}"\nfingerprint = "{digest(name.encode())}"\n\n'
        for name in module.SITES
    )
    template = files("oathbound.workflow") / "templates" / f"demo-{cohort}-private.toml"
    text = Template(template.read_text()).substitute(
        study="s", coordinator=digest(b"coordinator"), sites=tables, folder="sites"
    )
    policy = Study.of(tomllib.loads(text)).policy
    encoder, opened = encoder_of(policy.model, policy.seen), getattr(module, f"open_{cohort}")
    rows = [encoder.encode_columns(opened({"site": site}, Path()).events)[1] for site in module.SITES]
    site = np.repeat(np.array(list(module.SITES)), [len(each) for each in rows])
    return Cohort(family_of(policy).model, np.concatenate(rows), site)


def eicu(folder: Path) -> Cohort:
    """Return the patients of four regions, and a logistic regression for death in hospital."""
    centres = {
        "heartrate": (90, 25),
        "meanbp": (80, 30),
        "respiratoryrate": (20, 10),
        "temperature": (37, 1),
        "glucose": (120, 60),
        "sodium": (140, 5),
        "creatinine": (1, 1),
        "bun": (20, 15),
        "hematocrit": (38, 7),
        "wbc": (9, 5),
        "albumin": (3.5, 0.7),
        "bilirubin": (1, 1),
    }
    numbers = [
        {"code": f"APACHE24H//{name}", "centre": str(centre), "scale": str(scale), "missing": []}
        for name, (centre, scale) in centres.items()
    ]
    features = Features.parse(
        {"present": ["GENDER//Male"], "numbers": numbers, "label": {"code": "MEDS_DEATH"}}, what="features"
    )
    regions = dict(pl.read_parquet(folder / "sites.parquet").select("subject_id", "region").iter_rows())
    source = open_meds({"path": str(folder)}, Path())
    encoder, everybody = FeatureEncoder(features), frozenset(source.subjects())
    encoded = [encoder.encode_columns(piece) for piece in source.read(everybody)]
    subjects, rows = (np.concatenate(part) for part in zip(*encoded, strict=True))
    site = np.array([regions[subject] for subject in subjects.tolist()])
    model = tabular.build(LogisticRegression(name="logistic-regression"), features.width)
    return Cohort(model, rows[site != "Unknown"], site[site != "Unknown"])


def ultrasound(folder: Path) -> Cohort:
    """Return the groups of BUSI with a lesion, whose images are malignant or benign."""
    images, labels, groups = [], [], []
    with zipfile.ZipFile(folder / "images_128.zip") as archive, (folder / "labels.csv").open() as lines:
        for line in csv.DictReader(lines):
            if line["label_name"] != "normal":
                with archive.open(line["file"]) as file:
                    images.append(np.asarray(Image.open(file).resize((SIDE, SIDE), Image.Resampling.BOX)))
                labels.append(line["label_name"] == "malignant")
                groups.append(int(line["near_dup_group"]))
    return scans(np.stack(images), np.array(labels), np.array(groups))


def brain(folder: Path) -> Cohort:
    """Return some groups of slices of brains, with a tumour or without."""
    with np.load(folder / "images_64.npz", allow_pickle=False) as arrays:
        images, labels, groups = arrays["images"], arrays["labels"], arrays["near_dup_group"]
        healthy = arrays["classes"].tolist().index("notumor")
    some = np.isin(groups, np.random.default_rng(0).permutation(np.unique(groups))[:1000])
    return scans(images[some], labels[some] != healthy, groups[some])


def scans(images: np.ndarray, ill: np.ndarray, groups: np.ndarray) -> Cohort:
    """Return a ScanNet and the rows of patients, each of whom has at most four images."""
    seen = Recordings(
        shape=(SIDE, SIDE), most=4, classes=("no", "yes"), centre=Decimal("127.5"), scale=Decimal("127.5")
    )
    order = np.argsort(groups, kind="stable")
    _, rows = RecordingEncoder(seen).encode_columns(
        Columns(
            subject=groups[order].astype(np.int64),
            time=np.full(len(order), np.datetime64("NaT"), dtype="datetime64[us]"),
            code=ill[order].astype(np.uint8),
            value=np.full(len(order), np.nan),
            codes=seen.classes,
            frames=images[order],
        )
    )
    model = convolutional.build(ScanNet(name="scan-net", widths=(8, 16, 32), seed=1), seen)
    site = np.random.default_rng(0).choice(["one", "two", "three"], len(rows))
    return Cohort(model, rows, site)


def training(members: int, steps: int, learning_rate: str, local: dict[str, str] | None = None) -> Training:
    """Return the plan of the demos' private studies, but for so many members and steps, at this rate."""
    plain = {
        "members": members,
        "sampling_rate": "0.25",
        "steps": steps,
        "attempts": steps,
        "round_steps": steps,
        "learning_rate": learning_rate,
        "warmup": 0 if local else 5,
        "ring_norm": 16384,
        "clip": "10" if local else "1",
    }
    if local:
        plain["local"] = {**LOCAL, **local}
    return Training.parse(plain, what="training")


def federated(model: Model, parts: dict[str, np.ndarray], plan: Plan) -> Model:
    """Return a copy of the model that sites with these rows trained by the plan."""
    own = copy.deepcopy(model)
    descent = Descent(plan=plan, run=RUN, weights=flat(model))
    trainers = [
        Trainer(
            site=site,
            run=RUN,
            plan=plan,
            last_step=plan.training.steps,
            model=own,
            sampler=Members(rows, np.arange(len(rows))),
            ledger=Uncharged(),
            noise=DiscreteGaussian(plan.privacy.share_sigma) if plan.privacy else None,
        )
        for site, rows in parts.items()
    ]
    while not descent.finished:
        step = descent.begin()
        total = np.zeros(plan.words, dtype=np.uint32)
        for trainer in trainers:
            total += trainer.share(trainer.check(step))
        descent.take(total)
    load_flat(own, descent.weights)
    return own


def privacy(plan: Training, epsilon: Decimal, honest: int) -> Privacy:
    """Return the noise of each of the places that add it, so that any `honest` of them are enough."""
    multiplier = accounting.noise_multiplier_for(
        epsilon=epsilon, delta=DELTA, sampling_rate=plan.sampling_rate, attempts=plan.attempts
    )
    sigma = accounting.share_sigma(
        noise_multiplier=multiplier, ring_norm=plan.ring_norm, honest_shares=honest
    )
    plain = {"unit": "patient", "neighbours": "add-remove", "sites_per_patient": 1}
    budget = {"epsilon": str(epsilon), "delta": str(DELTA), "noise_multiplier": str(multiplier)}
    return Privacy(Budget.parse({**plain, **budget}, what="budget"), sigma, honest)


def ways(
    cohort: Cohort,
    members: np.ndarray,
    rng: np.random.Generator,
    *,
    steps: int,
    learning_rate: str,
    private: bool,
) -> Iterator[tuple[str, Model]]:
    """Yield the name of each way to train, and the model that it makes of the members."""
    rows, site, size = cohort.rows[members], cohort.site[members], flat(cohort.model).size
    parts = {str(name): rows[site == name] for name in np.unique(site)}
    names, together = tuple(parts), {"all": rows}
    plain = training(len(members), steps, learning_rate)

    def plan(agreed: Training, sites: tuple[str, ...] = names, noise: Privacy | None = None) -> Plan:
        return Plan(digest(b"policy"), sites, agreed, size, noise)

    yield "pooled", trained_pooled(cohort.model, rows, plain, rng)
    yield "federated, a sum a step", federated(cohort.model, parts, plan(plain))
    for name, (local, rate) in ALGORITHMS.items():
        agreed = training(len(members), steps, rate, local)
        yield f"{name}, {LOCAL['steps']} local steps", federated(cohort.model, parts, plan(agreed))
    for epsilon in EPSILONS if private else ():
        shares = privacy(plain, epsilon, len(parts) - 1)
        yield f"epsilon {epsilon}, distributed", federated(cohort.model, parts, plan(plain, noise=shares))
        whole = privacy(plain, epsilon, 1)
        yield f"epsilon {epsilon}, per hospital", federated(cohort.model, parts, plan(plain, noise=whole))
        one = plan(plain, ("all",), whole)
        yield f"epsilon {epsilon}, central", federated(cohort.model, together, one)


def area(model: Model, rows: np.ndarray) -> float:
    """Return the AUC of the model's odds for the label, or for the second class of recordings."""
    with torch.inference_mode():
        if isinstance(model, Recogniser):
            labelled = rows.reshape(-1, rows.shape[-1])
            labelled = labelled[~np.isnan(labelled[:, -1])]
            both = model(torch.from_numpy(labelled[:, :-1]).float()).double().numpy()
            odds, label = both[:, 1] - both[:, 0], labelled[:, -1]
        else:
            odds, label = model(torch.from_numpy(rows[:, :-1])).double().numpy(), rows[:, -1]
    return delong(odds[label == 1], odds[label == 0])[0]


def shown(values: np.ndarray, beside: np.ndarray) -> str:
    """Return the mean over draws, where 95 % of them lie, and the mean difference with its .95 interval."""
    low, high = np.quantile(values, [0.025, 0.975])
    apart = values - beside
    error = 1.96 * apart.std(ddof=1) / math.sqrt(len(apart))
    differs = "" if not apart.any() else f"{apart.mean():+.4f} ± {error:.4f}"
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]  {differs}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--cohort", choices=("heart", "nodules", "eicu", "ultrasound", "brain"), default="heart"
    )
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--data", type=Path, default=Path())
    parser.add_argument("--steps", type=int, default=40, help="sums, of every way")
    parser.add_argument("--learning-rate", default="0.1", help="of pooled, and of a sum a step")
    parser.add_argument("--private", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    made = {
        "heart": lambda: demo("heart", heart),
        "nodules": lambda: demo("nodules", nodules),
        "eicu": lambda: eicu(given.data),
        "ultrasound": lambda: ultrasound(given.data),
        "brain": lambda: brain(given.data),
    }
    cohort = made[given.cohort]()
    sites, people = np.unique(cohort.site, return_counts=True)
    members, rng = round(SHARE * len(cohort.rows)), np.random.default_rng(0)
    areas: dict[str, list[float]] = {}
    for _ in range(given.draws):
        order = rng.permutation(len(cohort.rows))
        trained = ways(
            cohort,
            order[:members],
            rng,
            steps=given.steps,
            learning_rate=given.learning_rate,
            private=given.private,
        )
        for name, model in trained:
            areas.setdefault(name, []).append(area(model, cohort.rows[order[members:]]))
    n = len(sites)
    print(f"python {platform.python_version()}, torch {torch.__version__}; {given.draws} draws of", end=" ")
    print(
        f"{members} members of {len(cohort.rows)}; {flat(cohort.model).size:,} weights; {given.steps} sums",
        end=" ",
    )
    print(f"at rate {given.learning_rate}")
    print("sites: " + ", ".join(f"{name} {count}" for name, count in zip(sites, people, strict=True)))
    print(f"noise, times central: distributed {math.sqrt(n / (n - 1)):.3f}, per hospital {math.sqrt(n):.3f}")
    print(f"\n{'held-out AUC':<28}mean [95 % of draws]    beside pooled")
    for name, values in areas.items():
        print(f"{name:<28}{shown(np.array(values), np.array(areas['pooled']))}")


if __name__ == "__main__":
    main()
