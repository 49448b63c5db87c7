"""How tokens are said to a server: by their numbers, or as words.

Numbers are unambiguous, and need two things that vLLM has beyond OpenAI's API: `return_token_ids` and
`return_tokens_as_token_ids`. Words need a server whose tokenizer splits at spaces, with one token a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from oathbound.audit.adapters.codes import CodeMap
from oathbound.core.errors import WrongInput

_GUIDE: Final = "docs/guides/audit-endpoint.md says what an endpoint must answer"


class Wire(Protocol):
    """One way to write prompts and to read tokens."""

    def prompt(self, tokens: Sequence[int]) -> list[int] | str:
        """Return a prompt of these tokens."""
        ...

    def name(self, token: int) -> str:
        """Return how logprobs call a token."""
        ...

    def names(self, said: Any, token: int) -> bool:
        """Return whether this is how logprobs call the token."""
        ...

    def naming(self) -> dict[str, Any]:
        """Return what a request says so that logprobs call tokens so."""
        ...

    def drawing(self) -> dict[str, Any]:
        """Return what a request says so that continuations can be read, and nothing truncates them."""
        ...

    def drawn(self, choice: Mapping[str, Any]) -> list[int]:
        """Return the tokens of a continuation; `WrongInput` where they are none."""
        ...


@dataclass(frozen=True, slots=True)
class Ids:
    """Tokens as numbers below `size`."""

    size: int

    def prompt(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens."""
        return list(tokens)

    def name(self, token: int) -> str:
        """Return how vLLM writes a token by its number."""
        return f"token_id:{token}"

    def names(self, said: Any, token: int) -> bool:
        """Return whether the number is the token's."""
        return bool(said == self.name(token))

    def naming(self) -> dict[str, Any]:
        """Ask for numbers in logprobs."""
        return {"return_tokens_as_token_ids": True}

    def drawing(self) -> dict[str, Any]:
        """Ask for numbers, and undo what the server may do by default."""
        return self.naming() | {"return_token_ids": True, "top_k": -1, "min_p": 0, "repetition_penalty": 1}

    def drawn(self, choice: Mapping[str, Any]) -> list[int]:
        """Return the numbers."""
        tokens = choice.get("token_ids")
        if not isinstance(tokens, list) or not all(
            type(token) is int and 0 <= token < self.size for token in tokens
        ):
            raise WrongInput(
                "the endpoint's answer is wrong: it has no token_ids that the model knows", hint=_GUIDE
            )
        return tokens


@dataclass(frozen=True, slots=True)
class Texts:
    """Tokens as words without spaces; `unknown` stands for words that are nobody's, where there is one."""

    words: Mapping[int, str]
    tokens: Mapping[str, int]
    unknown: int | None

    @classmethod
    def of(cls, codes: CodeMap, special: Mapping[int, str | None], *, unknown: str | None) -> Self:
        """Return the words of a map and of special tokens; `WrongInput` if they cannot be told apart."""
        words = {token: code for code, token in codes.tokens.items()}
        words |= {token: word for token, word in special.items() if word is not None}
        if codes.unknown is not None:
            if unknown is None:
                raise WrongInput("the vocabulary has an unknown token, and no unknown_text says its word")
            words[codes.unknown] = unknown
        if any(word.split() != [word] for word in words.values()):
            raise WrongInput("a code has a space, so text cannot say it", hint='use prompts = "ids"')
        tokens = {word: token for token, word in words.items()}
        if len(tokens) != len(words):
            raise WrongInput("two tokens have one word, so text cannot tell them apart")
        return cls(words, tokens, codes.unknown)

    def prompt(self, tokens: Sequence[int]) -> str:
        """Return the words, joined by spaces."""
        return " ".join(self.words[token] for token in tokens)

    def name(self, token: int) -> str:
        """Return the word."""
        return self.words[token]

    def names(self, said: Any, token: int) -> bool:
        """Return whether this is the token's word, with or without its space."""
        return isinstance(said, str) and said.strip() == self.words[token]

    def naming(self) -> dict[str, Any]:
        """Ask for nothing more."""
        return {}

    def drawing(self) -> dict[str, Any]:
        """Ask for nothing more."""
        return {}

    def drawn(self, choice: Mapping[str, Any]) -> list[int]:
        """Return the tokens of the words."""
        text = choice.get("text")
        if not isinstance(text, str):
            raise WrongInput("the endpoint's answer is wrong: it has no text", hint=_GUIDE)
        tokens = [self.tokens.get(word, self.unknown) for word in text.split()]
        known = [token for token in tokens if token is not None]
        if len(known) != len(tokens):
            raise WrongInput(
                "the endpoint's answer is wrong: it says a word that the vocabulary does not list",
                hint="list it, or name an unknown token",
            )
        return known
