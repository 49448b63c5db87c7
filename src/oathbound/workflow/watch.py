"""How a long verb tells how far it is."""

from dataclasses import dataclass
from typing import Protocol


class Watch(Protocol):
    """Is told that `done` of `total` is done, with a few words for a person."""

    def __call__(self, done: int, total: int, words: str = "") -> None:
        """Show it, or not."""
        ...


def unwatched(done: int, total: int, words: str = "") -> None:
    """Show nothing."""


@dataclass(slots=True)
class AuditWatch:
    """Tells a watch which test of an audit is under way, and how much the model has been asked for it."""

    watch: Watch
    done: int = 0
    total: int = 1
    test: str = ""
    asked: int = 0
    again: int = 0

    def begin(self, test: str, done: int, total: int) -> None:
        """Tell that a test begins, after `done` of `total`."""
        self.test, self.done, self.total, self.asked, self.again = test, done, total, 0, 0
        self._tell()

    def answer(self, *, again: bool) -> None:
        """Tell of an answer more; `again` where an earlier run had it, and kept it."""
        self.asked += 1
        self.again += again
        self._tell()

    def _tell(self) -> None:
        kept = f", {self.again:,} from before" if self.again else ""
        asked = f" · answers: {self.asked:,}{kept}" if self.asked else ""
        self.watch(self.done, self.total, f"{self.test} {self.done + 1}/{self.total}{asked}")
