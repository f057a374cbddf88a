"""A reply as it comes from an endpoint, piece by piece: words, thoughts, calls, and what it cost.

Nothing that comes is believed to have the type it should have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeGuard

from agentmesh_models.chat import Finish, JsonValue, ReasoningDelta, Request, TextDelta, ToolCall
from agentmesh_models.endpoint.failures import Failures
from agentmesh_models.endpoint.holding import Words
from agentmesh_models.toolformat.lenient import read_calls

_FINISHES: Final[Mapping[str, Finish]] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "tool_calls": "call",
    "function_call": "call",
}
_MOST_CALLS: Final = 64
_MOST_COUNT: Final = 1 << 40


@dataclass(slots=True)
class _Call:
    identity: str = ""
    name: str = ""
    arguments: str = ""


class Hearing:
    """Puts one reply together."""

    def __init__(self, request: Request, failures: Failures) -> None:
        self._failures = failures
        self._tools = request.tools if request.tool_choice != "none" else ()
        self._parallel = request.parallel_calls
        self._words = Words(self._tools)
        self._calls: list[_Call] = []
        self._places: dict[int, _Call] = {}
        self._ended = ""
        self._usage: Mapping[str, object] = {}
        self._deltas = 0
        self.empty = True
        self.text = ""
        self.calls: tuple[ToolCall, ...] = ()
        self.model = ""
        self.response_id = ""
        self.fingerprint = ""

    def add(self, event: object) -> Iterator[TextDelta | ReasoningDelta]:
        """Take in one event of the stream, or a whole reply, and yield what of it can be shown.

        Raises:
            ModelError: "endpoint" or "context_full"; it is an error, or no piece of a reply.
        """
        if not _is_object(event):
            self._odd("sends what is no piece of a reply")
        if event.get("error"):
            raise self._failures.told(event)
        self.empty = False
        self.model = _text(event, "model") or self.model
        self.response_id = _text(event, "id") or self.response_id
        self.fingerprint = _text(event, "system_fingerprint") or self.fingerprint
        usage = event.get("usage")
        if _is_object(usage):
            self._usage = usage
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if choice is None:
            return
        if not _is_object(choice):
            self._odd("sends a choice that is none")
        delta = choice.get("delta", choice.get("message"))
        if _is_object(delta):
            yield from self._delta(delta)
        self._ended = _text(choice, "finish_reason") or self._ended

    def end(self) -> Iterator[TextDelta | ReasoningDelta]:
        """The reply is over: yield what was held back, if it was words after all.

        Raises:
            ModelError: "endpoint"; it is not whole, or its calls are not of the tools that were offered.
        """
        if not self._ended:
            self._odd("broke off its reply in the middle")
        if self._ended == "content_filter":
            self._odd("withholds its reply (content_filter)")
        calls = [call for each in self._calls if (call := self._call(each)) is not None]
        yield from self._words.thoughts_left()
        words = self._words.text
        if not calls:
            words, found = read_calls(words, self._tools)
            calls = list(found)
        self.calls = tuple(calls if self._parallel else calls[:1])
        self.text = words
        yield from self._words.rest(words)

    @property
    def reasoning(self) -> str:
        """What the model thought before it answered."""
        return self._words.reasoning

    @property
    def finish(self) -> Finish:
        """How it ended."""
        if self.calls:
            return "call"
        return "length" if _FINISHES.get(self._ended, "stop") == "length" else "stop"

    @property
    def counts(self) -> tuple[int, int, int, bool]:
        """Tokens of the prompt, of it out of a cache, of the reply; and whether the endpoint told them.

        One that does not tell has sent about one token in each piece: then the pieces are counted, and the prompt is 0.
        """
        prompt, output = _count(self._usage, "prompt_tokens"), _count(self._usage, "completion_tokens")
        if prompt is None or output is None:
            return 0, 0, self._deltas, False
        details = self._usage.get("prompt_tokens_details")
        cached = _count(details, "cached_tokens") if _is_object(details) else None
        return prompt, min(cached or 0, prompt), output, True

    def _delta(self, delta: Mapping[str, object]) -> Iterator[TextDelta | ReasoningDelta]:
        thought = _text(delta, "reasoning_content") or _text(delta, "reasoning")
        content = _text(delta, "content")
        calls = delta.get("tool_calls")
        self._deltas += bool(thought or content or calls)
        if thought:
            yield self._words.think(thought)
        if content:
            yield from self._words.add(content)
        if isinstance(calls, list):
            for each in calls:
                if not _is_object(each):
                    self._odd("sends a tool call that is none")
                self._call_delta(each)

    def _call_delta(self, delta: Mapping[str, object]) -> None:
        function = delta.get("function")
        function = function if _is_object(function) else {}
        identity, name = _text(delta, "id"), _text(function, "name")
        at = delta.get("index")
        place = at if isinstance(at, int) else len(self._calls) - (0 if identity or name else 1)
        call = self._places.get(place)
        # Ollama gives every call the place 0; a second id is a second call.
        if call is None or (identity and call.identity and identity != call.identity):
            if len(self._calls) >= _MOST_CALLS:
                self._odd(f"sends more than {_MOST_CALLS} tool calls at once")
            call = self._places[place] = _Call()
            self._calls.append(call)
        call.identity = call.identity or identity
        if name != call.name:  # some servers repeat it with every piece
            call.name += name
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            call.arguments += arguments
        elif _is_object(arguments):
            call.arguments = json.dumps(arguments)

    def _call(self, heard: _Call) -> ToolCall | None:
        """A call as it was meant; None for one that the limit of tokens cut."""
        names = [tool.name for tool in self._tools]
        try:
            arguments: object = json.loads(heard.arguments or "{}", parse_constant=_refuse)
        except (ValueError, RecursionError):
            arguments = None
        if not _is_arguments(arguments):
            if self._ended == "length":
                return None
            self._odd(
                f"sends a call of {heard.name!r} whose arguments are no JSON object: {heard.arguments[:80]!r}"
            )
        if heard.name not in names:
            offered = f"were offered {', '.join(names)}" if names else "was none to call"
            self._odd(f"sends a call of {heard.name[:80]!r}, and there {offered}")
        return ToolCall(name=heard.name, arguments=arguments)

    def _odd(self, what: str) -> NoReturn:
        raise self._failures.odd(what)


def only_model(listed: object, wanted: str | None, failures: Failures) -> tuple[str, int | None]:
    """The model to ask for, out of what `/models` answers, and its context where that tells it.

    Raises:
        ModelError: "endpoint"; nothing is listed, several are and none is named, or the named one is not there.
    """
    entries = listed.get("data") if _is_object(listed) else None
    if not isinstance(entries, list):
        raise failures.odd("lists no models; most servers want /v1 at the end of the URL")
    by_name = {_text(each, "id"): each for each in entries if _is_object(each) and _text(each, "id")}
    names = list(by_name)
    if wanted is None and len(names) != 1:
        several = (
            f"serves {len(names)} models ({_shown(names)}): name one with #MODEL at the end of the address"
        )
        raise failures.odd(several if names else "serves no model now")
    name = names[0] if wanted is None else wanted
    for entry in tuple(by_name.values()):
        aliases = entry.get("aliases")
        if isinstance(aliases, list) and name in aliases:
            by_name.setdefault(name, entry)
    if name not in by_name:
        raise failures.odd(f"has no model {name!r}; it serves {_shown(names) or 'none'}")
    entry = by_name[name]
    meta = entry.get("meta")
    told = _count(entry, "max_model_len") or (_count(meta, "n_ctx") if _is_object(meta) else None)
    return name, told or _count(entry, "context_length")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


def _text(of: Mapping[str, object], key: str) -> str:
    value = of.get(key)
    return value if isinstance(value, str) else ""


def _count(of: Mapping[str, object], key: str) -> int | None:
    value = of.get(key)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and isinstance(value, int) and 0 <= value <= _MOST_COUNT else None


def _is_object(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, dict)  # it came out of a JSON parser, so its keys are text


def _is_arguments(value: object) -> TypeGuard[dict[str, JsonValue]]:
    return isinstance(value, dict)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)  # NaN and Infinity are no JSON
