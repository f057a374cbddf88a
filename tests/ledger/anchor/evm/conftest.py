"""An EVM node as the tests talk to it: plain JSON-RPC, so that no library stands between them and the chain."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from agentmesh_ledger.anchor.contract import contract
from agentmesh_ledger.anchor.keccak import keccak256

_ids = count(1)


@dataclass(frozen=True, slots=True)
class Node:
    """A node at `url`, whose accounts are unlocked."""

    url: str

    def ask(self, method: str, *params: object) -> Any:
        """The result; an error of the node is a RuntimeError with its message."""
        body = json.dumps({"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        if "error" in told:
            raise RuntimeError(told["error"]["message"])
        return told["result"]

    @property
    def accounts(self) -> list[str]:
        found: list[str] = self.ask("eth_accounts")
        return found

    def send(self, transaction: Mapping[str, object]) -> str:
        """The hash of a transaction, sent and perhaps not mined."""
        found: str = self.ask("eth_sendTransaction", transaction)
        return found

    @staticmethod
    def calldata(signature: str, *words: int | bytes) -> str:
        """A call of the function, as hex; every argument is one word."""
        data = [
            each.to_bytes(32, "big") if isinstance(each, int) else each.rjust(32, b"\0") for each in words
        ]
        return "0x" + (keccak256(signature.encode())[:4] + b"".join(data)).hex()

    def call(self, to: str, signature: str, *words: int | bytes, sender: str | None = None) -> bytes:
        """What a call returns, without a transaction."""
        asked = {"to": to, "data": self.calldata(signature, *words), "from": sender or self.accounts[0]}
        found: str = self.ask("eth_call", asked, "latest")
        return bytes.fromhex(found[2:])

    def mine(self, to: str, signature: str, *words: int | bytes, sender: str | None = None) -> dict[str, Any]:
        """The receipt of a transaction that calls the function; it may have failed there."""
        data = self.calldata(signature, *words)
        wanted = {"from": sender or self.accounts[0], "to": to, "data": data, "gas": "0x40000"}
        return self.mined(wanted)

    def mined(self, transaction: Mapping[str, object]) -> dict[str, Any]:
        """The receipt of a transaction, alone in a new block."""
        sent = self.send(transaction)
        self.ask("evm_mine")
        return self.receipt(sent)

    def receipt(self, sent: str) -> dict[str, Any]:
        """The receipt of a mined transaction."""
        found: dict[str, Any] | None = self.ask("eth_getTransactionReceipt", sent)
        assert found is not None, "the transaction is not mined"
        return found

    def deploy(self) -> str:
        """Our contract's address."""
        mined = self.mined(
            {"from": self.accounts[0], "data": "0x" + contract().bytecode.hex(), "gas": "0x100000"}
        )
        assert mined["status"] == "0x1"
        found: str = mined["contractAddress"]
        return found

    def block(self, mark: str) -> tuple[dict[str, Any], Sequence[dict[str, Any]]]:
        """A block and all receipts of it, by number or tag."""
        return self.ask("eth_getBlockByNumber", mark, False), self.ask("eth_getBlockReceipts", mark)


@pytest.fixture
def node_at() -> Callable[[str], Node]:
    """For a node that a test starts itself."""
    return Node


@pytest.fixture(scope="module")
def chain(anvil: Callable[..., AbstractContextManager[str]]) -> Iterator[Node]:
    """A node that mines when it is told to."""
    with anvil("--no-mining") as url:
        yield Node(url)


@pytest.fixture(scope="module")
def deployed(chain: Node) -> str:
    """The address of our contract there."""
    return chain.deploy()
