"""Every adapter that oathbound brings keeps the contract of targets, around models of several kinds."""

import datetime as dt
import json
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

pytest.importorskip("torch", reason="audits are an extra")
import torch

from oathbound.audit.adapters.callable import CallableTarget
from oathbound.audit.adapters.classifier import ClassifierTarget
from oathbound.audit.adapters.codes import CodeMap, PlainCodes
from oathbound.audit.adapters.hf_folder import read_huggingface
from oathbound.audit.adapters.own import EventTarget, target_of
from oathbound.core.canonical import canonical
from oathbound.core.patient import Event, Patient
from oathbound.core.shape import EventTransformer, Features, LogisticRegression, Vocabulary
from oathbound.models import tabular, transformer
from oathbound.models.features import FeatureEncoder
from oathbound.models.tokenizer import Tokenizer
from oathbound.testing.contracts.targets import TargetContract

CODES = ("SEX//F", "A", "B", "C", "D", "E")
VOCABULARY = Vocabulary(codes=CODES, edges={"B": (Decimal(2),)}, ages=(Decimal(40),), gaps=(Decimal(3),))
MAP = CodeMap(format="oathbound/codes/v1", tokens={code: 4 + i for i, code in enumerate(CODES)}, unknown=3)
FEATURES = Features.parse(
    {"present": ["A", "C"], "numbers": [], "label": {"code": "E"}}, what="features of a test"
)
FIRST = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - times of records have no zone
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


@cache
def people():
    draw = np.random.default_rng(3)
    found = []
    for number in range(24):
        dated = [
            Event(FIRST + dt.timedelta(days=int(day)), str(code), float(day % 4))
            for day, code in enumerate(draw.choice(CODES[1:], size=2 + number % 17))
        ]
        found.append(Patient(9_000 + number, (Event(None, "SEX//F", None), *dated)))
    return tuple(found)


def away_from_uniform(model):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


class Kept(TargetContract):
    def patients(self):
        return people()


class TestOwn(Kept):
    def target(self):
        architecture = EventTransformer(
            name="event-transformer", layers=2, width=16, heads=2, length=20, seed=1
        )
        tokenizer = Tokenizer(VOCABULARY)
        return EventTarget(away_from_uniform(transformer.build(architecture, tokenizer.size)), tokenizer)


class TestRows(Kept):
    def target(self):
        encoder = FeatureEncoder(FEATURES)
        model = tabular.build(LogisticRegression(name="logistic-regression"), encoder.size)
        return target_of(away_from_uniform(model), encoder)


@cache
def folder(kind, *, own_tokenizer=False):
    transformers = pytest.importorskip("transformers", reason="transformers is an extra")
    transformers.logging.disable_progress_bar()
    heads = {"num_attention_heads": 2, "max_position_embeddings": 24}
    small = {"hidden_size": 16, "num_hidden_layers": 2}
    config, model = {
        "gpt2": (
            transformers.GPT2Config(vocab_size=32, n_positions=24, n_embd=16, n_layer=2, n_head=2, **SPECIAL),
            transformers.GPT2LMHeadModel,
        ),
        "llama": (
            transformers.LlamaConfig(vocab_size=32, intermediate_size=24, **small, **heads, **SPECIAL),
            transformers.LlamaForCausalLM,
        ),
        "mamba": (
            transformers.MambaConfig(vocab_size=32, state_size=4, **small, **SPECIAL),
            transformers.MambaForCausalLM,
        ),
        # Its logits are scaled after the head; its state is no cache that chains could share.
        "cohere": (
            transformers.CohereConfig(
                vocab_size=32, intermediate_size=24, logit_scale=0.3, **small, **heads, **SPECIAL
            ),
            transformers.CohereForCausalLM,
        ),
        "rwkv": (
            transformers.RwkvConfig(
                vocab_size=32, attention_hidden_size=16, context_length=24, **small, **SPECIAL
            ),
            transformers.RwkvForCausalLM,
        ),
    }[kind]
    path = Path(mkdtemp()) / kind
    away_from_uniform(model(config)).save_pretrained(path)
    value = canonical(VOCABULARY.plain()) if own_tokenizer else json.dumps(MAP.plain()).encode()
    (path / "vocabulary.json").write_bytes(value)
    return path


class TestGPT2(Kept):
    def target(self):
        target, _ = read_huggingface(folder("gpt2"))
        assert target._split
        assert target._cache
        return target


class TestGPT2OfOurTokens(Kept):
    def target(self):
        return read_huggingface(folder("gpt2", own_tokenizer=True))[0]


class TestLlama(Kept):
    def target(self):
        target, _ = read_huggingface(folder("llama"))
        assert target._split
        assert target._cache
        return target


class TestMamba(Kept):
    def target(self):
        target, _ = read_huggingface(folder("mamba"))
        assert target._split
        assert target._cache == "cache_params"
        return target


class TestCohereWhoseHeadIsNotAll(Kept):
    def target(self):
        target, _ = read_huggingface(folder("cohere"))
        assert not target._split
        return target


class TestRwkvWithoutACache(Kept):
    def target(self):
        target, _ = read_huggingface(folder("rwkv"))
        assert not target._cache
        return target


def markov(tokens):
    """Return logits of the next token from this one and the place."""
    table = np.random.default_rng(5).normal(size=(16, 16))
    return table[tokens] + 0.1 * np.arange(tokens.shape[1])[None, :, None]


class TestCallable(Kept):
    def target(self):
        return CallableTarget(markov, PlainCodes(MAP, bos=1, eos=2, pad=0), length=20, size=16)


class TestScikitLearn(Kept):
    def target(self):
        linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is an extra")
        encoder = FeatureEncoder(FEATURES)
        rows = encoder.encode_all(people())
        return ClassifierTarget(linear.LogisticRegression().fit(rows[:, :-1], rows[:, -1]), encoder)


class Torch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)

    @torch.inference_mode()
    def predict_proba(self, features):
        return self.linear(torch.from_numpy(features)).softmax(dim=-1)


class TestTorch(Kept):
    def target(self):
        return ClassifierTarget(Torch(), FeatureEncoder(FEATURES))
