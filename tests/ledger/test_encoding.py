"""Base64 has one text for each value; every other one is refused."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger.encoding import encode64, strict64


def is_the_one_text(text: bytes) -> bool:
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)) == text
    except ValueError:
        return False


@pytest.mark.spec("L-03")
def test_every_short_text_over_the_characters_that_matter_is_judged_as_by_writing_it_again() -> None:
    for length in range(8):
        for letters in itertools.product(b"AQB/=", repeat=length):
            text = bytes(letters)
            try:
                strict64(text)
                accepted = True
            except ValueError:
                accepted = False
            assert accepted == is_the_one_text(text), text


@pytest.mark.spec("L-03")
@pytest.mark.parametrize("extra", [b"=", b"==", b"===", b"====", b"\n", b" ", b"A"])
@given(data=st.binary(max_size=40))
def test_nothing_may_follow_a_text(extra: bytes, data: bytes) -> None:
    text = encode64(data).encode()
    assert strict64(text) == data
    with pytest.raises(ValueError):
        strict64(text + extra)
