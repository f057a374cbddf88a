"""Text of a stranger made safe to show, and the shapes that names in signed data may have."""

from __future__ import annotations

import re
import time
import unicodedata
from typing import Final

_ORIGIN: Final = re.compile(r"[!-*,-~]{1,200}\Z")  # printable ASCII without space and plus
_DIALOGUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
_AGENT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


def shown(text: str, limit: int = 200) -> str:
    """The text with everything that could drive a terminal, begin a line or turn the reading order replaced, and cut."""
    cut = text if len(text) <= limit else text[:limit] + "..."
    return "".join("\N{REPLACEMENT CHARACTER}" if _acts(unicodedata.category(c)) else c for c in cut)


def _acts(category: str) -> bool:
    # C*: controls, format characters (bidi overrides among them), surrogates, private use; and what separates lines.
    return category[0] == "C" or category in ("Zl", "Zp")


def has_controls(text: str) -> bool:
    """Whether a character of the text is a control, a line or paragraph separator, or no character."""
    return any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def is_origin(text: str) -> bool:
    """Whether the text may name a log."""
    return _ORIGIN.match(text) is not None


def is_dialogue(text: str) -> bool:
    """Whether the text may be the id of a dialogue."""
    return _DIALOGUE.match(text) is not None


def is_agent_name(text: str) -> bool:
    """Whether the text may name an agent, and so a key file."""
    return _AGENT_NAME.match(text) is not None


def moment(seconds: int) -> str:
    """A time that a stranger told, in seconds since 1970, as UTC."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):  # a witness may claim a year that no calendar has
        return f"{seconds} s after 1970"
