"""`agentmesh anchor deploy`, `push`, `status` and `watch`, before a real node."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentmesh.cli.anchor_push import _changes
from agentmesh_ledger import Draft, KeyStore, verify_ledger
from agentmesh_ledger.anchor.contract import SETTLEMENT, contract
from agentmesh_ledger.anchor.progress import Progress
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.usage.settlement import settlement_root

from .conftest import Agentmesh

# The first account of every development chain; its key is known to everybody.
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
SENDER = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
PASSPHRASE = "correct horse 4711"
ORIGIN = "agentmesh.local/desk"
WAIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Node:
    """The node, asked past the code under test."""

    url: str

    def ask(self, method: str, *params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["result"]


@pytest.fixture
def node(anvil: Callable[..., AbstractContextManager[str]]) -> Iterator[Node]:
    """A node that mines each transaction at once."""
    with anvil("--base-fee", "1000000000") as url:
        yield Node(url)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("eth_account", reason="the extra chain is not installed")
    monkeypatch.setenv("DESK_KEY", KEY)


@pytest.fixture
def place(agentmesh: Agentmesh, node: Node) -> str:
    """The contract's address."""
    done = agentmesh("anchor", "deploy", "--rpc", node.url, "--key-env", "DESK_KEY")
    assert done.code == 0, done.err
    return done.out.strip()


@pytest.fixture
def given(node: Node, place: str) -> list[str]:
    """The options of a push that is recorded as soon as it is mined."""
    return ["--rpc", node.url, "--contract", place, "--key-env", "DESK_KEY", "--confirmations", "1"]


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    from agentmesh_ledger.anchor.extra import chain_extra

    with chain_extra():
        from eth_account import Account
    path = tmp_path / "keystore.json"
    path.write_text(json.dumps(Account.encrypt(KEY, PASSPHRASE, kdf="pbkdf2", iterations=2)))
    return path


def log_of(recorded: Path) -> Ledger:
    keys = KeyStore(recorded / ".agentmesh" / "keys")
    return Ledger.open(recorded / ".agentmesh" / "ledger.db", origin=ORIGIN, keys=keys)


def say(recorded: Path) -> int:
    """The log's size with one message more."""
    with log_of(recorded) as log:
        author = KeyStore(recorded / ".agentmesh" / "keys").agent("front")
        log.append([Draft(author=author, kind="say", dialogue="20261125-ab")])
        return log.size


def test_a_contract_is_deployed_and_its_code_looked_at(agentmesh: Agentmesh, node: Node) -> None:
    done = agentmesh(
        "anchor", "deploy", "--rpc", node.url, "--key-env", "DESK_KEY", "--chain", 31337, "--json"
    )
    assert done.code == 0, done.err
    (made,) = done.lines
    assert (made["chain"], made["block"]) == (31337, 1)
    assert node.ask("eth_getCode", made["contract"], "latest") == f"0x{contract().runtime.hex()}"
    assert f"transaction {made['tx']} makes {made['contract']}" in done.err


def test_a_log_is_anchored_once_and_its_anchors_are_shown(
    agentmesh: Agentmesh, recorded: Path, given: list[str], node: Node
) -> None:
    done = agentmesh("anchor", "push", recorded, *given, "--json")
    assert done.code == 0, done.err
    (told,) = done.lines
    assert (told["state"], told["size"], told["entry"], told["depth"]) == ("recorded", 11, 11, 1)
    assert "pending: size 11: sent, for at most" in done.err
    again = agentmesh("anchor", "push", recorded, *given)
    assert (again.code, again.out) == (0, "idle: nothing is new since size 11\n")
    assert verify_ledger(recorded / ".agentmesh" / "ledger.db").entries == 12
    node.ask("anvil_mine", "0x4")
    shown = agentmesh("anchor", "status", recorded, *given[:2])
    assert shown.code == 0, shown.err
    assert (
        f"size 11: recorded, entry 11, block {told['block']}, 5 blocks deep, transaction {told['tx']}"
        in shown.out
    )
    assert "the contract holds 11 of the log's 12 entries" in shown.out and shown.out.startswith(SENDER)
    (as_json,) = agentmesh("anchor", "status", recorded, *given[:4], "--json").lines
    assert (as_json["held"], as_json["sound"], as_json["size"]) == (11, True, 12)


