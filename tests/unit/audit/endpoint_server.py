"""An OpenAI-compatible endpoint over a Markov table, on this machine, that can be told to misbehave."""

import datetime as dt
import json
import threading
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np

from oathbound.audit.adapters.codes import CodeMap
from oathbound.audit.adapters.endpoint import open_endpoint
from oathbound.core.endpoint import EndpointSettings
from oathbound.core.patient import Event, Patient

CODES = ("SEX//F", "A", "B", "C", "D", "E")
MAP = CodeMap(format="oathbound/codes/v1", tokens={code: 4 + i for i, code in enumerate(CODES)}, unknown=3)
WORDS = {2: "</s>", 1: "<s>", 3: "<unk>"} | {4 + i: code for i, code in enumerate(CODES)}
SIZE = 10
FIRST = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - times of records have no zone
TABLE = np.random.default_rng(5).normal(size=(SIZE, SIZE))
TABLE[:, 0] = -30  # a server that reads words could not say PAD
TABLE[:, 3:5] -= 2
LOGS = TABLE - np.logaddexp.reduce(TABLE, axis=1, keepdims=True)


class Model(BaseHTTPRequestHandler):
    """POST /v1/completions over a Markov table; `server.fault` may spoil what goes out."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.headers.get("Authorization"), body))
        fault = self.server.fault(self, len(self.server.seen), body)
        if fault is not None:
            self.say(*fault)
        else:
            self.say(200, json.dumps(self.server.spoil(completed(body))).encode())

    def say(self, status, data, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def completed(body, *, logs=LOGS, rng=None):
    """Answer as vLLM does; prompts as text where they are text."""
    text = isinstance(body["prompt"], str)
    back = {word: token for token, word in WORDS.items()}
    prompt = [back[word] for word in body["prompt"].split()] if text else body["prompt"]

    def name(token):
        return WORDS.get(token, "<pad>") if text else f"token_id:{token}"

    def told(tokens, before):
        k = body["logprobs"]
        best = [np.argsort(-logs[b])[:k] if b is not None else () for b in before]
        return {
            "tokens": [name(t) for t in tokens],
            "token_logprobs": [
                None if b is None else logs[b, t] for t, b in zip(tokens, before, strict=True)
            ],
            "top_logprobs": [
                None if b is None else {name(int(t)): logs[b, t] for t in top}
                for b, top in zip(before, best, strict=True)
            ],
        }

    if body.get("echo"):
        return {"choices": [{"index": 0, "text": "", "logprobs": told(prompt, [None, *prompt[:-1]])}]}
    rng = rng or np.random.default_rng(body["seed"])
    choices = []
    for index in range(body["n"]):
        drawn = []
        while len(drawn) < body["max_tokens"] and 2 not in drawn:
            drawn.append(int(rng.choice(SIZE, p=np.exp(logs[(prompt + drawn)[-1]]))))
        choice = {
            "index": index,
            "text": " ".join(WORDS.get(token, "<unk>") for token in drawn if token != 2),
            "finish_reason": "stop" if 2 in drawn else "length",
        }
        if not text:
            choice["token_ids"] = drawn
        if "logprobs" in body:
            choice["logprobs"] = told(drawn, [prompt[-1], *drawn[:-1]])
        choices.append(choice)
    return {"choices": choices[::-1]}  # an index says which is which


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):  # of a client that went away
        pass


@contextmanager
def serving(fault=lambda *_: None, spoil=lambda answer: answer, port=0, tls=None):
    server = Quiet(("127.0.0.1", port), Model)
    server.seen, server.fault, server.spoil = [], fault, spoil
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "https" if tls else "http"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield SimpleNamespace(
            url=f"{scheme}://127.0.0.1:{server.server_port}/v1", seen=server.seen, server=server
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def settings(**changes):
    plain = {"format": "oathbound/endpoint/v1", "bos": 1, "eos": 2, "length": 20, "logprobs": 3}
    return EndpointSettings.parse(plain | {"patience": 2} | changes, what="settings of a test")


def text(**changes):
    said = {"prompts": "text", "bos_text": "<s>", "eos_text": "</s>", "unknown_text": "<unk>"}
    return settings(**(said | changes))


@cache
def people():
    draw = np.random.default_rng(3)
    return tuple(
        Patient(
            9_000 + number,
            (
                Event(None, "SEX//F", None),
                *(
                    Event(FIRST + dt.timedelta(days=day), str(code), None)
                    for day, code in enumerate(draw.choice(CODES[1:], size=2 + number % 14))
                ),
            ),
        )
        for number in range(16)
    )


def asked(model, folder, wanted=None, people=people):
    with open_endpoint(model.url, "m", MAP, wanted or settings(), keep=folder) as (target, _):
        return target.token_logprobs([target.tokenize(patient) for patient in people()]).logprob


def drawn(model, folder, wanted=None):
    with open_endpoint(model.url, "m", MAP, wanted or settings(), keep=folder) as (target, _):
        return target.sample(np.array([[1, 5], [1, 6]]), 8, 4, 1)
