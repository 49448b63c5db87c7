"""An OpenAI-compatible completions endpoint over MEDS codes as an audit target, opened.

`docs/guides/audit-endpoint.md` says what is asked, word by word; `endpoint_target.py` what the answers allow.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from oathbound.audit.adapters.codes import CodeMap, PlainCodes
from oathbound.audit.adapters.endpoint_http import Connection, Limits
from oathbound.audit.adapters.endpoint_target import SamplingEndpoint, ScoringEndpoint, SteppingEndpoint
from oathbound.audit.adapters.endpoint_words import Ids, Texts, Wire
from oathbound.audit.kept import Answers, OnAnswer, untold
from oathbound.core.canonical import digest_of
from oathbound.core.endpoint import EndpointSettings
from oathbound.core.errors import WrongInput

_IDENTITY: Final = ("bos", "eos", "length", "size", "logprobs", "prompts")
"""The settings that change answers; the others change how politely they are asked for."""


def limits_of(settings: EndpointSettings) -> Limits:
    """Return how the server is to be treated."""
    per_second, per_minute = (
        None if rate is None else float(rate)
        for rate in (settings.requests_per_second, settings.tokens_per_minute)
    )
    return Limits(
        concurrency=settings.concurrency,
        requests_per_second=per_second,
        tokens_per_minute=per_minute,
        timeout=float(settings.timeout),
        patience=float(settings.patience),
    )


@contextmanager
def open_endpoint(
    url: str,
    model: str,
    codes: CodeMap,
    settings: EndpointSettings,
    *,
    keep: Path,
    label: str = "",
    on_answer: OnAnswer = untold,
    allow_http: bool = False,
) -> Iterator[tuple[SamplingEndpoint, str]]:
    """Open a model behind an address for as long as an audit takes; yield it, and a digest.

    The digest is of what was asked, not of weights: what a server computes with cannot be seen. Answers are
    kept in the folder `keep`, and removed at the end; `on_answer` is told of each. Where the audit did not
    come to its end they stay for the next try, and the error of the connection is raised even where a test
    took it for its own reason.
    """
    codebook = PlainCodes(codes, bos=settings.bos, eos=settings.eos)
    size = codebook.size if settings.size is None else settings.size
    if size < codebook.size:
        raise WrongInput("the vocabulary has tokens that are not below `size`", hint="correct either")
    wire: Wire = Ids(size)
    if settings.prompts == "text":
        special = {settings.bos: settings.bos_text, settings.eos: settings.eos_text}
        wire = Texts.of(codes, special, unknown=settings.unknown_text)
    kind = SamplingEndpoint
    if settings.logprobs:
        whole = settings.logprobs >= size and settings.prompts == "ids"  # words do not name every token
        kind = SteppingEndpoint if whole else ScoringEndpoint
    asked = settings.model_dump(mode="json", include=set(_IDENTITY)) | {"codes": digest_of(codes.plain())}
    with ExitStack() as stack:
        connection = stack.enter_context(Connection(url, limits_of(settings), allow_http=allow_http))
        answers = stack.enter_context(Answers(keep, label, on_answer=on_answer))
        target = kind(
            connection,
            answers,
            codebook,
            wire,
            model=model,
            length=settings.length,
            size=size,
            logprobs=settings.logprobs,
        )
        yield target, digest_of({"url": connection.url, "model": model, **asked})
        if target.failure is not None:
            raise target.failure
        answers.forget()
