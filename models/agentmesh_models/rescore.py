"""Whether a recorded reply is what this model would have said: run again, or scored token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentmesh_models import sampler
from agentmesh_models.chat import Message, Method, ModelInfo, Profile, Reply, Request, Rescored
from agentmesh_models.constraint import Constraint
from agentmesh_models.errors import ModelError
from agentmesh_models.reply import Model, Replying
from agentmesh_models.session import Record, Tell
from agentmesh_models.speech import Speech

if TYPE_CHECKING:
    from agentmesh_models.binding import Logits
    from agentmesh_models.context import Rows


def check_same(profile: Profile, info: ModelInfo) -> None:
    """Raises `ModelError` "not_checkable" unless `profile` is a whole one of the model that `info` tells of."""
    if profile.model_digest != info.digest:
        raise ModelError(
            "not_checkable",
            "the reply was made by another model file",
            expected=profile.model_digest,
            found=info.digest,
        )
    if not profile.prompt_tokens or not profile.output_tokens:
        raise ModelError("not_checkable", "the profile has no tokens of prompt and reply")
    if len(profile.prompt_tokens) + len(profile.output_tokens) > info.n_ctx + 1:
        raise ModelError(
            "not_checkable",
            "prompt and reply do not fit into this engine's context: open the model with the recorded n_ctx",
            expected=profile.n_ctx,
            found=info.n_ctx,
        )


class Rescoring:
    """A recorded reply as a course; see `session.Course`."""

    def __init__(self, model: Model, profile: Profile, *, method: Method, threads: int) -> None:
        # llama.cpp ends the whole process over a token that its vocabulary does not have.
        if any(
            not 0 <= token < model.weights.n_vocab
            for token in (*profile.prompt_tokens, *profile.output_tokens)
        ):
            raise ModelError("not_checkable", "the profile has tokens that the model does not know")
        request = _request(profile)
        sampler.check(request.sampling)
        prompt, thinking = list(profile.prompt_tokens), _thinks(model, profile)
        self._profile = profile
        self._method: Method = method
        self._inner = (
            Replying(
                model, request, prompt, thinking=thinking, threads=threads, splits=profile.splits, fresh=True
            )
            if method == "replay"
            else _Scoring(model, request, profile, thinking=thinking)
        )
        if profile.grammar_digest not in (None, self._inner.digest):
            # For instance where somebody sorted the keys of the tools' schemas: no verdict on the reply follows.
            raise ModelError(
                "not_checkable",
                "the recorded tools give another grammar here than the one recorded",
                expected=profile.grammar_digest,
                found=self._inner.digest,
            )
        self.sequence = self._inner.sequence
        self.n_prompt = self._inner.n_prompt
        self.most = self._inner.most
        self.fresh = True

    @property
    def over(self) -> bool:
        """Whether all is known."""
        return self._inner.over

    def limit(self, done: int) -> int:
        """As the course inside."""
        return self._inner.limit(done)

    def wants(self, at: int) -> bool:
        """As the course inside."""
        return self._inner.wants(at)

    def take(self, rows: Rows, tell: Tell) -> None:
        """As the course inside; what a replay says is shown to nobody."""
        self._inner.take(rows, lambda piece: None)

    def result(self, record: Record) -> Rescored:
        """The verdict."""
        recorded = self._profile.output_tokens
        if isinstance(self._inner, _Scoring):
            return self._inner.rescored()
        reply: Reply = self._inner.result(record)
        said = reply.profile.output_tokens
        agreeing = sum(one == other for one, other in zip(said, recorded, strict=False))
        same = said == recorded
        first = None if same else _first_difference(said, recorded)
        return Rescored(
            verdict="exact" if same else "differs",
            method="replay",
            agreeing=agreeing,
            first=first,
            expected=said,
        )

    def close(self) -> None:
        """Give back what the grammar holds."""
        self._inner.close()


class _Scoring:
    """Prompt and reply evaluated at once; at each place the model's own choice beside the recorded token."""

    def __init__(self, model: Model, request: Request, profile: Profile, *, thinking: bool) -> None:
        self.n_prompt = len(profile.prompt_tokens)
        self.sequence = [*profile.prompt_tokens, *profile.output_tokens[:-1]]
        self.most = len(profile.output_tokens) - 1
        self.over = False
        self._model = model
        self._request = request
        self._recorded = profile.output_tokens
        self._full = [*profile.prompt_tokens, *profile.output_tokens]
        self._constraint: Constraint | None = Constraint(
            model.weights,
            tools=request.tools,
            choice=request.tool_choice,
            form=model.template.form,
            parallel=request.parallel_calls,
            thinking=thinking,
        )
        self.digest = self._constraint.digest
        self._speech = Speech(
            form=model.template.form,
            watch=bool(request.tools) and request.tool_choice != "none",
            thinking=thinking,
            parallel=request.parallel_calls,
        )
        self._ends: int | None = None
        self._expected: list[int] = []
        self._margins: list[float] = []

    def limit(self, done: int) -> int:
        wanted_from = self.n_prompt - 1
        return wanted_from - done if done < wanted_from else self._model.together

    def wants(self, at: int) -> bool:
        return at >= self.n_prompt - 1

    def take(self, rows: Rows, tell: Tell) -> None:
        for row in rows:
            self._look(row)
        self.over = len(self._expected) == len(self._recorded)

    def rescored(self) -> Rescored:
        agreeing = sum(one == other for one, other in zip(self._expected, self._recorded, strict=True))
        first = _first_difference(self._expected, self._recorded)
        # All tokens may be the model's own, and the reply be cut short, or gone on with after its end.
        if self._ends is not None:
            first = min(first, self._ends)
        same = first == self._ends == len(self._recorded)
        return Rescored(
            verdict="exact" if same else "differs",
            method="score",
            agreeing=agreeing,
            first=None if same else first,
            expected=tuple(self._expected),
            margins=tuple(self._margins),
        )

    def close(self) -> None:
        if self._constraint is not None:
            self._constraint.close()
            self._constraint = None

    def _look(self, row: Logits) -> None:
        at = len(self._expected)
        position, recorded = self.n_prompt + at, self._recorded[at]
        before = self._full[:position]
        left = min(self._request.max_tokens, self._model.info.n_ctx - self.n_prompt + 1) - at
        seen: list[Logits] = []

        def choose(scores: Logits) -> int:
            seen[:] = [scores.copy()]
            return sampler.choose(scores, self._request.sampling, position, before)

        if self._constraint is None:
            chosen = choose(row)
        else:
            chosen = self._constraint.choose(row, choose, left)
        self._expected.append(chosen)
        margin = 0.0
        if chosen == recorded and self._constraint is not None and self._ends is None:
            ended = self._model.weights.is_end(recorded)
            if not ended:
                self._speech.add(self._constraint.piece(recorded))
            if ended or self._speech.complete or left == 1:
                self._ends = at + 1
        if chosen != recorded:
            margin = sampler.margin(seen[0], self._request.sampling, position, before, recorded)
            self.close()  # the grammar has gone another way than the recorded reply
        self._margins.append(margin)


def _request(profile: Profile) -> Request:
    """What was asked, as far as it bears on the choice of tokens."""
    return Request(
        messages=(Message(role="user"),),
        tools=profile.tools,
        tool_choice=profile.tool_choice,
        parallel_calls=profile.parallel_calls,
        max_tokens=profile.max_tokens or len(profile.output_tokens),
        sampling=profile.sampling,
    )


def _thinks(model: Model, profile: Profile) -> bool:
    """Whether the recorded prompt ends in an opened thought, read off its last tokens."""
    written = b"".join(model.weights.written(token) for token in profile.prompt_tokens[-16:])
    return model.template.thinks(written.decode("utf-8", "replace"))


def _first_difference(said: Sequence[int], recorded: Sequence[int]) -> int:
    for at, (one, other) in enumerate(zip(said, recorded, strict=False)):
        if one != other:
            return at
    return min(len(said), len(recorded))
