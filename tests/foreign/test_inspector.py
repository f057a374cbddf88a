"""The MCP Inspector's command line: all its eras of the protocol, over both transports."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_ANSWER = "It is 391."
_ERAS = ["legacy", "auto", "modern"]
_ASKING = ["--method", "tools/call", "--tool-name", "ask_front", "--tool-arg", "question=What is 17 * 23?"]


@pytest.fixture
def inspect(
    node: str, npm: Callable[[str], Path], tmp_path: Path, python_environment: dict[str, str]
) -> Callable[..., Any]:
    """Runs one command of the Inspector against a mesh; what it printed, as JSON."""
    launcher = npm("@modelcontextprotocol/inspector") / "clients" / "launcher" / "build" / "index.js"
    # It keeps secrets in the desktop's keyring, and settings at home: here it has neither.
    alone = python_environment | {"MCP_INSPECTOR_SECRET_STORE": "memory", "HOME": str(tmp_path)}

    def run(target: str, era: str, *words: str) -> Any:
        file = tmp_path / "inspector.json"
        server = {"type": "http", "url": target} if target.startswith("http") else json.loads(target)
        file.write_text(json.dumps({"mcpServers": {"mesh": server}}))
        command = [node, str(launcher), "--cli", "-q", "--config", str(file), "--server", "mesh"]
        done = subprocess.run(
            [*command, "--protocol-era", era, "--format", "json", *words],
            capture_output=True,
            text=True,
            timeout=120,
            env=alone,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout)["result"]

    return run


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("era", _ERAS)
def test_the_inspector_asks_an_agent(
    era: str, transport: str, inspect: Callable[..., Any], target: Callable[[str, int], str]
) -> None:
    answer = inspect(target(transport, 1), era, *_ASKING)
    assert answer["content"] == [{"type": "text", "text": _ANSWER}]
    assert answer["structuredContent"]["answer"] == _ANSWER and not answer.get("isError")


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("era", _ERAS)
def test_the_inspector_finds_every_schema_portable(
    era: str, transport: str, inspect: Callable[..., Any], target: Callable[[str, int], str]
) -> None:
    tools = inspect(target(transport, 0), era, "--method", "tools/list", "--strict")["tools"]
    assert {"ask_front", "start_dialogue", "wait_dialogue"} <= {tool["name"] for tool in tools}
    for tool in tools:
        # Codex asks a person before every tool without these.
        assert {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"} <= set(
            tool["annotations"]
        )
        assert tool["title"] and tool["description"] and tool["outputSchema"]


@pytest.mark.parametrize("transport", ["stdio", "http"])
@pytest.mark.parametrize("era", _ERAS)
def test_the_inspector_reads_a_resource_and_a_prompt(
    era: str, transport: str, inspect: Callable[..., Any], target: Callable[[str, int], str]
) -> None:
    at = target(transport, 0)
    (note,) = inspect(at, era, "--method", "resources/read", "--uri", "ledger://checkpoint")["contents"]
    assert note["text"].startswith("agentmesh.local/desk\n")
    words = ("--method", "prompts/get", "--prompt-name", "sum", "--prompt-args", "a=2", "b=3")
    (message,) = inspect(at, era, *words)["messages"]
    assert message["content"]["text"] == "What is 2 + 3?"


@pytest.mark.parametrize("era", _ERAS)
def test_the_inspector_lists_resources_and_prompts(
    era: str, inspect: Callable[..., Any], target: Callable[[str, int], str]
) -> None:
    at = target("http", 0)
    resources = inspect(at, era, "--method", "resources/list")["resources"]
    assert "ledger://checkpoint" in {each["uri"] for each in resources}
    assert "sum" in {each["name"] for each in inspect(at, era, "--method", "prompts/list")["prompts"]}
