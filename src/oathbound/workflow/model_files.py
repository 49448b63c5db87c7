"""The files of a model folder, by digest: how a bundle names a model."""

from pathlib import Path

from oathbound.core.canonical import digest
from oathbound.core.errors import WrongInput

MAX_FILES = 10


def model_files(path: Path) -> dict[str, str]:
    """Return the digest of each file in the folder; `WrongInput` when it is no model folder."""
    if not (path / "model.safetensors").is_file():
        raise WrongInput(f"{path} is not a model folder", hint="a model folder holds model.safetensors")
    files = sorted(path.iterdir())
    if len(files) > MAX_FILES or not all(file.is_file() for file in files):
        raise WrongInput(f"{path} holds more than a model")
    return {file.name: digest(file.read_bytes()) for file in files}
