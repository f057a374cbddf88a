"""What a tool answered, as text that a model can read and a screen can show.

Everything here came from a server that may be hostile: control characters, escape sequences and marks that reorder
text are taken out, and the length is bounded.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from mcp.types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import JsonValue

MAX_TEXT: Final = 20_000
MAX_LINE: Final = 300

_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
# What takes up no room, or only room, and is neither a control nor a space: joiners, fillers, variation selectors.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# How the SDK's server wraps what a tool raised, and how pydantic lists what is wrong with arguments.
_WRAPPING: Final = re.compile(r"\AError executing tool [^\s:]+(?:: )?")
_ARGUMENTS: Final = re.compile(r"\A[0-9]+ validation errors? for \S+\n")
_MISTAKE: Final = re.compile(r"^(?P<where>\S.*)\n  (?P<what>.*?) \[type=", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What came of a call. An error's text begins with `Error` and says what to do; `seconds` is how long it took."""

    text: str
    is_error: bool
    structured: JsonValue = None
    seconds: float = 0.0


def read_result(result: CallToolResult, *, seconds: float) -> ToolResult:
    """The result of a call that was answered, whether the tool could do it or not."""
    text = "\n".join(filter(None, (_block_text(block) for block in result.content)))
    structured: JsonValue = result.structured_content
    if not text.strip() and structured is not None:
        text = json.dumps(structured, ensure_ascii=False)
    if result.is_error:
        return failed(_unwrapped(text), seconds=seconds)
    return ToolResult(text=capped(clean(text)), is_error=False, structured=structured, seconds=seconds)


def failed(text: str, *, seconds: float) -> ToolResult:
    """The result of a call that failed, for the model to read."""
    plain = clean(text).strip() or "the tool failed and did not say why"
    if not plain.lower().startswith("error"):
        plain = f"Error: {plain}"
    return ToolResult(text=capped(plain), is_error=True, seconds=seconds)


def clean(text: str) -> str:
    """The text without escape sequences, control characters other than newline and tab, and reordering marks."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _SURROGATES.sub("\ufffd", _CONTROLS.sub("", text))


def one_line(text: str, *, limit: int = MAX_LINE) -> str:
    """The text cleaned, on one line, shortened to the limit."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def escaped(text: str) -> str:
    """The text on one line, with whatever acts on a screen or cannot be seen written out as its code.

    Where two texts are compared, nothing may be left out: tag characters and marks of writing direction hide words
    from people that a model reads.
    """
    return "".join(_written_out(letter) for letter in text)


def _written_out(letter: str) -> str:
    category = unicodedata.category(letter)
    is_seen = category[0] not in "CZ" and not _UNSEEN.match(letter)
    if is_seen or letter == " ":
        return letter
    code = ord(letter)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def capped(text: str) -> str:
    """The text, or its first 20,000 characters and a line that says how many are missing."""
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}\n[cut here: {len(text) - MAX_TEXT:,} more characters]"


def _unwrapped(text: str) -> str:
    text = _WRAPPING.sub("", text, count=1)
    if _ARGUMENTS.match(text) and (mistakes := _MISTAKE.findall(text)):
        return "the arguments are wrong: " + "; ".join(f"{where}: {what}" for where, what in mistakes)
    return text


def _block_text(block: ContentBlock) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ImageContent):
        return f"[image, {block.mime_type}]"
    if isinstance(block, AudioContent):
        return f"[audio, {block.mime_type}]"
    if isinstance(block, ResourceLink):
        return f"[resource {block.name}: {block.uri}]"
    return _resource_text(block)


def _resource_text(block: EmbeddedResource) -> str:
    resource = block.resource
    if isinstance(resource, TextResourceContents):
        return f"[resource {resource.uri}]\n{resource.text}"
    return f"[resource {resource.uri}, {resource.mime_type or 'binary'}]"
