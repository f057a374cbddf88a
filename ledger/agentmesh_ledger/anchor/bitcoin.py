"""A Bitcoin block header: 80 bytes that anyone can hold against the work they claim."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.errors import LedgerError

HEADER_SIZE: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockHeader:
    """A header whose hash is below the target that it names itself. That a chain took it in, it cannot show.

    `hash` is as Bitcoin's programs write it (the bytes in reverse); `merkle_root` as it stands in the header;
    `time` the miner's clock in seconds since 1970; `work` how many hashes such a target takes on average.
    """

    hash: str
    merkle_root: bytes
    time: int
    work: int

    @property
    def effort(self) -> str:
        """The work in words, as in `2^79.1 hashes`."""
        return f"2^{math.log2(self.work):.1f} hashes"


def parse_header(data: bytes) -> BlockHeader:
    """The header of 80 bytes, its own proof of work checked.

    Raises: LedgerError(anchor).
    """
    if len(data) != HEADER_SIZE:
        raise LedgerError("anchor", f"a Bitcoin block header has {HEADER_SIZE} bytes, not {len(data)}")
    target = _target(int.from_bytes(data[72:76], "little"))
    digest = hashlib.sha256(hashlib.sha256(data).digest()).digest()
    if int.from_bytes(digest, "little") > target:
        raise LedgerError(
            "anchor",
            "the block header's proof of work does not hold",
            expected=f"a hash up to {target:064x}",
            found=digest[::-1].hex(),
        )
    return BlockHeader(
        hash=digest[::-1].hex(),
        merkle_root=data[36:68],
        time=int.from_bytes(data[68:72], "little"),
        work=2**256 // (target + 1),
    )


def _target(bits: int) -> int:
    """What the header's four bytes of target stand for; Bitcoin Core refuses the same ones (arith_uint256, SetCompact)."""
    size, word = bits >> 24, bits & 0x7FFFFF
    target = word >> 8 * (3 - size) if size <= 3 else word << 8 * (size - 3)
    if bits & 0x800000 or not 0 < target < 2**256:
        raise LedgerError("anchor", f"the block header's target {bits:08x} is none")
    return target
