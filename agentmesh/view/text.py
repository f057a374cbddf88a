"""Text of a model or a peer, made safe for a screen.

A terminal obeys what is printed: an escape sequence in a tool's answer could rewrite the lines above it, and a
bidirectional override could show another order of words than was signed. What goes is what acts on a screen or cannot
be seen; letters of every script stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

_ESCAPES: Final = re.compile(
    r"""(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]          # CSI: colours, cursor movement
      | (?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])   # OSC, DCS, SOS, PM, APC: titles, links, clipboard ...
        [^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)      # ... where they do end: else only the opening goes, not what follows
      | \x1b[ -/]*[0-~]                           # the other escapes
    """,
    re.VERBOSE,
)
# C0 without tab and line feed, DEL, C1; marks, embeddings, overrides and isolates of writing direction; invisible
# operators; byte order mark, interlinear annotation; tag characters, which hide text from people but not from models.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)
_ENDS: Final = re.compile("\r\n|[\u2028\u2029\x85]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_IN_JSON: Final = re.compile(f"{_UNSEEN.pattern}|[\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """The text without anything that acts on a screen or hides in it; line ends become line feeds."""
    text = _ESCAPES.sub("", text)
    text = _ENDS.sub("\n", text)
    return _SURROGATE.sub("\ufffd", _UNSEEN.sub("", text))


def one_line(text: str, width: int) -> str:
    """The text on one line of at most `width` characters; what is cut is marked."""
    line = " ".join(clean(text).split())
    return line if len(line) <= width else line[: max(0, width - 1)].rstrip() + "…"


def hanging(text: str, indent: int) -> str:
    """The text with its later lines set in, so that no line of it can pass for the next speaker's."""
    return clean(text).strip().replace("\n", "\n" + " " * indent)


def arguments_text(arguments: Mapping[str, object], width: int = 200) -> str:
    """A call's arguments as `name=value, ...`, on one line."""
    return one_line(", ".join(f"{name}={_value(value)}" for name, value in arguments.items()), width)


def _value(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:  # what a model or a peer writes may nest as deep as it likes
        return "(nested too deeply to show)"


def json_line(value: Mapping[str, object]) -> str:
    """One line of JSON that says exactly `value`: what is unsafe on a screen is escaped, not dropped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return _IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], text)


def count(number: int, what: str, many: str | None = None) -> str:
    """`1 message`, `2 messages`; `many` where that is no plain s."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {many or what + 's'}"
