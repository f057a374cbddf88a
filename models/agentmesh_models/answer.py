"""One reply as it grows: its prompt, the tokens chosen so far, the pieces that may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentmesh_models import sampler
from agentmesh_models.binding import Weights
from agentmesh_models.chat import Finish, ReasoningDelta, Request, TextDelta, ToolCall
from agentmesh_models.constraint import Constraint
from agentmesh_models.errors import ModelError
from agentmesh_models.speech import Speech
from agentmesh_models.toolformat.form import Form

if TYPE_CHECKING:
    from agentmesh_models.binding import Logits

Delta = TextDelta | ReasoningDelta


class Answer:
    """Takes scores and chooses tokens until the reply is over.

    `sequence` is the prompt and the reply's tokens so far that are to be evaluated; the scores wanted are always
    those of its last token.
    """

    def __init__(
        self,
        request: Request,
        prompt: Sequence[int],
        *,
        weights: Weights,
        form: Form,
        thinking: bool,
        n_ctx: int,
    ) -> None:
        """Raises `ModelError` "bad_request" when the tools give no grammar."""
        self.sequence = list(prompt)
        self.n_prompt = len(prompt)
        self.tokens: list[int] = []
        self.over = False
        self._request = request
        self._weights = weights
        self._n_ctx = n_ctx
        self._ended = False
        self._constraint = Constraint(
            weights,
            tools=request.tools,
            choice=request.tool_choice,
            form=form,
            parallel=request.parallel_calls,
            thinking=thinking,
        )
        self._speech = Speech(
            form=form,
            watch=bool(request.tools) and request.tool_choice != "none",
            thinking=thinking,
            parallel=request.parallel_calls,
        )

    @property
    def digest(self) -> str | None:
        """The digest of the grammar that held."""
        return self._constraint.digest

    @property
    def most(self) -> int:
        """How many tokens the reply may have at most."""
        return min(self._request.max_tokens, self._n_ctx - self.n_prompt + 1)

    def take(self, logits: Logits) -> tuple[Delta, ...]:
        """Choose the next token by the scores for it (which may be written to); returns what may be shown."""
        position = len(self.sequence)
        left = self.most - len(self.tokens)

        def choose(scores: Logits) -> int:
            return sampler.choose(scores, self._request.sampling, position, self.sequence)

        token = self._constraint.choose(logits, choose, left)
        self.tokens.append(token)
        self._ended = self._weights.is_end(token)
        shown: tuple[Delta, ...] = ()
        if not self._ended:
            shown = self._speech.add(self._constraint.piece(token))
            self.sequence.append(token)
        if self._ended or self._speech.complete or left == 1:
            self.over = True
            shown += self._speech.end()
        return shown

    def finish(self) -> Finish:
        """How the reply finished; once it is over."""
        return self._speech.finish(ended=self._ended)

    def calls(self) -> tuple[ToolCall, ...]:
        """The reply's tool calls, once it is over.

        Raises:
            ModelError: "decode_failed"; a call is there and cannot be read.
        """
        if self.finish() != "call":
            return ()
        calls = self._speech.calls(self._request.tools)
        if not calls:
            raise ModelError("decode_failed", "the model's tool call cannot be read: it nests too deeply")
        return calls

    @property
    def text(self) -> str:
        """The reply's words."""
        return self._speech.words

    @property
    def reasoning(self) -> str:
        """What the model thought before them."""
        return self._speech.reasoning

    def close(self) -> None:
        """Give back what the grammar holds."""
        self._constraint.close()
