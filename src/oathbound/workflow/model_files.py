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
    others = [
        file.name for file in files if file.suffix not in {".json", ".safetensors"} or not file.is_file()
    ]
    if others or len(files) > MAX_FILES:
        raise WrongInput(f"{path} holds more than a model: {', '.join(others[:3])}", hint="move it elsewhere")
    return {file.name: digest(file.read_bytes()) for file in files}
