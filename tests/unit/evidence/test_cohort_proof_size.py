import pytest

from oathbound.core.errors import NotAuthentic
from oathbound.evidence.cohort_proof import MAX_PROOF_BYTES, decode_proof


def test_a_proof_that_is_too_large_is_not_parsed():
    with pytest.raises(NotAuthentic, match="larger"):
        decode_proof(b'"' + b"a" * MAX_PROOF_BYTES + b'"')
