"""A model's own chat template: the conversation as the exact text that the model was trained on.

The template comes out of the model file and is not trusted: it is rendered in jinja2's immutable sandbox,
with the names that Hugging Face gives templates and no others, and its output is bounded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn

from agentmesh_models.chat import JsonValue, Message, ToolSpec
from agentmesh_models.errors import ModelError
from agentmesh_models.toolformat import Form, ToolFormat, call_text, form_of, tool_json, tools_text

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.ext import Extension
    from jinja2.nodes import Node
    from jinja2.parser import Parser

MAX_PROMPT_CHARACTERS: Final = 8_000_000
MAX_TEMPLATE_CHARACTERS: Final = 1_000_000
# Noncharacters that no text should hold: they fence message text off from the template's own marks.
_OPEN: Final = "\ufdd0"
_CLOSE: Final = "\ufdd1"


class ChatTemplate:
    """A chat template, compiled.

    `control` lists how the model's control tokens are written. Where a message holds one, it is fenced, and
    `segments` says so: what somebody wrote must never act as the end of their message. The marks of the
    family's own calls and thoughts are fenced in two halves: vocabularies have them as tokens that are
    recognised in any text, and templates look for them in messages.
    """

    def __init__(self, source: str, *, bos: str = "", eos: str = "", control: Sequence[str] = ()) -> None:
        """Raises `ModelError`: "template" where jinja2 cannot compile it, "no_backend" without jinja2."""
        self.source = source
        self.form: Form = form_of(source)
        self.format: ToolFormat = self.form.name
        self.digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        self._bos = bos
        self._eos = eos
        self._marks = frozenset(self.form.marks + self.form.thought)
        fenced = sorted({*control, *self._marks}, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, fenced)))
        self._template = _compile(source)

    def render(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> str:
        """The prompt, up to where the model's reply begins; fences stay in it (see `segments`).

        Raises:
            ModelError: reason "template" when the template refuses the conversation.
        """
        messages = [self._fenced(each) for each in messages]
        shown = [self._fence_all(tool_json(tool)) for tool in tools]
        if self.format == "generic":
            messages, shown = _in_words(messages, shown), []
        if not self.form.parallel:
            messages = _one_call_each(messages)
        given = _plain(messages)
        try:
            return self._render(given, shown)
        except ModelError:
            folded = _without_system(given)
            if folded is None:
                raise
            return self._render(folded, shown)  # some templates know no system message

    def thinks(self, prompt: str) -> bool:
        """Whether the prompt ends in a thought that the template has opened and not closed."""
        return prompt.rstrip().endswith(self.form.thought[0].rstrip())

    def _render(self, messages: list[JsonValue], tools: list[JsonValue]) -> str:
        out: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(
                messages=messages,
                tools=tools or None,
                add_generation_prompt=True,
                bos_token=self._bos,
                eos_token=self._eos,
            ):
                out.append(piece)
                size += len(piece)
                if size > MAX_PROMPT_CHARACTERS:
                    break
        except ModelError:
            raise
        except Exception as error:  # a template is a program: it can fail with anything
            raise ModelError(
                "template", f"the model's chat template fails: {type(error).__name__}: {error}"
            ) from error
        if size > MAX_PROMPT_CHARACTERS:
            raise ModelError(
                "template", f"the chat template writes more than {MAX_PROMPT_CHARACTERS} characters"
            )
        return "".join(out)

    def _fenced(self, message: Message) -> Message:
        calls = []
        for call in message.calls:
            arguments = self._fence_all(dict(call.arguments))
            calls.append(replace(call, arguments=arguments if isinstance(arguments, dict) else {}))
        return replace(message, content=self._fence(message.content), calls=tuple(calls))

    def _fence(self, text: str) -> str:
        if not self._control.search(text):
            return text
        plain = text.replace(_OPEN, "").replace(_CLOSE, "")
        return self._control.sub(self._fence_one, plain)

    def _fence_one(self, match: re.Match[str]) -> str:
        mark = match[0]
        if mark in self._marks:
            return f"{_OPEN}{mark[0]}{_CLOSE}{_OPEN}{mark[1:]}{_CLOSE}"
        return f"{_OPEN}{mark}{_CLOSE}"

    def _fence_all(self, value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            return self._fence(value)
        if isinstance(value, Mapping):
            return {self._fence(key): self._fence_all(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._fence_all(each) for each in value]
        return value


def segments(prompt: str) -> list[tuple[str, bool]]:
    """The prompt in pieces, each with whether control tokens written out in it take effect."""
    out: list[tuple[str, bool]] = []
    for at, piece in enumerate(re.split(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}", prompt)):
        bare = piece.replace(_OPEN, "").replace(_CLOSE, "")  # a template that cuts texts may cut a fence
        if bare:
            out.append((bare, at % 2 == 0))
    return out


def _compile(source: str) -> Template:
    try:
        import jinja2
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ModuleNotFoundError as error:
        raise ModelError(
            "no_backend", "chat templates need jinja2: pip install 'agentmesh-runtime[llama]'"
        ) from error
    if len(source) > MAX_TEMPLATE_CHARACTERS:
        raise ModelError(
            "template", f"the model's chat template is longer than {MAX_TEMPLATE_CHARACTERS} characters"
        )
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _spoken_blocks(Extension)]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(source)
    except (jinja2.TemplateError, RecursionError, ValueError) as error:
        raise ModelError("template", f"the model's chat template does not compile: {error}") from error


def _spoken_blocks(extension: type[Extension]) -> type[Extension]:
    """Reads `{% generation %}`, with which templates mark what a model says: Hugging Face's trainers want to know."""

    class SpokenBlocks(extension):  # type: ignore[misc,valid-type]  # jinja2 is imported only when it is needed
        tags = {"generation"}

        def parse(self, parser: Parser) -> list[Node]:
            next(parser.stream)
            body: list[Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return body

    return SpokenBlocks


def _tojson(value: JsonValue, ensure_ascii: bool = False, indent: int | None = None) -> str:
    """As Hugging Face has it: Python's separators, order kept, nothing escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: object = "") -> NoReturn:
    raise ModelError("template", f"the model's chat template refuses the conversation: {message}")


def _plain(messages: Sequence[Message]) -> list[JsonValue]:
    """Messages as templates expect them. Calls get ids, which some templates insist on, and results name theirs."""
    out: list[JsonValue] = []
    waiting: list[str] = []
    made = 0
    for message in messages:
        plain: dict[str, JsonValue] = {"role": message.role, "content": message.content}
        if message.calls:
            calls: list[JsonValue] = []
            waiting = []
            for call in message.calls:
                waiting.append(f"call{made:05d}")  # nine letters and digits, as Mistral's templates demand
                made += 1
                function: JsonValue = {"name": call.name, "arguments": dict(call.arguments)}
                calls.append({"id": waiting[-1], "type": "function", "function": function})
            plain["tool_calls"] = calls
        if message.role == "tool":
            plain["tool_call_id"] = waiting.pop(0) if waiting else f"call{made:05d}"
        if message.name is not None:
            plain["name"] = message.name
        out.append(plain)
    return out


def _one_call_each(messages: Sequence[Message]) -> list[Message]:
    """For templates that know one call a message: the others follow in messages of their own, before their results."""
    out: list[Message] = []
    waiting: list[Message] = []
    for message in messages:
        if message.role == "tool":
            out.append(message)
            if waiting:
                out.append(waiting.pop(0))
            continue
        out += waiting
        waiting = [replace(message, content="", calls=(call,)) for call in message.calls[1:]]
        out.append(replace(message, calls=message.calls[:1]))
    return out + waiting


def _in_words(messages: Sequence[Message], tools: Sequence[JsonValue]) -> list[Message]:
    """A conversation with tools for a template that knows none: all of it as plain messages."""
    out: list[Message] = []
    for at, each in enumerate(messages):
        if each.role == "tool":
            text = f"<tool_response>\n{each.content}\n</tool_response>"
            out.append(Message(role="user", content=text))
        elif each.calls:
            text = "\n".join([*([each.content] if each.content else []), *map(call_text, each.calls)])
            out.append(Message(role="assistant", content=text))
        else:
            out.append(each)
        results = "tool" in (each.role, messages[at - 1].role if at else None)
        if results and len(out) > 1 and out[-1].role == out[-2].role == "user":
            last = out.pop()
            out[-1] = Message(role="user", content=f"{out[-1].content}\n{last.content}")
    if tools:
        words = tools_text(tools)
        if out and out[0].role == "system":
            out[0] = Message(role="system", content=f"{out[0].content}\n\n{words}")
        else:
            out.insert(0, Message(role="system", content=words))
    return out


def _without_system(messages: list[JsonValue]) -> list[JsonValue] | None:
    """The system message put in front of the first user message; None where there is nothing to fold."""
    if len(messages) < 2:
        return None
    first, second = messages[0], messages[1]
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return None
    if first.get("role") != "system" or second.get("role") != "user":
        return None
    content = f"{first.get('content')}\n\n{second.get('content')}"
    return [{**second, "content": content}, *messages[2:]]
