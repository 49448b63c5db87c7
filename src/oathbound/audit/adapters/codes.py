"""The simplest way from records to tokens: one token a code, whatever its value and time.

For a model that was not made with our tokenizer. The map is a file `vocabulary.json` beside the model:

    {"format": "oathbound/codes/v1", "tokens": {"GENDER//F": 3, "ICD10CM//B20": 4}, "unknown": 2}
"""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.errors import WrongInput
from oathbound.core.patient import Patient
from oathbound.core.record import Record, Text

FORMAT: Final = "oathbound/codes/v1"

Token = Annotated[int, Field(ge=0, lt=2**31)]


class CodeMap(Record):
    """The content of the file. A code that it does not list becomes `unknown`, or is left out without it."""

    format: Literal["oathbound/codes/v1"] = Field(description="The version of the map.")
    tokens: dict[Text, Token] = Field(
        min_length=1, max_length=1_000_000, description="Of each code, its token; no two have one."
    )
    unknown: Token | None = Field(
        default=None, description="The token of every other code; if left out, such events are left out."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len({*self.tokens.values(), self.unknown}) != len(self.tokens) + 1:
            raise ValueError("two codes have one token")
        return self


def read_map(data: bytes, *, what: str) -> CodeMap:
    """Return the map in a file's bytes; `WrongInput` if it is none, or names a code twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise WrongInput(f"{what} holds a key twice", hint="every code has one token")
        return dict(pairs)

    try:
        value = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise WrongInput(f"{what} is not JSON", hint="docs/guides/audit-any-model.md shows one") from None
    if not isinstance(value, dict):
        raise WrongInput(f"{what} is not a JSON object", hint="docs/guides/audit-any-model.md shows one")
    return CodeMap.parse(value, what=what)


class PlainCodes:
    """A codebook: BOS, the codes in the order of the record, EOS.

    `WrongInput` where a special token is a code's, or two are one.
    """

    def __init__(self, codes: CodeMap, *, bos: int, eos: int, pad: int | None = None) -> None:
        taken = {*codes.tokens.values(), codes.unknown}
        if bos == eos or taken & {bos, eos}:
            raise WrongInput(
                "BOS and EOS must be two tokens, and no code's",
                hint="bos_token_id and eos_token_id of config.json, and the tokens of vocabulary.json",
            )
        self.bos = bos
        self.eos = eos
        self.pad = eos if pad is None else pad
        self.size = max(*codes.tokens.values(), codes.unknown or 0, bos, eos, self.pad) + 1
        self.codes = tuple(codes.tokens)
        self._tokens = codes.tokens
        self._unknown = codes.unknown

    def encode(self, patient: Patient, length: int) -> tuple[int, ...]:
        """Return at most `length` tokens: static facts as they come, then events by time; EOS if it fits."""
        tokens = [self.bos]
        for event in patient.events:
            if len(tokens) >= length:
                break
            token = self._tokens.get(event.code, self._unknown)
            if token is not None:
                tokens.append(token)
        tokens.append(self.eos)
        return tuple(tokens[:length])

    def tokens_of(self, code: str) -> frozenset[int]:
        """Return the token that states `code`; `WrongInput` if the map does not list it."""
        if code not in self._tokens:
            raise WrongInput(f"the vocabulary has no code {code}", hint="list it in vocabulary.json")
        return frozenset({self._tokens[code]})
