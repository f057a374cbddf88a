"""The words of this package: what goes into a model, what comes out, and what an engine is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Protocol

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""A JSON value, as the json module makes them."""

Role = Literal["system", "user", "assistant", "tool"]
ToolChoice = Literal["auto", "none", "required"]
Finish = Literal["stop", "call", "length"]


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
    """How the next token is chosen. Temperature 0 is greedy, and then nothing else matters."""

    temperature: float = 0.0
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to a model: the whole conversation, the tools it may call, and how long it may answer.

    `tool_choice` "required" makes the reply a tool call; "none" shows no tools and yields text.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = "auto"
    max_tokens: int = 512
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """A piece of reply text, whole characters only. The text of a tool call is never among the pieces."""

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

    `splits` are the sizes of the pieces in which the prompt's tokens after the reused ones were evaluated:
    prefill and decode of the same tokens do not agree to the last bit, so how it was split belongs to the
    record.
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

    def to_json(self) -> dict[str, JsonValue]:
        """The profile as plain JSON values; tokens and splits as lists."""
        plain = asdict(self)
        for key in ("prompt_tokens", "output_tokens", "splits"):
            plain[key] = list(plain[key])
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The whole reply; always the last thing an engine yields for a request."""

    text: str
    calls: tuple[ToolCall, ...]
    finish: Finish
    usage: Usage
    profile: Profile


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
    """Something that answers requests with one model; requests made at the same time wait for one another."""

    @property
    def info(self) -> ModelInfo:
        """What model it is."""
        ...

    def generate(self, request: Request) -> AsyncGenerator[TextDelta | Reply, None]:
        """Answer `request`: pieces of text as they come, and last the whole `Reply`.

        Cancelling the task that iterates, or closing the iterator, stops the model within one token.

        Raises:
            ModelError: the request cannot be answered; the engine stays usable, except after `aclose`.
        """
        ...

    async def aclose(self) -> None:
        """Give back all that the engine holds. A second call does nothing."""
        ...
