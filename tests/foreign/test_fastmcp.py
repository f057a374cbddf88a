"""fastmcp's client, which stands on the same SDK as we do and uses it its own way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_a_host_made_with_fastmcp_asks_a_mesh(
    transport: str,
    program: Callable[[str], str],
    target: Callable[[str, int], str],
    foreign: Any,
    recorded: Callable[[Path, str], list[Any]],
    tmp_path: Path,
) -> None:
    if find_spec("fastmcp") is None:
        pytest.skip("fastmcp is not installed: it comes with the extra 'test'")
    command = [
        sys.executable,
        program("fastmcp_client.py"),
        target(transport, 2),
        "What is 17 * 23?",
        "Again?",
    ]
    seen = foreign.converse(command)
    foreign.judge(seen, protocol="2026-07-28")
    assert len(seen["answers"]) == 2
    if transport == "stdio":
        # It does not sign, and stands in the record as that.
        asked = [each["asked_by"] for each in recorded(tmp_path, "open")]
        assert [(each["author"], each["exchange"]) for each in asked] == [("", "")] * 2
