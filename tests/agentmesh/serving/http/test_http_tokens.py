"""Bearer tokens: where they come from, what is not taken for one, and whom they let in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from agentmesh.errors import AgentMeshError
from agentmesh.serving.http.guard import Access
from agentmesh.serving.http.tokens import Tokens, read_tokens

pytestmark = pytest.mark.anyio

Serve = Callable[..., Any]
ANNA = "annas-token-0123456789"
BERT = "berts-token-0123456789=="


@pytest.fixture
def access() -> Access:
    return Access(verifier=Tokens({"anna": ANNA, "bert": BERT}))


def _file(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "tokens"
    file.write_text(text)
    file.chmod(mode)
    return file


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_real_client_with_a_token_is_let_in_and_known_by_its_name(
    serve: Serve, access: Access, mode: str
) -> None:
    async with (
        serve(access=access) as served,
        httpx2.AsyncClient(headers=_bearer(BERT)) as http,
        Client(streamable_http_client(served.url, http_client=http), mode=mode) as client,
    ):
        told = (await client.call_tool("who", {})).structured_content
        # Its name, and not the token: what a tool prints must give nothing away.
        assert told is not None and json.loads(told["result"]) == ["bert", "bert", ""]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        _bearer("another-token-0123456789"),
        _bearer(ANNA[:-1]),
        _bearer(ANNA + "x"),
        _bearer(ANNA.upper()),
        {"authorization": "Bearer"},
        _bearer("x" * 20_000),
        {"authorization": f"Basic {ANNA}"},
        {"authorization": ANNA},
        {"authorization": f"Bearer {ANNA} {BERT}"},
        {"authorization": "Bearer \xff\xfe"},
        {"x-token": ANNA},
    ],
    ids=lambda headers: str(headers)[:50],
)
async def test_nobody_else_is_let_in(
    serve: Serve, http: httpx2.AsyncClient, access: Access, headers: dict[str, str]
) -> None:
    async with serve(access=access) as served:
        request = served.call("echo", text="x")
        sent = [*request.headers.items(), *headers.items()]
        written = [(name.encode(), value.encode("latin-1")) for name, value in sent]
        answer = await http.post(served.url, content=request.read(), headers=written)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert ANNA not in answer.text
        assert (await http.get(f"{served.root}/health")).status_code == 200


async def test_two_tokens_at_once_are_none(serve: Serve, http: httpx2.AsyncClient, access: Access) -> None:
    async with serve(access=access) as served:
        request = served.call("echo", text="x")
        both = [*request.headers.multi_items(), *_bearer(ANNA).items(), *_bearer(BERT).items()]
        answer = await http.post(served.url, content=request.read(), headers=both)
        assert answer.status_code == 401


async def test_nothing_is_read_of_whoever_is_not_let_in(serve: Serve, access: Access) -> None:
    async with serve(access=access) as served, served.connected() as stream:
        head = f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\ncontent-length: 1000\r\n\r\n"
        await stream.send(head.encode())
        assert (await stream.receive()).startswith(b"HTTP/1.1 401 ")


async def test_a_session_of_the_older_era_is_its_openers_alone(
    serve: Serve, http: httpx2.AsyncClient, access: Access
) -> None:
    opening = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    async with serve(access=access) as served:
        accept = {"accept": "application/json, text/event-stream"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening}
        opened = await http.post(served.url, json=body, headers=accept | _bearer(ANNA))
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        for token, status in ((BERT, 404), (ANNA, 200)):
            answer = await http.post(served.url, json=listing, headers=accept | session | _bearer(token))
            assert answer.status_code == status


async def test_tokens_are_read_from_variables_and_a_file(tmp_path: Path) -> None:
    environment = {"MESH_TOKEN": f" {ANNA}\n", "OTHER": "kept"}
    file = _file(tmp_path, f"# ours\n\nbert {BERT}\nyet-another-token-42\n")
    tokens = read_tokens(["MESH_TOKEN", "MESH_TOKEN"], file, environment=environment)
    assert environment == {"OTHER": "kept"}
    found = [await tokens.verify_token(each) for each in (ANNA, BERT, "yet-another-token-42", "none")]
    assert [each and each.client_id for each in found] == ["MESH_TOKEN", "bert", "token-2", None]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no token"),
        ("# nothing\n", "holds no token"),
        ("short\n", "no bearer token"),
        ("anna a-token-with-ümlauts-0123\n", "no bearer token"),
        ("a b c\n", "TOKEN or NAME TOKEN"),
        (f"anna {ANNA}\nanna {BERT}\n", "no name of its own"),
        (f"anna {ANNA}\nbert {ANNA}\n", "the same token"),
        (f"an/na {ANNA}\n", "no name of its own"),
        ("x" * 300_000, "not a file of tokens"),
    ],
)
def test_a_file_that_holds_anything_else_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(AgentMeshError, match=told) as caught:
        read_tokens(file=_file(tmp_path, text))
    assert caught.value.reason == "usage"
    assert ANNA not in str(caught.value) + str(caught.value.hint)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(AgentMeshError, match="others may read or write it") as caught:
        read_tokens(file=_file(tmp_path, ANNA, mode))
    assert caught.value.hint == f"chmod 600 {tmp_path / 'tokens'}"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentMeshError, match="No such file"):
        read_tokens(file=tmp_path / "tokens")
    with pytest.raises(AgentMeshError, match="Is a directory"):
        read_tokens(file=tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff" * 32)
    (tmp_path / "bytes").chmod(0o600)
    with pytest.raises(AgentMeshError, match="is not text"):
        read_tokens(file=tmp_path / "bytes")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path, ANNA)
    os.chown(file, 12_345, 12_345)
    with pytest.raises(AgentMeshError, match="belongs to somebody else"):
        read_tokens(file=file)


@pytest.mark.parametrize("value", [None, "", "short", "with space 0123456789"])
def test_a_variable_without_a_token_is_refused(value: str | None) -> None:
    environment = {} if value is None else {"MESH_TOKEN": value}
    with pytest.raises(AgentMeshError, match="MESH_TOKEN") as caught:
        read_tokens(["MESH_TOKEN"], environment=environment)
    assert caught.value.hint is not None and "secrets.token_urlsafe" in caught.value.hint
