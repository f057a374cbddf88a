"""The official suite against `agentmesh serve --http` itself: every scenario that does not want a fixture of its own."""

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
# How many that is: an entry too many in the files of expected failures would show here.
_APPLY = {"2026-07-28": 15, "2025-11-25": 15}


@pytest.mark.parametrize("era", _ERAS)
def test_every_scenario_that_applies_passes_on_a_served_mesh(
    era: str,
    suite: Callable[..., Any],
    served: str,
    expected: Callable[[str], str],
    npm: Callable[[str], Path],
) -> None:
    file = expected(f"serve-{era}")
    entries = yaml.safe_load(Path(file).read_text())["server"]
    verdict = suite("server", "--url", served, *_ERAS[era], "--expected-failures", file)
    assert verdict.code == 0, verdict.said[-4000:]
    counted = set(verdict.checks)
    if era == "2026-07-28":
        required = npm("@modelcontextprotocol/conformance") / "requirements" / f"{era}.yaml"
        counted &= set(yaml.safe_load(required.read_text())["server"])
    whole = [name for name in counted if name not in entries]
    assert len(whole) == _APPLY[era], sorted(whole)
    excused = {entry.partition(":")[2] for entry in entries}
    for name in whole:
        failures = [each for each in verdict.checks[name] if each["status"] == "FAILURE"]
        assert [each["id"] for each in failures if each["id"] not in excused] == []


def test_the_headers_of_a_request_are_held_to_its_body(suite: Callable[..., Any], served: str) -> None:
    """Not required by name, since the suite's own reference server does not do it."""
    verdict = suite(
        *("server", "--url", served, "--scenario", "http-header-validation", "--spec-version", "2026-07-28")
    )
    assert verdict.code == 0 and verdict.failed("http-header-validation") == []
