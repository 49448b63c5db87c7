import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from oathbound.core import errors
from oathbound.hazmat.derive import derive
from oathbound.hazmat.kem import KeyPair
from oathbound.hazmat.masks import SEED_BYTES, add_masks
from oathbound.hazmat.shamir import combine, split
from oathbound.testing.sums import Sums
from oathbound.train.secure_sum.agreement import Pairs, Site
from oathbound.train.secure_sum.client import Client, _Begun, _Session
from oathbound.train.secure_sum.messages import BATCH, PROPOSAL, Attempt, Survivors
from oathbound.train.secure_sum.seeds import Batch, batch_of, commitment, own_mask_seed

FOLDER = Path(__file__).resolve().parents[3] / "spec/vectors/secure-sum"
VECTORS = sorted(FOLDER.glob("*.json"))
HEX = bytes.fromhex


def drawn(data):
    left = bytearray(HEX(data))

    def source(n):
        taken = bytes(left[:n])
        del left[:n]
        return taken

    return source


def seeds(vector, sign):
    return [HEX(seed) for seed in vector[sign]]


def mask(vector, start):
    return add_masks(start, plus=seeds(vector, "plus"), minus=seeds(vector, "minus")).astype("<u4").tobytes()


def pair_seed(v):
    site = Site(Sums.of(3).terms, v["places"][0], Ed25519PrivateKey.generate())
    pairs = Pairs(site, v["attempt"], 1, (1, 2, 3), {v["places"][1]: HEX(v["secret"])})
    return pairs.seed(v["places"][1], v["attempt"]).hex()


def masked(v):
    """Mask as a client does that stands before its vector; the seed is that of one attempt of its batch."""
    sums, attempt = Sums.of(5, 2, dimension=10), Attempt.parse(v["header"], what="header")
    terms = replace(sums.terms, run=attempt.run, plan=attempt.plan)
    client = Client(terms, terms.name(v["place"]), sums.signers[terms.name(v["place"])])
    secrets = {int(place): HEX(secret) for place, secret in v["pair_secrets"].items()}
    places = tuple(sorted({*secrets, v["place"]}))
    pairs = Pairs(client._site, attempt.session, 1, places, secrets)
    client._phase = _Session(pairs, head=attempt.previous, begun=0)
    number = batch_of(attempt.attempt)
    seeds = bytes(SEED_BYTES * (attempt.attempt - 1 - BATCH * number)) + HEX(v["self_seed"])
    client._open = _Begun(attempt, Batch(number, seeds, {}))
    return client.mask(np.frombuffer(HEX(v["vector"]), dtype="<u4").astype(np.uint32)).hex()


def shares_of(v):
    split_up = split(
        HEX(v["secret"]), threshold=v["threshold"], places=v["places"], random=drawn(v["random"])
    )
    return {str(place): share.hex() for place, share in split_up.items()}


def read_proposal(v):
    header, payload = PROPOSAL.read(HEX(v["message"]))
    return PROPOSAL.write(header, payload).hex()


KINDS = {
    "mask": lambda v: mask(v, np.frombuffer(HEX(v["vector"]), dtype="<u4").astype(np.uint32)).hex(),
    "mask-digest": lambda v: "sha256:" + sha256(mask(v, np.zeros(v["zeros"], np.uint32))).hexdigest(),
    "masked": masked,
    "split": shares_of,
    "combine": lambda v: combine({int(p): HEX(s) for p, s in v["shares"].items()}).hex(),
    "derive": lambda v: derive(HEX(v["secret"]), v["label"].encode(), *map(HEX, v["parts"])).hex(),
    "pair-seed": pair_seed,
    "own-mask": lambda v: own_mask_seed(HEX(v["seed"]), v["attempt"]).hex(),
    "commitment": lambda v: commitment(HEX(v["seed"]), v["session"], v["place"], v["attempt"]).hex(),
    "pair": lambda v: (
        KeyPair.generate(drawn(v["random"]))
        .decapsulate(HEX(v["peer"]), HEX(v["ciphertext"]), HEX(v["context"]))
        .hex()
    ),
    "attempt": lambda v: Attempt.parse(v["header"], what="header").identity,
    "proposal": lambda v: PROPOSAL.write(Survivors.parse(v["header"], what="header")).hex(),
    "proposal-message": read_proposal,
}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vector(path):
    vector = json.loads(path.read_text())
    outcome = KINDS[vector["kind"]]
    if "refused" in vector:
        with pytest.raises(getattr(errors, vector["refused"])):
            outcome(vector)
    else:
        assert outcome(vector) == vector["expect"]


def test_every_kind_has_a_vector():
    assert {json.loads(path.read_text())["kind"] for path in VECTORS} == KINDS.keys()
