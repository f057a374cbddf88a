"""An OpenTimestamps proof: the library reads and writes it, within bounds that the library does not have.

This module needs the extra `ots`. Nothing of the library leaves it but through LedgerError.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Final, Protocol, Self, TypeAlias, cast

# The library has no types.
from opentimestamps.core.notary import (  # type: ignore[import-untyped]
    BitcoinBlockHeaderAttestation,
    PendingAttestation,
)
from opentimestamps.core.op import OpAppend, OpPrepend, OpSHA256  # type: ignore[import-untyped]
from opentimestamps.core.serialize import (  # type: ignore[import-untyped]
    BytesDeserializationContext,
    BytesSerializationContext,
)
from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp  # type: ignore[import-untyped]

from agentmesh_ledger.errors import LedgerError

MAX_PROOF: Final = 16 * 1024
"""Bytes of a proof. One with four calendars in it, complete, has about four thousand."""
MAX_STEPS: Final = 1024
"""Operations, attestations and branches of a proof; a way to a block has about sixty."""
_NONCE: Final = 16  # bytes, as the reference client has it
_LONGEST_NUMBER: Final = 9  # bytes: 63 bits. The library reads any length, in quadratic time
_NO_HEIGHT: Final = 2**32
# What calendars and Bitcoin use. Of the others, ripemd160 and sha1 are missing from some builds of OpenSSL, keccak256 and
# hexlify lead to no Bitcoin block, and reverse is about to go: a proof must read alike on every machine.
_TAGS: Final = frozenset({b"\x00", b"\xff", OpAppend.TAG, OpPrepend.TAG, OpSHA256.TAG})


class _Operation(Protocol):
    """A step from one message to the next."""


class _Node(Protocol):
    """A message of the proof's tree, and what is said of it."""

    @property
    def msg(self) -> bytes: ...
    @property
    def attestations(self) -> set[object]: ...
    @property
    def ops(self) -> Mapping[_Operation, _Node]: ...


_Path: TypeAlias = "tuple[_Operation, _Path] | None"


class _Bounded(BytesDeserializationContext):  # type: ignore[misc]  # its class is of no type
    """The library's reader, which takes so many steps, so long numbers, and these operations only."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._steps = 0

    def read_bytes(self, expected_length: int | None = None) -> bytes:
        data = cast(bytes, super().read_bytes(expected_length))
        if expected_length == 1:  # what is one byte long is always the tag of a step
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise LedgerError("anchor", f"the timestamp has more than {MAX_STEPS} steps")
            if data not in _TAGS:
                raise LedgerError(
                    "anchor", f"the timestamp has an operation {data.hex()}, which is not read here"
                )
        return data

    def read_varuint(self) -> int:
        number = 0
        for place in range(_LONGEST_NUMBER):
            (byte,) = cast(bytes, self.fd_read(1))
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return number
        raise LedgerError("anchor", "the timestamp has a number longer than 63 bits")


class Request:
    """A digest on its way to calendars: they see the commitment, which a nonce keeps from telling the digest."""

    def __init__(self, digest: bytes) -> None:
        self._digest = digest
        self._nonce = secrets.token_bytes(_NONCE)
        self.commitment = cast(bytes, OpSHA256()(digest + self._nonce))

    def answered(self, answer: bytes) -> Proof:
        """The proof that begins with a calendar's answer. Raises: LedgerError(anchor)."""
        tree = Timestamp(self._digest)
        tip = tree.ops.add(OpAppend(self._nonce)).ops.add(OpSHA256())
        _merge(tip, self.commitment, answer)
        return Proof.read(_written(tree))