def test_the_mesh_file_says_where_and_how(
    agentmesh: Agentmesh, recorded: Path, node: Node, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_NODE", node.url)
    with (recorded / "mesh.toml").open("a") as file:
        file.write(
            f'\n[anchor]\nrpc_env = "DESK_NODE"\ncontract = "{place}"\nkey_env = "DESK_KEY"\nchain = 31337\n'
            "confirmations = 1\nmax_fee_gwei = 2.5\n"
        )
    done = agentmesh("anchor", "push", recorded)
    assert done.code == 0 and done.out.startswith("recorded: size 11"), done.err
    assert "for at most 2.5 gwei" in done.err
    monkeypatch.chdir(recorded)
    assert agentmesh("anchor", "status").code == 0
    say(recorded)
    dear = agentmesh("anchor", "push", "--max-fee", "0.00001", "--within", "0.1")
    assert dear.code == 4 and "above the cap of 0.00001 gwei" in dear.out
    assert "the same command goes on from here" in dear.err
    other = agentmesh("anchor", "push", "--chain", "1", "--within", "0.1")
    assert other.code == 1 and "is of another chain (expected 1, found 31337)" in other.out


def test_the_balances_go_beside_the_checkpoint(
    agentmesh: Agentmesh, recorded: Path, given: list[str], node: Node
) -> None:
    done = agentmesh("anchor", "push", recorded, *given, "--settle", "--json")
    assert done.code == 0, done.err
    receipt = node.ask("eth_getTransactionReceipt", done.lines[0]["tx"])
    (balances,) = [each for each in receipt["logs"] if each["topics"][0] == f"0x{SETTLEMENT.hex()}"]
    with log_of(recorded) as log:
        assert balances["data"][-64:] == settlement_root(log, 11).hex()


def test_a_keystore_is_opened_with_the_passphrase_that_is_named(
    agentmesh: Agentmesh, recorded: Path, given: list[str], keystore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*given[:4], "--keystore", str(keystore), "--confirmations", "1"]
    alone = agentmesh("anchor", "push", recorded, *options)
    assert alone.code == 2 and "its passphrase is not given" in alone.err
    monkeypatch.setenv("DESK_PASSPHRASE", "wrong 4711")
    wrong = agentmesh("anchor", "push", recorded, *options, "--passphrase-env", "DESK_PASSPHRASE")
    assert wrong.code == 1 and "not that of this keystore" in wrong.err and "4711" not in wrong.err
    monkeypatch.setenv("DESK_PASSPHRASE", PASSPHRASE)
    done = agentmesh("anchor", "push", recorded, *options, "--passphrase-env", "DESK_PASSPHRASE")
    assert done.code == 0 and done.out.startswith("recorded: size 11"), done.err


def test_a_person_is_asked_for_the_passphrase_and_it_is_not_shown(
    recorded: Path, given: list[str], keystore: Path, python_environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "agentmesh", "anchor", "push", str(recorded), *given[:4]]
    command += ["--keystore", str(keystore), "--confirmations", "1"]
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, python_environment | {"NO_COLOR": "1"})
    try:
        seen = _until(terminal, b": ")
        assert seen.startswith(f"Passphrase of {keystore}".encode())
        os.write(terminal, f"{PASSPHRASE}\n".encode())
        seen += _until(terminal, b"recorded as entry 11\r\nrecorded")
    finally:
        os.close(terminal)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert PASSPHRASE.encode() not in seen


def _until(terminal: int, wanted: bytes) -> bytes:
    end, seen = time.monotonic() + WAIT_SECONDS, b""
    while wanted not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        assert ready, seen
        seen += os.read(terminal, 4096)
    return seen


