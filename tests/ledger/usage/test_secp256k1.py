"""Recovery against eth_keys, which signs and recovers with code of its own."""

from __future__ import annotations

import pytest
from eth_keys import keys
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.usage.secp256k1 import recover_address

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
P = 2**256 - 2**32 - 977

secrets = st.integers(1, N - 1).map(lambda number: number.to_bytes(32))
digests = st.binary(min_size=32, max_size=32)


def wire(signature: keys.Signature) -> bytes:
    return signature.r.to_bytes(32) + signature.s.to_bytes(32) + bytes([signature.v + 27])


@given(secrets, digests)
def test_the_address_is_that_of_the_key_that_signed(secret: bytes, digest: bytes) -> None:
    key = keys.PrivateKey(secret)
    assert recover_address(digest, wire(key.sign_msg_hash(digest))) == key.public_key.to_canonical_address()


@pytest.mark.spec("L-143")
@given(secrets, digests)
def test_the_higher_s_is_refused_although_it_leads_to_the_same_key(secret: bytes, digest: bytes) -> None:
    key = keys.PrivateKey(secret)
    signed = key.sign_msg_hash(digest)
    other = keys.Signature(vrs=(1 - signed.v, signed.r, N - signed.s))
    assert other.recover_public_key_from_msg_hash(digest) == key.public_key
    with pytest.raises(LedgerError, match="the lower one") as told:
        recover_address(digest, wire(other))
    assert told.value.reason == "usage"


@given(
    st.integers(0, P + 5),
    st.integers(0, N // 2 + 5),
    st.sampled_from([27, 28]) | st.integers(0, 255),
    digests,
)
def test_of_any_numbers_there_is_the_address_that_eth_keys_finds_or_a_refusal(
    r: int, s: int, v: int, digest: bytes
) -> None:
    data = r.to_bytes(32) + s.to_bytes(32) + bytes([v])
    in_range = 0 < r < N and 0 < s <= N // 2 and v in (27, 28)
    try:
        found = recover_address(digest, data)
    except LedgerError as error:
        assert error.reason == "usage"
        if in_range:
            with pytest.raises(Exception):  # noqa: B017  eth_keys has its own, and a curve without the point others
                keys.Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(digest)
        return
    assert in_range
    public = keys.Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(digest)
    assert found == public.to_canonical_address()


@pytest.mark.spec("L-143")
@pytest.mark.parametrize("length", [0, 64, 66])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(LedgerError, match="65 bytes"):
        recover_address(bytes(32), bytes(length))
    with pytest.raises(LedgerError, match="65 bytes"):
        recover_address(bytes(31), bytes(65))


@pytest.mark.spec("L-143")
@pytest.mark.parametrize(("r", "s"), [(0, 1), (N, 1), (1, 0), (1, N), (N + 1, 1), (1, N // 2 + 1)])
def test_numbers_out_of_range_are_refused(r: int, s: int) -> None:
    with pytest.raises(LedgerError, match="out of range"):
        recover_address(bytes(32), r.to_bytes(32) + s.to_bytes(32) + b"\x1b")


@pytest.mark.parametrize("v", [0, 1, 26, 29, 37, 255])
def test_another_v_is_refused(v: int) -> None:
    with pytest.raises(LedgerError, match="27 and 28"):
        recover_address(bytes(32), bytes(31) + b"\1" + bytes(31) + b"\1" + bytes([v]))


def test_a_signature_that_leads_to_infinity_is_of_no_key() -> None:
    """s R = z G where R = k G and z = s k: then r^-1 (s R - z G) is nothing."""
    key = keys.PrivateKey((7).to_bytes(32))
    point = key.public_key.to_bytes()
    r, y = int.from_bytes(point[:32]), int.from_bytes(point[32:])
    s = 11
    with pytest.raises(LedgerError, match="infinity"):
        recover_address((s * 7).to_bytes(32), r.to_bytes(32) + s.to_bytes(32) + bytes([27 + (y & 1)]))
