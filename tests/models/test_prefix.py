"""The tree of known prefixes against a plain list of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models.prefix import Node, Piece, PrefixTree, common

tokens = st.lists(st.integers(0, 2), max_size=24)
grains = st.sampled_from([1, 2, 4])


def insert(tree: PrefixTree, run: list[int], grain: int) -> None:
    """Let the tree know a run, cut to whole grains."""
    run = run[: len(run) - len(run) % grain]
    match = tree.match(run)
    node = tree.split(match.node, match.inside) if match.partial else match.node
    if match.length < len(run):
        node = tree.add(node, run[match.length :])
    tree.touch(node)


def told(node: Node) -> list[int]:
    return [token for each in node.path() for token in each.tokens]


def longest(runs: list[list[int]], wanted: list[int], grain: int) -> int:
    best = max((common(run, wanted) for run in runs), default=0)
    return best - best % grain


@given(st.lists(tokens, max_size=12), tokens, st.integers(0, 30), grains)
def test_a_match_is_the_longest_of_all_that_is_known(
    runs: list[list[int]], wanted: list[int], limit: int, grain: int
) -> None:
    tree = PrefixTree(grain)
    for run in runs:
        insert(tree, run, grain)
    whole = [run[: len(run) - len(run) % grain] for run in runs]
    match = tree.match(wanted, limit)
    assert match.length == longest(whole, wanted[:limit], grain)
    assert told(match.node)[: match.length] == wanted[: match.length]
    assert 0 <= match.inside <= len(match.node.tokens)
    assert match.partial == (match.length < match.node.end)


@given(st.lists(tokens, max_size=12), grains)
def test_parents_come_before_their_children_and_nothing_stands_twice(
    runs: list[list[int]], grain: int
) -> None:
    tree = PrefixTree(grain)
    for run in runs:
        insert(tree, run, grain)
    seen: set[Node] = {tree.root}
    for node in tree.nodes():
        assert node.parent in seen and node.parent is not None
        assert node.start == node.parent.end and node.tokens and len(node.tokens) % grain == 0
        assert tree.child(node.parent, node.tokens, 0) is node
        seen.add(node)
    paths = [tuple(told(node)) for node in tree.nodes()]
    assert len(set(paths)) == len(paths)


@given(st.lists(tokens, max_size=12), grains)
def test_joining_only_children_loses_no_run(runs: list[list[int]], grain: int) -> None:
    tree = PrefixTree(grain)
    for run in runs:
        insert(tree, run, grain)
    for at, node in enumerate(tree.nodes()):
        node.saved = (Piece(data=b"%d" % at, start=node.start),)
    before = sorted(told(node) for node in tree.nodes() if not node.children)
    pieces = sorted(piece.data for node in tree.nodes() for piece in node.saved)
    for node in tuple(tree.nodes()):
        if len(node.children) == 1:
            tree.join(node)
    assert all(len(node.children) != 1 for node in tree.nodes())
    assert sorted(told(node) for node in tree.nodes() if not node.children) == before
    assert sorted(piece.data for node in tree.nodes() for piece in node.saved) == pieces
    for run in runs:
        assert tree.match(run).length == len(run) - len(run) % grain


def test_runs_that_part_within_their_first_grain_stand_side_by_side() -> None:
    tree = PrefixTree(4)
    insert(tree, [1, 2, 3, 4, 5, 6, 7, 8], 4)
    insert(tree, [1, 2, 9, 9, 5, 6, 7, 8], 4)
    assert len(tree.root.children) == 2
    assert tree.match([1, 2, 9, 9, 5, 6, 7, 8]).length == 8
    assert tree.match([1, 2, 3, 4, 5, 6, 0, 0]).length == 4
    assert tree.match([1, 2, 3]).length == 0


def test_a_match_outlives_the_joining_of_its_node_with_the_one_above() -> None:
    tree = PrefixTree()
    insert(tree, [1, 2, 3, 4, 5], 1)
    insert(tree, [1, 2], 1)
    match = tree.match([1, 2, 3, 9])
    assert match.inside == 1
    tree.join(tree.match([1, 2]).node)
    assert (match.length, match.inside, match.partial) == (3, 3, True)


def test_the_upper_part_of_a_split_is_new_and_the_lower_keeps_its_children() -> None:
    tree = PrefixTree()
    insert(tree, [1, 2, 3], 1)
    insert(tree, [1, 2, 3, 4], 1)
    node = tree.match([1, 2, 3]).node
    upper = tree.split(node, 1)
    assert (upper.tokens, node.tokens, node.parent) == ([1], [2, 3], upper)
    assert tree.match([1, 2, 3, 4]).node.parent is node
    with pytest.raises(AssertionError):
        tree.remove(upper)


@given(tokens, tokens)
def test_what_two_lists_have_in_common_is_what_a_loop_finds(left: list[int], right: list[int]) -> None:
    expected = 0
    while expected < min(len(left), len(right)) and left[expected] == right[expected]:
        expected += 1
    assert common(left, right) == expected
