"""One model answers one request at a time: prompt, prefill, tokens, reply; all in the owner's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agentmesh_models import sampler
from agentmesh_models.binding import Aborted, Context, Weights
from agentmesh_models.chat import Finish, ModelInfo, Profile, Reply, Request, TextDelta, Usage
from agentmesh_models.constraint import Constraint
from agentmesh_models.errors import ModelError
from agentmesh_models.speech import Speech
from agentmesh_models.template import ChatTemplate, segments
from agentmesh_models.toolformat import is_complete, split_calls

if TYPE_CHECKING:
    from agentmesh_models.binding import Logits

N_BATCH: Final = 512
Emit = Callable[[TextDelta], None]
Cancelled = Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class _Prefill:
    reused: int
    splits: list[int] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Spoken:
    tokens: list[int]
    speech: Speech
    finish: Finish
    seconds: float


class Session:
    """A loaded model with its working memory, and what that memory holds now.

    The memory keeps the last request's tokens, so that a request that begins the same is not read anew.
    """

    def __init__(
        self,
        *,
        weights: Weights,
        context: Context,
        template: ChatTemplate,
        info: ModelInfo,
        library: str,
        threads: int,
    ) -> None:
        self.info = info
        self._weights = weights
        self._context = context
        self._template = template
        self._library = library
        self._threads = threads
        self._held: list[int] = []

    def answer(self, request: Request, emit: Emit, cancelled: Cancelled) -> Reply:
        """Answer `request`; `emit` gets the text's pieces. Whatever happens, the next one can be answered.

        Raises:
            ModelError: "bad_request", "template", "context_full", "decode_failed", or "cancelled".
        """
        _check(request)
        prompt = self._prompt(request)
        if len(prompt) >= self.info.n_ctx:
            raise ModelError(
                "context_full",
                f"the conversation needs {len(prompt) + 1:,} tokens, "
                f"the model's context has {self.info.n_ctx:,}",
                expected=self.info.n_ctx,
                found=len(prompt) + 1,
            )
        constraint = Constraint(self._weights, tools=request.tools, choice=request.tool_choice)
        try:
            prefill = self._prefill(prompt, cancelled)
            spoken = self._speak(request, constraint, emit, cancelled)
        except Aborted:
            raise ModelError("cancelled", "the request was cancelled") from None
        finally:
            constraint.close()
            self._settle()
        return self._reply(request, prompt, prefill, spoken, constraint.digest)

    def close(self) -> None:
        """Give back memory and weights."""
        self._context.close()
        self._weights.close()

    def _prompt(self, request: Request) -> list[int]:
        text = self._template.render(request.messages, request.tools)
        tokens: list[int] = []
        for piece, special in segments(text):
            tokens += self._weights.tokenize(piece, special=special)
        if self._weights.add_bos and tokens[:1] != [self._weights.bos]:
            tokens.insert(0, self._weights.bos)
        if not tokens:
            raise ModelError("template", "the model's chat template makes nothing of this conversation")
        return tokens

    def _prefill(self, prompt: Sequence[int], cancelled: Cancelled) -> _Prefill:
        """Evaluate what of `prompt` is not yet in memory; at least its last token, for its scores."""
        started = time.perf_counter()
        common = _common(self._held, prompt)
        prefill = _Prefill(reused=min(common, len(prompt) - 1))
        del self._held[prefill.reused :]
        if not self._context.forget(prefill.reused):
            self._held.clear()
            prefill.reused = 0
        with self._context.watch(cancelled):
            for start in range(prefill.reused, len(prompt), self._context.n_batch):
                if cancelled():
                    raise Aborted
                chunk = prompt[start : start + self._context.n_batch]
                self._context.evaluate(chunk, start)
                self._held += chunk
                prefill.splits.append(len(chunk))
        prefill.seconds = time.perf_counter() - started
        return prefill

    def _speak(self, request: Request, constraint: Constraint, emit: Emit, cancelled: Cancelled) -> _Spoken:
        started = time.perf_counter()
        speech = Speech(watch=bool(request.tools) and request.tool_choice != "none")
        tokens: list[int] = []
        finish: Finish = "length"

        def choose(logits: Logits) -> int:
            return sampler.choose(logits, request.sampling, len(self._held))

        while len(tokens) < request.max_tokens:
            if cancelled():
                raise Aborted
            token = constraint.choose(self._context.logits(), choose)
            tokens.append(token)
            if self._weights.is_end(token):
                finish = "stop"
                break
            shown = speech.add(self._weights.piece(token))
            if shown:
                emit(TextDelta(text=shown))
            if speech.opened and is_complete(speech.text):
                finish = "call"
                break
            if len(tokens) == request.max_tokens or len(self._held) >= self.info.n_ctx:
                break
            self._context.evaluate([token], len(self._held))
            self._held.append(token)
        shown = speech.end()
        if shown:
            emit(TextDelta(text=shown))
        return _Spoken(tokens=tokens, speech=speech, finish=finish, seconds=time.perf_counter() - started)

    def _settle(self) -> None:
        """Let the memory hold exactly what `_held` says, also after an evaluation that broke off."""
        if not self._context.forget(len(self._held)):
            self._held.clear()

    def _reply(
        self, request: Request, prompt: list[int], prefill: _Prefill, spoken: _Spoken, digest: str | None
    ) -> Reply:
        calls = split_calls(spoken.speech.text, request.tools)[1] if spoken.finish == "call" else ()
        if spoken.finish == "call" and not calls:
            raise ModelError("decode_failed", "the model's tool call cannot be read: it nests too deeply")
        usage = Usage(
            prompt_tokens=len(prompt),
            reused_tokens=prefill.reused,
            output_tokens=len(spoken.tokens),
            prefill_seconds=prefill.seconds,
            decode_seconds=spoken.seconds,
        )
        profile = Profile(
            model=self.info.name,
            model_digest=self.info.digest,
            template_digest=self.info.template_digest,
            library=self._library,
            n_ctx=self.info.n_ctx,
            prompt_tokens=tuple(prompt),
            reused_tokens=prefill.reused,
            output_tokens=tuple(spoken.tokens),
            sampling=request.sampling,
            grammar_digest=digest,
            finish=spoken.finish,
            n_batch=self._context.n_batch,
            n_ubatch=self._context.n_batch,
            threads=self._threads,
            splits=tuple(prefill.splits),
        )
        return Reply(
            text=spoken.speech.words, calls=calls, finish=spoken.finish, usage=usage, profile=profile
        )


def _check(request: Request) -> None:
    if not request.messages:
        raise ModelError("bad_request", "there is no message to answer")
    if request.max_tokens < 1:
        raise ModelError("bad_request", f"max_tokens must be at least 1, not {request.max_tokens}")
    if request.tool_choice == "required" and not request.tools:
        raise ModelError("bad_request", "a tool call is required, and there are no tools")
    sampler.check(request.sampling)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return at
    return min(len(left), len(right))
