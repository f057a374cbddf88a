"""The `server.json` by which the MCP registry lists a mesh or a tool server (schema of 2025-12-11)."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.launch import about_server
from agentmesh.hosts.server import Remote, Server

if TYPE_CHECKING:
    from agentmesh.mesh import Mesh

SCHEMA: Final = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
_NAME: Final = re.compile(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+")
_RANGE: Final = re.compile(r"[\^~<>=*|, ]|latest|\bx\b")
_LONGEST_NAME: Final = 200
_LONGEST_ABOUT: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """A bundle that is to be had at an address."""

    url: str
    data: bytes


def listing(
    what: Mesh | str,
    *,
    name: str,
    version: str,
    remote: Server | None = None,
    bundled: Bundled | None = None,
) -> dict[str, object]:
    """The listing of a mesh, or of the stand-alone server of that name.

    With `bundled` hosts fetch the bundle, with `remote` they call its address. The published package of AgentMesh is no
    third way: the registry asks its page to name the listing, and that is its makers' to do.

    Raises: AgentMeshError for what the registry would refuse.
    """
    if not _NAME.fullmatch(name) or not 3 <= len(name) <= _LONGEST_NAME:
        raise AgentMeshError("usage", f"--id {name}: the registry wants io.github.OWNER/NAME")
    if not version or _RANGE.search(version):
        hint = "--version 1.0.0"
        raise AgentMeshError("usage", f"{version!r}: the registry wants one exact version", hint=hint)
    if remote is None and bundled is None:
        hint = "--bundle FILE --bundle-url URL, or --http URL of a server that runs"
        raise AgentMeshError("usage", "a listing says where the server is to be had", hint=hint)
    document: dict[str, object] = {
        "$schema": SCHEMA,
        "name": name,
        "description": _about(what),
        "version": version,
    }
    if isinstance(remote, Remote):
        _require_public(remote.url)
        document["remotes"] = [_remote(remote)]
    if bundled is not None:
        document["packages"] = [_bundle(bundled, version)]
    return document


def _require_public(url: str) -> None:
    """The registry wants servers that everyone reaches under the address listed."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        is_public = ipaddress.ip_address(host).is_global
    except ValueError:
        is_public = host != "localhost" and not host.endswith(".localhost")
    if not is_public:
        hint = "https://agents.example/mcp, say: the address of a proxy before it"
        raise AgentMeshError("usage", f"--http {url}: nobody elsewhere reaches this", hint=hint)


def _about(what: Mesh | str) -> str:
    if isinstance(what, str):
        return _short(about_server(what))
    shown = what.serve.agents or tuple(what.agents)
    return _short(f"The agents of the mesh {what.name}: {', '.join(shown)}.")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_ABOUT else f"{text[: _LONGEST_ABOUT - 1].rstrip()}…"


def _remote(remote: Remote) -> dict[str, object]:
    found: dict[str, object] = {"type": "streamable-http", "url": remote.url}
    if remote.token_env is None:
        return found
    token = {
        "name": "Authorization",
        "description": "A bearer token of the server",
        "isRequired": True,
        "isSecret": True,
        "value": "Bearer {token}",
        "variables": {"token": {"description": "The token", "isRequired": True, "isSecret": True}},
    }
    return found | {"headers": [token]}


def _bundle(bundled: Bundled, version: str) -> dict[str, object]:
    return {
        "registryType": "mcpb",
        "identifier": bundled.url,
        "version": version,
        "fileSha256": hashlib.sha256(bundled.data).hexdigest(),
        "transport": {"type": "stdio"},
    }
