"""Tiles of 256: paths, bundles, and proofs at any two sizes out of few of them."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.tiles import (
    TileHashes,
    TileId,
    bundle_path,
    decode_bundle,
    encode_bundle,
    tile_width,
    tiles_of,
)
from agentmesh_ledger.tree import (
    Edge,
    collect,
    consistency_nodes,
    fold_proof,
    inclusion_nodes,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [hashlib.sha256(n.to_bytes(4, "big")).digest() for n in range(70_300)]


@lru_cache(maxsize=1)
def roots() -> list[bytes]:
    """The root at each size, by the incremental tree."""
    tree = Edge()
    found = [tree.root()]
    for leaf in LEAVES:
        tree.append(leaf)
        found.append(tree.root())
    return found


@pytest.fixture(scope="module")
def source(leaf_tiles):
    return leaf_tiles(LEAVES)


@pytest.mark.spec("L-34")
def test_paths_are_those_of_the_specification() -> None:
    assert TileId(level=0, number=1234067, width=256).path == "tile/0/x001/x234/067"
    assert TileId(level=3, number=0, width=1).path == "tile/3/000.p/1"
    assert TileId(level=1, number=999, width=256).path == "tile/1/999"
    assert TileId(level=1, number=1000, width=17).path == "tile/1/x001/000.p/17"
    assert bundle_path(1234067, 256) == "tile/entries/x001/x234/067"
    assert bundle_path(273, 112) == "tile/entries/273.p/112"
    for number, width in ((-1, 256), (0, 0), (0, 257)):
        with pytest.raises(LedgerError):
            bundle_path(number, width)


@pytest.mark.spec("L-34")
def test_a_tree_of_70000_has_the_tiles_that_the_specification_counts() -> None:
    tiles = list(tiles_of(70_000))
    count = {(level, full): 0 for level in range(3) for full in (True, False)}
    for tile in tiles:
        count[tile.level, tile.is_full] += 1
    assert count == {
        (0, True): 273, (0, False): 1, (1, True): 1, (1, False): 1, (2, True): 0, (2, False): 1,
    }  # fmt: skip
    assert [tile.width for tile in tiles if not tile.is_full] == [112, 17, 1]
    assert [tile.path for tile in tiles_of(256)] == ["tile/0/000", "tile/1/000.p/1"]
    assert list(tiles_of(0)) == []


@given(st.integers(0, 2**22), st.integers(0, 2**22))
def test_what_a_larger_tree_adds_is_what_the_smaller_has_not(one: int, other: int) -> None:
    before, size = sorted((one, other))
    if size - before > 2**18:
        size = before + 2**18
    if size > 2**17:  # listing all is slow: hold only the edges of what is new
        for tile in tiles_of(size, since=before):
            assert tile_width(tile.level, tile.number, size) == tile.width
            assert tile_width(tile.level, tile.number, before) < tile.width
        return
    assert set(tiles_of(size)) - set(tiles_of(before)) == set(tiles_of(size, since=before))


@pytest.mark.spec("L-36")
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_bundles_come_back_as_they_were_and_in_no_other_reading(entries: list[bytes]) -> None:
    data = encode_bundle(entries)
    assert decode_bundle(data, len(entries)) == entries
    for wrong, count in (
        (data + b"\0", len(entries)),
        (data[:-1], len(entries)),
        (data, len(entries) + 1),
        (data, len(entries) - 1),
    ):
        with pytest.raises(LedgerError) as caught:
            decode_bundle(wrong, count)
        assert caught.value.reason == "tile"


@given(st.binary(max_size=2000), st.integers(0, 257))
def test_only_ledger_errors_escape_a_bundle_of_any_bytes(data: bytes, count: int) -> None:
    try:
        entries = decode_bundle(data, count)
    except LedgerError:
        return
    assert b"".join(len(each).to_bytes(2, "big") + each for each in entries) == data


def test_what_fits_no_bundle_is_refused() -> None:
    for entries, reason in (([], "tile"), ([b""] * 257, "tile"), ([b"x" * 65_536], "too_large")):
        with pytest.raises(LedgerError) as caught:
            encode_bundle(entries)
        assert caught.value.reason == reason
    assert decode_bundle(encode_bundle([b"x" * 65_535]), 1) == [b"x" * 65_535]


@pytest.mark.spec("L-32", "L-33")
def test_at_every_size_to_600_proofs_from_tiles_are_those_of_the_plain_tree(source) -> None:
    for size in range(1, 601):
        hashes = TileHashes(source, size)
        assert hashes.root() == roots()[size]
        tree = Edge(size, hashes.edge())
        assert tree.root() == roots()[size]
        for other in {0, 1, size // 3, size // 2, size - 1, (size * 7919) % size, size - size % 256}:
            if other < size:
                nodes = inclusion_nodes(other, size)
                plain = fold_proof(nodes, collect({n for each in nodes for n in each}, LEAVES[:size]))
                assert hashes.inclusion(other) == plain
                verify_inclusion(other, size, LEAVES[other], plain, roots()[size])
            nodes = consistency_nodes(other, size)
            plain = fold_proof(nodes, collect({n for each in nodes for n in each}, LEAVES[:size]))
            assert hashes.consistency(other) == plain
            assert hashes.root(other) == roots()[other]


@pytest.mark.spec("L-32", "L-33")
@given(st.data())
@settings(max_examples=300)
def test_any_two_sizes_of_a_large_tree_have_proofs_that_verify(source, data) -> None:
    size = data.draw(st.integers(1, len(LEAVES)) | st.sampled_from([256, 65_536, 65_537, 65_792, 70_000]))
    new = data.draw(st.integers(1, size) | st.just(size))
    old = data.draw(st.integers(0, new))
    index = data.draw(st.integers(0, new - 1))
    hashes = TileHashes(source, size)
    verify_inclusion(index, new, LEAVES[index], hashes.inclusion(index, new), roots()[new])
    verify_consistency(old, new, hashes.consistency(old, new), roots()[old], roots()[new])
    assert hashes.root(new) == roots()[new]


class Synthetic:
    """A tree too large to hold, all of whose leaves are alike: a full node of each level has one hash."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.nodes = [hashlib.sha256(b"\0leaf").digest()]
        for _ in range(60):
            self.nodes.append(hashlib.sha256(b"\1" + self.nodes[-1] * 2).digest())
        self.asked: list[tuple[int, int]] = []

    def tile(self, level: int, number: int, width: int) -> bytes:
        assert 0 < width <= tile_width(level, number, self.size)
        self.asked.append((level, number))
        return self.nodes[8 * level] * width


