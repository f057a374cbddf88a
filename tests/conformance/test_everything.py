"""The official suite against a fixture server that has all it asks for, and our middleware in front of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from agentmesh.serving.signing import KEY, KnownKeys, Policy, Signing, signed_transport
from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger

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


@pytest.fixture(scope="module")
def verdicts(
    suite: Callable[..., Any], everything: str, expected: Callable[[str], str]
) -> Callable[[str], Any]:
    """What the suite says in each era; it is asked once."""
    return cache(
        lambda era: suite(
            "server", "--url", everything, *_ERAS[era], "--expected-failures", expected(f"everything-{era}")
        )
    )


@pytest.fixture
def beyond(verdicts: Callable[[str], Any]) -> Any:
    """What it says of 2026-07-28, with all that is not required."""
    return verdicts("2026-07-28")


@pytest.mark.parametrize("era", _ERAS)
def test_every_scenario_passes_on_the_fixture_server_with_our_middleware(
    era: str, verdicts: Callable[[str], Any], required: frozenset[str]
) -> None:
    verdict = verdicts(era)
    counted = required if era == "2026-07-28" else frozenset(verdict.checks)
    assert len(counted) == _SCENARIOS[era] and counted <= frozenset(verdict.checks)
    assert {name: told for name in sorted(counted) if (told := verdict.failed(name))} == {}
    assert verdict.code == 0, verdict.said[-3000:]


_BEYOND = [
    "http-custom-header-server-validation",
    "http-header-validation",
    "json-schema-2020-12",
    "tasks-capability-negotiation",
    "tasks-dispatch-and-envelope",
    "tasks-lifecycle",
    "tasks-mrtr-composition",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-request-state-removal",
    "tasks-required-task-error",
    "tasks-wire-fields",
]


@pytest.mark.parametrize("scenario", _BEYOND)
def test_scenarios_pass_that_the_suite_runs_and_does_not_require(scenario: str, beyond: Any) -> None:
    """The Tasks extension, and what the suite's own reference server cannot do yet."""
    assert beyond.failed(scenario) == []


@pytest.mark.anyio
async def test_our_middleware_is_in_front_of_the_fixture_server(
    everything: str, record: Path, tmp_path: Path
) -> None:
    """Else the suite would have said nothing of it."""
    keys = KeyStore(tmp_path / "keys")
    policy = Policy(mode="require", known=KnownKeys())
    caller = Signing(key=keys.agent("caller"), subject="caller@agentmesh.local/suite", policy=policy)
    with anyio.fail_after(60):
        async with Client(everything) as client:
            await client.call_tool("test_simple_text")
        async with Client(
            signed_transport(streamable_http_client(everything), caller, peer="everything")
        ) as client:
            result = await client.call_tool("test_simple_text")
    assert result.meta is not None and KEY in result.meta
    with Ledger.open(record / "ledger.db", read_only=True) as log:
        heard = [each.message.facts for each in log.read() if each.message.kind == "received"]
    asked = [facts["statement"] for facts in heard if facts["method"] == "tools/call"]
    assert "" in asked and any(asked)
