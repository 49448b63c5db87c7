import json
import struct

import numpy as np
import pytest
import safetensors.torch
import torch

from oathbound.core.errors import NotAuthentic, OathboundError, Unavailable, WrongInput
from oathbound.core.shape import EventTransformer as Architecture
from oathbound.core.shape import Vocabulary
from oathbound.models.folder import read_model, write_model
from oathbound.models.model import flat
from oathbound.models.tokenizer import Tokenizer
from oathbound.models.transformer import build

ARCHITECTURE = Architecture(name="event-transformer", layers=1, width=8, heads=2, length=8, seed=1)


@pytest.fixture
def tokenizer():
    plain = {"codes": ["A", "B"], "edges": {"B": ["0.5"]}, "ages": ["40"], "gaps": ["30"]}
    return Tokenizer(Vocabulary.parse(plain, what="vocabulary"))


@pytest.fixture
def model(tokenizer):
    return build(ARCHITECTURE, tokenizer.size)


@pytest.fixture
def folder(tmp_path, model, tokenizer):
    write_model(tmp_path / "m", model, tokenizer.vocabulary)
    return tmp_path / "m"


def test_what_is_written_is_read(tmp_path, model, tokenizer):
    lineage = {"studies": ["one"], "steps": 3}
    written = write_model(tmp_path / "new" / "m", model, tokenizer.vocabulary, lineage=lineage)
    loaded = read_model(tmp_path / "new" / "m")
    assert loaded.digest == written
    assert loaded.lineage == lineage
    assert np.array_equal(flat(loaded.model), flat(model))
    assert loaded.encoder.seen == tokenizer.vocabulary
    tokens = torch.arange(6)
    assert torch.equal(loaded.model(tokens), model(tokens))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m"]


def test_the_digest_covers_every_file(tmp_path, model, tokenizer, folder):
    plain = read_model(folder).digest
    assert plain == write_model(tmp_path / "same", model, tokenizer.vocabulary)
    assert plain != write_model(tmp_path / "lineage", model, tokenizer.vocabulary, lineage={})
    with torch.no_grad():
        model.tokens[0, 0] += 1e-3
    assert plain != write_model(tmp_path / "weights", model, tokenizer.vocabulary)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path, model, tokenizer, folder):
    before = read_model(folder).digest
    with pytest.raises(WrongInput, match="already there"):
        write_model(folder, model, tokenizer.vocabulary)
    assert read_model(folder).digest == before
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        write_model(tmp_path / "file" / "m", model, tokenizer.vocabulary)
    with pytest.raises(TypeError):
        write_model(tmp_path / "floats", model, tokenizer.vocabulary, lineage={"loss": 0.5})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "m"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocabulary.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WrongInput, match=name) as refused:
        read_model(folder)
    assert refused.value.hint


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocabulary.json"])
@pytest.mark.parametrize("keep", [0, 1, 7, 9, 60, -1])
def test_a_truncated_file_is_refused(folder, name, keep):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:keep])
    with pytest.raises((WrongInput, NotAuthentic)):
        read_model(folder)


def rewrite(folder, name, change):
    value = json.loads((folder / name).read_bytes())
    change(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", lambda c: c.update(extra=1)),
        ("config.json", lambda c: c.update(format="oathbound/model/v2")),
        ("config.json", lambda c: c["architecture"].update(width=16)),
        ("config.json", lambda c: c["architecture"].update(width=2048, layers=24, length=4096)),
        ("config.json", lambda c: c["architecture"].update(layers=10**9)),
        ("config.json", lambda c: c["architecture"].update(heads=3)),
        ("vocabulary.json", lambda v: v.update(extra=1)),
        ("vocabulary.json", lambda v: v["codes"].append("C")),
        ("vocabulary.json", lambda v: v["edges"].update(Z=[])),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(folder, name, change):
    rewrite(folder, name, change)
    with pytest.raises(WrongInput):
        read_model(folder)


def test_json_must_be_canonical(folder):
    (folder / "config.json").write_bytes((folder / "config.json").read_bytes() + b"\n")
    with pytest.raises(NotAuthentic, match="canonical"):
        read_model(folder)
    (folder / "config.json").write_bytes(b"[]")
    with pytest.raises(WrongInput, match="not a JSON object"):
        read_model(folder)


def weights(folder, change):
    tensors = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    change(tensors)
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(tensors))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.update(tokens=torch.full_like(t["tokens"], float("nan"))), "not finite"),
        (lambda t: t["tokens"].view(-1)[3:4].fill_(float("inf")), "not finite"),
        (lambda t: t.update(tokens=t["tokens"].T.contiguous()), "does not hold"),
        (lambda t: t.update(tokens=t["tokens"].view(torch.int32)), "not float32"),
        (lambda t: t.update(more=torch.zeros(1)), "does not hold"),
        (lambda t: t.pop("tokens"), "does not hold"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, change, says):
    weights(folder, change)
    with pytest.raises(WrongInput, match=says):
        read_model(folder)


def test_bombs_are_refused_before_memory_is_taken(folder):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(struct.pack("<Q", 2**62) + data[8:])
    with pytest.raises(WrongInput, match="not a whole safetensors file"):
        read_model(folder)
    with path.open("r+b") as file:
        file.truncate(2**33)
    with pytest.raises(WrongInput, match="larger than"):
        read_model(folder)
    with (folder / "config.json").open("r+b") as file:
        file.truncate(2**33)
    with pytest.raises(WrongInput, match="larger than"):
        read_model(folder)


def test_any_flipped_header_byte_is_refused_or_changes_the_digest(folder):
    path = folder / "model.safetensors"
    data, known = path.read_bytes(), read_model(folder).digest
    for position in range(0, 600, 7):
        flipped = bytearray(data)
        flipped[position] ^= 0x11
        path.write_bytes(flipped)
        try:
            assert read_model(folder).digest != known
        except OathboundError:
            continue


def test_not_a_folder(tmp_path):
    with pytest.raises(WrongInput, match=r"no file config\.json"):
        read_model(tmp_path / "absent")
