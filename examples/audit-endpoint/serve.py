"""Train a small model on half of the patients of a MEDS folder, and serve it on this machine alone.

    python serve.py RECORDS INTO

writes `INTO/records` (the same records, with subject splits), `INTO/vocabulary.json`, `INTO/endpoint.toml`
and `INTO/url`, and then answers POST /v1/completions like vLLM, as far as an audit asks, until it is ended.
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

BOS, EOS, UNKNOWN = 1, 2, 3
LENGTH: Final = 40
PATIENTS_OF_A_CODE: Final = 5
EPOCHS: Final = 15
BATCH: Final = 32
MOST_LOGPROBS: Final = 5


def main() -> None:
    """Divide, train, serve."""
    parser = argparse.ArgumentParser(description="Train a small model on half of the patients, and serve it.")
    parser.add_argument("records", type=Path, help="a MEDS folder")
    parser.add_argument("into", type=Path, help="a folder that is not there yet")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    given = parser.parse_args()
    torch.manual_seed(1)
    events = pl.concat(
        [pl.read_parquet(shard) for shard in sorted((given.records / "data").glob("*.parquet"))]
    )
    members = divide(events, given.into / "records")
    tokens = tokens_of(events.filter(pl.col("subject_id").is_in(members)))
    model = train(events, members, tokens)
    server = ThreadingHTTPServer(("127.0.0.1", given.port), Completions)
    server.model, server.lock = model, Lock()  # type: ignore[attr-defined]
    write_settings(given.into, tokens, server.server_port)
    print(f"serving http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


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


def write_settings(into: Path, tokens: dict[str, int], port: int) -> None:
    """Write what the auditor needs; `url` last, when everything is there."""
    codes = {"format": "oathbound/codes/v1", "tokens": tokens, "unknown": UNKNOWN}
    (into / "vocabulary.json").write_text(json.dumps(codes, indent=1))
    (into / "endpoint.toml").write_text(
        'format = "oathbound/endpoint/v1"\n'
        f"bos = {BOS}\neos = {EOS}\nlength = {LENGTH}\nlogprobs = {MOST_LOGPROBS}\nconcurrency = 4\n"
    )
    (into / "url").write_text(f"http://127.0.0.1:{port}/v1\n")


class Recurrent(nn.Module):
    """A GRU over codes: it keeps a state, so a server is short."""

    def __init__(self, size: int, width: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, size)

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of what follows each token, (n, T, size), and the state after them."""
        hidden, state = self.gru(self.embedding(tokens), state)
        return self.head(hidden).log_softmax(dim=-1), state


def train(events: pl.DataFrame, members: list[int], tokens: dict[str, int]) -> Recurrent:
    """Return a model that saw the first `LENGTH` tokens of every member, `EPOCHS` times."""
    records = []
    for _, record in events.filter(pl.col("subject_id").is_in(members)).group_by(
        "subject_id", maintain_order=True
    ):
        codes = record.sort("time", nulls_last=False, maintain_order=True)["code"]
        records.append([BOS, *(tokens.get(code, UNKNOWN) for code in codes), EOS][:LENGTH])
    rows = torch.zeros((len(records), LENGTH), dtype=torch.int64)
    for row, record in zip(rows, records, strict=True):
        row[: len(record)] = torch.tensor(record)
    model = Recurrent(len(tokens) + UNKNOWN + 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(rows)).split(BATCH):
            logs, _ = model(rows[batch, :-1])
            loss = nn.functional.nll_loss(logs.flatten(0, 1), rows[batch, 1:].flatten(), ignore_index=0)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    return model.eval()


class Completions(BaseHTTPRequestHandler):
    """POST /v1/completions with prompts as arrays of tokens."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing: a log of prompts is a copy of records."""

    def do_POST(self) -> None:
        """Answer one request."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock, torch.inference_mode():  # type: ignore[attr-defined]
            model = self.server.model  # type: ignore[attr-defined]
            answer = scored(model, body) if body.get("echo") else drawn(model, body)
        data = json.dumps({"object": "text_completion", "choices": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def scored(model: Recurrent, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the prompt's tokens with their log-probabilities."""
    prompt = torch.tensor(body["prompt"])
    logs, _ = model(prompt[None, :-1])
    told = said(prompt[1:], logs[0], body["logprobs"])
    first = {"tokens": [name(BOS)], "token_logprobs": [None], "top_logprobs": [None]}
    return [{"index": 0, "text": "", "logprobs": {part: first[part] + told[part] for part in told}}]


def drawn(model: Recurrent, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return `n` continuations at temperature 1, from the whole distribution."""
    seeded = torch.Generator().manual_seed(body["seed"])
    logs, state = model(torch.tensor([body["prompt"]]).repeat(body["n"], 1))
    tokens, places = [], []
    for _ in range(body["max_tokens"]):
        places.append(logs[:, -1])
        tokens.append(torch.multinomial(places[-1].exp(), 1, generator=seeded))
        logs, state = model(tokens[-1], state)
    choices = []
    for index, whole in enumerate(torch.cat(tokens, dim=1)):
        ends = (whole == EOS).nonzero()
        row = whole[: int(ends[0]) + 1] if len(ends) else whole
        choice = {
            "index": index,
            "text": "",
            "finish_reason": "stop" if len(ends) else "length",
            "token_ids": row.tolist(),
        }
        if "logprobs" in body:
            there = torch.stack([place[index] for place in places[: len(row)]])
            choice["logprobs"] = said(row, there, body["logprobs"])
        choices.append(choice)
    return choices


def said(tokens: Tensor, logs: Tensor, most: int) -> dict[str, list[Any]]:
    """Return tokens with log-probabilities, and with the likeliest in their places."""
    best = logs.topk(min(most, MOST_LOGPROBS))
    return {
        "tokens": [name(token) for token in tokens.tolist()],
        "token_logprobs": logs.gather(1, tokens[:, None])[:, 0].tolist(),
        "top_logprobs": [
            {name(token): value for token, value in zip(*place, strict=True)}
            for place in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ],
    }


def name(token: int) -> str:
    """Return a token as vLLM writes it where `return_tokens_as_token_ids` asks for that."""
    return f"token_id:{token}"


if __name__ == "__main__":
    main()
