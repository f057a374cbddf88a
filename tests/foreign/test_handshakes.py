"""Hosts by hand, line by line, as they were seen to speak: Codex opens with `initialize`, Claude Code with `server/discover`.

Codex CLI 0.165 sends 2025-06-18 and never `server/discover`; Claude Code 2.1 sends `server/discover` with 2026-07-28
and falls back to 2025-11-25.
"""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_ANSWER = "It is 391."
_CODEX = {"name": "codex-mcp-client", "title": "Codex", "version": "0.165.0"}
_CLAUDE = {"name": "claude-code", "version": "2.1.317"}
_PATIENCE = 60.0


class Line:
    """A host at the other end of standard input and output."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._last = 0
        self._rest = b""
        self.notes: list[dict[str, Any]] = []

    def tell(self, method: str, **params: Any) -> None:
        """Send a notification."""
        self._send({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})})

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request, and return the response; notifications before it are kept."""
        self._last += 1
        self._send({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == self._last:
                return message
            self.notes.append(message)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
            assert ready, "the server says nothing"
            read = self._process.stdout.read1(65536)
            assert read, "the server has ended"
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        message = json.loads(line)
        assert isinstance(message, dict) and message["jsonrpc"] == "2.0"
        return message


@contextmanager
def spoken(mesh: Any, environment: dict[str, str]) -> Iterator[Line]:
    """A host that has started the server of the mesh; it must end, and well, when the host closes its pipe."""
    process = subprocess.Popen(
        mesh.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        yield Line(process)
        process.stdin.close()
        assert process.wait(_PATIENCE) == 0, process.stderr.read().decode()
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def shake(host: Line, version: str, capabilities: dict[str, Any], info: dict[str, str]) -> dict[str, Any]:
    """The handshake of the older era; the result of `initialize`."""
    told = host.ask("initialize", protocolVersion=version, capabilities=capabilities, clientInfo=info)
    host.tell("notifications/initialized")
    result = told["result"]
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_a_host_that_opens_with_initialize_is_answered_in_its_version(
    version: str, mesh: Callable[[int], Any], python_environment: dict[str, str]
) -> None:
    with spoken(mesh(1), python_environment) as host:
        opened = shake(host, version, {"elicitation": {}}, _CODEX)
        assert opened["protocolVersion"] == version
        assert opened["serverInfo"]["name"] == "desk"
        assert len(opened["instructions"]) <= 2_048
        assert {"tools", "resources", "prompts"} <= set(opened["capabilities"])
        assert host.ask("ping")["result"] == {}
        tools = host.ask("tools/list")["result"]["tools"]
        (asking,) = [tool for tool in tools if tool["name"] == "ask_front"]
        assert asking["inputSchema"]["required"] == ["question"]
        answer = host.ask(
            "tools/call",
            name="ask_front",
            arguments={"question": "What is 17 * 23?"},
            _meta={"progressToken": "p1"},
        )["result"]
        assert answer["content"] == [{"type": "text", "text": _ANSWER}]
        if version >= "2025-06-18":
            assert answer["structuredContent"]["answer"] == _ANSWER
        for note in host.notes:
            assert note["method"].startswith("notifications/")
        assert "error" in host.ask("tools/unheard_of")


def _modern(**params: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": _CLAUDE,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    }
    return params | {"_meta": meta}


def test_a_host_that_opens_with_discover_goes_on_without_a_handshake(
    mesh: Callable[[int], Any], python_environment: dict[str, str]
) -> None:
    with spoken(mesh(1), python_environment) as host:
        found = host.ask("server/discover", **_modern())["result"]
        assert "2026-07-28" in found["supportedVersions"] and found["resultType"] == "complete"
        # Claude Code refuses a list of tools that does not say how long it may be kept.
        listed = host.ask("tools/list", **_modern())["result"]
        assert listed["ttlMs"] >= 0 and listed["cacheScope"] in ("public", "private")
        assert "ask_front" in {tool["name"] for tool in listed["tools"]}
        called = host.ask("tools/call", **_modern(name="ask_front", arguments={"question": "17 * 23?"}))
        assert called["result"]["resultType"] == "complete"
        assert called["result"]["structuredContent"]["answer"] == _ANSWER


def test_a_host_of_a_later_version_takes_the_one_it_is_offered(
    mesh: Callable[[int], Any], python_environment: dict[str, str]
) -> None:
    with spoken(mesh(1), python_environment) as host:
        later = _modern()
        later["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01"
        refused = host.ask("server/discover", **later)["error"]
        assert refused["code"] == -32022 and "2026-07-28" in refused["data"]["supported"]
        assert "2026-07-28" in host.ask("server/discover", **_modern())["result"]["supportedVersions"]
        called = host.ask("tools/call", **_modern(name="ask_front", arguments={"question": "17 * 23?"}))
        assert called["result"]["content"][0]["text"] == _ANSWER


def test_a_host_that_falls_back_from_discover_to_initialize_is_answered(
    mesh: Callable[[int], Any], python_environment: dict[str, str]
) -> None:
    with spoken(mesh(1), python_environment) as host:
        assert "error" in host.ask(
            "server/discover"
        )  # without a word of its version, it is no probe of 2026-07-28
        assert shake(host, "2025-11-25", {}, _CLAUDE)["protocolVersion"] == "2025-11-25"
        called = host.ask("tools/call", name="ask_front", arguments={"question": "17 * 23?"})
        assert called["result"]["content"][0]["text"] == _ANSWER
