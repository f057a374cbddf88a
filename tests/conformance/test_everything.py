"""The official suite against a fixture server that has all it asks for, and our middleware in front of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

_ERAS = {
    "2026-07-28": ("--requirements", "2026-07-28"),
    "2025-11-25": ("--suite", "all", "--spec-version", "2025-11-25"),
}
# Required of servers of 2026-07-28; the whole suite that applies to 2025-11-25.
_SCENARIOS = {"2026-07-28": 37, "2025-11-25": 33}


@pytest.fixture(scope="module")
def required(npm: Callable[[str], Path]) -> frozenset[str]:
    """The scenarios that 2026-07-28 requires of a server."""
    file = npm("@modelcontextprotocol/conformance") / "requirements" / "2026-07-28.yaml"
    return frozenset(yaml.safe_load(file.read_text())["server"])


@pytest.mark.parametrize("era", _ERAS)
def test_every_scenario_passes_on_the_fixture_server_with_our_middleware(
    era: str,
    suite: Callable[..., Any],
    everything: str,
    expected: Callable[[str], str],
    required: frozenset[str],
) -> None:
    verdict = suite(
        "server", "--url", everything, *_ERAS[era], "--expected-failures", expected(f"everything-{era}")
    )
    counted = required if era == "2026-07-28" else frozenset(verdict.checks)
    assert len(counted) == _SCENARIOS[era] and counted <= frozenset(verdict.checks)
    assert {name: told for name in sorted(counted) if (told := verdict.failed(name))} == {}
    assert verdict.code == 0, verdict.said[-3000:]
