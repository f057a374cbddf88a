"""Making replies: a request becomes a course of the session, and its end a `Reply` with its profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentmesh_models import sampler
from agentmesh_models.answer import Answer
from agentmesh_models.binding import Weights
from agentmesh_models.chat import ModelInfo, Profile, Reply, Request, Usage
from agentmesh_models.errors import ModelError
from agentmesh_models.invariance import Invariance
from agentmesh_models.session import Record, Tell
from agentmesh_models.template import ChatTemplate, segments
from agentmesh_models.work import check_deadline

if TYPE_CHECKING:
    from agentmesh_models.context import Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A loaded model as replies are made with it."""

    weights: Weights
    template: ChatTemplate
    info: ModelInfo
    library: str
    n_batch: int
    invariance: Invariance
    together: int
    """The most scores to ask for at once."""

    def prompt(self, request: Request) -> tuple[list[int], bool]:
        """The tokens of a request's prompt, and whether it ends in an opened thought.

        Raises:
            ModelError: "bad_request", "template", or "context_full" for one that leaves no room for a reply.
        """
        check(request)
        shown = request.tools if request.shown is None else request.shown
        text = self.template.render(request.messages, shown)
        tokens: list[int] = []
        for piece, special in segments(text):
            tokens += self.weights.tokenize(piece, special=special)
        if self.weights.add_bos and tokens[:1] != [self.weights.bos]:
            tokens.insert(0, self.weights.bos)
        if not tokens:
            raise ModelError("template", "the model's chat template makes nothing of this conversation")
        if len(tokens) >= self.info.n_ctx:
            raise ModelError(
                "context_full",
                f"the conversation needs {len(tokens) + 1:,} tokens, "
                f"the model's context has {self.info.n_ctx:,}",
                expected=self.info.n_ctx,
                found=len(tokens) + 1,
            )
        return tokens, self.template.thinks(text)


class Replying:
    """A request as a course: see `session.Course`.

    With `fresh` and `splits` it is a replay: nothing is reused, and the prompt is cut as it was then.
    """

    def __init__(
        self,
        model: Model,
        request: Request,
        prompt: Sequence[int],
        *,
        thinking: bool,
        threads: int,
        splits: Sequence[int] = (),
        fresh: bool = False,
    ) -> None:
        self._model = model
        self._request = request
        self._threads = threads
        self._answer = Answer(
            request,
            prompt,
            weights=model.weights,
            form=model.template.form,
            thinking=thinking,
            n_ctx=model.info.n_ctx,
        )
        self.sequence = self._answer.sequence
        self.n_prompt = self._answer.n_prompt
        self.most = self._answer.most - 1  # the last token chosen is never evaluated
        self.over = False
        self.fresh = fresh
        self._ends = _ends(splits, self.n_prompt)

    @property
    def digest(self) -> str | None:
        """The digest of the grammar that holds."""
        return self._answer.digest

    def limit(self, done: int) -> int:
        """As many as are wanted; in a replay, up to where the prompt was cut."""
        for end in self._ends:
            if end > done:
                return end - done
        return self._model.n_batch

    def wants(self, at: int) -> bool:
        """The scores of the last token known."""
        return at == len(self.sequence) - 1

    def take(self, rows: Rows, tell: Tell) -> None:
        """Choose the next token and tell what may be shown."""
        for delta in self._answer.take(rows[0]):
            tell(delta)
        self.over = self._answer.over

    def result(self, record: Record) -> Reply:
        """The reply.

        Raises:
            ModelError: "decode_failed"; the model's call cannot be read.
        """
        answer, request, info = self._answer, self._request, self._model.info
        usage = Usage(
            prompt_tokens=self.n_prompt,
            reused_tokens=record.reused,
            output_tokens=len(answer.tokens),
            prefill_seconds=record.read - record.began,
            decode_seconds=record.ended - record.read,
        )
        profile = Profile(
            model=info.name,
            model_digest=info.digest,
            template_digest=info.template_digest,
            library=self._model.library,
            n_ctx=info.n_ctx,
            prompt_tokens=tuple(self.sequence[: self.n_prompt]),
            reused_tokens=record.reused,
            output_tokens=tuple(answer.tokens),
            sampling=request.sampling,
            grammar_digest=answer.digest,
            finish=answer.finish(),
            n_batch=self._model.n_batch,
            n_ubatch=self._model.n_batch,
            threads=self._threads,
            splits=tuple(record.splits),
            invariance=self._model.invariance,
            tools=request.tools,
            tool_choice=request.tool_choice,
            parallel_calls=request.parallel_calls,
            max_tokens=request.max_tokens,
        )
        return Reply(
            text=answer.text,
            calls=answer.calls(),
            finish=answer.finish(),
            usage=usage,
            profile=profile,
            reasoning=answer.reasoning,
        )

    def close(self) -> None:
        """Give back what the grammar holds."""
        self._answer.close()


def check(request: Request) -> None:
    """Raises `ModelError` "bad_request" for a request that means nothing."""
    if not request.messages:
        raise ModelError("bad_request", "there is no message to answer")
    if request.max_tokens < 1:
        raise ModelError("bad_request", f"max_tokens must be at least 1, not {request.max_tokens}")
    if request.tool_choice == "required" and not request.tools:
        raise ModelError("bad_request", "a tool call is required, and there are no tools")
    check_deadline(request.deadline)
    sampler.check(request.sampling)


def _ends(splits: Sequence[int], total: int) -> list[int]:
    ends: list[int] = []
    at = total - sum(splits)
    for size in splits:
        at += size
        ends.append(at)
    return ends
