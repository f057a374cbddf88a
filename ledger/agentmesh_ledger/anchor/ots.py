"""Evidence of type "opentimestamps": that a checkpoint existed before a Bitcoin block, by the block's own header."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Final

from agentmesh_ledger.anchor.bitcoin import HEADER_SIZE, BlockHeader, parse_header
from agentmesh_ledger.anchor.evidence import OPENTIMESTAMPS, Anchored, is_pinned
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.encoding import decode64, encode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.text import shown

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.otsfile import Proof, Request

_HEX: Final = frozenset(string.hexdigits.lower())
_EASY: Final = 2**72  # hashes: what one mining machine of 200 TH/s does in nine months


def stamped_digest(origin: str, size: int, root: bytes) -> bytes:
    """What is stamped: SHA-256 over the checkpoint's three lines, without signatures.

    Saved as a file, that text and the .ots file verify with any OpenTimestamps client.
    """
    return hashlib.sha256(Checkpoint(origin=origin, size=size, root=root).text.encode()).digest()


def make_evidence(proof: bytes, header: bytes | None) -> Mapping[str, JsonValue]:
    """The evidence as it is recorded; without a header it is a promise of a calendar, and shows nothing."""
    return {
        "type": OPENTIMESTAMPS,
        "proof": encode64(proof),
        "header": None if header is None else header.hex(),
    }


def verify_ots(
    value: JsonValue, *, size: int, root: bytes, origin: str, blocks: frozenset[str] = frozenset()
) -> Anchored:
    """Shows that the checkpoint stands under the merkle root of a block header with its own proof of work.

    `blocks` are hashes that the auditor names, as Bitcoin writes them, with or without 0x: only one of these says that
    the block is Bitcoin's, for an easy header is quickly made. Without a header it is about this checkpoint and shows
    no block: `block` is None then. Raises: LedgerError(anchor); LedgerError(no_extra) without the extra `ots`, which
    says nothing against the evidence.
    """
    proof, data = _opened(value, size=size, root=root, origin=origin)
    header = None if data is None else parse_header(data)
    return Anchored(
        type=OPENTIMESTAMPS,
        size=size,
        root=root,
        block=None if header is None else _height(proof, header),
        block_hash="" if header is None else header.hash,
        time=None if header is None else header.time,
        chain=None,
        contract=None,
        sender=None,
        settlement=None,
        pinned=header is not None and is_pinned(header.hash, blocks),
        note=_promise(proof) if header is None else _work(header),
    )


def _height(proof: Proof, header: BlockHeader) -> int:
    """The height that the proof gives this block."""
    heights = {height for height, merkle_root in proof.blocks() if merkle_root == header.merkle_root}
    if len(heights) == 1:
        return heights.pop()
    raise LedgerError(
        "anchor",
        "the timestamp gives one block several heights"
        if heights
        else "the timestamp does not lead to this block's merkle root",
        expected=header.merkle_root.hex(),
        found=", ".join(merkle_root.hex() for _, merkle_root in proof.blocks()[:4]) or "no block",
    )


def _work(header: BlockHeader) -> str:
    easy = ", which one machine can do" if header.work < _EASY else ""
    return f"a Bitcoin header with {header.effort} of work{easy}; its height is the calendar's word, its time the miner's"


def _promise(proof: Proof) -> str:
    if proof.blocks():
        return f"said to be in Bitcoin block {proof.blocks()[0][0]}, whose header is not here: nothing is shown yet"
    urls = ", ".join(shown(uri, 80) for uri, _ in proof.waiting()[:4]) or "nobody"
    return f"pending, promised by {urls}: nothing is shown yet"


def open_stamp(value: JsonValue, *, size: int, root: bytes, origin: str) -> Proof:
    """The proof of a recorded stamp, pending or complete, which is about this checkpoint; no block is looked at.

    Raises: LedgerError(anchor, no_extra).
    """
    return _opened(value, size=size, root=root, origin=origin)[0]


def _opened(value: JsonValue, *, size: int, root: bytes, origin: str) -> tuple[Proof, bytes | None]:
    if not isinstance(value, Mapping) or set(value) != {"type", "proof", "header"}:
        raise LedgerError("anchor", "the evidence does not have the fields type, proof and header")
    text, header = value["proof"], value["header"]
    if value["type"] != OPENTIMESTAMPS or not isinstance(text, str):
        raise LedgerError("anchor", "the evidence is no timestamp")
    data = None
    if header is not None:
        if not isinstance(header, str) or len(header) != 2 * HEADER_SIZE or not _HEX.issuperset(header):
            raise LedgerError("anchor", f"the block header is not {2 * HEADER_SIZE} lower-case hex digits")
        data = bytes.fromhex(header)
    proof: Proof = _library().Proof.read(decode64(text, "anchor", "the timestamp"))
    digest = stamped_digest(origin, size, root)
    if proof.digest != digest:
        raise LedgerError(
            "anchor",
            "the timestamp is not about this checkpoint",
            expected=digest.hex(),
            found=proof.digest.hex(),
        )
    return proof, data


def stamp_request(origin: str, size: int, root: bytes) -> Request:
    """What calendars are asked to take for this checkpoint. Raises: LedgerError(no_extra)."""
    request: Request = _library().Request(stamped_digest(origin, size, root))
    return request


def _library() -> ModuleType:
    try:
        from agentmesh_ledger.anchor import otsfile
    except (ImportError, OSError) as error:  # OSError: a native library that does not load
        raise LedgerError(
            "no_extra",
            "a timestamp is made and read with the library of OpenTimestamps",
            hint="Install the extra: pip install 'agentmesh-runtime[ots]'",
        ) from error
    return otsfile
