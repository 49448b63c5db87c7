"""An OpenAI-compatible completions endpoint over MEDS codes as an audit target: its settings, and opening it.

`docs/guides/audit-endpoint.md` says what is asked, word by word; `endpoint_target.py` what the answers allow.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from oathbound.audit.adapters.codes import CodeMap, PlainCodes, Token
from oathbound.audit.adapters.endpoint_cache import Answers
from oathbound.audit.adapters.endpoint_http import Connection, Limits
from oathbound.audit.adapters.endpoint_target import SamplingEndpoint, ScoringEndpoint, SteppingEndpoint
from oathbound.audit.adapters.endpoint_words import Ids, Texts, Wire
from oathbound.core.canonical import digest_of
from oathbound.core.errors import WrongInput
from oathbound.core.record import Exact, Record, Text

_IDENTITY: Final = ("bos", "eos", "length", "size", "logprobs", "prompts")
"""The settings that change answers; the others change how politely they are asked for."""


class Settings(Record):
    """What must be known of an endpoint beyond its address and model: a TOML file."""

    format: Literal["oathbound/endpoint/v1"] = Field(description="The version of the file.")
    bos: Token = Field(description="The token that begins a record.")
    eos: Token = Field(description="The token that ends a record, and a continuation.")
    length: Annotated[int, Field(ge=2, le=65536)] = Field(description="The tokens of the model's context.")
    size: Annotated[int, Field(ge=2, le=2**31)] | None = Field(
        default=None, description="How many tokens the model has; by default, up to the largest known."
    )
    logprobs: Annotated[int, Field(ge=0, le=2**20)] = Field(
        default=0, description="How many logprobs the server gives at a place; 0: it shows samples alone."
    )
    prompts: Literal["ids", "text"] = Field(
        default="ids", description="Whether a prompt is an array of tokens, or codes joined by spaces."
    )
    bos_text: Text | None = Field(default=None, description="In text: what begins a record.")
    eos_text: Text | None = Field(default=None, description="In text: what ends a record, where it is said.")
    unknown_text: Text | None = Field(default=None, description="In text: what any other code becomes.")
    concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        default=8, description="How many requests are on their way at once."
    )
    requests_per_second: Exact | None = Field(
        default=None, gt=0, description="The most requests that are begun in a second."
    )
    tokens_per_minute: Exact | None = Field(
        default=None, gt=0, description="The most tokens, read and written, that are asked for in a minute."
    )
    timeout: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=60, description="The seconds that one try of a request may take."
    )
    patience: Annotated[int, Field(ge=1, le=7 * 86400)] = Field(
        default=300, description="The seconds that all tries of a request may take, with their pauses."
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.prompts == "text" and not (self.bos_text and self.eos_text):
            raise ValueError("prompts as text need bos_text and eos_text")
        if self.prompts == "ids" and (self.bos_text or self.eos_text or self.unknown_text):
            raise ValueError('bos_text, eos_text and unknown_text are for prompts = "text"')
        return self

    def limits(self) -> Limits:
        """Return how the server is to be treated."""
        per_second, per_minute = (
            None if rate is None else float(rate)
            for rate in (self.requests_per_second, self.tokens_per_minute)
        )
        return Limits(
            concurrency=self.concurrency,
            requests_per_second=per_second,
            tokens_per_minute=per_minute,
            timeout=float(self.timeout),
            patience=float(self.patience),
        )


@contextmanager
def open_endpoint(
    url: str, model: str, codes: CodeMap, settings: Settings, *, keep: Path, allow_http: bool = False
) -> Iterator[tuple[SamplingEndpoint, str]]:
    """Open a model behind an address for as long as an audit takes; yield it, and a digest.

    The digest is of what was asked, not of weights: what a server computes with cannot be seen. Answers are
    kept in the folder `keep`, and removed at the end. Where the audit did not come to its end they stay for
    the next try, and the error of the connection is raised even where a test took it for its own reason.
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
        connection = stack.enter_context(Connection(url, settings.limits(), allow_http=allow_http))
        answers = stack.enter_context(Answers(keep))
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