@pytest.mark.parametrize(
    "arguments",
    [
        ("--within", "0.1"),
        ("--contract", SENDER, "--within", "0.1"),
        ("--max-fee", "0.001", "--within", "0.1"),
    ],
)
def test_no_secret_is_in_anything_that_is_written(
    agentmesh: Agentmesh,
    recorded: Path,
    given: list[str],
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTMESH_DEBUG", "1")
    monkeypatch.setenv("DESK_NODE", f"{given[1]}/v3/geheim")
    options = ["--rpc-env", "DESK_NODE", *given[2:]]
    said = [agentmesh("anchor", "push", recorded, *options, *arguments)]
    monkeypatch.setenv("DESK_NODE", "http://127.0.0.1:9/v3/geheim")
    said += [agentmesh("anchor", "push", recorded, *options, *arguments)]
    said += [agentmesh("anchor", "status", recorded, "--rpc-env", "DESK_NODE")]
    said += [
        agentmesh("anchor", "deploy", "--rpc-env", "DESK_NODE", "--key-env", "DESK_KEY", "--within", "0.1")
    ]
    for each in said:
        assert KEY not in each.out + each.err and "geheim" not in each.out + each.err
    for path in recorded.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert KEY.encode() not in data and bytes.fromhex(KEY) not in data and b"geheim" not in data


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"--rpc": None}, "no node is named"),
        ({"--rpc-env": "DESK_NODE"}, "give --rpc or --rpc-env, not both"),
        ({"--rpc": None, "--rpc-env": "NOT_SET"}, "the environment variable NOT_SET is not set"),
        ({"--rpc": "node.example"}, "the address of a node is an http:// or https:// URL"),
        ({"--contract": None}, "no contract is named"),
        ({"--contract": "0x12"}, "is no address"),
        ({"--key-env": None}, "no account is named"),
        ({"--key-env": "NOT_SET"}, "the environment variable NOT_SET is not set"),
        ({"--keystore": "some.json"}, "give --keystore or --key-env, not both"),
        ({"--max-fee": "much"}, "--max-fee is a number of gwei"),
        ({"--max-fee": "0"}, "the highest fee is a number of gwei"),
        ({"--by": "nobody"}, "no key of an agent 'nobody'"),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_usage(
    agentmesh: Agentmesh, recorded: Path, change: dict[str, str | None], says: str
) -> None:
    options = {"--rpc": "http://127.0.0.1:9", "--contract": SENDER, "--key-env": "DESK_KEY"} | change
    words = [word for name, value in options.items() if value is not None for word in (name, value)]
    done = agentmesh("anchor", "push", recorded, *words)
    assert done.code == 2 and says in done.err, done.err


@pytest.mark.parametrize("option", ["--key-env", "--rpc-env", "--passphrase-env"])
@pytest.mark.parametrize("secret", ["0x" + "ab" * 32, "ab" * 32, "https://node.example/v3/abababab"])
def test_a_secret_given_for_the_name_of_its_variable_is_not_repeated(
    agentmesh: Agentmesh, recorded: Path, option: str, secret: str
) -> None:
    words = ["--contract", SENDER, option, secret]
    words += [] if option == "--rpc-env" else ["--rpc", "http://127.0.0.1:9"]
    words += ["--keystore", "some.json"] if option == "--passphrase-env" else []
    done = agentmesh("anchor", "push", recorded, *words)
    assert done.code == 2 and "abababab" not in done.out + done.err


def test_how_often_is_messages_or_seconds(agentmesh: Agentmesh, recorded: Path, given: list[str]) -> None:
    done = agentmesh("anchor", "watch", recorded, *given, "--every", "often")
    assert done.code == 2 and "`100` is messages, `60s` seconds" in done.err


def test_what_only_the_operator_can_mend_fails_at_once(
    agentmesh: Agentmesh, recorded: Path, given: list[str], node: Node
) -> None:
    wrong = agentmesh("anchor", "push", recorded, *given, "--contract", SENDER)
    assert wrong.code == 1 and "is no contract of ours" in wrong.out
    node.ask("anvil_setBalance", SENDER, "0x0")
    poor = agentmesh("anchor", "push", recorded, *given)
    assert poor.code == 1 and f"insufficient funds: {SENDER} has 0 gwei" in poor.out


def test_a_node_that_is_down_is_no_verdict_on_the_log(agentmesh: Agentmesh, recorded: Path) -> None:
    down = ["--rpc", "http://127.0.0.1:9"]
    account = ["--key-env", "DESK_KEY"]
    pushed = agentmesh("anchor", "push", recorded, *down, *account, "--contract", SENDER, "--within", "0.1")
    assert pushed.code == 4 and "the node at http://127.0.0.1:9 cannot be reached" in pushed.out
    for each in (("status", recorded, *down), ("deploy", *down, *account)):
        done = agentmesh("anchor", *each)
        assert done.code == 1 and "cannot be reached" in done.err and "NOT VERIFIED" not in done.err


