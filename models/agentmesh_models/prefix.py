"""The prefixes that an engine knows: a radix tree over token ids whose nodes own KV cells.

Pure bookkeeping: which tokens stand where, who is above whom, what was used last. What is done to the cells
is `cells`' affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

RESIDENT_NOWHERE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Saved cells: a node's from position `start` on, and before those `waste` that are not its any more."""

    data: bytes
    start: int
    waste: int = 0

    def without(self, end: int) -> Piece:
        """The same cells, of which those before position `end` are waste."""
        more = max(0, end - self.start)
        return Piece(data=self.data, start=self.start + more, waste=self.waste + more)


@dataclass(slots=True, eq=False)
class Node:
    """A run of tokens below its parent's. Its cells belong to `sequence`, or stand in `saved`, one piece after another.

    No cell of it or of those above it stands at `last` or behind.
    """

    tokens: list[int]
    start: int
    parent: Node | None
    sequence: int = RESIDENT_NOWHERE
    saved: tuple[Piece, ...] = ()
    used: int = 0
    last: int = 0
    children: dict[tuple[int, ...], Node] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The position after its last token."""
        return self.start + len(self.tokens)

    @property
    def waste(self) -> int:
        """The cells that putting it back takes beside its own."""
        return sum(piece.waste for piece in self.saved)

    @property
    def saved_bytes(self) -> int:
        """What its saved cells take."""
        return sum(len(piece.data) for piece in self.saved)

    @property
    def resident(self) -> bool:
        """Whether its cells are in the context."""
        return self.sequence != RESIDENT_NOWHERE

    def path(self) -> list[Node]:
        """The nodes from below the root down to this one."""
        out: list[Node] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            out.append(node)
            node = node.parent
        out.reverse()
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How far a prompt is known: through `node` up to `length` tokens."""

    node: Node
    length: int

    @property
    def inside(self) -> int:
        """How many of its node's tokens it takes in; more than before where that was joined with the one above."""
        return self.length - self.node.start

    @property
    def partial(self) -> bool:
        """Whether it ends before its node does."""
        return self.length < self.node.end

    def before(self) -> Match:
        """The match that leaves its node out."""
        parent = self.node.parent
        assert parent is not None
        return Match(node=parent, length=parent.end)


class PrefixTree:
    """A radix tree whose runs begin and end at multiples of `grain` tokens.

    No two children of a node begin with the same `grain` tokens.
    """

    def __init__(self, grain: int = 1) -> None:
        self.root = Node(tokens=[], start=0, parent=None)
        self._grain = grain
        self._clock = 0

    def match(self, tokens: Sequence[int], limit: int | None = None) -> Match:
        """The longest known beginning of `tokens`, at most `limit` long."""
        bound = len(tokens) if limit is None else min(limit, len(tokens))
        bound -= bound % self._grain
        node, at = self.root, 0
        while at < bound:
            child = self.child(node, tokens, at)
            if child is None:
                break
            same = self.common(child, tokens[at:bound])
            at += same
            if same < len(child.tokens):
                return Match(node=child, length=at)
            node = child
        return Match(node=node, length=at)

    def child(self, node: Node, tokens: Sequence[int], at: int) -> Node | None:
        """The node below `node` that begins as `tokens` go on from `at`."""
        return node.children.get(tuple(tokens[at : at + self._grain]))

    def common(self, node: Node, tokens: Sequence[int]) -> int:
        """How many of its tokens stand at the beginning of `tokens` too, in whole grains."""
        same = common(node.tokens, tokens)
        return same - same % self._grain

    def touch(self, node: Node) -> None:
        """Count the node and all above it as just used."""
        self._clock += 1
        for each in node.path():
            each.used = self._clock

    def split(self, node: Node, inside: int) -> Node:
        """Give the node's first `inside` tokens a node of their own above it, and return that.

        The lower part keeps its identity, its children and its cells' sequence; the upper part has none yet.
        """
        parent = node.parent
        assert parent is not None and 0 < inside < len(node.tokens) and inside % self._grain == 0
        upper = Node(
            tokens=node.tokens[:inside], start=node.start, parent=parent, used=node.used, last=node.last
        )
        parent.children[self._key(upper)] = upper
        node.tokens = node.tokens[inside:]
        node.start += inside
        node.parent = upper
        upper.children[self._key(node)] = node
        return upper

    def join(self, node: Node) -> Node:
        """Let the node's only child begin with its tokens and saved cells; returns that. Neither is resident."""
        (child,) = node.children.values()
        assert node.parent is not None and not node.resident and not child.resident
        child.tokens = node.tokens + child.tokens
        child.saved = node.saved + child.saved
        child.start, child.parent, child.used = node.start, node.parent, node.used
        node.parent.children[self._key(child)] = child
        node.parent = None
        return child

    def add(self, parent: Node, tokens: Sequence[int]) -> Node:
        """A new node below `parent`, without cells yet; `parent` must have no child that begins alike."""
        node = Node(tokens=list(tokens), start=parent.end, parent=parent)
        assert self._key(node) not in parent.children and len(tokens) % self._grain == 0
        parent.children[self._key(node)] = node
        return node

    def remove(self, leaf: Node) -> None:
        """Take a node without children out."""
        assert not leaf.children and leaf.parent is not None
        del leaf.parent.children[self._key(leaf)]
        leaf.parent = None

    def nodes(self) -> Iterator[Node]:
        """Every node below the root, parents before their children."""
        waiting = list(self.root.children.values())
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children.values())

    def clear(self) -> None:
        """Forget everything."""
        self.root = Node(tokens=[], start=0, parent=None)

    def _key(self, node: Node) -> tuple[int, ...]:
        return tuple(node.tokens[: self._grain])


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two lists have in common from their beginnings."""
    bound = min(len(left), len(right))
    if left[:bound] == right[:bound]:
        return bound
    low, high = 0, bound
    while low < high:  # slices compare at C's speed, tokens one by one do not
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
