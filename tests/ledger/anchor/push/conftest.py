"""A real node that mines when it is told to, a proxy before it that misbehaves, and a log to be anchored."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger, LedgerError
from agentmesh_ledger.anchor.account import Account, account_from_environment
from agentmesh_ledger.anchor.anchorer import Anchorer
from agentmesh_ledger.anchor.chain import Chain
from agentmesh_ledger.anchor.contract import CHECKPOINT, contract
from agentmesh_ledger.anchor.deploy import deploy
from agentmesh_ledger.anchor.journal import Journal, journal_path
from agentmesh_ledger.anchor.progress import Progress
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.record import Record

ORIGIN = "agentmesh.local/desk"
# The first two accounts of every development chain; their keys are known to everybody.
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
OTHER_KEY = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
VARIABLE = "DESK_ACCOUNT"
_ids = count(1)


@dataclass(frozen=True, slots=True)
class Node:
    """The node itself, asked past the code under test."""

    url: str

    def ask(self, method: str, *params: object) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "error" not in told, told["error"]
        return told["result"]

    def mine(self, blocks: int = 1) -> None:
        self.ask("anvil_mine", hex(blocks))

    def height(self) -> int:
        return int(self.ask("eth_blockNumber"), 16)

    def base_fee(self, wei: int) -> None:
        """What the next block will ask for."""
        self.ask("anvil_setNextBlockBaseFeePerGas", hex(wei))

    def mined(self, sender: str) -> list[dict[str, Any]]:
        """Every transaction of the sender that a block has, with its receipt's status."""
        found = []
        for number in range(self.height() + 1):
            for each in self.ask("eth_getBlockByNumber", hex(number), True)["transactions"]:
                if each["from"] == sender:
                    status = self.ask("eth_getTransactionReceipt", each["hash"])["status"]
                    found.append({**each, "status": status})
        return found

    def sizes(self, address: str) -> list[int]:
        """The sizes that the contract logged, in order."""
        wanted = {
            "address": address,
            "fromBlock": "0x0",
            "toBlock": "latest",
            "topics": [f"0x{CHECKPOINT.hex()}", None, f"0x{first_link(ORIGIN).hex()}"],
        }
        return [int(each["data"][2:66], 16) for each in self.ask("eth_getLogs", wanted)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that reached the proxy; `forward` asks the node, and gives the whole answer."""

    method: str
    params: list[Any]
    forward: Callable[[], dict[str, Any]]


Rule = Callable[[Asked], "dict[str, Any] | bytes | int | None"]
"""What the proxy answers: JSON, other bytes, an HTTP status; or None, and the connection is cut."""


class Proxy:
    """Stands before a node; `rules` say, by method or for all as `*`, where it does other than pass on."""

    def __init__(self, node: Node) -> None:
        self.rules: dict[str, Rule] = {}
        self.asked: list[tuple[str, list[Any]]] = []
        self.released = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                proxy.asked.append((body["method"], body["params"]))

                def forward() -> dict[str, Any]:
                    request = urllib.request.Request(
                        node.url, json.dumps(body).encode(), {"content-type": "application/json"}
                    )
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        found: dict[str, Any] = json.load(answer)
                    return found

                asked = Asked(method=body["method"], params=body["params"], forward=forward)
                rule = proxy.rules.get(body["method"]) or proxy.rules.get("*")
                reply = forward() if rule is None else rule(asked)
                if reply is None:
                    self.close_connection = True
                    return
                status = reply if isinstance(reply, int) else 200
                data = reply if isinstance(reply, bytes) else b"{}" if isinstance(reply, int) else b""
                if isinstance(reply, dict):
                    data = json.dumps({**reply, "id": body["id"], "jsonrpc": "2.0"}).encode()
                try:
                    self.send_response(status)
                    self.send_header("content-length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # whoever asked has given up

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def methods(self) -> list[str]:
        return [method for method, _ in self.asked]

    def hang(self, asked: Asked) -> None:
        """A rule: never answers."""
        self.released.wait()

    @staticmethod
    def fails(message: str, code: int = -32000) -> Rule:
        """A rule: an error of JSON-RPC."""
        return lambda asked: {"error": {"code": code, "message": message}}

    @staticmethod
    def says(result: object) -> Rule:
        """A rule: this result."""
        return lambda asked: {"result": result}


class Desk:
    """A log, its journal, an account with money and the contract."""

    def __init__(self, folder: Path, node: Node, account: Account, contract: str) -> None:
        self.folder = folder
        self.node = node
        self.account = account
        self.contract = contract
        self.keys = KeyStore(folder / "keys")
        self.path = folder / "ledger.db"
        self.ledger = Ledger.open(self.path, origin=ORIGIN, keys=self.keys, create=True)
        self.journal = Journal(journal_path(self.keys, ORIGIN))
        self._chains: list[Chain] = []

    def say(self, times: int = 1) -> None:
        author = self.keys.agent("ada")
        part = DraftPart(name="text", type="text/plain", data=b"hello")
        self.ledger.append([Draft(author=author, kind="say", dialogue="d1", parts=(part,))] * times)

    def chain(self, url: str | None = None, **options: Any) -> Chain:
        chain = Chain.connect(url or self.node.url, **options)
        self._chains.append(chain)
        return chain

    def anchorer(self, url: str | None = None, *, timeout: float = 10.0, **options: Any) -> Anchorer:
        ledger = options.pop("ledger", self.ledger)
        author = options.pop("author", None) or self.keys.agent("host")
        account = options.pop("account", self.account)
        address = options.pop("contract", self.contract)
        journal = options.pop("journal", self.journal)
        options.setdefault("max_fee_gwei", Decimal(50))
        options.setdefault("poll", 0.01)
        chain = self.chain(url, timeout=timeout)
        return Anchorer(ledger, author, chain, account, address, journal, **options)

    def anchors(self) -> list[Record]:
        return [each for each in self.ledger.read() if each.message.kind == "anchor"]

    def sizes(self) -> list[int]:
        """What the chain has."""
        return self.node.sizes(self.contract)

    def close(self) -> None:
        for chain in self._chains:
            chain.close()
        self.ledger.close()


def settle(anchorer: Anchorer, node: Node, *, most: int = 40) -> Progress:
    """Steps, a block between two, until the anchor is recorded."""
    for _ in range(most):
        progress = anchorer.step()
        if progress.state in ("recorded", "idle", "blocked"):
            return progress
        node.mine()
    raise AssertionError(f"not recorded: {progress}")


@pytest.fixture
def node(anvil: Callable[..., AbstractContextManager[str]]) -> Iterator[Node]:
    with anvil("--no-mining", "--base-fee", "1000000000") as url:
        yield Node(url)


@pytest.fixture
def proxy(node: Node) -> Iterator[Proxy]:
    with Proxy(node) as opened:
        yield opened


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    monkeypatch.setenv(VARIABLE, KEY)
    try:
        return account_from_environment(VARIABLE)
    except LedgerError as error:
        if error.reason != "no_extra":
            raise
        pytest.skip("the extra chain is not installed")


@pytest.fixture
def other_account(monkeypatch: pytest.MonkeyPatch, account: Account) -> Account:
    monkeypatch.setenv(VARIABLE, OTHER_KEY)
    return account_from_environment(VARIABLE)


@pytest.fixture
def deployed(node: Node, other_account: Account) -> str:
    """The contract's address; another account paid for it, so that the nonces of ours begin at 0."""
    node.ask("evm_setAutomine", True)
    with Chain.connect(node.url) as chain:
        address = deploy(chain, other_account, poll=0.01).address
    node.ask("evm_setAutomine", False)
    assert node.ask("eth_getCode", address, "latest") == f"0x{contract().runtime.hex()}"
    return address


@pytest.fixture
def desk(tmp_path: Path, node: Node, account: Account, deployed: str) -> Iterator[Desk]:
    desk = Desk(tmp_path, node, account, deployed)
    desk.say()
    yield desk
    desk.close()