def test_a_database_put_back_from_a_copy_is_told_as_such(
    agentmesh: Agentmesh, recorded: Path, given: list[str], tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(recorded, old)
    say(recorded)
    assert agentmesh("anchor", "push", recorded, *given).code == 0
    for verb, options in (("push", given), ("status", given[:2])):
        if verb == "status":  # without anything of its own it asks by what the journal knows
            shutil.copy(
                *(place / ".agentmesh/keys/logs/agentmesh.local%2Fdesk.anchors" for place in (recorded, old))
            )
        done = agentmesh("anchor", verb, old, *options)
        assert done.code == 1 and "check rollback" in done.err, (verb, done.out, done.err)


def test_an_anchor_that_the_chain_lost_is_said_to_be_and_sent_again(
    agentmesh: Agentmesh, recorded: Path, given: list[str], node: Node
) -> None:
    assert agentmesh("anchor", "push", recorded, *given).code == 0
    node.ask("anvil_mine", "0x3")
    node.ask("anvil_reorg", 4, [])
    lost = agentmesh("anchor", "status", recorded, *given[:2])
    assert lost.code == 1 and "size 11: NOT ON THE CHAIN ANY MORE" in lost.out
    done = agentmesh("anchor", "push", recorded, *given)
    assert done.code == 0 and done.out.startswith("recorded: size 11: the chain lost its recorded block")
    assert agentmesh("anchor", "status", recorded, *given[:2]).code == 0
    with log_of(recorded) as log:
        found = [each.message.facts for each in log.read() if each.message.kind == "anchor"]
    assert (
        len(found) == 2
        and found[0]["tx"] == found[1]["tx"]
        and found[0]["block_hash"] != found[1]["block_hash"]
    )


def test_nothing_anchored_yet_is_said(agentmesh: Agentmesh, recorded: Path, given: list[str]) -> None:
    done = agentmesh("anchor", "status", recorded, *given[:2])
    assert (done.code, done.out) == (0, "") and "nothing was anchored on this chain yet" in done.err


def test_that_what_is_recorded_becomes_deeper_is_no_news() -> None:
    heard: list[Progress] = []
    tell = _changes(heard.append)
    for depth in (3, 4, 5):
        tell(Progress(state="idle", message="nothing is new", size=9, depth=depth))
    for depth in (1, 2):
        tell(Progress(state="pending", message="mined", size=12, depth=depth))
    assert [each.depth for each in heard] == [3, 1, 2]


def test_a_watch_anchors_what_comes_says_what_is_lost_and_ends_by_a_signal(
    recorded: Path, given: list[str], node: Node, python_environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "agentmesh", "anchor", "watch", str(recorded), *given]
    command += ["--every", "1", "--poll", "0.05", "--json"]
    with subprocess.Popen(
        command,
        env=python_environment | {"DESK_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watch:
        assert watch.stdout is not None

        def until(state: str, size: int, word: str = "") -> dict[str, Any]:
            assert watch.stdout is not None
            for line in watch.stdout:
                told: dict[str, Any] = json.loads(line)
                if (told["state"], told["size"]) == (state, size) and word in told["message"]:
                    return told
            raise AssertionError(watch.stderr.read() if watch.stderr else "")

        try:
            until("recorded", 11)
            size = say(recorded)
            second = until("recorded", size)
            node.ask("anvil_reorg", 1, [])
            again = until("recorded", size, "the chain lost its recorded block")
            assert again["tx"] == second["tx"] and again["entry"] == second["entry"] + 1
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(WAIT_SECONDS) == 130
        finally:
            watch.kill()
    assert verify_ledger(recorded / ".agentmesh" / "ledger.db").entries == size + 2


def test_a_damaged_journal_is_told_and_nothing_is_sent(
    agentmesh: Agentmesh, recorded: Path, given: list[str]
) -> None:
    assert agentmesh("anchor", "push", recorded, *given).code == 0
    (journal,) = (recorded / ".agentmesh" / "keys" / "logs").glob("*.anchors")
    with closing(sqlite3.connect(journal)) as rows:
        rows.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal.write_bytes(b"x" * 8192)
    done = agentmesh("anchor", "push", recorded, *given)
    assert done.code == 3 and "the journal of anchors is damaged" in done.err
    with log_of(recorded) as log:
        assert log.size == 12, "it has the first anchor's entry and no more"
