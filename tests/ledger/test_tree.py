from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.tree import (
    EMPTY_ROOT,
    Edge,
    collect,
    consistency_nodes,
    fold_proof,
    inclusion_nodes,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(bytes([n])) for n in range(70)]


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962 2.1 word for word, to hold the incremental tree against."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


@pytest.mark.spec("L-30", "L-31")
def test_the_incremental_root_is_that_of_the_rfc_at_every_size() -> None:
    tree = Edge()
    assert leaf_hash(b"x") == hashlib.sha256(b"\0x").digest()
    assert tree.root() == EMPTY_ROOT == hashlib.sha256(b"").digest()
    for size, leaf in enumerate(LEAVES, 1):
        tree.append(leaf)
        assert tree.size == size
        assert tree.root() == root_of(list(LEAVES[:size]))
        again = Edge(tree.size, tree.hashes)
        assert again.root() == tree.root()


@pytest.mark.spec("L-32")
def test_every_inclusion_proof_holds_and_no_altered_one_does() -> None:
    for size in range(1, 34):
        root = root_of(list(LEAVES[:size]))
        for index in range(size):
            nodes = inclusion_nodes(index, size)
            proof = fold_proof(nodes, collect({n for each in nodes for n in each}, LEAVES[:size]))
            verify_inclusion(index, size, LEAVES[index], proof, root)
            for wrong in _altered(proof):
                with pytest.raises(LedgerError):
                    verify_inclusion(index, size, LEAVES[index], wrong, root)
            for elsewhere in (index - 1, index + 1, size):
                with pytest.raises(LedgerError):
                    verify_inclusion(elsewhere, size, LEAVES[index], proof, root)


@pytest.mark.spec("L-33")
def test_every_consistency_proof_holds_and_no_altered_one_does() -> None:
    for new in range(34):
        for old in range(new + 1):
            nodes = consistency_nodes(old, new)
            proof = fold_proof(nodes, collect({n for each in nodes for n in each}, LEAVES[:new]))
            roots = root_of(list(LEAVES[:old])), root_of(list(LEAVES[:new]))
            verify_consistency(old, new, proof, *roots)
            for wrong in _altered(proof):
                with pytest.raises(LedgerError):
                    verify_consistency(old, new, wrong, *roots)
            with pytest.raises(LedgerError):
                verify_consistency(old, new, proof, b"\1" * 32, roots[1])


def _altered(proof: list[bytes]) -> list[list[bytes]]:
    found = [[*proof, b"\0" * 32], [b"\0" * 32, *proof], [*proof, b""]]
    for place, node in enumerate(proof):
        found += [
            proof[:place] + proof[place + 1 :],
            [*proof[:place], bytes([node[0] ^ 1]) + node[1:], *proof[place + 1 :]],
        ]
    return found


@pytest.mark.spec("L-33")
def test_trees_cannot_shrink_and_an_empty_one_is_continued_by_any() -> None:
    verify_consistency(0, 5, (), EMPTY_ROOT, root_of(list(LEAVES[:5])))
    for old, new, first, second in (
        (6, 5, LEAVES[0], LEAVES[0]),
        (0, 5, LEAVES[0], LEAVES[0]),
        (0, 0, EMPTY_ROOT, LEAVES[0]),
    ):
        with pytest.raises(LedgerError):
            verify_consistency(old, new, (), first, second)
    with pytest.raises(LedgerError):
        consistency_nodes(3, 2)
    with pytest.raises(LedgerError):
        inclusion_nodes(2, 2)


def test_an_edge_that_does_not_fit_its_size_is_refused() -> None:
    for size, hashes in ((3, [b"\0" * 32]), (1, [b"short"]), (-1, [])):
        with pytest.raises(LedgerError):
            Edge(size, hashes)


def test_a_copy_of_the_edge_grows_alone() -> None:
    tree = Edge()
    tree.append(LEAVES[0])
    other = tree.copy()
    other.append(LEAVES[1])
    assert (tree.size, other.size) == (1, 2)
    assert tree.root() == LEAVES[0]


# One case calls twelve bytes a root and wants them accepted as equal; here a root has 32 bytes.
DIFFERENT = {"inclusion": set(), "consistency": {"sizes-are-equal-one-and-proof-is-empty"}}


@pytest.mark.spec("L-32", "L-33")
@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_every_merkle_vector_is_judged_as_published(kind: str, vectors: Callable[[str], Path]) -> None:
    paths = sorted((vectors("merkle") / kind).rglob("*.json"))
    assert len(paths) > 80
    differing = set()
    for path in paths:
        case = json.loads(path.read_text())
        proof = [base64.b64decode(each) for each in case["proof"] or ()]
        roots = [
            base64.b64decode(case[key] or "") for key in ("root", "root1", "root2", "leafHash") if key in case
        ]
        try:
            if kind == "inclusion":
                verify_inclusion(case["leafIdx"], case["treeSize"], roots[1], proof, roots[0])
            else:
                verify_consistency(case["size1"], case["size2"], proof, roots[0], roots[1])
            refused = False
        except LedgerError:
            refused = True
        if refused != case["wantErr"]:
            differing.add(path.stem)
    assert differing == DIFFERENT[kind]


@given(
    st.integers(-2, 2**60),
    st.integers(-2, 2**60),
    st.lists(st.binary(max_size=33), max_size=70),
    st.binary(max_size=33),
)
def test_only_ledger_errors_escape_the_proof_checks(a: int, b: int, proof: list[bytes], root: bytes) -> None:
    for check in (
        lambda: verify_inclusion(a, b, b"\0" * 32, proof, root),
        lambda: verify_consistency(a, b, proof, root, root[::-1]),
    ):
        try:
            check()
        except LedgerError:
            pass
