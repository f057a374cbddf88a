"""Witnesses and a chain in the mesh file: the tables [witness] and [anchor], and every mistake in them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from agentmesh.errors import MeshFileError
from agentmesh.mesh import find_outside, load_mesh

Refused = Callable[[str], MeshFileError]

_MESH = """\
[mesh]
name = "desk"
[agents.front]
model = "nano"
role = "You answer."
"""
_CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
_ANCHOR = f"""\
[anchor]
rpc = "https://rpc.example"
contract = "{_CONTRACT}"
"""


def told(error: MeshFileError) -> list[tuple[str, str, int | None]]:
    return [(mistake.key, mistake.reason, mistake.line) for mistake in error.mistakes]


def test_a_mesh_without_the_tables_has_neither(folder: Path) -> None:
    (folder / "mesh.toml").write_text(_MESH)
    mesh = load_mesh(folder)
    assert (mesh.witness, mesh.anchor) == (None, None)


def test_what_is_left_out_has_the_defaults_of_the_page(folder: Path) -> None:
    text = f'{_MESH}[witness]\npolicy = "policy"\n{_ANCHOR}key_env = "DESK_KEY"\n'
    (folder / "mesh.toml").write_text(text)
    mesh = load_mesh(folder)
    assert mesh.witness is not None and mesh.anchor is not None
    assert (mesh.witness.within, mesh.witness.every) == (5.0, 30.0)
    anchor = mesh.anchor
    assert (anchor.confirmations, anchor.max_fee_gwei, anchor.every, anchor.within) == (3, 50, "100", 60.0)
    assert (anchor.chain, anchor.keystore, anchor.rpc_env) == (None, None, None)
    assert mesh.lines["witness.policy"] == 7 and mesh.lines["anchor.contract"] == 10
    assert (
        mesh.lines["anchor.keystore"] == mesh.lines["anchor.rpc_env"] == 8
    )  # not written: the table's own line


def test_a_fee_is_the_number_that_is_written(folder: Path) -> None:
    text = f'{_MESH}{_ANCHOR}key_env = "DESK_KEY"\nmax_fee_gwei = 0.1\nevery = "60s"\n'
    (folder / "mesh.toml").write_text(text)
    anchor = load_mesh(folder).anchor
    assert anchor is not None and anchor.max_fee_gwei == Decimal("0.1") and anchor.every == "60s"


@pytest.mark.parametrize(
    ("line", "reason", "key"),
    [
        ('rpc = "rpc.example"', "bad_value", "anchor.rpc"),
        ('rpc = "ws://rpc.example"', "bad_value", "anchor.rpc"),
        ('rpc = "http://"', "bad_value", "anchor.rpc"),
        ('contract = "0x5FbDB2315678afecb367f032d93F642f64180aa"', "bad_value", "anchor.contract"),
        ('contract = "5FbDB2315678afecb367f032d93F642f64180aa3"', "bad_value", "anchor.contract"),
        # One capital is another: the checksum does not hold.
        ('contract = "0x5fbDB2315678afecb367f032d93F642f64180aa3"', "bad_value", "anchor.contract"),
        ('every = "0"', "bad_value", "anchor.every"),
        ('every = "60 s"', "bad_value", "anchor.every"),
        ('every = "1m"', "bad_value", "anchor.every"),
        ("every = 60.5", "bad_value", "anchor.every"),
        ('key_env = "0xac09"', "bad_value", "anchor.key_env"),
        ('keystore = "key.json"', "bad_anchor", "anchor.keystore"),
        ('rpc_env = "RPC"', "bad_anchor", "anchor.rpc_env"),
        ('passphrase_env = "PASS"', "unused_key", "anchor.passphrase_env"),
        ("confirmations = 0", "bad_value", "anchor.confirmations"),
        ("max_fee_gwei = 0", "bad_value", "anchor.max_fee_gwei"),
        ('max_fee_gwei = "50"', "bad_value", "anchor.max_fee_gwei"),
        ("max_fee_gwei = true", "bad_value", "anchor.max_fee_gwei"),
        ("max_fee_gwei = nan", "bad_value", "anchor.max_fee_gwei"),
        ("max_fee_gwei = 1e-12", "bad_value", "anchor.max_fee_gwei"),
        ("chain = 0", "bad_value", "anchor.chain"),
        ("within = 0.0", "bad_value", "anchor.within"),
        ('contact = "0x"', "unknown_key", "anchor.contact"),
    ],
)
def test_a_mistake_in_the_anchor_is_told_at_its_line(
    refused: Refused, line: str, reason: str, key: str
) -> None:
    name = line.partition(" ")[0]
    given = {
        "rpc": 'rpc = "https://rpc.example"',
        "contract": f'contract = "{_CONTRACT}"',
        "key_env": 'key_env = "DESK_KEY"',
    }
    given.pop(name, None)
    rest = "\n".join(given.values())
    error = refused(f"{_MESH}[anchor]\n{line}\n{rest}\n")
    # The second of two that exclude one another is the one that is told; it stands before the first here.
    assert (key, reason, 7) in told(error)
    assert len(error.mistakes) == 1


def test_a_table_that_lacks_one_of_two_is_told_at_its_head(refused: Refused) -> None:
    error = refused(f'{_MESH}[anchor]\ncontract = "{_CONTRACT}"\n')
    assert told(error) == [("anchor", "bad_anchor", 6), ("anchor", "bad_anchor", 6)]
    assert "'rpc'" in str(error) and "'keystore'" in str(error)


def test_a_secret_that_stands_in_the_place_of_its_name_is_not_repeated(refused: Refused) -> None:
    secret = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
    error = refused(f'{_MESH}{_ANCHOR}key_env = "{secret}"\n')
    assert "never the key itself" in str(error) and secret not in str(error)


def test_a_witness_needs_its_policy(refused: Refused) -> None:
    error = refused(f"{_MESH}[witness]\nwithin = 3\n")
    assert told(error) == [("witness.policy", "missing", 6)]


def test_a_key_of_the_witness_that_nobody_knows_is_told_with_the_one_that_was_meant(refused: Refused) -> None:
    error = refused(f'{_MESH}[witness]\npolicy = "policy"\nwithinn = 3\n')
    assert told(error) == [("witness.withinn", "unknown_key", 8)]
    assert "did you mean 'within'?" in str(error)


def test_a_command_about_the_chain_alone_asks_nothing_of_the_rest_of_the_file(folder: Path) -> None:
    text = f'{_MESH}peers = ["nobody"]\n[witness]\npolicy = "policy"\n{_ANCHOR}keystore = "key.json"\n'
    (folder / "mesh.toml").write_text(text)
    with pytest.raises(MeshFileError):
        load_mesh(folder)
    found = find_outside(folder)
    assert (found.policy, found.keystore) == (folder / "policy", folder / "key.json")
    assert found.log.origin == "agentmesh.local/desk"
    (folder / "mesh.toml").write_text(f"{_MESH}{_ANCHOR}")
    with pytest.raises(MeshFileError) as caught:
        find_outside(folder)
    assert told(caught.value) == [("anchor", "bad_anchor", 6)]
