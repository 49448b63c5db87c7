"""Reading a Hugging Face folder: `config.json`, `vocabulary.json` and `*.safetensors`, and nothing else.

Sizes are compared before memory is taken. The network is never asked.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open

from oathbound.audit.adapters.codes import FORMAT, PlainCodes, read_map
from oathbound.audit.adapters.huggingface import HuggingFaceTarget
from oathbound.audit.adapters.tokens import Codebook
from oathbound.core.canonical import MAX_JSON_BYTES, digest, digest_of, from_canonical
from oathbound.core.errors import Unavailable, WrongInput
from oathbound.core.shape import Vocabulary
from oathbound.models.tokenizer import Tokenizer

CONFIG: Final = "config.json"
VOCABULARY: Final = "vocabulary.json"
INDEX: Final = "model.safetensors.index.json"

_LONGEST: Final = 4096
_WITHOUT_LIMIT: Final = 1024
"""The context of a model that names none, such as a state space model."""

_PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
_FOREIGN: Final = ("quantization_config", "attn_implementation", "_attn_implementation")
"""Keys that make transformers load code, or kernels, that are no part of the folder."""

_GUIDE: Final = "docs/guides/audit-any-model.md says what the folder must hold"
_REFUSALS: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)
"""What transformers raises for a folder that it cannot read."""


def read_huggingface(path: Path) -> tuple[HuggingFaceTarget, str]:
    """Return the model in a folder, and the digest of the files that it is made of.

    Raises `WrongInput` for a folder that is not whole, not safe or not of a causal language model, and
    `Unavailable` without transformers.
    """
    config = _json(path / CONFIG)
    _refuse_foreign(path, config)
    files = [path / CONFIG, path / VOCABULARY, *_weights(path)]
    with _reading():
        return _read(path, config), digest_of({file.name: _digest(file) for file in files})


def _read(path: Path, config: dict[str, Any]) -> HuggingFaceTarget:
    transformers = _transformers()
    local = {"local_files_only": True, "trust_remote_code": False}
    loaded = transformers.AutoConfig.from_pretrained(path, **local)
    _refuse_larger(path, loaded, transformers)
    model, differing = transformers.AutoModelForCausalLM.from_pretrained(
        path, config=loaded, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
    )
    if any(differing[kind] for kind in ("missing_keys", "mismatched_keys", "unexpected_keys")):
        raise WrongInput(
            "the safetensors files do not hold the weights of the model that config.json describes",
            hint="copy the folder again from where it was made",
        )
    if not all(bool(weights.isfinite().all()) for weights in model.parameters()):
        raise WrongInput("the model has weights that are not finite", hint="the training diverged")
    limit = getattr(loaded, "max_position_embeddings", None) or _WITHOUT_LIMIT
    return HuggingFaceTarget(model, _codebook(path / VOCABULARY, config), length=min(limit, _LONGEST))


def _transformers() -> Any:
    """Import transformers as late as it is needed, and so that it neither asks the network nor chats."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers  # noqa: PLC0415 - only a folder of Hugging Face needs it
    except ModuleNotFoundError:
        raise Unavailable("transformers is not installed", hint="pip install 'oathbound[audit]'") from None
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    return transformers


def _codebook(path: Path, config: dict[str, Any]) -> Codebook:
    """Return our tokenizer where the file has its format, or a plain map of codes."""
    value = _json(path)
    if "format" not in value:
        vocabulary = from_canonical(path.read_bytes(), what=VOCABULARY)
        return Tokenizer(Vocabulary.parse(vocabulary, what=VOCABULARY))
    if value["format"] != FORMAT:
        raise WrongInput(f"{VOCABULARY} is of no format that can be read", hint=_GUIDE)
    pad = None if config.get("pad_token_id") is None else _special(config, "pad")
    codes = read_map(path.read_bytes(), what=VOCABULARY)
    return PlainCodes(codes, bos=_special(config, "bos"), eos=_special(config, "eos"), pad=pad)


def _special(config: dict[str, Any], name: str) -> int:
    token = config.get(f"{name}_token_id")
    if type(token) is not int or token < 0:
        raise WrongInput(
            f"{CONFIG} names no token as {name}_token_id", hint="a record begins with BOS and ends with EOS"
        )
    return token


def _refuse_foreign(path: Path, config: dict[str, Any]) -> None:
    if not isinstance(config.get("model_type"), str):
        raise WrongInput(f"{path} is neither a model folder of oathbound nor of Hugging Face", hint=_GUIDE)
    foreign = [key for key in _FOREIGN if config.get(key) is not None]
    if foreign:
        raise WrongInput(f"{CONFIG} has a key that is not read: {foreign[0]}", hint="export plain weights")
    if (path / "adapter_config.json").exists():
        raise WrongInput(f"{path} holds an adapter, and no whole model", hint="merge it into its base model")


def _weights(path: Path) -> list[Path]:
    """Return the files of the weights, and their index where there is one."""
    tensors = sorted(file for file in path.iterdir() if file.suffix == ".safetensors" and file.is_file())
    if not tensors:
        if any(file.suffix in _PICKLED for file in path.iterdir()):
            raise WrongInput(
                f"{path} holds pickled weights alone, which can execute code when they are read",
                hint="where the model was made: model.save_pretrained(folder, safe_serialization=True)",
            )
        raise WrongInput(f"{path} holds no weights", hint=_GUIDE)
    if not (path / INDEX).exists():
        return tensors
    named = _json(path / INDEX).get("weight_map")
    if not isinstance(named, dict) or not set(named.values()) <= {file.name for file in tensors}:
        raise WrongInput(f"{INDEX} names a file that the folder does not hold")
    return [*tensors, path / INDEX]


def _refuse_larger(path: Path, config: Any, transformers: Any) -> None:
    """Raise `WrongInput` where config.json describes more weights than there are, before they take memory."""
    tensors = numbers = 0
    for file in path.glob("*.safetensors"):
        with safe_open(file, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118 - it is no mapping
                tensors += 1
                numbers += torch.Size(content.get_slice(name).get_shape()).numel()
    described = getattr(config, "num_hidden_layers", 0)
    if isinstance(described, int) and described <= tensors:
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        described = sum(parameter.numel() for parameter in model.parameters())
        if described <= numbers:
            return
    raise WrongInput(
        f"{CONFIG} describes a larger model than the safetensors files hold",
        hint="copy the folder again from where it was made",
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise WrongInput(f"the model folder has no file {path.name}", hint=_GUIDE)
    with path.open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise WrongInput(f"{path.name} is larger than {MAX_JSON_BYTES} bytes")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise WrongInput(f"{path.name} is not JSON", hint=_GUIDE) from None
    if not isinstance(value, dict):
        raise WrongInput(f"{path.name} is not a JSON object", hint=_GUIDE)
    return value


def _digest(path: Path) -> str:
    if path.suffix != ".safetensors":
        return digest(path.read_bytes())
    with path.open("rb") as file:  # too large for memory, twice
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what transformers says of a folder that it cannot read into one sentence."""
    try:
        yield
    except SafetensorError:
        raise WrongInput(
            "a safetensors file is not whole", hint="copy the folder again from where it was made"
        ) from None
    except _REFUSALS as error:
        said = " ".join(str(error).split())[:200]
        said = "".join(character for character in said if character.isprintable())
        raise WrongInput(
            f"transformers cannot read the folder as a causal language model: {said}", hint=_GUIDE
        ) from None
