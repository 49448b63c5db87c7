"""What a bundle holds: the policy, public keys, and every leaf and checkpoint of every log of one study.

    policy.json                     what every site swore to
    parties/<name>.json             public keys of each party
    leaves/<sha256>.json            signed statements, each once
    logs/<operator>/leaves.json     the digests of one log's leaves, in order
    logs/<operator>/checkpoint-<n>  its cosigned checkpoints, ascending in size

The files are a function of the logs: a bundle with any other file, or with one missing, is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from oathbound.core.canonical import canonical, from_canonical
from oathbound.core.errors import NotAuthentic

MAX_LEAVES = 10_000

_LOG = re.compile(r"logs/([a-z][a-z0-9-]{0,62})/(leaves\.json|checkpoint-[1-9][0-9]?)")


@dataclass(frozen=True, slots=True)
class BundledLog:
    """One log: its leaves in order, and its checkpoints (signed notes), ascending in size."""

    leaves: tuple[bytes, ...]
    checkpoints: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """The parsed files of a bundle. Nothing in it is trusted yet."""

    policy: bytes
    parties: Mapping[str, bytes]
    logs: Mapping[str, BundledLog]

    def files(self) -> dict[str, bytes]:
        """Return the files of the bundle that holds these contents."""
        files = {"policy.json": self.policy}
        files |= {f"parties/{name}.json": data for name, data in self.parties.items()}
        for operator, log in self.logs.items():
            names = [sha256(leaf).hexdigest() for leaf in log.leaves]
            files |= {f"leaves/{name}.json": leaf for name, leaf in zip(names, log.leaves, strict=True)}
            files[f"logs/{operator}/leaves.json"] = canonical(names)
            for number, note in enumerate(log.checkpoints, start=1):
                files[f"logs/{operator}/checkpoint-{number}"] = note
        return files

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Self:
        """Return the contents of these files; `NotAuthentic` unless they are exactly one bundle's."""
        parties = {
            name.removeprefix("parties/").removesuffix(".json"): data
            for name, data in files.items()
            if name.startswith("parties/")
        }
        operators = sorted({match[1] for name in files if (match := _LOG.fullmatch(name))})
        logs = {operator: _log(files, operator) for operator in operators}
        if not parties or not operators:
            raise NotAuthentic("the bundle holds no parties or no logs")
        contents = cls(policy=files.get("policy.json", b""), parties=parties, logs=logs)
        if contents.files() != dict(files):
            raise NotAuthentic("the bundle's files are not exactly those that its logs list")
        return contents


def _log(files: Mapping[str, bytes], operator: str) -> BundledLog:
    folder = f"logs/{operator}"
    names = from_canonical(files.get(f"{folder}/leaves.json", b""), what=f"the list of leaves of {operator}")
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= MAX_LEAVES
        or not all(isinstance(n, str) for n in names)
    ):
        raise NotAuthentic(f"the list of leaves of {operator} is empty, too long or no list of names")
    if len(set(names)) != len(names):
        raise NotAuthentic(f"the log of {operator} holds a leaf twice")
    try:
        leaves = tuple(files[f"leaves/{name}.json"] for name in names)
    except KeyError:
        raise NotAuthentic(f"the log of {operator} lists a leaf that the bundle does not hold") from None
    count = sum(name.startswith(f"{folder}/checkpoint-") for name in files)
    notes = tuple(files.get(f"{folder}/checkpoint-{number}", b"") for number in range(1, count + 1))
    return BundledLog(leaves=leaves, checkpoints=notes)
