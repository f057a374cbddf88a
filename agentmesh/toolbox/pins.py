"""The digest that pins a server's whole tool set.

It covers every tool's name, title, description, schemas and annotations, and the server's instructions, whatever the
order they are listed in. It is over the set and not over each tool, because a tool that was renamed or added is a
change too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import rfc8785
from pydantic import JsonValue


def digest_of_tools(tools: Sequence[dict[str, JsonValue]], instructions: str) -> str:
    """Hex SHA-256 of the RFC 8785 form of `{"instructions": ..., "tools": [sorted by name]}`.

    Raises:
        ValueError: a value in it has no canonical form (NaN, or a whole number beyond 2**53).
    """
    in_order = sorted(tools, key=lambda tool: str(tool["name"]))
    whole: dict[str, JsonValue] = {"instructions": instructions, "tools": [*in_order]}
    return hashlib.sha256(rfc8785.dumps(whole)).hexdigest()
