"""Strings as all three formats read them: a JSON string that is a TOML basic string and a YAML double-quoted one too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, TypeAlias

Value: TypeAlias = "str | int | bool | list[str] | dict[str, str]"
"""What a field of an entry may hold."""
Entry: TypeAlias = "dict[str, Value]"
"""What a host reads of one server, in the order in which it is written."""

# TOML and YAML take no C1 control or DEL as it is; a byte order mark or a line separator would be unseen in a file.
_UNSEEN: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def quoted(text: str) -> str:
    """`text` in double quotes, with letters of every script as they are."""
    plain = json.dumps(text, ensure_ascii=False)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", plain)


def is_text(text: str) -> bool:
    """Whether a file in UTF-8 can hold it: a file's name of other bytes cannot be written there."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def written(value: Value, table: Callable[[dict[str, str]], str]) -> str:
    """A value as JSON, TOML and YAML all write it on one line; a `table` each writes in its own way."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(quoted(each) for each in value) + "]"
    return table(value)
