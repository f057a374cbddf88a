"""Who has which cells: running requests, known prefixes, and the waste between two clean-ups.

Cells are only ever taken upwards. A cell given up is not freed at once, for llama.cpp would put the next
token there, below its own beginning, and attention would sum in another order than in a fresh context. It goes
to the graveyard, a sequence of its own, until `_tidy` saves what is in use, clears the context, and puts it back
in the tree's order, parents first: content and order are the same as before, bit for bit. Prefixes that nobody
runs on are kept outside the context then, and copied back when a request begins with them.

So along every path of the tree, and in every seat, cells stand in the order of positions. Two requests may evaluate the
same tokens, and then the tree holds the cells of one of them: the other may hang its own below only where they stand
behind those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from agentmesh_models.context import MAX_SEQUENCES
from agentmesh_models.errors import ModelError
from agentmesh_models.prefix import RESIDENT_NOWHERE, Match, Node, Piece, PrefixTree

SAVED_BYTES: Final = 512 * 1024 * 1024
_WASTE: Final = 256


class CellStore(Protocol):
    """What is done to a context's cells; see `context.Context`."""

    def copy(self, source: int, target: int, start: int, end: int) -> None: ...
    def drop(self, sequence: int, start: int = 0, end: int = -1) -> None: ...
    def clear(self) -> None: ...
    def save(self, sequence: int) -> bytes: ...
    def restore(self, sequence: int, saved: bytes) -> None: ...


@dataclass(slots=True, eq=False)
class Seat:
    """A running request's place: its sequence, the tokens evaluated in it, and what it may still take.

    The first `shared` of its tokens are the tree's too, down to the end of `node`. Those from `shared` on stand in the
    cells that `places` says.
    """

    sequence: int
    tokens: list[int]
    planned: int
    node: Node
    shared: int = 0
    places: list[int] = field(default_factory=list)

    @property
    def outstanding(self) -> int:
        """How many cells it may still take."""
        return max(0, self.planned - len(self.tokens))


