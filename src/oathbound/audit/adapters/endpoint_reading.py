"""What an answer of an endpoint must hold, part by part: `WrongInput` where it does not, and what is lacking.

Nothing of the answer is repeated in an error: it may hold a record.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from oathbound.audit.adapters.endpoint_words import Wire
from oathbound.core.errors import WrongInput

TOLERANCE: Final = 1e-2
"""How far above 1 probabilities may sum, in single or half precision."""

_GUIDE: Final = "docs/guides/audit-endpoint.md says what an endpoint must answer"
_CAP: Final = 1.0
"""A logarithm above which no exponential is taken: its probability is above 1 anyway."""


def choices_of(value: Any, n: int) -> list[dict[str, Any]]:
    """Return the choices of a completion, in the order of their indices."""
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise _wrong("it is no completion")
    by_index = {choice["index"]: choice for choice in choices if type(choice.get("index")) is int}
    whole = len(choices) == n and by_index.keys() == set(range(n))
    refuse_unless(whole, "there are not as many choices as were asked for")
    return [by_index[index] for index in range(n)]


def continuation(choice: dict[str, Any], wire: Wire, *, eos: int, reach: int) -> list[int]:
    """Return a continuation: up to EOS, or of `reach` tokens, or to where the server says that it stops."""
    tokens = wire.drawn(choice)
    tokens = tokens[: tokens.index(eos) + 1] if eos in tokens else tokens
    refuse_unless(len(tokens) <= reach, "a continuation is longer than what was asked for")
    whole = len(tokens) == reach or choice.get("finish_reason") == "stop"
    refuse_unless(whole, "a continuation ends before its length, and not because the record ends")
    return tokens


def told(choice: dict[str, Any], tokens: Sequence[int], wire: Wire) -> list[float]:
    """Return log P of the tokens after the first; that the answer is about these tokens is checked.

    Some servers draw a token although none is asked for: one more is let pass.
    """
    names, values = (listed(choice, part) for part in ("tokens", "token_logprobs"))
    right = len(names) == len(values) and len(values) - len(tokens) in {0, 1}
    refuse_unless(
        right, "there is not one logprob for every token of the prompt (does it echo, or add some?)"
    )
    same = all(wire.names(said, token) for said, token in zip(names, tokens, strict=False))
    refuse_unless(same, "the tokens that it scored are not those of the prompt")
    logprobs = [_number(each) for each in values[1 : len(tokens)]]
    refuse_unless(all(each <= TOLERANCE for each in logprobs), "a probability is above 1")
    return logprobs


def likeliest(choice: dict[str, Any], first: int, end: int) -> Iterator[dict[str, Any]]:
    """Yield what is told of the likeliest tokens at the places from `first` to before `end`."""
    tops = listed(choice, "top_logprobs")[first:end]
    refuse_unless(len(tops) == end - first, "there are not the likeliest tokens of every place")
    for top in tops:
        if not isinstance(top, dict):
            raise _wrong("top_logprobs is not of objects")
        yield top


def head(top: dict[str, Any]) -> list[tuple[str, float]]:
    """Return names and probabilities of the likeliest tokens, likeliest first; they sum to 1 at most."""
    found = [(name, math.exp(min(_number(each), _CAP))) for name, each in top.items()]
    refuse_unless(sum(p for _, p in found) <= 1 + TOLERANCE, "probabilities sum to more than 1")
    return sorted(found, key=lambda named: -named[1])


def distribution(top: dict[str, Any], wire: Wire, size: int) -> list[float]:
    """Return the log-probability of every token, in order; they are all there, and sum to 1."""
    said = {name: _number(each) for name, each in top.items()}
    names = [wire.name(token) for token in range(size)]
    refuse_unless(said.keys() == set(names), "a distribution does not name every token once")
    total = sum(math.exp(min(each, _CAP)) for each in said.values())
    refuse_unless(abs(total - 1) <= TOLERANCE, "the probabilities of the next token do not sum to 1")
    return [said[name] for name in names]


def listed(choice: dict[str, Any], part: str) -> list[Any]:
    """Return a list among the choice's logprobs."""
    logprobs = choice.get("logprobs")
    value = logprobs.get(part) if isinstance(logprobs, dict) else None
    if not isinstance(value, list):
        raise _wrong(f"it has no logprobs.{part}")
    return value


def _number(value: Any) -> float:
    try:
        if type(value) in {int, float} and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        pass
    raise _wrong("a logprob is not a finite number")


def refuse_unless(holds: bool, problem: str) -> None:  # noqa: FBT001 - reads as a sentence at every call
    """Raise `WrongInput` for an answer that is wrong in this way."""
    if not holds:
        raise _wrong(problem)


def _wrong(problem: str) -> WrongInput:
    return WrongInput(f"the endpoint's answer is wrong: {problem}", hint=_GUIDE)
