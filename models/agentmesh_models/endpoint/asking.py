"""A request as an OpenAI-compatible endpoint is asked it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agentmesh_models.chat import JsonValue, Message, Request, Sampling
from agentmesh_models.errors import ModelError
from agentmesh_models.toolformat import dumps, tool_json

OPTIONAL: Final = (
    "stream_options",
    "parallel_tool_calls",
    "tool_choice",
    "seed",
    "min_p",
    "top_k",
    "repeat_penalty",
)
"""What some servers refuse; a request that is refused over one of them is made again without it."""
_DEFAULT: Final = Sampling()
_SEED_BITS: Final = 31
"""Servers read the seed as 32 bits, as signed 64 bits, or as a whole number that a float can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is sent; `left_out` are the options that the endpoint has refused."""

    body: dict[str, JsonValue]
    left_out: tuple[str, ...] = field(default=())

    def without(self, option: str) -> Asking:
        """The same without an option."""
        body = {key: value for key, value in self.body.items() if key != option}
        return Asking(body=body, left_out=(*self.left_out, option))

    def whole(self) -> Asking:
        """The same, to be answered in one piece."""
        body = {key: value for key, value in self.body.items() if key != "stream_options"}
        return Asking(body=body | {"stream": False}, left_out=self.left_out)

    def refused(self, said: str) -> str | None:
        """The option that an error message complains of, if it is one that can be left out."""
        return next((option for option in OPTIONAL if option in self.body and option in said), None)


def ask(request: Request, model: str) -> Asking:
    """What is sent for `request`.

    Tools that may not be called are not sent: not every server heeds `tool_choice` "none".

    Raises:
        ModelError: reason "bad_request".
    """
    if not request.messages:
        raise ModelError("bad_request", "there is no message to answer")
    if request.max_tokens < 1:
        raise ModelError("bad_request", f"max_tokens must be at least 1, not {request.max_tokens}")
    if request.tool_choice == "required" and not request.tools:
        raise ModelError("bad_request", "a tool call is required, and there are no tools")
    body: dict[str, JsonValue] = {
        "model": model,
        "messages": _messages(request.messages),
        "max_tokens": request.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request.sampling),
    }
    if request.tools and request.tool_choice != "none":
        body["tools"] = [tool_json(tool) for tool in request.tools]
        body["tool_choice"] = request.tool_choice
        body["parallel_tool_calls"] = request.parallel_calls
    return Asking(body=body)


def seed_sent(sampling: Sampling) -> int:
    """The seed in the bits that every server reads alike."""
    return sampling.seed & ((1 << _SEED_BITS) - 1)


def _sampling(sampling: Sampling) -> dict[str, JsonValue]:
    """OpenAI's own settings; others only where they were set to something else than the default."""
    out: dict[str, JsonValue] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed_sent(sampling),
    }
    for key in ("frequency_penalty", "presence_penalty"):
        if value := getattr(sampling, key):
            out[key] = value
    for key in ("top_k", "min_p", "repeat_penalty"):
        if (value := getattr(sampling, key)) != getattr(_DEFAULT, key):
            out[key] = value
    if "repeat_penalty" in out and sampling.penalty_window != _DEFAULT.penalty_window:
        out["repeat_last_n"] = sampling.penalty_window
    return out


def _messages(messages: Sequence[Message]) -> list[JsonValue]:
    """The conversation in OpenAI's form: calls get ids there, which tell the answers whose they are."""
    out: list[JsonValue] = []
    waiting: list[tuple[str, str]] = []
    made = 0
    for message in messages:
        plain: dict[str, JsonValue] = {"role": message.role, "content": message.content}
        if message.calls:
            waiting = []
            calls: list[JsonValue] = []
            for call in message.calls:
                # Mistral's templates take ids of nine letters and digits only.
                identity = f"call{made:05d}"
                made += 1
                waiting.append((identity, call.name))
                function: JsonValue = {"name": call.name, "arguments": dumps(dict(call.arguments))}
                calls.append({"id": identity, "type": "function", "function": function})
            plain["tool_calls"] = calls
        elif message.role == "tool":
            plain["tool_call_id"] = _answered(waiting, message.name)
            if message.name:
                plain["name"] = message.name
        out.append(plain)
    return out


def _answered(waiting: list[tuple[str, str]], name: str | None) -> str:
    """The id of the call that a tool's message answers: the first still open of that tool, else the first open."""
    for entry in waiting:
        if name is None or entry[1] == name:
            waiting.remove(entry)
            return entry[0]
    return waiting.pop(0)[0] if waiting else "call99999"
