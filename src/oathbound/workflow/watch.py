"""How a long verb tells how far it is."""

from typing import Protocol


class Watch(Protocol):
    """Is told that `done` of `total` is done, with a few words for a person."""

    def __call__(self, done: int, total: int, words: str = "") -> None:
        """Show it, or not."""
        ...


def unwatched(done: int, total: int, words: str = "") -> None:
    """Show nothing."""
