"""A site's part in the agreement of keys: from an invitation to a secret with every other site of a session.

The numbers are of `spec/secure-sum.md`, "A site agrees on keys". Each state is left by one message, once:
`Client` holds the present one. Private keys live as long as the states that need them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oathbound.core.canonical import digest
from oathbound.core.errors import ProtocolRefused
from oathbound.hazmat.derive import derive
from oathbound.hazmat.kem import CIPHERTEXT_BYTES, PUBLIC_BYTES, KeyPair
from oathbound.train.secure_sum.messages import (
    ADVERTISEMENT,
    CIPHERTEXT,
    CIPHERTEXTS,
    CIPHERTEXTS_SENT,
    INVITATION,
    ROSTER,
    SIGNATURE_BYTES,
    Advertised,
    Between,
    Box,
    Invitation,
    Roster,
    Sent,
    check_signature,
    pieces,
    without,
)
from oathbound.train.secure_sum.terms import Terms

_PAIR_SEED = b"oathbound/secure-sum/pair-seed/v1"
_BOX_KEY = b"oathbound/secure-sum/box-key/v1"


@dataclass(frozen=True, slots=True)
class Site:
    """One site: its place in the terms, and what it signs with."""

    terms: Terms
    place: int
    signer: Ed25519PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A session: the places of its roster, and this site's secret with each other one."""

    site: Site
    session: str
    epoch: int
    places: tuple[int, ...]
    _secrets: Mapping[int, bytes] = field(repr=False)

    @property
    def others(self) -> tuple[int, ...]:
        """The places of the roster but this site's."""
        return without(self.places, (self.site.place,))

    def seed(self, peer: int, attempt: str) -> bytes:
        """Return the seed of the mask that this site and `peer` share in the attempt of that identity."""
        low, high = sorted((self.site.place, peer))
        return derive(self._secrets[peer], _PAIR_SEED, attempt.encode(), bytes([low, high]))

    def box_key(self, peer: int, box: bytes) -> bytes:
        """Return the key of one box between this site and `peer`, which `box` names: it is used once."""
        return derive(self._secrets[peer], _BOX_KEY, box)

    def box(self, sender: int, receiver: int, batch: int) -> Box:
        """Return the name of a box."""
        return Box(session=self.session, sender=sender, receiver=receiver, batch=batch)


@dataclass(frozen=True, slots=True)
class Joined:
    """A site that knows the roster, and shares a secret with those after it."""

    site: Site
    keys: KeyPair = field(repr=False)
    session: str
    roster: Roster
    publics: Mapping[int, bytes] = field(repr=False)
    secrets: Mapping[int, bytes] = field(repr=False)

    def agree(self, message: bytes) -> Pairs:
        """Take the ciphertexts of the sites before this one, and return the session; `ProtocolRefused`."""
        received, payload = CIPHERTEXTS.read(message)
        own = self.site.place
        if (received.session, received.receiver) != (self.session, own):  # K7
            raise ProtocolRefused("ciphertexts of another session, or for another site")
        earlier = [place for place in self.roster.sites if place < own]
        parts = pieces(payload, *[CIPHERTEXT_BYTES + SIGNATURE_BYTES] * len(earlier))
        secrets = dict(self.secrets)
        for sender, part in zip(earlier, parts, strict=True):
            ciphertext, signature = part[:CIPHERTEXT_BYTES], part[CIPHERTEXT_BYTES:]
            signed = signed_ciphertext(self.session, sender, own, ciphertext)
            what = f"the ciphertext of {self.site.terms.name(sender)}"
            check_signature(self.site.terms.key(sender), signature, signed, what=what)  # K8
            secrets[sender] = self.keys.decapsulate(  # K9
                self.publics[sender], ciphertext, _context(self.session, sender, own)
            )
        return Pairs(self.site, self.session, self.roster.epoch, self.roster.sites, secrets)


@dataclass(frozen=True, slots=True)
class Invited:
    """A site that has made its keys."""

    site: Site
    invitation: Invitation
    keys: KeyPair = field(repr=False)

    @classmethod
    def of(cls, site: Site, message: bytes, random: Callable[[int], bytes]) -> tuple[Self, bytes]:
        """Return the state and the advertisement that answer an invitation, or raise `ProtocolRefused`."""
        invitation, payload = INVITATION.read(message)
        pieces(payload)
        terms = site.terms
        if (invitation.run, invitation.plan) != (terms.run, terms.plan):  # K1
            raise ProtocolRefused(
                "an invitation to another run or plan", hint="every site must have signed one policy"
            )
        keys = KeyPair.generate(random)  # K2
        header = Advertised(site=site.place, **invitation.plain())
        signed = ADVERTISEMENT.write(header, keys.public)
        return cls(site, invitation, keys), signed + site.signer.sign(signed)

    def join(self, message: bytes) -> tuple[Joined, bytes]:
        """Return the state and the ciphertexts that answer a roster, or raise `ProtocolRefused`."""
        roster, payload = ROSTER.read(message)
        terms, own = self.site.terms, self.site.place
        if Invitation(run=roster.run, plan=roster.plan, epoch=roster.epoch) != self.invitation:  # K3
            raise ProtocolRefused("a roster of another run, plan or epoch")
        if len(roster.sites) < terms.thresholds.least or roster.sites[-1] > terms.thresholds.sites:  # K4
            raise ProtocolRefused("a roster of fewer sites than a sum must hold, or of unknown ones")
        entries = pieces(payload, *[PUBLIC_BYTES + SIGNATURE_BYTES] * len(roster.sites))
        publics = {}
        for place, entry in zip(roster.sites, entries, strict=True):
            publics[place], signature = entry[:PUBLIC_BYTES], entry[PUBLIC_BYTES:]
            check_advertisement(terms, self.invitation, place, publics[place], signature)  # K5
        if publics.get(own) != self.keys.public:  # K6
            raise ProtocolRefused("a roster without this site's keys: those it made for this epoch")
        session = digest(message)
        secrets, sent = {}, []
        for peer in roster.sites:
            if peer > own:
                secrets[peer], ciphertext = self.keys.encapsulate(publics[peer], _context(session, own, peer))
                signed = signed_ciphertext(session, own, peer, ciphertext)
                sent += [ciphertext, self.site.signer.sign(signed)]
        joined = Joined(self.site, self.keys, session, roster, publics, secrets)
        return joined, CIPHERTEXTS_SENT.write(Sent(session=session, sender=own), *sent)


def check_advertisement(
    terms: Terms, invitation: Invitation, place: int, public: bytes, signature: bytes
) -> None:
    """Raise `ProtocolRefused` unless the site at `place` signed these public keys for this invitation."""
    signed = ADVERTISEMENT.write(Advertised(site=place, **invitation.plain()), public)
    check_signature(terms.key(place), signature, signed, what=f"the advertisement of {terms.name(place)}")


def signed_ciphertext(session: str, sender: int, receiver: int, ciphertext: bytes) -> bytes:
    """Return what the sender of a ciphertext signs."""
    return CIPHERTEXT.write(Between(session=session, sender=sender, receiver=receiver), ciphertext)


def _context(session: str, sender: int, receiver: int) -> bytes:
    """Return what a pair's secret is bound to beside keys and ciphertext: the session, by the roster."""
    return CIPHERTEXT.write(Between(session=session, sender=sender, receiver=receiver))
