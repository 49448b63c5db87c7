"""A scan net learns what outlines tell of a nodule, of patients it never saw; from shuffled labels, nothing.

The yardstick is the outlines' area, which alone tells malignant from benign well, for readers go by size too.
One split of the patients, fixed. With shuffled labels the area under the curve has a standard error of
.022 (12 shuffles): the bounds of the reject case are more than four of them away.
"""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training is an extra")
import polars as pl
import torch

from oathbound.core.shape import Recordings, ScanNet
from oathbound.models.convolutional import build
from oathbound.models.model import Rows

TABLE = Path(__file__).resolve().parents[4] / "shared" / "data" / "lidc_nodules" / "lidc_nodules.parquet"
SEEN = Recordings.parse(
    {
        "shape": [20, 20],
        "most": 4,
        "centre": "0.25",
        "scale": "0.5",
        "classes": ["nodule//benign", "nodule//malignant"],
    },
    what="recordings",
)

pytestmark = [
    pytest.mark.statistical,
    pytest.mark.skipif(not TABLE.is_file(), reason="the folder shared/ is not beside the repository"),
]


@pytest.fixture(scope="module")
def patients() -> Rows:
    """Return the first four labelled outlines of each patient, 2 mm a pixel."""
    table = pl.read_parquet(TABLE, columns=["patient_id", "annotation_id", "malignancy", "mask"])
    table = table.filter(pl.col("malignancy") != 3).sort("patient_id", "annotation_id")
    rows = []
    for _, some in table.group_by("patient_id", maintain_order=True):
        masks = np.frombuffer(b"".join(some["mask"][:4]), np.uint8).reshape(-1, 20, 2, 20, 2) / 255
        row = np.zeros((4, 401), dtype=np.float16)
        row[:, -1] = np.nan
        row[: len(masks), :-1] = ((masks.mean(axis=(2, 4)) - 0.25) / 0.5).reshape(len(masks), -1)
        row[: len(masks), -1] = some["malignancy"][:4].to_numpy() > 3
        rows.append(row)
    return np.random.default_rng(1).permutation(np.stack(rows))


def learnt(rows: Rows) -> float:
    """Return the area under the curve on the last 300 patients of a net trained on the others."""
    torch.set_num_threads(1)
    model = build(ScanNet(name="scan-net", widths=(4, 8), seed=1), SEEN)
    train, test = rows[:-300], rows[-300:]
    descent = torch.optim.Adam(model.parameters(), lr=0.02)
    rng = np.random.default_rng(2)
    for _ in range(40):
        batch = torch.from_numpy(train[rng.choice(len(train), 64, replace=False)])
        descent.zero_grad()
        model.losses(batch).mean().backward()
        descent.step()
    values, label = test[..., :-1].reshape(-1, 400), test[..., -1].ravel()
    with torch.no_grad():
        odds = model(torch.from_numpy(values).float()).numpy()
    return area((odds[:, 1] - odds[:, 0])[~np.isnan(label)], label[~np.isnan(label)] == 1)


def area(score, positive):
    above = score[positive][:, None] - score[~positive][None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def test_a_scan_net_learns_what_outlines_tell(patients):
    test = patients[-300:]
    size, label = test[..., :-1].astype(np.float64).sum(axis=-1).ravel(), test[..., -1].ravel()
    known = ~np.isnan(label)
    yardstick = area(size[known], label[known] == 1)
    found = learnt(patients)
    assert found > 0.85
    assert found > yardstick - 0.02


def test_from_shuffled_labels_nothing_is_learnt(patients):
    shuffled = patients.copy()
    labels = shuffled[..., -1]
    known = ~np.isnan(labels)
    labels[known] = np.random.default_rng(3).permutation(labels[known])
    assert 0.4 < learnt(shuffled) < 0.6