@dataclass(slots=True)
class CellMemory:
    """The cells of one context. `grain` is the unit in which prefixes are shared: see `invariance`.

    `keeps` is False for models whose sequences cannot be cut or saved in part: they share nothing. Where `saves` is
    False, memory can be cleaned up only while nothing runs, and forgets everything then. Of the context's `sequences`
    there must be five more than seats.
    """

    cells: CellStore
    n_cells: int
    seats: int
    grain: int = 1
    keeps: bool = True
    saves: bool = True
    saved_limit: int = SAVED_BYTES
    sequences: int = MAX_SEQUENCES
    top: int = 0
    """Cells taken since the last clean-up."""
    tidied: int = 0
    """How often memory was cleaned up."""
    tree: PrefixTree = field(init=False)
    _running: list[Seat] = field(default_factory=list)
    _free_seats: list[int] = field(default_factory=list)
    _free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tree = PrefixTree(self.grain)
        self._free_seats = list(range(self.seats))
        self._free = list(range(self.seats + 2, self.sequences))

    @property
    def graveyard(self) -> int:
        """The sequence of cells that nobody uses any more."""
        return self.seats

    @property
    def scratch(self) -> int:
        """The sequence in which parts of others are saved and put back."""
        return self.seats + 1

    def known(self, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt need not be evaluated; at least its last one must, for its scores."""
        return self._match(prompt).length

    def admit(self, prompt: Sequence[int], more: int, *, fresh: bool = False) -> Seat | None:
        """A seat for a request that begins with `prompt` and may take `more` cells after it.

        Its `tokens` are those that are known already; with `fresh` there are none. None while others hold the cells
        or all seats.

        Raises:
            ModelError: "context_full" where it would not fit even alone.
        """
        planned = len(prompt) + more
        if planned > self.n_cells:
            raise ModelError(
                "context_full",
                f"the request needs {planned:,} cells, and the engine has {self.n_cells:,}",
                expected=self.n_cells,
                found=planned,
            )
        if not self._free_seats:
            return None
        match = self._room(self._match(prompt[:1] if fresh else prompt), planned)
        if match is None:
            return None
        node = self._settle(match)
        seat = Seat(
            sequence=self._free_seats.pop(),
            tokens=list(prompt[: match.length]),
            planned=planned,
            node=node,
            shared=match.length,
            places=[0] * match.length,
        )
        self._running.append(seat)
        self._share_path(seat)
        return seat

    def grew(self, seat: Seat, tokens: Sequence[int]) -> None:
        """Count tokens that were evaluated in a seat's sequence: of several seats, in the order of cells."""
        seat.tokens += tokens
        if self.keeps:
            seat.places += range(self.top, self.top + len(tokens))
        self.top += len(tokens)

    def commit(self, seat: Seat, until: int | None = None) -> None:
        """Let others begin with the seat's tokens, up to `until`."""
        end = len(seat.tokens) if until is None else min(until, len(seat.tokens))
        end -= end % self.grain
        if not self.keeps:
            return
        while seat.shared < end:
            child = self.tree.child(seat.node, seat.tokens, seat.shared)
            if child is None:
                self._extend(seat, end)
                return
            same = self.tree.common(child, seat.tokens[seat.shared : end])
            if not child.resident:
                if not self._in_order(seat) or not self._has_sequence(child):
                    return
                child = self._lend(seat, child, same)
            else:
                if same < len(child.tokens):
                    if not self._has_sequence(child):
                        return
                    child = self._split(child, same)
                # The tree has cells of the same content already. The seat's own must outlast it.
                self.cells.copy(seat.sequence, self.graveyard, seat.shared, child.end)
            seat.node, seat.shared = child, child.end
            self.tree.touch(child)

    def release(self, seat: Seat) -> None:
        """The request is over: what it did not share goes to the graveyard."""
        self._running.remove(seat)
        if self.keeps:
            self.cells.copy(seat.sequence, self.graveyard, seat.shared, len(seat.tokens))
        self.cells.drop(seat.sequence)
        self._free_seats.append(seat.sequence)
        if not self.keeps:
            self.top -= len(seat.tokens)

    def reset(self) -> None:
        """Forget everything, also what runs: its seats are void."""
        self._running.clear()
        self._free_seats = list(range(self.seats))
        self.tree.clear()
        self.cells.clear()
        self.top = 0
        self._free = list(range(self.seats + 2, self.sequences))

    def shrink(self) -> None:
        """Give all cells that nobody runs on to those who run, as far as the model lets them be moved."""
        if self.keeps and self.saves:
            self._tidy(self.tree.root)
        elif not self._running:
            self.reset()

    def _match(self, prompt: Sequence[int]) -> Match:
        if not self.keeps:
            return Match(node=self.tree.root, length=0)
        return self.tree.match(prompt, len(prompt) - 1)

    def _room(self, match: Match, planned: int) -> Match | None:
        """The part of `match` with which a request of `planned` tokens can be seated now, if it can."""
        if match.partial and match.node.resident and self._free:
            upper = self._split(match.node, match.inside)  # so that nobody has to hold the rest
            match = Match(node=upper, length=match.length)
        found = self._make_room(match, planned)
        while found is None and (match.partial or any(each.waste for each in match.node.path())):
            # A node is held or put back whole, with its waste, and that may be more than there is.
            match = match.before()
            found = self._make_room(match, planned)
        return found

    def _make_room(self, match: Match, planned: int) -> Match | None:
        promised = sum(each.outstanding for each in self._running)
        fits = self._taken(match, planned) + promised <= self.n_cells - self.top
        if not self.keeps:
            return match if fits else None
        hot = self._hot(match.node)
        held = sum(len(each.tokens) for each in hot if each.resident) + self._apart()
        wasteful = self.top - held > max(_WASTE, held // 2)
        if fits and self._wanted(match) < len(self._free) and not wasteful:
            return match
        if not self.saves:
            if self._running:
                return match if fits and self._wanted(match) <= len(self._free) else None
            self.tidied += 1
            self.reset()
            return Match(node=self.tree.root, length=0)
        if self._taken(match, planned) + promised > self.n_cells - held:
            return None
        self._tidy(match.node)
        while self._wanted(match) > len(self._free):
            match = match.before()
        fits = self._taken(match, planned) + promised <= self.n_cells - self.top
        return match if fits else None

    def _taken(self, match: Match, planned: int) -> int:
        """The cells that a request of `planned` tokens takes beside those of `match` that are in the context."""
        away = sum(len(each.tokens) + each.waste for each in match.node.path() if not each.resident)
        return planned - match.length + away

    def _wanted(self, match: Match) -> int:
        """The sequences that it takes to put a match in the context."""
        return sum(not each.resident for each in match.node.path()) + match.partial

    def _apart(self) -> int:
        """The cells that only the running requests hold."""
        return sum(len(each.tokens) - each.shared for each in self._running)

    def _hot(self, node: Node) -> set[Node]:
        """The nodes that somebody runs on, and the path of `node`."""
        hot = set(node.path())
        for seat in self._running:
            hot.update(seat.node.path())
        return hot

    def _settle(self, match: Match) -> Node:
        """The node that ends where the match does, its whole path in the context."""
        for each in match.node.path():
            if not each.resident:
                self._restore(each)
        node = match.node
        if match.partial:
            node = self._split(node, match.inside)
        self.tree.touch(node)
        return node

    def _share_path(self, seat: Seat) -> None:
        """Let the cells above a seat's own be its too."""
        for each in seat.node.path():
            self.cells.copy(each.sequence, seat.sequence, each.start, each.end)

    def _split(self, node: Node, inside: int) -> Node:
        upper = self.tree.split(node, inside)
        upper.sequence = self._free.pop()
        self.cells.copy(node.sequence, upper.sequence, upper.start, upper.end)
        self.cells.drop(node.sequence, upper.start, upper.end)
        return upper

    def _extend(self, seat: Seat, end: int) -> None:
        """Hang the seat's tokens from `shared` to `end` below its node; a leaf that is its alone just grows."""
        node, tokens = seat.node, seat.tokens[seat.shared : end]
        if not self._in_order(seat):
            return
        alone = sum(each.node is node for each in self._running) == 1
        if not node.children and alone and node.parent is not None:
            node.tokens += tokens
        elif self._has_sequence(node):
            node = self.tree.add(node, tokens)
            node.sequence = self._free.pop()
        else:
            return
        self.cells.copy(seat.sequence, node.sequence, seat.shared, end)
        node.last = seat.places[end - 1] + 1
        seat.node, seat.shared = node, end
        self.tree.touch(node)

    def _lend(self, seat: Seat, node: Node, inside: int) -> Node:
        """Let the first `inside` tokens of a saved node have the seat's cells, which are the same and in the context."""
        upper = node
        if inside < len(node.tokens):
            upper = self.tree.split(node, inside)
            # What is saved cannot be cut, but pieces of which nothing is left can go.
            ends = [piece.start for piece in node.saved[1:]] + [node.end]
            pairs = zip(node.saved, ends, strict=True)
            node.saved = tuple(piece.without(node.start) for piece, end in pairs if end > node.start)
        upper.sequence, upper.saved = self._free.pop(), ()
        self.cells.copy(seat.sequence, upper.sequence, upper.start, upper.end)
        upper.last = seat.places[upper.end - 1] + 1
        return upper

    def _in_order(self, seat: Seat) -> bool:
        """Whether the seat's own cells stand behind those of its node."""
        return seat.node.last <= seat.places[seat.shared]

    def _has_sequence(self, node: Node) -> bool:
        """Whether a sequence is free; for its sake the leaf used longest ago is forgotten, but for the path of `node`."""
        if self._free:
            return True
        leaf = self._oldest(each for each in self._cold(node) if each.resident)
        if leaf is None:
            return False
        self.cells.copy(leaf.sequence, self.graveyard, leaf.start, leaf.end)
        self.cells.drop(leaf.sequence)
        self._free.append(leaf.sequence)
        self.tree.remove(leaf)
        return True

    def _cold(self, node: Node) -> list[Node]:
        """The nodes that nobody runs on, without the path of `node`."""
        hot = self._hot(node)
        return [each for each in self.tree.nodes() if each not in hot]

    def _oldest(self, nodes: Iterable[Node]) -> Node | None:
        leaves = [each for each in nodes if not each.children]
        return min(leaves, key=lambda each: each.used, default=None)

    def _tidy(self, node: Node) -> None:
        """Keep in the context what somebody runs on and the path of `node`, as far as it is there; save or forget the rest."""
        self.tidied += 1
        kept: set[Node] = set()
        hot = self._hot(node)
        for each in self.tree.nodes():
            if each.resident:
                each.saved = (Piece(data=self.cells.save(each.sequence), start=each.start),)
                self._free.append(each.sequence)
                each.sequence = RESIDENT_NOWHERE
                if each in hot:
                    kept.add(each)
        apart: list[tuple[Seat, bytes]] = []
        for seat in self._running:
            if seat.shared < len(seat.tokens):
                self.cells.copy(seat.sequence, self.scratch, seat.shared, len(seat.tokens))
                apart.append((seat, self.cells.save(self.scratch)))
                self.cells.drop(self.scratch)
        self.cells.clear()
        self.top = 0
        self._thin(node)
        self._put_back(kept, apart)

    def _put_back(self, kept: set[Node], apart: Sequence[tuple[Seat, bytes]]) -> None:
        for each in self.tree.nodes():
            if each in kept:
                self._restore(each)
        for seat in self._running:
            self._share_path(seat)
        for seat, data in apart:
            self.cells.restore(self.scratch, data)
            self.cells.copy(self.scratch, seat.sequence, seat.shared, len(seat.tokens))
            self.cells.drop(self.scratch)
            own = len(seat.tokens) - seat.shared
            seat.places[seat.shared :] = range(self.top, self.top + own)
            self.top += own

    def _restore(self, node: Node) -> None:
        """Put a saved node's cells back in the context, piece after piece."""
        node.sequence = self._free.pop()
        for piece in node.saved:
            self.cells.restore(self.scratch, piece.data)
            self.cells.copy(self.scratch, node.sequence, piece.start, node.end)
            if piece.waste:
                self.cells.copy(self.scratch, self.graveyard, 0, piece.start)
            self.cells.drop(self.scratch)
        self.top += len(node.tokens) + node.waste
        node.saved = ()
        node.last = self.top

    def _thin(self, node: Node) -> None:
        """Forget the leaves used longest ago until the rest is within its limit, and there is a sequence for every node.

        Nodes that nothing parts any more become one. Nothing is in the context meanwhile.
        """
        for each in tuple(self.tree.nodes()):
            self._join(each, node)
        cold = self._cold(node)
        size = sum(each.saved_bytes for each in cold)
        spare = len(self._free) - 2 - sum(1 for _ in self.tree.nodes())
        while size > self.saved_limit or spare < 0:
            leaf = self._oldest(cold)
            if leaf is None:
                return  # what is in use stays
            above = leaf.parent
            size -= leaf.saved_bytes
            spare += 1
            cold.remove(leaf)
            self.tree.remove(leaf)
            if above is not None and self._join(above, node):
                spare += 1
                if above in cold:
                    cold.remove(above)

    def _join(self, above: Node, node: Node) -> bool:
        """Make a node and its only child one, unless somebody's path ends between them, as that of `node` does."""
        if above.parent is None or len(above.children) != 1 or above is node:
            return False
        if any(each.node is above for each in self._running):
            return False
        self.tree.join(above)
        return True
