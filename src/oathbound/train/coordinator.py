"""The coordinator's part in training, without input or output: bytes in, bytes out.

An attempt is a sequence of waves. A wave is a message for each site; when its answers are in, or no more are
waited for, the next one begins, and after the last the step is taken. `spec/training.md` lists the waves,
`spec/secure-sum.md` says what is in them. All that the coordinator learns of the sites' shares is their sum.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from oathbound.core.errors import OathboundError, ProtocolRefused
from oathbound.train.descent import Descent, Progress
from oathbound.train.messages import Step
from oathbound.train.secure_sum.gathering import Gathering
from oathbound.train.secure_sum.seeds import batch_of
from oathbound.train.secure_sum.server import Server
from oathbound.train.secure_sum.terms import Terms

_NOTHING_DEALT: Final = -1


@dataclass(frozen=True, slots=True)
class _Wave:
    """A message for each site that is still in, and what checks and keeps an answer."""

    messages: Mapping[str, bytes]
    take: Callable[[str, bytes], None]


class Coordinator:
    """One run: has the sites sum their shares of each step, and moves the weights by the sum.

    `begin`, then in turns `receive` for the answers and `proceed`, until that returns no more messages.
    """

    def __init__(self, descent: Descent, terms: Terms) -> None:
        self._descent = descent
        self._terms = terms
        self._server: Server | None = None
        self._batch = _NOTHING_DEALT  # in the server's session
        self._waves: Iterator[_Wave] = iter(())
        self._wave: _Wave | None = None
        self._answered: set[str] = set()
        self._present: tuple[str, ...] = ()

    @property
    def present(self) -> int:
        """How many sites were in the last sum."""
        return len(self._present)

    @property
    def progress(self) -> Progress:
        """How far this run is."""
        return self._descent.progress

    def snapshot(self) -> bytes:
        """Return the state after the last whole step: `Descent.snapshot`."""
        return self._descent.snapshot()

    def begin(self) -> dict[str, bytes]:
        """Begin the next attempt and return the first wave's message for each site.

        It has its number, and counts, once the sites that a sum must hold have agreed on keys and taken the
        others' seeds. Raises `BudgetRefused` if the plan has not an attempt left for every step,
        `ProtocolRefused` if one is open or none is needed.
        """
        if self._wave is not None:
            raise ProtocolRefused("an attempt is open: end it, or give it up")
        self._waves = self._attempt(self._descent.upcoming())
        return self._next_wave()

    def receive(self, site: str, message: bytes) -> None:
        """Take the answer of `site` to its message of the present wave.

        Raises `ProtocolRefused`, and stays as it was, unless the answer is `site`'s first and is acceptable.
        """
        if self._wave is None:
            raise ProtocolRefused("an answer, and no attempt is open")
        if site not in self._wave.messages or site in self._answered:
            raise ProtocolRefused(f"an answer of {site}, which was not asked, or has answered")
        self._wave.take(site, message)
        self._answered.add(site)

    def proceed(self) -> dict[str, bytes]:
        """End the wave with the answers that came, and return the next one's messages; none: a step is taken.

        A site that did not answer is lost for the wave. Raises `ProtocolRefused` where too few are left, or
        no attempt is open; the attempt is then void.
        """
        if self._wave is None:
            raise ProtocolRefused("no attempt is open")
        return self._next_wave()

    def void(self) -> None:
        """Give the open attempt up, if there is one, and the session of keys with it.

        It stays charged; the next has a new number, and invites every site again: also one that restarted.
        """
        self._descent.void()
        self._server, self._batch = None, _NOTHING_DEALT
        self._waves, self._wave = iter(()), None

    def _next_wave(self) -> dict[str, bytes]:
        self._wave = None  # also if what follows is interrupted: no step is taken then
        try:
            self._wave = next(self._waves, None)
        except OathboundError:
            self.void()
            raise
        self._answered = set()
        return dict(self._wave.messages) if self._wave else {}

    def _attempt(self, number: int) -> Generator[_Wave, None, None]:
        """Yield the waves of one attempt, and take its step."""
        batch = batch_of(number)
        if self._server is None:
            self._server = yield from self._agreement(epoch=number)
        server = self._server
        if self._batch != batch:
            yield _Wave(server.call(batch), server.dealt)
            yield _Wave(server.boxes(), _acknowledged)
            if len(self._answered) < self._terms.thresholds.least:
                raise ProtocolRefused("fewer sites have taken the others' seeds than a sum must hold")
            self._batch = batch
        step = self._descent.begin()  # only now: who is silent, or spoils an agreement, uses up no attempt
        yield _Wave(_step_messages(step, server.begin(step.label)), server.masked)
        proposal = server.propose()
        self._present = tuple(proposal)
        yield _Wave(proposal, server.signed)
        yield _Wave(server.certificate(), server.revealed)
        self._descent.take(server.total(), self._present)

    def _agreement(self, epoch: int) -> Generator[_Wave, None, Server]:
        """Yield the waves in which the sites agree on keys, and return the server of their session."""
        asked = self._terms.sites
        while True:
            gathering = Gathering(self._terms, epoch=epoch)
            yield _Wave(dict.fromkeys(asked, gathering.invitation()), gathering.advertised)
            roster = gathering.roster()
            yield _Wave(roster, gathering.encapsulated)
            if self._answered == roster.keys():
                break
            asked = tuple(site for site in asked if site in self._answered)  # again, without who was lost
        yield _Wave(gathering.ciphertexts(), _acknowledged)
        return gathering.server()


def _step_messages(step: Step, announcements: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the message of each site; equal ones are one object, for they hold the weights."""
    messages = {announcement: step.encode(announcement) for announcement in set(announcements.values())}
    return {site: messages[announcement] for site, announcement in announcements.items()}


def _acknowledged(site: str, message: bytes) -> None:
    if message:
        raise ProtocolRefused(f"{site} says something where it only acknowledges")
