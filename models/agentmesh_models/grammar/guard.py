"""Calls as they are written, token by token: what may come next, and what must for the reply to end in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from agentmesh_models.binding import Grammar, Weights
from agentmesh_models.errors import ModelError
from agentmesh_models.grammar.automaton import Automaton
from agentmesh_models.grammar.calls import CallGrammar
from agentmesh_models.toolformat.form import Form

if TYPE_CHECKING:
    from agentmesh_models.binding import Logits

Draw = Callable[["Logits"], int]
_MOST_TRIES: Final = 64
# In a vocabulary of 152,000 tokens a mask costs 10 ms where little is allowed, and 85 ms inside of a string: some
# redraws and a look at the likeliest tokens come first.
_LARGE: Final = 16_384
_REDRAWS: Final = 3
_LIKELIEST: Final = 256


class Vocabulary:
    """A model's tokens as a form needs them: its marks, also where they are control tokens, and the ends."""

    def __init__(self, weights: Weights, form: Form) -> None:
        self.weights = weights
        self.form = form
        self.marks: dict[int, bytes] = {}
        for mark in form.marks + form.thought:
            tokens = weights.tokenize(mark, special=True)
            if len(tokens) == 1 and not weights.piece(tokens[0]):
                self.marks[tokens[0]] = mark.encode()
        self._ids = {mark: token for token, mark in self.marks.items()}
        self._ends: tuple[int, ...] | None = None
        self._by_piece: dict[bytes, int] | None = None

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; of control tokens only the form's marks stand for any."""
        return self.marks.get(token) or self.weights.piece(token)

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a reply."""
        if self._ends is None:
            self._ends = tuple(token for token in range(self.weights.n_vocab) if self.weights.is_end(token))
        return self._ends

    def spell(self, data: bytes) -> list[int] | None:
        """Tokens that stand for exactly `data`, marks as control tokens where they are; None where none do."""
        out: list[int] = []
        while data:
            at, mark = min(((data.find(each), each) for each in self._ids if each in data), default=(-1, b""))
            plain = data if at < 0 else data[:at]
            tokens = self._spell_plain(plain)
            if tokens is None:
                return None
            out += tokens
            if at >= 0:
                out.append(self._ids[mark])
            data = b"" if at < 0 else data[at + len(mark) :]
        return out

    def _spell_plain(self, data: bytes) -> list[int] | None:
        try:
            tokens = self.weights.tokenize(data.decode(), special=False)
        except UnicodeDecodeError:
            tokens = []
        if b"".join(map(self.weights.piece, tokens)) == data:
            return tokens
        return self._spell_by_pieces(data)  # SentencePiece begins with a space that nobody asked for

    def _spell_by_pieces(self, data: bytes) -> list[int] | None:
        if self._by_piece is None:
            pieces = map(self.weights.piece, range(self.weights.n_vocab))
            self._by_piece = {piece: token for token, piece in enumerate(pieces) if piece}
        out: list[int] = []
        at = 0
        while at < len(data):
            size = next(
                (n for n in range(min(32, len(data) - at), 0, -1) if data[at : at + n] in self._by_piece), 0
            )
            if not size:
                return None
            out.append(self._by_piece[data[at : at + size]])
            at += size
        return out


def vocabulary(weights: Weights, form: Form) -> Vocabulary:
    """The vocabulary of a loaded model for a form, made once and kept as long as the model is."""
    return weights.vocabularies.get(form) or weights.vocabularies.setdefault(form, Vocabulary(weights, form))


class Guard:
    """Watches over the calls of one reply from where their opener begins.

    A token is taken if the grammar allows it and the shortest end that is then left still fits into the tokens
    left. Where it is refused, others are drawn; where only one way to end in time is left, it is taken. So a reply that
    was begun with room for the shortest call ends with whole calls.
    """

    def __init__(self, words: Vocabulary, grammar: CallGrammar, *, lead: str = "") -> None:
        """`lead` is text before the opener in the token with which the opener begins."""
        self._words = words
        self._grammar = grammar
        self._lead = lead
        self._automaton = Automaton(grammar.rules, grammar.root, lead=lead)
        self._position = self._automaton.start
        self._tokens: list[int] = []
        self._since: bytes | None = None
        self._plan: list[int] = []
        self._mask: Grammar | None = None
        self._unmasked = False

    @property
    def complete(self) -> bool:
        """Whether the reply may end here: every call is whole, or another has not quite been opened."""
        return self._position.complete or self._since is not None

    def allows(self, token: int) -> bool:
        """Whether the grammar lets `token` come next."""
        if self._words.weights.is_end(token):
            return self.complete
        data = self._words.piece(token)
        return bool(data) and self._automaton.advance(self._position, data) is not None

    def fits(self, token: int, left: int) -> bool:
        """Whether `token` may come next with `left` tokens left, itself included."""
        if self._words.weights.is_end(token):
            return self.complete
        data = self._words.piece(token)
        after = self._automaton.advance(self._position, data) if data else None
        if after is None:
            return False
        closing = self._automaton.closing(after)
        if len(closing) < left:
            return True  # a token stands for a byte at least
        plan = self._words.spell(closing)
        if plan is not None and len(plan) < left:
            return True
        # Where not even the shortest end fits, the limit will cut the call anyway; another one is not begun.
        return not (self.complete or self._ending(left))

    def choose(self, logits: Logits, draw: Draw, token: int, left: int) -> int:
        """`token`, which was drawn, if it may come next, or else another."""
        if self.fits(token, left):
            return token
        if self.complete:
            return self._end(logits)
        for _ in range(_REDRAWS if len(logits) > _LARGE else 0):
            logits[token] = float("-inf")
            token = draw(logits)
            if self.fits(token, left):
                return token
        return self._among_allowed(logits, draw, left)

    def accept(self, token: int) -> None:
        """Count `token` as written; it must be one that `allows` lets through, and no end."""
        data = self._words.piece(token)
        after = self._automaton.advance(self._position, data)
        if after is None:
            raise ModelError("decode_failed", "a token was written that the tools' grammar does not allow")
        self._position = after
        self._tokens.append(token)
        self._plan = self._plan[1:] if self._plan[:1] == [token] else []
        self._mark_between(data)
        if self._mask is not None:
            self._follow(token)

    def close(self) -> None:
        """Give back what llama.cpp holds."""
        if self._mask is not None:
            self._mask.close()
            self._mask = None

    def shortest(self) -> list[int] | None:
        """Tokens of the shortest way to the end from here; None where the vocabulary cannot spell it."""
        return self._words.spell(self._automaton.closing(self._position))

    def _mark_between(self, data: bytes) -> None:
        """Keep what stands after the last whole call, until another opener is whole."""
        if self._position.complete:
            self._since = b""
        elif self._since is not None:
            self._since += data
            if self._words.form.find(self._since.decode("latin-1"), fresh=False) >= 0:
                self._since = None

    def _ending(self, left: int) -> bool:
        """Whether there is a way to end within `left` tokens; then it is kept."""
        if not 0 < len(self._plan) <= left:
            self._plan = self.shortest() or []
        return 0 < len(self._plan) <= left

    def _end(self, logits: Logits) -> int:
        ends = self._words.ends
        if not ends:
            raise ModelError("decode_failed", "the model has no token that ends a reply")
        return max(ends, key=lambda token: float(logits[token]))

    def _among_allowed(self, logits: Logits, draw: Draw, left: int) -> int:
        import numpy as np

        token = self._among_likeliest(logits, draw, left)
        if token is not None:
            return token
        masked = self._masked(logits)
        if masked is not None:
            for _ in range(_MOST_TRIES):
                if not np.isfinite(masked).any():
                    break
                token = draw(masked)
                if self.fits(token, left):
                    return token
                masked[token] = float("-inf")
        plan = self._plan if self._ending(left) else self.shortest()
        if plan:
            return plan[0]
        raise ModelError("decode_failed", "no token of this model can continue a valid tool call")

    def _among_likeliest(self, logits: Logits, draw: Draw, left: int) -> int | None:
        """A token out of the likeliest, if any of them may come next; small vocabularies are masked at once."""
        import numpy as np

        if len(logits) <= _LARGE:
            return None
        best = np.argpartition(-logits, _LIKELIEST)[:_LIKELIEST]
        kept = [each for each in map(int, best) if np.isfinite(logits[each]) and self.fits(each, left)]
        if not kept:
            return None
        few = np.full_like(logits, float("-inf"))
        few[kept] = logits[kept]
        return draw(few)

    def _masked(self, logits: Logits) -> Logits | None:
        """The scores of what llama.cpp lets through, which is what the grammar allows and at times more."""
        if self._mask is None and not self._unmasked:
            self._mask = Grammar(self._words.weights, self._grammar.text(lead=self._lead, exact=False))
            for token in self._tokens:
                self._follow(token)
        return None if self._mask is None else self._mask.mask(logits)

    def _follow(self, token: int) -> None:
        """Let llama.cpp's grammar move on; given up where it would not, since it would end the process."""
        if self._mask is None:
            return
        if self._mask.allows(token):
            self._mask.accept(token)
        else:
            self.close()
            self._unmasked = True
