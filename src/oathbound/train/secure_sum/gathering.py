"""The server's part in the agreement of keys: it collects, checks, and hands on what sites say to each other.

The numbers are of `spec/secure-sum.md`, "The server".
"""

from typing import Final

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat.kem import CIPHERTEXT_BYTES, PUBLIC_BYTES, check_public
from oathbound.train.secure_sum.agreement import check_advertisement, signed_ciphertext
from oathbound.train.secure_sum.messages import (
    ADVERTISEMENT,
    CIPHERTEXTS,
    CIPHERTEXTS_SENT,
    INVITATION,
    ROSTER,
    SIGNATURE_BYTES,
    Invitation,
    Received,
    Roster,
    check_signature,
    pieces,
)
from oathbound.train.secure_sum.server import Server
from oathbound.train.secure_sum.terms import Terms

_PART_BYTES: Final = CIPHERTEXT_BYTES + SIGNATURE_BYTES


class Gathering:
    """The agreement of keys for attempts from `epoch` on. Its methods are called in their order here.

    A message that is refused changes nothing. A site that is lost before its ciphertexts are in ends the
    gathering: gather again, without it.
    """

    def __init__(self, terms: Terms, *, epoch: int) -> None:
        self._terms = terms
        self._invitation = Invitation(run=terms.run, plan=terms.plan, epoch=epoch)
        self._entries: dict[int, bytes] = {}
        self._roster = b""
        self._parts: dict[int, dict[int, bytes]] = {}

    def invitation(self) -> bytes:
        """Return the message for every site."""
        return INVITATION.write(self._invitation)

    def advertised(self, site: str, message: bytes) -> None:
        """Take the public keys of `site`."""
        place = self._terms.place(site)
        header, payload = ADVERTISEMENT.read(message)
        public, signature = pieces(payload, PUBLIC_BYTES, SIGNATURE_BYTES)
        invitation = Invitation(run=header.run, plan=header.plan, epoch=header.epoch)
        if (invitation, header.site) != (self._invitation, place):
            raise ProtocolRefused(f"{site} advertised keys of another site, run, plan or epoch")
        if self._roster or place in self._entries:
            raise ProtocolRefused(f"{site} advertised keys twice, or too late")
        check_advertisement(self._terms, invitation, place, public, signature)  # C1
        check_public(public)  # C1
        self._entries[place] = public + signature

    def roster(self) -> dict[str, bytes]:
        """Return the message for each site that advertised; none is taken after this."""
        if len(self._entries) < self._terms.thresholds.least:
            raise ProtocolRefused("fewer sites are here than a sum must hold", hint="wait for the others")
        places = tuple(sorted(self._entries))
        header = Roster(sites=places, **self._invitation.plain())
        self._roster = ROSTER.write(header, *(self._entries[place] for place in places))
        return {self._terms.name(place): self._roster for place in places}

    def encapsulated(self, site: str, message: bytes) -> None:
        """Take the ciphertexts of `site` for the sites after it."""
        place = self._terms.place(site)
        header, payload = CIPHERTEXTS_SENT.read(message)
        if not self._roster or header.session != self._session or header.sender != place:
            raise ProtocolRefused(f"{site} sent ciphertexts of another site or session")
        if place not in self._entries or place in self._parts:
            raise ProtocolRefused(f"{site} is not in the roster, or sent ciphertexts twice")
        later = [other for other in sorted(self._entries) if other > place]
        parts = dict(zip(later, pieces(payload, *[_PART_BYTES] * len(later)), strict=True))
        for receiver, part in parts.items():
            signed = signed_ciphertext(self._session, place, receiver, part[:CIPHERTEXT_BYTES])
            what = f"a ciphertext of {site}"
            check_signature(self._terms.key(place), part[CIPHERTEXT_BYTES:], signed, what=what)  # C1
        self._parts[place] = parts

    def ciphertexts(self) -> dict[str, bytes]:
        """Return the message for each site, once all have sent theirs."""
        self._check_complete()
        return {  # C2
            self._terms.name(receiver): CIPHERTEXTS.write(
                Received(session=self._session, receiver=receiver),
                *(self._parts[sender][receiver] for sender in sorted(self._parts) if sender < receiver),
            )
            for receiver in sorted(self._entries)
        }

    def server(self) -> Server:
        """Return the server of the session that the sites now share."""
        self._check_complete()
        return Server(self._terms, session=self._session, places=tuple(sorted(self._entries)))

    @property
    def _session(self) -> str:
        return digest(self._roster)

    def _check_complete(self) -> None:
        if not self._roster or self._parts.keys() != self._entries.keys():
            raise ProtocolRefused(
                "a site of the roster has not sent its ciphertexts",
                hint="if it is lost, gather the others again",
            )
