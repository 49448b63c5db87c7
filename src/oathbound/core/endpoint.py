"""How an endpoint is asked, and what must be known of it: the file that `audit --endpoint` reads."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from oathbound.core.record import Exact, Record, Text

_Token = Annotated[int, Field(ge=0, lt=2**31)]


class EndpointSettings(Record):
    """What must be known of an endpoint beyond its address and model: a TOML file."""

    format: Literal["oathbound/endpoint/v1"] = Field(description="The version of the file.")
    bos: _Token = Field(description="The token that begins a record.")
    eos: _Token = Field(description="The token that ends a record, and a continuation.")
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
