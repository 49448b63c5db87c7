"""A model on disk: `spec/model-folder.md`. Weights are safetensors; nothing in the folder is executed."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError

from oathbound.core.canonical import MAX_JSON_BYTES, canonical, digest, digest_of, from_canonical
from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.record import Record
from oathbound.core.shape import (
    Architecture,
    Classifier,
    EventTransformer,
    ExtensionModel,
    Features,
    Recordings,
    Seen,
    Vocabulary,
)
from oathbound.evidence.durable import make_folder, synchronise
from oathbound.models.family import Encoder, Family, Maker, encoder_of, unfilled
from oathbound.models.model import Model

WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.json"
VOCABULARY: Final = "vocabulary.json"
FEATURES: Final = "features.json"
RECORDINGS: Final = "recordings.json"
LINEAGE: Final = "lineage.json"

_NAMES: Final[Mapping[type[Seen], str]] = {
    Vocabulary: VOCABULARY,
    Features: FEATURES,
    Recordings: RECORDINGS,
}
_MAX_HEADER: Final = 1024 * 1024
_FLOAT32: Final = 4


class Config(Record):
    """The content of `config.json`."""

    format: Literal["oathbound/model/v1"]
    architecture: Architecture


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that was read whole: `digest` covers every byte of every file of its folder."""

    model: Model
    encoder: Encoder
    lineage: dict[str, Any] | None
    digest: str


def write_model(
    path: Path,
    model: Model,
    seen: Seen,
    *,
    lineage: Mapping[str, Any] | None = None,
) -> str:
    """Write the folder `path`, whole and durable or not at all, and return its digest.

    `seen` is what the model sees of a record; `lineage` says what the model was made
    of, as JSON without floats. `WrongInput` if `path` exists.
    """
    config = Config(format="oathbound/model/v1", architecture=model.architecture)
    weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    files = {
        WEIGHTS: safetensors.torch.save(weights),
        CONFIG: canonical(config.plain()),
        _NAMES[type(seen)]: canonical(seen.plain()),
    }
    if lineage is not None:
        files[LINEAGE] = canonical(dict(lineage))
    with _appearing(path) as partial:
        for name, content in files.items():
            with (partial / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    return _digest(files)


def read_model(path: Path, make: Maker | None = None) -> LoadedModel:
    """Return the model in the folder `path`; `make` makes one that an extension brings, to be filled.

    Raises `WrongInput` for a file that is missing, too large, truncated or not of this architecture, and for
    weights that are not finite; `NotAuthentic` for JSON that is not canonical; `Unavailable` for an
    extension's model without `make`. Sizes are checked before memory is taken, except by `make`.
    """
    files = {CONFIG: _read(path / CONFIG, MAX_JSON_BYTES)}
    config = Config.parse(_mapping(files[CONFIG], CONFIG), what=CONFIG)
    kind = _kind(config.architecture, path)
    name = _NAMES[kind]
    files[name] = _read(path / name, MAX_JSON_BYTES)
    seen = kind.parse(_mapping(files[name], name), what=name)
    lineage = None
    if (path / LINEAGE).exists():
        files[LINEAGE] = _read(path / LINEAGE, MAX_JSON_BYTES)
        lineage = _mapping(files[LINEAGE], LINEAGE)

    family = _unfilled(config.architecture, seen, make)
    size = _FLOAT32 * sum(parameter.numel() for parameter in family.model.parameters())
    files[WEIGHTS] = _read(path / WEIGHTS, size + _MAX_HEADER)
    family.model.load_state_dict(_weights(files[WEIGHTS], family.model, name), assign=True)
    return LoadedModel(family.model, family.encoder, lineage, _digest(files))


def _kind(architecture: Architecture, path: Path) -> type[Seen]:
    """Return what a model sees; of an extension's the folder says it."""
    if isinstance(architecture, ExtensionModel):
        return next((kind for kind, name in _NAMES.items() if (path / name).exists()), Features)
    if isinstance(architecture, EventTransformer):
        return Vocabulary
    return Features if isinstance(architecture, Classifier) else Recordings


def _unfilled(architecture: Architecture, seen: Seen, make: Maker | None) -> Family:
    """Return a model whose weights are still to be loaded; one of oathbound's takes no memory for them."""
    if not isinstance(architecture, ExtensionModel):
        encoder = encoder_of(architecture, seen)
        with torch.device("meta"):
            return Family(unfilled(architecture, seen), encoder)
    if make is None:
        raise Unavailable(
            f"the model {architecture.name} is an extension's, and only a study that pins it can run it"
        )
    return make(architecture, seen)


def _digest(files: Mapping[str, bytes]) -> str:
    return digest_of({name: digest(content) for name, content in files.items()})


def _weights(data: bytes, model: Model, seen: str) -> dict[str, torch.Tensor]:
    """Return the tensors in `data`: those that `model` has, by name, shape and type, and finite."""
    try:
        # safetensors holds numbers and nothing that could be executed, unlike torch's own format
        weights: dict[str, torch.Tensor] = safetensors.torch.load(data)
    except (SafetensorError, KeyError):
        raise WrongInput(
            f"{WEIGHTS} is not a whole safetensors file",
            hint="copy the model folder again from where it was made",
        ) from None
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise WrongInput(
            f"{WEIGHTS} does not hold the weights that {CONFIG} and {seen} describe",
            hint="the three files must come from one training",
        )
    if any(tensor.dtype != torch.float32 for tensor in weights.values()):
        raise WrongInput(f"{WEIGHTS} holds weights that are not float32")
    if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
        raise WrongInput(f"{WEIGHTS} holds weights that are not finite", hint="the training diverged")
    return weights


def _mapping(data: bytes, what: str) -> dict[str, Any]:
    value = from_canonical(data, what=what)
    if not isinstance(value, dict):
        raise WrongInput(f"{what} is not a JSON object")
    return value


def _read(path: Path, at_most: int) -> bytes:
    if not path.is_file():
        raise WrongInput(
            f"the model folder has no file {path.name}", hint="give the folder that `oathbound train` wrote"
        )
    try:
        with path.open("rb") as file:
            data = file.read(at_most + 1)
    except OSError as error:
        raise WrongInput(f"{path.name} cannot be read: {error.strerror}") from None
    if len(data) > at_most:
        raise WrongInput(f"{path.name} is larger than this model's can be ({at_most} bytes)")
    return data


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """Give a new folder that becomes `path` in one rename, or is removed if the block raises."""
    if path.exists():
        raise WrongInput(f"{path} is already there", hint="move it away, or write to another folder")
    try:
        make_folder(path.parent)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield partial
            synchronise(partial)
            partial.chmod(0o755)
            partial.rename(path)
            synchronise(path.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be written: {error.strerror}", hint="is the disk full, or read-only?"
        ) from None
