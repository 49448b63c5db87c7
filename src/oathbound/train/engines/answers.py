"""A site's answer as it crosses to another process: what it answers, or why it refuses.

    0x00 || answer
    0x01 || canonical JSON: `error`, `message`, `hint`

A refusal is not signed: whoever can change it can as well keep an answer from arriving. The facts of an error
stay where it was raised: what a budget needs says how much of it other studies have reserved.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import Field

from oathbound.core.canonical import canonical, from_canonical
from oathbound.core.errors import (
    BudgetRefused,
    ConsentRefused,
    Halted,
    NotAcceptable,
    NotAuthentic,
    NothingExamined,
    OathboundError,
    ProtocolRefused,
    Refused,
    Unavailable,
    WrongInput,
)
from oathbound.core.record import Name, Record

_ANSWER: Final = b"\0"
_REFUSAL: Final = b"\1"
_MOST_TEXT: Final = 2000
_MOST_REFUSAL: Final = 2**16
"""Three texts and their keys fit, also where JSON takes six bytes for a character."""

_KINDS: Final[dict[str, type[OathboundError]]] = {
    kind.__name__: kind
    for kind in (
        WrongInput,
        NothingExamined,
        Unavailable,
        Halted,
        Refused,
        ConsentRefused,
        BudgetRefused,
        ProtocolRefused,
        NotAuthentic,
        NotAcceptable,
    )
}

_Sentence = Annotated[str, Field(max_length=_MOST_TEXT)]


class _Refusal(Record):
    error: _Sentence
    message: _Sentence
    hint: _Sentence


def answered(receive: Callable[[bytes], bytes], message: bytes) -> bytes:
    """Return what `receive` answers, or the error that it raises, as bytes."""
    try:
        return _ANSWER + receive(message)
    except OathboundError as error:
        kind = type(error).__name__
        said = {
            "error": kind if kind in _KINDS else Unavailable.__name__,
            "message": error.message,
            "hint": error.hint,
        }
        # a path may hold bytes that are no text
        texts = {key: text.encode(errors="replace").decode()[:_MOST_TEXT] for key, text in said.items()}
        return _REFUSAL + canonical(texts)


def opened(answer: bytes, site: Name) -> bytes:
    """Return the answer in what `answered` made, or raise the error in it, with the site's name.

    Raises `ProtocolRefused` for bytes that `answered` does not make. A budget's facts are empty.
    """
    if answer.startswith(_ANSWER):
        return answer[len(_ANSWER) :]
    if not answer.startswith(_REFUSAL) or len(answer) > _MOST_REFUSAL:
        raise ProtocolRefused(f"{site} answers in a form of its own")
    try:
        refusal = _Refusal.parse(from_canonical(answer[len(_REFUSAL) :], what="a refusal"), what="a refusal")
    except (NotAuthentic, WrongInput):
        raise ProtocolRefused(f"{site} refuses in a form of its own") from None
    kind = _KINDS.get(refusal.error, Unavailable)
    facts: dict[str, Any] = {"needed": "", "allowed": ""} if kind is BudgetRefused else {}
    message = _shown(refusal.message)
    told = message if site in message else f"{site}: {message}"
    raise kind(told, hint=_shown(refusal.hint), **facts)


def _shown(text: str) -> str:
    """Return the text without what could make a terminal show something else."""
    return "".join(character if character.isprintable() else "?" for character in text)
