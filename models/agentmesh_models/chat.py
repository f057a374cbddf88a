"""The words of this package: what goes into a model, what comes out, and what an engine is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, Protocol

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""A JSON value, as the json module makes them."""

Role = Literal["system", "user", "assistant", "tool"]
ToolChoice = Literal["auto", "none", "required"]
Finish = Literal["stop", "call", "length"]
Method = Literal["replay", "score"]
Verdict = Literal["exact", "differs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool that a model wants called, with its arguments."""

    name: str
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation. `name` is, in a tool's message, the tool that answered."""

    role: Role
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as a model is shown it. `parameters` is a JSON Schema of an object; see `normalise_schema`."""

    name: str
    description: str = ""
    parameters: Mapping[str, JsonValue] = field(default_factory=lambda: {"type": "object", "properties": {}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy: then only the penalties matter.

    The penalties look at the last `penalty_window` tokens of prompt and reply (0: at none). `repeat_penalty` divides
    a positive score and multiplies a negative one, 1 changes nothing; `frequency_penalty` is taken off once for each
    time that a token occurs there, `presence_penalty` once if it does.
    """

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_window: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a model: the whole conversation, the tools it may call, and how long it may answer.

    `tool_choice` "required" makes the reply a tool call; "none" yields text. `shown` are the tools that the prompt
    tells of, where they are others than those that may be called: agents that share a model and a transcript are
    shown the same ones, so that the beginning of their prompts is the same. With `parallel_calls` a reply may hold
    several calls, where the model's format has them. `deadline` is in seconds from when the request is made.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    shown: tuple[ToolSpec, ...] | None = None
    tool_choice: ToolChoice = "auto"
    parallel_calls: bool = True
    max_tokens: int = 512
    deadline: float | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of reply text, whole characters only. The text of a tool call is never among the pieces."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta:
    """A piece of what the model thinks before it answers: no part of the reply's text."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a reply cost. `reused_tokens` of the prompt were still in the cache and not read again."""

    prompt_tokens: int
    reused_tokens: int
    output_tokens: int
    prefill_seconds: float
    decode_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What someone with the same model file needs to run this inference again.

    `splits` are the sizes of the pieces in which the prompt's tokens after the reused ones were evaluated.
    `invariance` says what they matter (see `agentmesh_models.invariance`): nothing where it is "free", for then
    scores have the same bits however the prompt was cut and whatever ran beside. `tools` are those that could be
    called, which with `tool_choice` and `parallel_calls` make the grammar.
    """

    model: str
    model_digest: str
    template_digest: str
    library: str
    n_ctx: int
    prompt_tokens: tuple[int, ...]
    reused_tokens: int
    output_tokens: tuple[int, ...]
    sampling: Sampling
    grammar_digest: str | None
    finish: Finish
    n_batch: int = 0
    n_ubatch: int = 0
    threads: int = 0
    splits: tuple[int, ...] = ()
    invariance: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_calls: bool = True
    max_tokens: int = 0

    def to_json(self) -> dict[str, JsonValue]:
        """The profile as plain JSON values; tokens, splits and tools as lists."""
        # Not asdict() of the whole: it would copy each of thousands of tokens by itself.
        return _shallow(self) | {
            "prompt_tokens": list(self.prompt_tokens),
            "output_tokens": list(self.output_tokens),
            "splits": list(self.splits),
            "sampling": _shallow(self.sampling),
            "tools": [asdict(tool) for tool in self.tools],
        }


def _shallow(value: Profile | Sampling) -> dict[str, JsonValue]:
    return {each.name: getattr(value, each.name) for each in fields(value)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The whole reply; always the last thing an engine yields for a request."""

    text: str
    calls: tuple[ToolCall, ...]
    finish: Finish
    usage: Usage
    profile: Profile
    reasoning: str = ""


Piece = TextDelta | ReasoningDelta | Reply
"""What an engine yields for a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """What came out of checking a recorded reply.

    "exact": every token is the one that this model chooses, and the reply ends where it would. Otherwise `first` is the
    place in the reply of the first that is not, or its length where it was cut short, and `agreeing` how many are. By "replay", what follows the first difference follows from
    another beginning, so it says little; by "score" each token is judged after the recorded ones before it, and
    `margins` tells by how much each was behind the model's choice, in units of scores divided by the temperature: 0
    where it is that choice, small where only rounding differs, large where another model or seed spoke. Where the
    tools' grammar can no longer be followed (after a token that it does not allow), margins are those of free text.
    `expected` are the tokens chosen here. Scoring repeats the recorded bits where the profile's `invariance` is "free", a
    replay also where it is "aligned"; anywhere else expect small margins.
    """

    verdict: Verdict
    method: Method
    agreeing: int
    first: int | None
    expected: tuple[int, ...]
    margins: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a model is. Digests are hex SHA-256; `n_ctx` is the context an engine opened with defaults has."""

    name: str
    path: Path | None
    digest: str
    n_ctx: int
    tool_format: str
    template_digest: str


class Engine(Protocol):
    """Something that answers requests with one model; requests made at the same time run side by side where it can."""

    @property
    def info(self) -> ModelInfo:
        """What model it is."""
        ...

    def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Answer `request`: pieces of text as they come, and last the whole `Reply`.

        Cancelling the task that iterates, or closing the iterator, stops the model within one step.

        Raises:
            ModelError: the request cannot be answered; the engine stays usable, except after `aclose`.
        """
        ...

    async def rescore(self, profile: Profile, *, method: Method = "score") -> Rescored:
        """Check a recorded reply of this model: run it again ("replay"), or score it in one prefill ("score").

        Raises:
            ModelError: reason "not_checkable"; the reply is another model's, or this one cannot be run again.
        """
        ...

    async def aclose(self) -> None:
        """Give back all that the engine holds. A second call does nothing."""
        ...