class Proof:
    """What leads from the SHA-256 of some file to messages that calendars and Bitcoin blocks attest to."""

    def __init__(self, tree: _Node, data: bytes) -> None:
        self._tree = tree
        self.data = data

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The proof in an .ots file, which must be as the library writes it: one file for one proof.

        Raises: LedgerError(anchor), and nothing else, whatever the bytes.
        """
        if len(data) > MAX_PROOF:
            raise LedgerError("anchor", f"the timestamp is longer than {MAX_PROOF} bytes")
        try:
            tree = DetachedTimestampFile.deserialize(_Bounded(data)).timestamp
        except LedgerError:
            raise
        except Exception as error:  # the library raises a dozen kinds, and RecursionError
            raise LedgerError("anchor", f"the timestamp cannot be read: {type(error).__name__}") from error
        if _written(tree) != data:
            raise LedgerError("anchor", "the timestamp is not written in its one form")
        return cls(tree, data)

    @property
    def digest(self) -> bytes:
        """The SHA-256 that the proof is about."""
        return self._tree.msg

    def blocks(self) -> tuple[tuple[int, bytes], ...]:
        """Height of each Bitcoin block that is said to hold the digest, and what its merkle root must be; lowest first."""
        found = {
            (cast(int, each.height), node.msg)
            for node, _ in self._walk()
            for each in node.attestations
            # The library reads a height of any length, which nobody could print.
            if isinstance(each, BitcoinBlockHeaderAttestation)
            and len(node.msg) == 32
            and each.height < _NO_HEIGHT
        }
        return tuple(sorted(found))

    def waiting(self) -> tuple[tuple[str, bytes], ...]:
        """URL of each calendar that has promised a block, and the commitment to ask it for."""
        found = {
            (cast(str, each.uri), node.msg)
            for node, _ in self._walk()
            for each in node.attestations
            if isinstance(each, PendingAttestation)
        }
        return tuple(sorted(found))

    def with_answer(self, commitment: bytes, answer: bytes) -> Proof:
        """This proof and what a calendar says of a commitment in it. Raises: LedgerError(anchor)."""
        tree = Proof.read(self.data)  # merging changes it
        for node in [node for node, _ in tree._walk() if node.msg == commitment]:
            _merge(node, commitment, answer)
        return Proof.read(_written(tree._tree))

    def to_block(self, height: int, merkle_root: bytes) -> Proof:
        """The one way to this block, without what is not needed to show it.

        Raises: LedgerError(anchor) where the proof does not lead there.
        """
        for node, path in self._walk():
            if node.msg == merkle_root and BitcoinBlockHeaderAttestation(height) in node.attestations:
                return Proof.read(_written(_line(self.digest, path, height)))
        raise LedgerError("anchor", f"the timestamp does not lead to block {height}")

    def _walk(self) -> Iterator[tuple[_Node, _Path]]:
        """Every message of the tree, and the operations to it, the last one first."""
        waiting: list[tuple[_Node, _Path]] = [(self._tree, None)]
        while waiting:
            node, path = waiting.pop()
            yield node, path
            waiting += [(below, (operation, path)) for operation, below in node.ops.items()]


def _line(digest: bytes, path: _Path, height: int) -> _Node:
    steps: list[_Operation] = []
    while path is not None:
        steps.append(path[0])
        path = path[1]
    tree = node = Timestamp(digest)
    for step in reversed(steps):
        node = node.ops.add(step)
    node.attestations.add(BitcoinBlockHeaderAttestation(height))
    return cast(_Node, tree)


def _merge(node: object, commitment: bytes, answer: bytes) -> None:
    """Adds a calendar's answer to the node of this commitment, in place."""
    reader = _Bounded(answer)
    try:
        said = Timestamp.deserialize(reader, commitment)
        reader.assert_eof()
        cast(Timestamp, node).merge(said)
    except LedgerError:
        raise
    except Exception as error:  # as above
        raise LedgerError("anchor", f"the answer is no timestamp: {type(error).__name__}") from error


def _written(tree: object) -> bytes:
    out = BytesSerializationContext()
    try:
        DetachedTimestampFile(OpSHA256(), tree).serialize(out)
    except Exception as error:  # as above; it also writes what it would not read, if that is deep
        raise LedgerError("anchor", f"the timestamp cannot be written: {type(error).__name__}") from error
    return cast(bytes, out.getbytes())
