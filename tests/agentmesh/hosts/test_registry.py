"""The registry's server.json: what the schema of 2025-12-11 asks for, and what the registry refuses."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.registry import SCHEMA, Bundled, listing
from agentmesh.hosts.server import Remote
from agentmesh.mesh import load_mesh

MESH = '[mesh]\nname = "desk"\n' + "".join(
    f'[agents.agent{number}]\nmodel = "nano"\nrole = "You help."\n' for number in range(20)
)
BUNDLE = Bundled(url="https://example.org/desk.mcpb", data=b"bundle")
REMOTE = Remote(url="https://example.org/mcp", token_env="TOKEN")


def require_shape(document: dict[str, object]) -> None:
    """What the schema requires of the document, its packages and its remotes (ServerDetail, Package, *Transport)."""
    assert document["$schema"] == SCHEMA
    name, about, version = document["name"], document["description"], document["version"]
    assert (
        isinstance(name, str)
        and re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", name)
        and 3 <= len(name) <= 200
    )
    assert isinstance(about, str) and 1 <= len(about) <= 100
    assert isinstance(version, str) and 1 <= len(version) <= 255
    packages, remotes = document.get("packages", []), document.get("remotes", [])
    assert isinstance(packages, list) and isinstance(remotes, list) and (packages or remotes)
    for package in packages:
        assert {"registryType", "identifier", "transport"} <= set(package)
        assert package["transport"]["type"] in ("stdio", "streamable-http", "sse")
        assert package["version"] != "latest"
        assert re.fullmatch(r"[a-f0-9]{64}", package["fileSha256"])
    for remote in remotes:
        assert remote["type"] == "streamable-http" and remote["url"]
        for header in remote.get("headers", []):
            assert header["name"] and header["isSecret"] is True


@pytest.mark.parametrize("remote", [None, REMOTE])
@pytest.mark.parametrize("bundled", [None, BUNDLE])
def test_a_listing_has_what_the_schema_requires(
    tmp_path: Path, remote: Remote | None, bundled: Bundled | None
) -> None:
    (tmp_path / "mesh.toml").write_text(MESH)
    if remote is None and bundled is None:
        with pytest.raises(AgentMeshError, match="where the server is to be had"):
            listing("notes", name="io.github.o/n", version="1")
        return
    for what in (load_mesh(tmp_path), "notes"):
        document = listing(what, name="io.github.owner/desk", version="1.0.0", remote=remote, bundled=bundled)
        require_shape(document)
        assert ("remotes" in document, "packages" in document) == (remote is not None, bundled is not None)


def test_a_bundle_is_listed_with_its_digest() -> None:
    document = listing("notes", name="io.github.owner/notes", version="1.0.0", bundled=BUNDLE)
    assert document["packages"] == [
        {
            "registryType": "mcpb",
            "identifier": BUNDLE.url,
            "version": "1.0.0",
            "fileSha256": hashlib.sha256(b"bundle").hexdigest(),
            "transport": {"type": "stdio"},
        }
    ]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("desk", "1.0.0"),
        ("io.github.owner/a/b", "1.0.0"),
        ("io.github.owner/" + "x" * 200, "1.0.0"),
        ("io.github.owner/desk", "latest"),
        ("io.github.owner/desk", "^1.0.0"),
        ("io.github.owner/desk", ">=1"),
        ("io.github.owner/desk", "1.x"),
        ("io.github.owner/desk", ""),
    ],
)
def test_what_the_registry_would_refuse_is_refused_here(name: str, version: str) -> None:
    with pytest.raises(AgentMeshError):
        listing("notes", name=name, version=version, bundled=BUNDLE)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8765/mcp",
        "http://localhost/mcp",
        "http://me.localhost./mcp",
        "http://[::1]:8765/mcp",
        "https://192.168.1.7/mcp",
        "http://0.0.0.0/mcp",
    ],
)
def test_an_address_that_nobody_else_reaches_is_not_listed(url: str) -> None:
    with pytest.raises(AgentMeshError, match="nobody elsewhere reaches") as caught:
        listing("notes", name="io.github.o/n", version="1", remote=Remote(url=url))
    assert caught.value.reason == "usage"
