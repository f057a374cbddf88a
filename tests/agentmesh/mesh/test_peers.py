"""Meshes elsewhere in the mesh file: tables, entries, addresses, and every mistake in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh.errors import MeshFileError
from agentmesh.mesh import Mesh, load_mesh
from agentmesh.mesh.peers import local_peers, remote_agents, remote_peers

Refused = Callable[[str], MeshFileError]

_MESH = """\
[mesh]
name = "desk"
[agents.front]
model = "nano"
role = "You ask."
peers = [{entries}]
[agents.math]
model = "nano"
role = "You calculate."
[servers.notes]
builtin = "calculator"
[peers.lab]
url = "https://lab.example/mcp"
agents = ["critic", "editor"]
[peers.far]
url = "https://far.example/mcp"
{more}
"""


def _text(*entries: str, more: str = "") -> str:
    return _MESH.format(entries=", ".join(f'"{each}"' for each in entries), more=more)


@pytest.fixture
def load(folder: Path) -> Callable[..., Mesh]:
    def make(*entries: str, more: str = "") -> Mesh:
        (folder / "mesh.toml").write_text(_text(*entries, more=more))
        return load_mesh(folder)

    return make


def test_agents_here_and_meshes_elsewhere_are_told_apart(load: Callable[..., Mesh]) -> None:
    mesh = load("math", "lab", "far.judge", "far.clerk")
    assert local_peers(mesh, "front") == ("math",)
    remote = remote_peers(mesh)
    assert {name: peer.spec.url for name, peer in remote.items()} == {
        "lab": "https://lab.example/mcp",
        "far": "https://far.example/mcp",
    }
    assert remote_agents(mesh, "front", remote) == {
        "lab": frozenset(),
        "far": frozenset({"judge", "clerk"}),
    }
    assert remote_agents(mesh, "math", remote) == {}


def test_a_mesh_that_nobody_asks_is_not_reached(load: Callable[..., Mesh]) -> None:
    assert set(remote_peers(load("lab"))) == {"lab"}


def test_all_agents_are_more_than_one_of_them(load: Callable[..., Mesh]) -> None:
    mesh = load("lab.critic", "lab")
    assert remote_agents(mesh, "front", remote_peers(mesh)) == {"lab": frozenset()}


def test_an_address_is_named_after_its_host_and_its_key_pinned_for_it(load: Callable[..., Mesh]) -> None:
    urls = ("https://Other.example/mcp", "http://127.0.0.1:8000/mcp", "http://127.0.0.1:8001/mcp")
    mesh = load(*urls)
    remote = remote_peers(mesh)
    assert list(remote) == ["other-example", "peer-127-0-0-1", "peer-127-0-0-1-2"]
    assert [peer.pin for peer in remote.values()] == list(urls)
    assert all(peer.spec.signing == "require" for peer in remote.values())
    assert remote_agents(mesh, "front", remote) == dict.fromkeys(remote, frozenset())


def test_an_address_that_has_a_table_is_that_peer(load: Callable[..., Mesh]) -> None:
    mesh = load("https://lab.example/mcp")
    remote = remote_peers(mesh)
    assert list(remote) == ["lab"] and remote["lab"].pin == "lab"
    assert remote_agents(mesh, "front", remote) == {"lab": frozenset()}


@pytest.mark.parametrize(
    ("entries", "reason", "words"),
    [
        (("lub",), "unknown_agent", "no agent or peer 'lub'; did you mean 'lab'?"),
        (("lub.critic",), "unknown_agent", "no peer 'lub'; did you mean 'lab'?"),
        (("lab.",), "unknown_agent", "'lab.' names no agent"),
        (("lab.a.b",), "unknown_agent", "names no agent"),
        (("lab.critik",), "unknown_agent", "'critik' is not among peers.lab.agents; did you mean 'critic'?"),
        (("lab", "lab"), "repeated", "'lab' is given twice"),
        (("front",), "names_itself", "names itself"),
        (("ftp://lab.example/mcp",), "bad_value", "must begin with http:// or https://"),
        (("https:///mcp",), "bad_value", "must begin with http:// or https:// and name a host"),
    ],
)
def test_a_mistake_in_whom_an_agent_asks_is_told_at_its_line(
    refused: Refused, entries: tuple[str, ...], reason: str, words: str
) -> None:
    error = refused(_text(*entries))
    assert (error.reason, error.line) == (reason, 6)
    assert words in str(error)


@pytest.mark.parametrize(
    ("more", "key", "words"),
    [
        ('[peers.math]\nurl = "https://m.example"', "peers.math", "an agent is called 'math' too"),
        ('[peers.notes]\nurl = "https://m.example"', "peers.notes", "a server is called 'notes' too"),
        ('[peers.peers]\nurl = "https://m.example"', "peers.peers", "is taken by AgentMesh itself"),
        (
            '[peers."a.b"]\nurl = "https://m.example"',
            "peers.a.b",
            "the name of a peer begins with a letter",
        ),
        ('[peers.x]\nurl = "m.example"', "peers.x.url", "must begin with http:// or https://"),
        ('[peers.x]\nurl = "https://m.example"\nagents = ["a b"]', "peers.x.agents", "is no agent's name"),
        (
            '[peers.x]\nurl = "https://m.example"\nkey = "did:key:z6MkvtvZqTAQzgrnx6SJjPKAHcmDp7vEB9ih6wYC1kSPZdRU"\nsigning = "off"',
            "peers.x.key",
            "has a meaning with signing",
        ),
        ('[peers.x]\nurl = "https://m.example"\nkey = "ssh-rsa AAAA"', "peers.x.key", "did:key"),
        (
            '[peers.x]\nurl = "https://m.example"\ntoken_env = "A B"',
            "peers.x.token_env",
            "environment variable",
        ),
        ('[peers.x]\nkey = ""', "peers.x.url", "missing"),
        (
            '[servers.s]\ncommand = ["sh"]\ntoken_env = "T"',
            "servers.s.token_env",
            "has a meaning beside 'url' only",
        ),
        (
            '[servers.s]\nbuiltin = "clock"\nsigning = "require"',
            "servers.s.signing",
            "a built-in server runs in this process",
        ),
        ('[peers.x]\nurl = "https://m.example"\ntoken = "T"', "peers.x.token", "did you mean 'token_env'?"),
    ],
)
def test_a_mistake_in_a_table_of_peers_is_told(refused: Refused, more: str, key: str, words: str) -> None:
    error = refused(_text("lab", more=more))
    mistakes = {mistake.key: mistake for mistake in error.mistakes}
    assert key in mistakes, str(error)
    assert words in mistakes[key].text, mistakes[key].text
    assert mistakes[key].line is not None


def test_peers_elsewhere_are_in_no_circle(load: Callable[..., Mesh]) -> None:
    """Nobody here can tell whom they ask in turn; limits and timeouts end what goes round."""
    assert load("lab", "math").agents["front"].peers == ("lab", "math")
