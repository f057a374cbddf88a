"""RLP is read in its one form only, and as a well-kept library reads it."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.rlp import (
    Item,
    as_bytes,
    as_integer,
    as_list,
    decode,
    decode_list,
    encode,
    encode_integer,
)

ITEMS = st.recursive(
    st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5).map(tuple), max_leaves=20
)


def depth(item: Item) -> int:
    return 0 if isinstance(item, bytes) else 1 + max(map(depth, item), default=0)


def refused(data: bytes) -> str:
    with pytest.raises(LedgerError) as caught:
        decode(data)
    assert caught.value.reason == "anchor"
    return caught.value.message


@pytest.mark.parametrize(
    ("item", "data"),
    [
        # The examples of the specification.
        (b"dog", "83646f67"),
        ((b"cat", b"dog"), "c88363617483646f67"),
        (b"", "80"),
        ((), "c0"),
        (b"\x00", "00"),
        (b"\x0f", "0f"),
        (b"\x04\x00", "820400"),
        (((), ((),), ((), ((),))), "c7c0c1c0c3c0c1c0"),
        (
            b"Lorem ipsum dolor sit amet, consectetur adipisicing elit",
            "b838" + b"Lorem ipsum dolor sit amet, consectetur adipisicing elit".hex(),
        ),
    ],
)
def test_the_examples_of_the_specification(item: Item, data: str) -> None:
    assert encode(item).hex() == data
    assert decode(bytes.fromhex(data)) == item


@given(ITEMS.filter(lambda item: depth(item) <= 8))
def test_every_item_reads_back_and_agrees_with_the_library(item: Item) -> None:
    library = pytest.importorskip("rlp", reason="the extra chain is not installed")
    data = encode(item)
    assert data == library.encode(item)
    assert decode(data) == item


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_numbers_agree_with_the_library(number: int) -> None:
    library = pytest.importorskip("rlp", reason="the extra chain is not installed")
    assert encode(encode_integer(number)) == library.encode(number)
    assert as_integer(encode_integer(number), "it", 256) == number


@given(
    st.binary(max_size=60)
    | ITEMS.map(encode).flatmap(lambda data: st.sampled_from([data, data[:-1], data + b"x"]))
)
@example(b"\xf8\x00")
@example(b"\xb8")
def test_any_bytes_are_the_one_form_of_what_is_read_or_refused(data: bytes) -> None:
    try:
        item = decode(data)
    except LedgerError as error:
        assert error.reason == "anchor"
    else:
        assert encode(item) == data


@pytest.mark.parametrize(
    "data",
    [
        "8100",  # a byte that stands for itself, with a length
        "817f",
        "b80100",  # a long form for a short string
        "b837" + "61" * 55,
        "b90038" + "61" * 56,  # a length with a leading zero
        "f800",
        "f837" + "80" * 55,
        "f90038" + "80" * 56,
        "bfffffffffffffffff",  # a length beyond everything
        "ffffffffffffffffff",
        "83646f",  # the end is missing
        "c88363617483646f",
        "c2836364",  # an item that leaves its list
        "c3",
        "b8",
        "f9",
        "f901",
        "",
        "8080",  # bytes behind it
        "c0c0",
    ],
)
def test_what_has_another_form_or_no_end_is_refused(data: str) -> None:
    library = pytest.importorskip("rlp", reason="the extra chain is not installed")
    refused(bytes.fromhex(data))
    # The library reads an empty string as nothing to decode; all else it refuses too.
    if data:
        with pytest.raises(library.DecodingError):
            library.decode(bytes.fromhex(data))


def test_deep_and_huge_bytes_end_soon() -> None:
    started = time.monotonic()
    deep: Item = ()
    for _ in range(7):
        deep = (deep,)
    assert decode(encode(deep)) == deep
    assert "nested deeper" in refused(encode((deep,)))
    # A list in a list in a list, each as long as it says, made without the encoder.
    data = b"\xc0"
    while len(data) < 200_000:
        length = len(data).to_bytes(3, "big").lstrip(b"\0")
        data = (
            bytes((0xC0 + len(data),)) if len(data) < 56 else bytes((0xF7 + len(length),)) + length
        ) + data
    assert "nested deeper" in refused(data)
    wide = encode((b"",) * 200_000)
    assert len(decode_list(wide, "it")) == 200_000
    assert time.monotonic() - started < 20


def test_items_of_the_wrong_kind_are_named() -> None:
    for call in (
        lambda: as_list(b"x", "it"),
        lambda: as_bytes((), "it"),
        lambda: as_bytes(b"x", "it", 2),
        lambda: as_integer(b"\0", "it"),
        lambda: as_integer(b"\0\1", "it"),
        lambda: as_integer(b"x" * 9, "it"),
        lambda: as_integer((), "it"),
        lambda: decode_list(b"\x80", "it"),
    ):
        with pytest.raises(LedgerError, match="it is not"):
            call()
