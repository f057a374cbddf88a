"""Evidence of anchors as anybody can make it offline: a block of one transaction that no chain has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import pytest

from agentmesh_ledger.anchor import evm_header, trie
from agentmesh_ledger.anchor.contract import CHECKPOINT
from agentmesh_ledger.anchor.evidence import EVM_RECEIPT
from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.anchor.lines import AnchorLine
from agentmesh_ledger.anchor.rlp import encode, encode_integer
from agentmesh_ledger.anchor.trie import prove_trie
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.tree import collect, consistency_nodes, fold_proof, leaf_hash

ORIGIN = "agentmesh.local/desk"
CONTRACT, SENDER = bytes.fromhex("c0" * 20), bytes.fromhex("5e" * 20)


def made_evidence(
    size: int,
    root: bytes,
    *,
    origin: str = ORIGIN,
    block: int = 7,
    time: int = 1_790_000_000,
    chain: int = 31337,
    contract: bytes = CONTRACT,
    sender: bytes = SENDER,
) -> dict[str, JsonValue]:
    """Evidence that holds: header, trie and receipt made for it."""
    topics = (CHECKPOINT, sender.rjust(32, b"\0"), first_link(origin))
    log = (contract, topics, size.to_bytes(32, "big") + root)
    receipt = b"\x02" + encode((b"\x01", encode_integer(30_000), bytes(256), (log,)))
    receipts, nodes = prove_trie({encode(b""): receipt}, encode(b""))
    header = encode(
        (
            *(bytes(32), bytes(32), bytes(20), bytes(32), bytes(32), receipts, bytes(256), b""),
            *(encode_integer(block), encode_integer(30_000_000), encode_integer(30_000)),
            *(encode_integer(time), b"", bytes(32), bytes(8)),
        )
    )
    return {
        "type": EVM_RECEIPT,
        "chain": chain,
        "header": encode64(header),
        "index": 0,
        "nodes": [encode64(node) for node in nodes],
        "log": 0,
    }


def anchored(transcript: bytes, lines: Sequence[bytes], announced: JsonValue = ...) -> bytes:  # type: ignore[assignment]
    """The transcript with these anchor lines behind its header, under an end line that is true of it."""
    header, *entries = transcript.split(b"\n")[:-2]
    fields = json.loads(header)
    if announced is not None:
        fields["anchors"] = len(lines) if announced is ... else announced
    return sealed([canonical(fields), *lines, *entries], len(entries))


def sealed(lines: Sequence[bytes], entries: int) -> bytes:
    body = b"".join(line + b"\n" for line in lines)
    end: dict[str, JsonValue] = {
        "digest": hashlib.sha256(body).hexdigest(),
        "end": True,
        "entries": entries,
    }
    return body + canonical(end) + b"\n"


@dataclass(frozen=True)
class Publisher:
    """Anchors of a forged log, each in a block of its own."""

    forge: object

    def line(self, size: int, *, dialogue: bool = False, **changes: object) -> AnchorLine:
        """The anchor line of the log as it was at this size."""
        root = self.forge.checkpoint(size).root  # type: ignore[attr-defined]
        proof = self.proof(size) if dialogue else None
        evidence = made_evidence(size, root, **changes)  # type: ignore[arg-type]
        return AnchorLine(size=size, root=root, evidence=evidence, proof=proof)

    def proof(self, size: int) -> tuple[bytes, ...]:
        """From this size to that of the log."""
        entries: list[bytes] = self.forge.entries  # type: ignore[attr-defined]
        nodes = consistency_nodes(size, len(entries))
        hashes = collect({node for each in nodes for node in each}, [leaf_hash(each) for each in entries])
        return tuple(fold_proof(nodes, hashes))


@pytest.fixture
def publish_of() -> Callable[[object], Publisher]:
    """Publishes the checkpoints of a forged log."""
    return Publisher


@pytest.fixture
def evidence_of() -> Callable[..., dict[str, JsonValue]]:
    """Makes evidence of a size and a root."""
    return made_evidence


@pytest.fixture
def with_anchors() -> Callable[..., bytes]:
    """Puts anchor lines into a transcript."""
    return anchored


@pytest.fixture
def seal_again() -> Callable[[Sequence[bytes], int], bytes]:
    """The lines, without the end line, of a file of so many entries, under a true end line."""
    return sealed


@pytest.fixture
def short(forge):
    """A log of four entries: two registrations, two messages of d1, the second of which closes it."""
    return forge.begin().say(forge.ada, "one").add(forge.ada, "close", "d1", facts={"reason": "done"})


@pytest.fixture
def swift_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hash of a chain once: a test that alters every byte of a file has most blocks of it hashed again and again."""
    remembered = cache(keccak256)
    monkeypatch.setattr(trie, "keccak256", remembered)
    monkeypatch.setattr(evm_header, "keccak256", remembered)
