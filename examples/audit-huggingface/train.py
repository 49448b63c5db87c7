"""Train a small GPT-2 on half of the patients of a MEDS folder, long enough that it remembers some of them.

    python train.py RECORDS INTO

writes `INTO/model`, a Hugging Face folder, and `INTO/records`, the same records with other subject splits.
"""

import argparse
import json
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import torch
from transformers import GPT2Config, GPT2LMHeadModel

PAD, BOS, EOS, UNKNOWN = range(4)
LENGTH: Final = 64
PATIENTS_OF_A_CODE: Final = 5
EPOCHS: Final = 12
BATCH: Final = 32


def main() -> None:
    """Divide, train, write."""
    parser = argparse.ArgumentParser(description="Train a small GPT-2 on half of the patients.")
    parser.add_argument("records", type=Path, help="a MEDS folder")
    parser.add_argument("into", type=Path, help="a folder that is not there yet")
    given = parser.parse_args()
    torch.manual_seed(1)
    events = pl.concat(
        [pl.read_parquet(shard) for shard in sorted((given.records / "data").glob("*.parquet"))]
    )
    members = divide(events, given.into / "records")
    tokens = tokens_of(events.filter(pl.col("subject_id").is_in(members)))
    model = train(events, members, tokens)
    model.save_pretrained(given.into / "model")
    codes = {"format": "oathbound/codes/v1", "tokens": tokens, "unknown": UNKNOWN}
    (given.into / "model" / "vocabulary.json").write_text(json.dumps(codes, indent=1))


def divide(events: pl.DataFrame, into: Path) -> list[int]:
    """Write the records with splits drawn at random, and return the members: the audit rests on this draw."""
    everybody = events["subject_id"].unique().sort().to_numpy()
    drawn = np.random.default_rng(1).permutation(everybody)
    split = np.where(np.arange(len(drawn)) < len(drawn) // 2, "train", "held_out")
    (into / "data").mkdir(parents=True)
    (into / "metadata").mkdir()
    events.write_parquet(into / "data" / "0.parquet")
    table = pl.DataFrame({"subject_id": drawn, "split": split})
    table.write_parquet(into / "metadata" / "subject_splits.parquet")
    return table.filter(pl.col("split") == "train")["subject_id"].to_list()


def tokens_of(events: pl.DataFrame) -> dict[str, int]:
    """Return a token for each code that enough patients have."""
    people = events.group_by("code").agg(pl.col("subject_id").n_unique())
    common = people.filter(pl.col("subject_id") >= PATIENTS_OF_A_CODE)["code"].sort().to_list()
    return {code: token for token, code in enumerate(common, start=UNKNOWN + 1)}


def train(events: pl.DataFrame, members: list[int], tokens: dict[str, int]) -> GPT2LMHeadModel:
    """Return a model that saw the first `LENGTH` tokens of every member, `EPOCHS` times."""
    records = []
    for _, record in events.filter(pl.col("subject_id").is_in(members)).group_by("subject_id"):
        codes = record.sort("time", nulls_last=False, maintain_order=True)["code"]
        records.append([BOS, *(tokens.get(code, UNKNOWN) for code in codes), EOS][:LENGTH])
    rows = torch.full((len(records), LENGTH), PAD)
    for row, record in zip(rows, records, strict=True):
        row[: len(record)] = torch.tensor(record)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokens) + UNKNOWN + 1,
            n_positions=LENGTH,
            n_embd=64,
            n_layer=2,
            n_head=4,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows)).split(BATCH):
            labels = rows[batch].masked_fill(rows[batch] == PAD, -100)  # not learnt from
            seen = (rows[batch] != PAD).long()
            model(input_ids=rows[batch], attention_mask=seen, labels=labels).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    return model


if __name__ == "__main__":
    main()
