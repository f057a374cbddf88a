"""What the next token may be: free text, thought, silence about tools, or tool calls that cannot go wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from agentmesh_models.binding import Weights
from agentmesh_models.chat import ToolChoice, ToolSpec
from agentmesh_models.errors import ModelError
from agentmesh_models.grammar.calls import CallGrammar, call_grammar
from agentmesh_models.grammar.guard import Guard, vocabulary
from agentmesh_models.toolformat.form import Form

if TYPE_CHECKING:
    from agentmesh_models.binding import Logits

Draw = Callable[["Logits"], int]
_MOST_TRIES: Final = 64
_WINDOW: Final = 96
_WHITE: Final = b" \t\r\n"
_MOST_BLANKS: Final = 2  # tokens of white space between a thought and a call that is required


class Constraint:
    """Stands between the model's scores and the token chosen.

    "auto": free, until the tokens spell the opener of a call; from the token in which the opener begins, the
    calls' grammar holds. A token may straddle the opener's ends: one that goes on in a way the grammar does
    not know is taken back before anyone sees it. "required": the grammar holds from the first token, or from
    the end of a thought. "none", or no tools: the opener cannot be written. Thoughts are free; where a call is
    required, they end while the shortest one still fits.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        tools: Sequence[ToolSpec],
        choice: ToolChoice,
        form: Form,
        parallel: bool = True,
        thinking: bool = False,
    ) -> None:
        """`thinking`: the prompt has opened a thought. Raises `ModelError` "bad_request" for unusable tools."""
        self._words = vocabulary(weights, form)
        self._form = form
        silent = choice == "none" or not tools
        self._grammar: CallGrammar | None = None if silent else call_grammar(tools, form, parallel=parallel)
        self._required = choice == "required" and not silent
        self._guard: Guard | None = None
        self._thinking = thinking
        self._thought = thinking
        self._fresh = True
        self._blanks = 0
        self._written = b""
        self._starts: list[tuple[int, int]] = []
        self._way_out: list[int] = []
        self._reserve: int | None = None
        if self._grammar is not None:
            self.digest = self._grammar.digest
        else:
            self.digest = hashlib.sha256("\n".join(("silent", *form.openers)).encode()).hexdigest()

    def choose(self, logits: Logits, choose: Draw, left: int) -> int:
        """The token that `choose` takes among those that may come next; it then counts as written.

        `left` is how many tokens the reply may still have, this one included. `choose` may be asked several
        times; the scores of refused tokens become minus infinity in `logits` itself.
        """
        token = choose(logits)
        if self._guard is not None:
            token = self._guard.choose(logits, choose, token, left)
        elif self._thinking:
            token = self._think(logits, choose, token, left)
        elif self._required:
            token = self._call(logits, choose, token, left)
        else:
            token = self._speak(logits, choose, token, left)
        if not self._words.weights.is_end(token):
            self._accept(token)
        return token

    def piece(self, token: int) -> bytes:
        """What a token adds to the reply: its bytes, and of control tokens those that are marks of the form."""
        return self._words.piece(token)

    def close(self) -> None:
        """Give back what the grammar holds."""
        if self._guard is not None:
            self._guard.close()

    def _accept(self, token: int) -> None:
        if self._guard is not None:
            self._guard.accept(token)
            return
        data = self.piece(token)
        self._starts.append((token, len(self._written)))
        self._written += data
        opener, closer = (mark.encode() for mark in self._form.thought)
        if self._thinking:
            self._way_out = self._way_out[1:]
            _, closed, rest = self._written.partition(closer)
            self._thinking = not closed
            self._begin_anew(rest if closed else self._written[1 - len(closer) :])
        elif self._begins_thought(self._written):
            self._thinking = self._thought = True
            self._begin_anew(self._written.partition(opener)[2])
        elif len(self._written) > 2 * _WINDOW:
            self._forget()

    def _begin_anew(self, written: bytes) -> None:
        """Only `written` counts from here on, and as the beginning of the reply."""
        self._written = written
        self._starts = []

    def _forget(self) -> None:
        """Drop what lies too far back to be part of an opener, whole tokens only."""
        self._fresh = self._fresh and not self._written.strip(_WHITE)
        keep = len(self._written) - _WINDOW
        starts = [(token, start) for token, start in self._starts if start >= keep]
        cut = starts[0][1] if starts else len(self._written)
        self._starts = [(token, start - cut) for token, start in starts]
        self._written = self._written[cut:]

    def _begins_thought(self, written: bytes) -> bool:
        return (
            not self._thought and self._fresh and written.lstrip().startswith(self._form.thought[0].encode())
        )

    def _think(self, logits: Logits, draw: Draw, token: int, left: int) -> int:
        """A token of a thought: any, but one that ends it must not begin a call as well."""
        closer = self._form.thought[1].encode()
        for _ in range(_MOST_TRIES):
            _, closed, rest = (self._written + self.piece(token)).partition(closer)
            if self._required:
                if not closed and (self._words.weights.is_end(token) or not self._in_time(left - 1)):
                    return self._leave_thought(token)
                if not rest.strip():
                    return token
            elif self._form.find(rest.decode("latin-1"), fresh=True) < 0:
                return token
            logits[token] = float("-inf")
            token = draw(logits)
        raise ModelError("decode_failed", "the model ends its thought in no way that a reply can follow")

    def _in_time(self, left: int) -> bool:
        """Whether with `left` tokens left the thought can be closed and the shortest call be written."""
        if self._reserve is None:
            call = self._words.spell(self._grammar.shortest.encode()) if self._grammar is not None else None
            way_out = self._words.spell(self._form.thought[1].encode())
            self._reserve = 0 if call is None or way_out is None else len(way_out) + len(call)
        return self._reserve <= left

    def _leave_thought(self, token: int) -> int:
        """The next token of the mark that closes a thought; `token` where the vocabulary cannot write it."""
        if not self._way_out:
            self._way_out = self._words.spell(self._form.thought[1].encode()) or [token]
        return self._way_out[0]

    def _call(self, logits: Logits, draw: Draw, token: int, left: int) -> int:
        """The first token where a call is required: of the call, of a thought, or blank after a thought."""
        data = self.piece(token)
        if self._begins_thought(self._written + data) and self._in_time(left - 1):
            return token
        blank = bool(data) and not data.strip()
        if self._thought and blank and self._blanks < _MOST_BLANKS and self._in_time(left - 1):
            self._blanks += 1
            return token
        assert self._grammar is not None, "what is required has a grammar"
        self._guard = Guard(self._words, self._grammar)
        return self._guard.choose(logits, draw, token, left)

    def _speak(self, logits: Logits, draw: Draw, token: int, left: int) -> int:
        """A token of free text: any, unless it would open a call that may not be or cannot go on so."""
        for _ in range(_MOST_TRIES):
            after = self._written + self.piece(token)
            at = self._opened(after)
            if at < 0:
                return token
            guard = self._woken(after, at)
            if guard is not None:
                self._guard = guard
                return guard.choose(logits, draw, token, left)
            logits[token] = float("-inf")
            token = draw(logits)
        raise ModelError("decode_failed", "the model writes nothing but broken openers of tool calls")

    def _opened(self, after: bytes) -> int:
        """Where an opener begins that `after` now holds whole; -1 for nowhere."""
        text = after.decode("latin-1")  # openers are ASCII: characters are bytes
        if self._grammar is None:
            return next((at for at in map(text.find, self._form.openers) if at >= 0), -1)
        return self._form.find(text, fresh=self._fresh)

    def _woken(self, after: bytes, at: int) -> Guard | None:
        """A guard at the end of what is written; the opener begins at byte `at` of `after`."""
        if self._grammar is None:
            return None
        begun = [(each, start) for each, start in self._starts if start + len(self.piece(each)) > at]
        start = begun[0][1] if begun else len(self._written)
        try:
            lead = after[start:at].decode()
        except UnicodeDecodeError:
            return None
        guard = Guard(self._words, self._grammar, lead=lead)
        for each, _ in begun:
            if not guard.allows(each):
                return None
            guard.accept(each)
        return guard
