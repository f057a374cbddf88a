"""Keccak-256 agrees with a well-kept library, whatever the length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger.anchor.keccak import keccak256


def test_the_published_digests_of_nothing_and_abc() -> None:
    # The Keccak team's own vectors; the first is also the hash of empty code on every EVM chain.
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"


@pytest.mark.parametrize("length", [1, 135, 136, 137, 271, 272, 273, 4096])
def test_lengths_around_a_block_agree_with_the_library(length: int) -> None:
    hashing = pytest.importorskip("eth_utils", reason="the extra chain is not installed")
    data = bytes(each % 251 for each in range(length))
    assert keccak256(data) == hashing.keccak(data)


@given(st.binary(max_size=600))
def test_any_bytes_agree_with_the_library(data: bytes) -> None:
    hashing = pytest.importorskip("eth_utils", reason="the extra chain is not installed")
    assert keccak256(data) == hashing.keccak(data)
