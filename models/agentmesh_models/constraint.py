"""What the next token may be: free text, silence about tools, or a tool call that cannot go wrong."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from agentmesh_models.binding import Grammar, Weights
from agentmesh_models.chat import ToolChoice, ToolSpec
from agentmesh_models.errors import ModelError
from agentmesh_models.grammar import call_grammar, grammar_digest, silent_grammar
from agentmesh_models.toolformat import OPENER

if TYPE_CHECKING:
    from agentmesh_models.binding import Logits

_OPENER: Final = OPENER.encode()
_MOST_TRIES: Final = 64


class Constraint:
    """Stands between the model's scores and the token chosen.

    "auto": free, until the tokens spell the opener of a call; from the token in which the opener begins, the
    call's grammar holds. A token may straddle the opener's ends: one that goes on in a way the grammar does
    not know is taken back before anyone sees it. "required": the grammar holds from the first token. "none",
    or no tools: the opener cannot be written.
    """

    def __init__(self, weights: Weights, *, tools: Sequence[ToolSpec], choice: ToolChoice) -> None:
        """Raises `ModelError` "bad_request" when the tools give no grammar."""
        self._weights = weights
        self._tools = tools
        self._grammar: Grammar | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(
            "replace" if choice == "none" or not tools else "strict"
        )
        self._written = b""
        self._starts: list[tuple[int, int]] = []
        if choice == "none" or not tools:
            text = silent_grammar()
            self._grammar = Grammar(weights, text)
        else:
            text = call_grammar(tools)
            grammar = Grammar(weights, text)  # made now, so that a bad schema is told before any token
            if choice == "required":
                self._grammar = grammar
            else:
                grammar.close()
        self.digest = grammar_digest(text)

    def choose(self, logits: Logits, choose: Callable[[Logits], int]) -> int:
        """The token that `choose` takes among those that may come next; it then counts as written."""
        token = choose(logits)
        if self._grammar is None:
            token = self._wake(logits, token, choose)
        elif not self._grammar.allows(token) or not self._decodes(token):
            token = self._among_allowed(self._grammar, logits, choose)
        if not self._weights.is_end(token):
            self._accept(token)
        return token

    def close(self) -> None:
        """Give back what the grammar holds."""
        if self._grammar is not None:
            self._grammar.close()
            self._grammar = None

    def _accept(self, token: int) -> None:
        if self._grammar is not None:
            self._grammar.accept(token)
            self._decoder.decode(self._weights.piece(token))
        else:
            self._starts.append((token, len(self._written)))
            self._written += self._weights.piece(token)

    def _wake(self, logits: Logits, token: int, choose: Callable[[Logits], int]) -> int:
        """`token` unless it completes an opener; then the grammar is woken and has its say about `token`."""
        for _ in range(_MOST_TRIES):
            after = self._written + self._weights.piece(token)
            at = after.find(_OPENER, max(0, len(self._written) - len(_OPENER)))
            if at < 0:
                return token
            grammar = self._woken(after, at)
            if grammar is not None:
                self._grammar = grammar
                if grammar.allows(token) and self._decodes(token):
                    return token
                return self._among_allowed(grammar, logits, choose)
            logits[token] = float(
                "-inf"
            )  # the opener in a form that no grammar can follow: say something else
            token = choose(logits)
        raise ModelError("decode_failed", "the model writes nothing but broken openers of tool calls")

    def _woken(self, after: bytes, at: int) -> Grammar | None:
        """The grammar at the end of what is written; the opener begins at byte `at` of `after`."""
        begun = [(each, start) for each, start in self._starts if start + len(self._weights.piece(each)) > at]
        start = begun[0][1] if begun else len(self._written)
        try:
            lead = after[start:at].decode()
        except UnicodeDecodeError:
            return None
        grammar = Grammar(self._weights, call_grammar(self._tools, lead=lead))
        self._decoder.reset()
        for each, _ in begun:
            if not grammar.allows(each):
                grammar.close()
                return None
            grammar.accept(each)
            self._decoder.decode(self._weights.piece(each))
        return grammar

    def _among_allowed(self, grammar: Grammar, logits: Logits, choose: Callable[[Logits], int]) -> int:
        import numpy as np

        masked = grammar.mask(logits)
        while np.isfinite(masked).any():
            token = choose(masked)
            if self._decodes(token):
                return token
            masked[token] = float("-inf")
        raise ModelError("decode_failed", "no token of this model can continue a valid tool call")

    def _decodes(self, token: int) -> bool:
        """Whether the text stays UTF-8: llama.cpp's grammars let overlong bytes and surrogates through."""
        before = self._decoder.getstate()
        try:
            self._decoder.decode(self._weights.piece(token))
        except UnicodeDecodeError:
            return False
        finally:
            self._decoder.setstate(before)
        return True
