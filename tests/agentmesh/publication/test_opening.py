"""What only running shows of [witness] and [anchor] is told with file and line, before anything is recorded."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from agentmesh.errors import MeshFileError
from agentmesh.mesh import load_mesh
from agentmesh.publication import told_of_chain
from agentmesh.publication.witnesses import needed, witness_policy
from agentmesh.runtime import run_dialogue
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.note import VerifierKey
from agentmesh_ledger.policy import parse_policy
from agentmesh_ledger.witness.key import witness_key

pytestmark = pytest.mark.anyio

Refused = Callable[[str], Awaitable[str]]

_MESH = """\
[mesh]
name = "desk"
[agents.ada]
model = "scripted:steps.json"
role = "You answer."
"""
_ANCHOR = """\
[anchor]
contract = "0x5fbdb2315678afecb367f032d93f642f64180aa3"
"""
SECRET = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """Runs a mesh of that text, which must be refused with one mistake, and gives the message."""

    async def run(text: str) -> str:
        (tmp_path / "mesh.toml").write_text(_MESH + text)
        (tmp_path / "steps.json").write_text(json.dumps([]))
        mesh = load_mesh(tmp_path)
        with pytest.raises(MeshFileError) as caught:
            await run_dialogue(mesh, "Go.", listen=lambda event: None)
        with Ledger.open(mesh.log_place.ledger, read_only=True) as log:
            assert log.size == 0
        return str(caught.value)

    return run


async def test_a_policy_that_is_not_there_is_told_with_what_makes_one(
    refused: Refused, tmp_path: Path
) -> None:
    told = await refused('[witness]\npolicy = "policy"\n')
    assert told.startswith(f"{tmp_path / 'mesh.toml'}:7: witness.policy: ")
    assert "agentmesh witness add" in told


async def test_a_policy_that_is_none_is_told(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("quorum nobody\n")
    assert ":7: witness.policy: " in await refused('[witness]\npolicy = "policy"\n')


async def test_a_policy_whose_witnesses_cannot_be_asked_is_told(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text("quorum none\n")
    told = await refused('[witness]\npolicy = "policy"\n')
    assert "no witness in it has an address" in told


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        ('rpc = "http://127.0.0.1:1"\nkey_env = "DESK_NO_KEY"', ":9: anchor.key_env", "holds no private key"),
        ('rpc = "http://127.0.0.1:1"\nkey_env = "DESK_BAD_KEY"', ":9: anchor.key_env", "is no private key"),
        ('rpc_env = "DESK_NO_RPC"\nkey_env = "DESK_KEY"', ":8: anchor.rpc_env", "holds no http://"),
        ('rpc_env = "DESK_BAD_RPC"\nkey_env = "DESK_KEY"', ":8: anchor.rpc_env", "holds no http://"),
        ('rpc = "http://127.0.0.1:1"\nkeystore = "k.json"', ":9: anchor.keystore", "passphrase_env"),
        (
            'rpc = "http://127.0.0.1:1"\nkeystore = "k.json"\npassphrase_env = "DESK_NO_PASS"',
            ":9: anchor.keystore",
            "DESK_NO_PASS holds no passphrase",
        ),
        (
            'rpc = "http://127.0.0.1:1"\nkeystore = "k.json"\npassphrase_env = "DESK_PASS"',
            ":9: anchor.keystore",
            "no such keystore file",
        ),
    ],
)
async def test_what_the_anchor_lacks_is_told_at_its_line_and_secrets_are_not(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, lines: str, where: str, what: str
) -> None:
    pytest.importorskip("web3", reason="needs the extra 'chain'")
    monkeypatch.setenv("DESK_KEY", SECRET)
    monkeypatch.setenv("DESK_BAD_KEY", SECRET[:-3])
    monkeypatch.setenv("DESK_BAD_RPC", "rpc.example/secret-token")
    monkeypatch.setenv("DESK_PASS", "secret-token")
    told = await refused(_ANCHOR + lines + "\n")
    assert where in told and what in told
    assert SECRET[:-3] not in told and "secret-token" not in told


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (LedgerError("refused", "another chain", expected="1", found="5"), ":8: anchor.chain: "),
        (LedgerError("refused", "no contract of ours"), ":7: anchor.contract: "),
        (LedgerError("unreadable", "the journal is damaged"), None),
    ],
)
def test_what_the_node_shows_to_be_wrong_is_told_at_its_line_and_nothing_else_is(
    tmp_path: Path, error: LedgerError, where: str | None
) -> None:
    (tmp_path / "mesh.toml").write_text(
        f'{_MESH}{_ANCHOR}chain = 1\nrpc = "http://127.0.0.1:1"\nkey_env = "DESK_KEY"\n'
    )
    (tmp_path / "steps.json").write_text("[]")
    mesh = load_mesh(tmp_path)
    with pytest.raises((LedgerError, MeshFileError)) as caught, told_of_chain(mesh):
        raise error
    assert (caught.value is error) if where is None else (where in str(caught.value))


def policy_text(tmp_path: Path, *rest: str) -> bytes:
    keys = [witness_key(tmp_path / name, f"{name}.example") for name in ("one", "two", "three")]
    lines = [
        f"witness {key.name.partition('.')[0]} {key.vkey} http://127.0.0.1:{number}"
        for number, key in enumerate(keys, 1)
    ]
    return "".join(f"{line}\n" for line in (*lines, *rest)).encode()


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        (("group g 2 one two three", "quorum g"), "2 of 3"),
        (("group g all one two", "quorum g"), "2 of 2"),
        (("group g any one two", "group h all g three", "quorum h"), "the quorum h"),
        (("quorum two",), "two"),
        (("quorum none",), "none"),
    ],
)
def test_what_a_policy_asks_for_is_said_in_words(tmp_path: Path, rest: tuple[str, ...], words: str) -> None:
    assert needed(parse_policy(policy_text(tmp_path, *rest))) == words


def test_a_policy_whose_witnesses_have_addresses_is_taken(tmp_path: Path) -> None:
    own, other = (
        str(VerifierKey(name="desk", public=bytes(SigningKey(seed * 32).verify_key))) for seed in (b"a", b"b")
    )
    for logs in ((), (other, own)):
        lines = (*(f"log {each}" for each in logs), "quorum one")
        (tmp_path / "policy").write_bytes(policy_text(tmp_path, *lines))
        assert len(witness_policy(tmp_path / "policy", own).witnesses) == 3


async def test_a_policy_that_the_log_can_never_meet_is_told(refused: Refused, tmp_path: Path) -> None:
    other = VerifierKey(name="agentmesh.local/desk", public=bytes(SigningKey(b"b" * 32).verify_key))
    (tmp_path / "policy").write_bytes(policy_text(tmp_path, f"log {other}", "quorum one"))
    told = await refused('[witness]\npolicy = "policy"\n')
    assert (
        ":7: witness.policy: " in told
        and "not this one's key" in told
        and "log agentmesh.local/desk+" in told
    )
