"""The official suite against our client: 32 scenarios that 2026-07-28 requires, 18 that 2025-11-25 does."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

_AUTH = (
    "basic-cimd metadata-default metadata-var1 metadata-var2 metadata-var3 pre-registration scope-from-scopes-supported "
    "scope-from-www-authenticate scope-omitted-when-undefined scope-retry-limit scope-step-up token-endpoint-auth-basic "
    "token-endpoint-auth-none token-endpoint-auth-post"
)
_NEWER_AUTH = (
    "authorization-server-migration iss-normalized iss-not-advertised iss-supported iss-supported-missing iss-unexpected "
    "iss-wrong-issuer metadata-issuer-mismatch offline-access-not-supported offline-access-scope resource-mismatch"
)
SCENARIOS = {
    "2025-11-25": ["elicitation-sep1034-client-defaults", "initialize", "sse-retry", "tools_call"],
    "2026-07-28": [
        "http-custom-headers",
        "http-invalid-tool-headers",
        "http-standard-headers",
        "json-schema-ref-no-deref",
        "request-metadata",
        "sep-2322-client-request-state",
        "tools_call",
    ],
}
SCENARIOS["2025-11-25"] += [f"auth/{name}" for name in _AUTH.split()]
SCENARIOS["2026-07-28"] += [f"auth/{name}" for name in (_AUTH + " " + _NEWER_AUTH).split()]
_CASES = [(era, name) for era, names in SCENARIOS.items() for name in names]
# Each scenario is a process of the suite and one of ours; under many at once auth/scope-step-up runs out of time.
_TOGETHER = 2


@pytest.mark.parametrize("era", SCENARIOS)
def test_the_scenarios_below_are_those_that_the_suite_requires(era: str, npm: Callable[[str], Path]) -> None:
    file = npm("@modelcontextprotocol/conformance") / "requirements" / f"{era}.yaml"
    assert sorted(SCENARIOS[era]) == sorted(yaml.safe_load(file.read_text())["client"])


@pytest.fixture(scope="module")
def verdicts(
    suite: Callable[..., Any], expected: Callable[[str], str], request: pytest.FixtureRequest
) -> Iterator[dict[tuple[str, str], Future[Any]]]:
    """What comes of the scenarios that were selected, two at a time."""
    program = shlex.join([sys.executable, str(Path(__file__).with_name("client.py"))])

    def judge(era: str, scenario: str) -> Any:
        return suite(
            *("client", "--command", program, "--scenario", scenario, "--spec-version", era),
            *("--expected-failures", expected("client")),
        )

    wanted = [
        (item.callspec.params["era"], item.callspec.params["scenario"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path and "scenario" in item.fixturenames
    ]
    pool = ThreadPoolExecutor(_TOGETHER)
    try:
        yield {case: pool.submit(judge, *case) for case in wanted}
    finally:
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(("era", "scenario"), _CASES)
def test_our_client_passes(era: str, scenario: str, verdicts: dict[tuple[str, str], Future[Any]]) -> None:
    verdict = verdicts[era, scenario].result()
    assert verdict.failed(scenario) == [], verdict.said[-3000:]
    assert verdict.code == 0, verdict.said[-3000:]
