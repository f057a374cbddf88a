"""The TypeScript SDKs: the one that opens with `initialize`, and its successor for 2026-07-28."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_QUESTIONS = ["What is 17 * 23?", "And again?"]
_CASES = [
    ("sdk", "legacy", "2025-11-25"),
    ("client", "legacy", "2025-11-25"),
    ("client", "auto", "2026-07-28"),
    ("client", "modern", "2026-07-28"),
]


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize(("package", "mode", "protocol"), _CASES)
def test_a_host_in_typescript_asks_a_mesh(
    package: str,
    mode: str,
    protocol: str,
    transport: str,
    node: str,
    npm: Callable[[str], Path],
    program: Callable[[str], str],
    target: Callable[[str, int], str],
    foreign: Any,
    recorded: Callable[[Path, str], list[Any]],
    tmp_path: Path,
) -> None:
    npm(f"@modelcontextprotocol/{package}")
    address = target(transport, len(_QUESTIONS))
    seen = foreign.converse([node, program("typescript.mjs"), package, mode, address, *_QUESTIONS])
    foreign.judge(seen, protocol=protocol)
    assert len(seen["answers"]) == len(_QUESTIONS)
    if transport == "stdio":
        # It does not sign, and stands in the record as that.
        asked = [each["asked_by"] for each in recorded(tmp_path, "open")]
        assert [(each["author"], each["exchange"]) for each in asked] == [("", "")] * 2
