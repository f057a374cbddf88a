"""An EVM node of the benchmark's own, spoken to in plain JSON-RPC, and what transactions cost there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from agentmesh_ledger.anchor.contract import contract
from agentmesh_ledger.anchor.keccak import keccak256

CHAIN: Final = 31337  # anvil's
_ids = count(1)


@dataclass(frozen=True, slots=True)
class Node:
    """A node at `url` that mines when it is told to, and whose accounts need no key."""

    url: str

    def ask(self, method: str, *params: object) -> Any:
        """The result. Raises: RuntimeError where the node tells an error."""
        body = json.dumps({"jsonrpc": "2.0", "id": next(_ids), "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        if "error" in told:
            raise RuntimeError(f"{method}: {told['error']['message']}")
        return told["result"]

    def account(self, number: int = 0) -> str:
        """One of its ten accounts."""
        return str(self.ask("eth_accounts")[number])

    def mined(self, data: bytes, to: str | None = None, sender: int = 0) -> dict[str, Any]:
        """The receipt of a transaction, alone in its block. Raises: RuntimeError where it failed."""
        wanted: Mapping[str, object] = {
            "from": self.account(sender),
            "data": "0x" + data.hex(),
            "gas": "0x100000",
        }
        sent = self.ask("eth_sendTransaction", {**wanted, **({} if to is None else {"to": to})})
        self.ask("evm_mine")
        receipt: dict[str, Any] = self.ask("eth_getTransactionReceipt", sent)
        if receipt["status"] != "0x1":
            raise RuntimeError("the transaction failed")
        return receipt

    def deploy(self) -> str:
        """The address of our contract."""
        return str(self.mined(contract().bytecode)["contractAddress"])

    def block(self, digest: str) -> tuple[dict[str, Any], Sequence[dict[str, Any]]]:
        """A block and all its receipts."""
        return self.ask("eth_getBlockByHash", digest, False), self.ask("eth_getBlockReceipts", digest)


def calldata(function: str, *words: bytes | int) -> bytes:
    """A call of one of the contract's functions, whose arguments are one word each."""
    types = {"announce": "bytes32,uint64,bytes32", "anchor": "bytes32,uint64,bytes32"}
    types["anchor_settled"] = f"{types['anchor']},bytes32"
    data = [each if isinstance(each, bytes) else each.to_bytes(32, "big") for each in words]
    return keccak256(f"{function}({types[function]})".encode())[:4] + b"".join(data)


def gas(receipt: Mapping[str, Any]) -> int:
    """What a mined transaction used."""
    return int(receipt["gasUsed"], 16)


@contextmanager
def running() -> Iterator[Node]:
    """An anvil of its own. Raises: FileNotFoundError where AGENTMESH_NPM names no folder with it."""
    folder = Path(os.environ.get("AGENTMESH_NPM", "."), "node_modules", "@foundry-rs")
    found = sorted(folder.glob("anvil-*/bin/anvil"))
    if not found:
        raise FileNotFoundError("AGENTMESH_NPM names no folder with @foundry-rs/anvil in it")
    process = subprocess.Popen(
        [str(found[0]), "--host", "127.0.0.1", "--port", "0", "--no-mining"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    reader = None
    try:
        node = Node(f"http://{_listening(process)}")
        reader = _drained(process)
        yield node
    finally:
        process.terminate()
        process.wait(60)
        if reader is not None:
            reader.join(60)


def _listening(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if at := re.search(r"Listening on (127\.0\.0\.1:[0-9]+)", told):
            return at.group(1)
    raise RuntimeError(f"anvil has ended: {told}")


def _drained(process: subprocess.Popen[str]) -> threading.Thread:
    """Takes what it goes on to say: a process whose output nobody reads stops."""
    assert process.stdout is not None
    thread = threading.Thread(target=process.stdout.read, daemon=True)
    thread.start()
    return thread