@pytest.mark.parametrize("size", [1_000_000, 999_999, 1_000_001, 1 << 20, 983_040 + 255])
def test_a_proof_at_a_million_entries_reads_at_most_five_tiles(size: int) -> None:
    source = Synthetic(size)
    root = TileHashes(source, size).root()
    worst = 0
    for index in [*range(0, size, 7_919), size - 1, size - 2, 255, 256, 65_535, 65_536]:
        hashes = TileHashes(source, size)
        verify_inclusion(index, size, source.nodes[0], hashes.inclusion(index), root)
        worst = max(worst, hashes.reads)
        hashes = TileHashes(source, size)
        old = TileHashes(source, index).root()
        verify_consistency(index, size, hashes.consistency(index), old, root)
        assert hashes.reads <= 6
    assert 3 <= worst <= 5


def test_each_tile_is_fetched_once_and_the_cache_is_bounded() -> None:
    source = Synthetic(1_000_000)
    hashes = TileHashes(source, 1_000_000, cached=8)
    for index in range(0, 1_000_000, 50_000):
        source.asked.clear()
        hashes.inclusion(index)
        assert len(source.asked) == len(set(source.asked))
        again = len(source.asked)
        hashes.inclusion(index)
        assert len(source.asked) == again
    assert hashes.reads <= 5 + 2 * 20  # the right edge stays: what is asked for often is kept


def test_what_the_tree_has_not_and_a_source_that_lies_are_refused(source) -> None:
    hashes = TileHashes(source, 300)
    for call in (
        lambda: hashes.tile(0, 2),
        lambda: hashes.tile(2, 0),
        lambda: hashes.tile(-1, 0),
        lambda: hashes.node((8, 1)),
        lambda: hashes.node((3, 37)),
        lambda: hashes.root(301),
        lambda: hashes.root(-1),
        lambda: hashes.inclusion(300),
        lambda: hashes.inclusion(0, 301),
        lambda: hashes.consistency(7, 6),
    ):
        with pytest.raises(LedgerError):
            call()

    class Short:
        def tile(self, level: int, number: int, width: int) -> bytes:
            return b"\0" * (32 * width - 1)

    with pytest.raises(LedgerError) as caught:
        TileHashes(Short(), 300).root()
    assert caught.value.reason == "tile"


def test_a_rust_verifier_accepts_proofs_made_from_tiles(source, talk, leaf_tiles) -> None:
    rust = pytest.importorskip("metamorphic_log", reason="the Rust verifier metamorphic-log is not installed")
    for old, new in ((0, 300), (1, 2), (255, 256), (256, 70_000), (65_536, 70_300), (69_999, 70_000)):
        if old:
            rust.verify_consistency(
                old, new, TileHashes(source, 70_300).consistency(old, new), roots()[old], roots()[new]
            )
    log = talk(600)
    from agentmesh_ledger.tree import leaf_hash

    leaves = [leaf_hash(entry) for entry in log.entries]
    hashes = TileHashes(leaf_tiles(leaves), 600)
    note = log.checkpoint().sign(log.key)
    for index in (0, 1, 255, 256, 511, 512, 598, 599):
        rust.checkpoint_verify_inclusion(note, [log.key.vkey], index, leaves[index], hashes.inclusion(index))
        with pytest.raises(rust.VerifyError):
            rust.checkpoint_verify_inclusion(
                note, [log.key.vkey], (index + 1) % 600, leaves[index], hashes.inclusion(index)
            )
