"""The trie's proofs hold for what is in it and for nothing else; its roots are those of another, plainer way to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.anchor.rlp import Item, encode, encode_integer
from agentmesh_ledger.anchor.trie import EMPTY_ROOT, prove_trie, verify_trie

VALUES = st.binary(min_size=1, max_size=70)
# Receipts' keys, of which none begins another.
TRIES = st.integers(1, 300).flatmap(
    lambda count: st.lists(VALUES, min_size=count, max_size=count).map(
        lambda values: {encode(encode_integer(number)): value for number, value in enumerate(values)}
    )
)


class Plain:
    """The trie as the yellow paper defines it (appendix D), keys that begin others included; keeps every hashed node."""

    def __init__(self, values: Mapping[bytes, bytes]) -> None:
        self.nodes: dict[bytes, bytes] = {}
        data = encode(self._structure({each.hex(): value for each, value in values.items()}))
        self.root = keccak256(data)
        self.nodes[self.root] = data

    def _structure(self, values: Mapping[str, bytes]) -> tuple[Item, ...]:
        if len(values) == 1:
            ((path, value),) = values.items()
            return self._compact(path, 2), value
        for length in range(min(map(len, values)), 0, -1):
            if len({path[:length] for path in values}) == 1:
                below = {path[length:]: value for path, value in values.items()}
                return self._compact(next(iter(values))[:length], 0), self._named(below)
        branches = [
            self._named({path[1:]: value for path, value in values.items() if path[:1] == digit})
            for digit in "0123456789abcdef"
        ]
        return (*branches, values.get("", b""))

    def _named(self, values: Mapping[str, bytes]) -> Item:
        if not values:
            return b""
        node = self._structure(values)
        data = encode(node)
        if len(data) < 32:
            return node
        self.nodes[keccak256(data)] = data
        return keccak256(data)

    @staticmethod
    def _compact(path: str, flag: int) -> bytes:
        return bytes.fromhex(f"{flag + 1}{path}" if len(path) % 2 else f"{flag}0{path}")

    def prove(self, key: bytes) -> list[bytes]:
        """The nodes on the way, found by trying: each kept one that the proof so far asks for."""
        found: list[bytes] = [self.nodes[self.root]]
        while True:
            try:
                verify_trie(self.root, key, found)
            except LedgerError as error:
                if "is missing" not in error.message:
                    raise
                wanted = [
                    each for name, each in self.nodes.items() if name in found[-1] and each not in found
                ]
                for each in wanted:
                    if self._fits(key, [*found, each]):
                        found.append(each)
                        break
                else:
                    raise
            else:
                return found

    def _fits(self, key: bytes, nodes: Sequence[bytes]) -> bool:
        try:
            verify_trie(self.root, key, nodes)
        except LedgerError as error:
            return "is missing" in error.message
        return True


def refused(root: bytes, key: bytes, nodes: Sequence[bytes]) -> str:
    with pytest.raises(LedgerError) as caught:
        verify_trie(root, key, nodes)
    assert caught.value.reason == "anchor"
    return caught.value.message


@pytest.mark.parametrize(
    ("values", "root"),
    [
        # ethereum/tests, TrieTests/trieanyorder.json
        (
            {"A": "a" * 50},
            "d23786fb4a010da3ce639d66d5e904a11dbc02746d1ce25029e53290cabf28ab",
        ),
        (
            {"doe": "reindeer", "dog": "puppy", "dogglesworth": "cat"},
            "8aad789dff2f538bca5d8ea56e8abe10f4c7ba3a5dea95fea4cd6e7c3a1168d3",
        ),
        (
            {"do": "verb", "horse": "stallion", "doge": "coin", "dog": "puppy"},
            "5991bb8c6514148a29db676a14ac506cd2cd5775ace63c30a4fe457715e9ac84",
        ),
        (
            {"foo": "bar", "food": "bass"},
            "17beaa1648bafa633cda809c90c04af50fc8aed3cb40d16efbddee6fdf63c4c3",
        ),
        (
            {"be": "e", "dog": "puppy", "bed": "d"},
            "3f67c7a47520f79faa29255d2d3c084a7a6df0453116ed7232ff10277a8be68b",
        ),
    ],
)
def test_published_tries_prove_each_of_their_values(values: dict[str, str], root: str) -> None:
    plain = Plain({key.encode(): value.encode() for key, value in values.items()})
    assert plain.root.hex() == root
    for key, value in values.items():
        assert verify_trie(plain.root, key.encode(), plain.prove(key.encode())) == value.encode()


def test_the_root_of_nothing_is_the_published_one() -> None:
    assert EMPTY_ROOT.hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    refused(EMPTY_ROOT, b"\x80", [b"\x80"])


@given(TRIES, st.data())
def test_a_trie_has_the_root_of_the_plain_way_and_proves_each_value(
    values: dict[bytes, bytes], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(values)))
    root, nodes = prove_trie(values, key)
    assert root == Plain(values).root
    assert verify_trie(root, key, nodes) == values[key]


@given(TRIES, st.data())
def test_nothing_else_proves_it(values: dict[bytes, bytes], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(values)))
    root, made = prove_trie(values, key)
    nodes = list(made)
    other = data.draw(st.sampled_from(sorted(values)))
    absent = encode(encode_integer(len(values) + 7))
    refused(root, absent, nodes)
    if other != key:
        # Two places whose nodes are all the same lie in one node; each then has its own value.
        try:
            assert verify_trie(root, other, nodes) == values[other]
        except LedgerError as error:
            assert error.reason == "anchor"
    place = data.draw(st.integers(0, len(nodes) - 1))
    refused(root, key, nodes[:place] + nodes[place + 1 :])
    refused(root, key, [*nodes[:place], nodes[place], *nodes[place:]])
    refused(root, key, [*nodes, b"\xc0"])
    if len(nodes) > 1:
        refused(root, key, nodes[::-1])
    where = data.draw(st.integers(0, len(nodes[place]) - 1))
    changed = bytearray(nodes[place])
    changed[where] ^= data.draw(st.integers(1, 255))
    refused(root, key, [*nodes[:place], bytes(changed), *nodes[place + 1 :]])


@given(st.dictionaries(st.binary(max_size=4), VALUES, min_size=1, max_size=30), st.data())
def test_keys_that_begin_others_are_proved_too(values: dict[bytes, bytes], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(values)))
    plain = Plain(values)
    assert verify_trie(plain.root, key, plain.prove(key)) == values[key]


def leaf(path: str, value: bytes) -> tuple[Item, ...]:
    return bytes.fromhex(path), value


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ((), "0 items"),
        ((b"\x20",), "1 items"),
        ((b"\x20", b"v", b"w"), "3 items"),
        ((b"",) * 16, "16 items"),
        (leaf("", b"v"), "malformed"),
        (leaf("40", b"v"), "malformed"),  # a flag that there is not
        (leaf("2180", b"v"), "malformed"),
        (leaf("00", b"v" * 32), "path of a trie's node is empty"),
        (leaf("2080", b""), "nothing at this place"),
        (leaf("2081", b"v"), "nothing at this place"),
        (leaf("208000", b"v"), "nothing at this place"),
        (leaf("38", b"v"), "nothing at this place"),
        (leaf("2080", (b"v",)), "not bytes"),
        (((b"v",), b"v"), "not bytes"),
        (leaf("0080", b"v" * 31), "no hash"),
        (leaf("0080", b""), "nothing at this place"),
        (leaf("0080", b"v" * 32), "missing"),
        (leaf("18", (b"\x20" * 2, b"v" * 40)), "too long to stand in its parent"),
    ],
)
def test_nodes_of_other_forms_are_refused(node: tuple[Item, ...], why: str) -> None:
    data = encode(node)
    assert why in refused(keccak256(data), b"\x80", [data])


def test_a_short_node_is_not_named_by_its_hash() -> None:
    short = encode(leaf("30", b"v"))
    above = encode((*([b""] * 8), keccak256(short), *([b""] * 8)))
    assert "too short" in refused(keccak256(above), b"\x80", [above, short])
    inside = encode((*([b""] * 8), leaf("30", b"v"), *([b""] * 8)))
    assert verify_trie(keccak256(inside), b"\x80", [inside]) == b"v"


def test_no_proof_is_made_of_what_is_not_there() -> None:
    with pytest.raises(KeyError):
        prove_trie({b"\x80": b"v"}, b"\x01")


@given(st.binary(max_size=4), st.lists(st.binary(max_size=40), max_size=4))
def test_any_nodes_prove_nothing_under_a_hash_that_is_not_theirs(key: bytes, nodes: list[bytes]) -> None:
    assume(all(keccak256(each) != b"\1" * 32 for each in nodes))
    refused(b"\1" * 32, key, nodes)


@given(st.binary(max_size=3), st.binary(max_size=120))
def test_any_bytes_as_the_root_raise_nothing_but_a_check(key: bytes, node: bytes) -> None:
    try:
        verify_trie(keccak256(node), key, [node])
    except LedgerError as error:
        assert error.reason == "anchor"
