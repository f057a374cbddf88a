"""Attacks on a transcript with anchors, whose blocks the auditor has looked up. The evidence is made here, block and all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

from agentmesh_ledger.anchor.contract import CHECKPOINT
from agentmesh_ledger.anchor.evidence import EVM_RECEIPT, verify_evidence
from agentmesh_ledger.anchor.rlp import encode as rlp
from agentmesh_ledger.anchor.rlp import encode_integer
from agentmesh_ledger.anchor.trie import prove_trie
from agentmesh_ledger.jcs import canonical
from tampering.attack import Attack, Make
from tampering.sample import ORIGIN, Case, Fields, decode, encode, leaf, root

NAME: Final = "anchored"
_SIZES: Final = (5, 9, 14)
_ANCHORS: Final = len(_SIZES)


def anchored_case(whole: Case) -> Case:
    """The transcript of the whole log with anchors of some of its sizes, and the blocks that they stand in."""
    leaves = [leaf(each) for each in whole.entries]
    lines: list[bytes] = []
    blocks: list[str] = []
    for number, size in enumerate(_SIZES):
        head = root(leaves[:size])
        evidence = published(size, head, block=100 + number)
        blocks.append(verify_evidence(evidence, origin=ORIGIN, size=size, root=head).block_hash)
        lines.append(canonical({"anchor": evidence, "root": head.hex(), "size": size}))
    fields = whole.fields()[0]
    header = canonical({**fields, "anchors": _ANCHORS})
    data = _sealed([header, *lines, *whole.lines()[1:]])
    return replace(whole, name=NAME, transcript=data, blocks=tuple(blocks))


def published(size: int, head: bytes, *, block: int, origin: str = ORIGIN) -> Fields:
    """Evidence that a contract logged this checkpoint, in a block of that one transaction."""
    topics = (CHECKPOINT, bytes(12) + b"\x5e" * 20, hashlib.sha256(origin.encode()).digest())
    log = (b"\xc0" * 20, topics, size.to_bytes(32, "big") + head)
    receipt = b"\x02" + rlp((b"\x01", encode_integer(30_000), bytes(256), (log,)))
    receipts, nodes = prove_trie({rlp(b""): receipt}, rlp(b""))
    numbers = [encode_integer(each) for each in (block, 30_000_000, 30_000, 1_790_000_000 + block)]
    before = (bytes(32), bytes(32), bytes(20), bytes(32), bytes(32), receipts, bytes(256), b"")
    header = rlp((*before, *numbers, b"", bytes(32), bytes(8)))
    return {
        "type": EVM_RECEIPT,
        "chain": 31337,
        "header": encode(header),
        "index": 0,
        "nodes": [encode(node) for node in nodes],
        "log": 0,
    }


def _sealed(lines: list[bytes]) -> bytes:
    """The lines under an end line that is true of them."""
    body = b"".join(line + b"\n" for line in lines)
    end: Fields = {
        "digest": hashlib.sha256(body).hexdigest(),
        "end": True,
        "entries": sum(line.startswith(b'{"entry"') for line in lines),
    }
    return body + canonical(end) + b"\n"


def _flip(case: Case, rng: Random) -> bytes:
    data = case.transcript
    place, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def _lines(change: Callable[[list[bytes], Random], None]) -> Make:
    """The change among the anchor lines, the end line made true."""

    def make(case: Case, rng: Random) -> bytes:
        lines = case.lines()
        change(lines, rng)
        return _sealed(lines)

    return make


def _drop(lines: list[bytes], rng: Random) -> None:
    del lines[rng.randrange(1, _ANCHORS + 1)]


def _swap(lines: list[bytes], rng: Random) -> None:
    one, two = rng.sample(range(1, _ANCHORS + 1), 2)
    lines[one], lines[two] = lines[two], lines[one]


def _move(lines: list[bytes], rng: Random) -> None:
    """Behind an entry, or in front of the header."""
    line = lines.pop(rng.randrange(1, _ANCHORS + 1))
    lines.insert(rng.choice([0, *range(_ANCHORS + 1, len(lines) + 1)]), line)


def _repeat(lines: list[bytes], rng: Random) -> None:
    lines.insert(rng.randrange(1, _ANCHORS + 2), lines[rng.randrange(1, _ANCHORS + 1)])


def _fields(change: Callable[[list[Fields], Case, Random], None]) -> Make:
    """The change in the fields of header and anchor lines, the end line made true."""

    def make(case: Case, rng: Random) -> bytes:
        fields = case.fields()
        change(fields, case, rng)
        return _sealed([canonical(each) for each in fields])

    return make


def _announce(lines: list[Fields], _: Case, rng: Random) -> None:
    other = rng.choice((0, 1, _ANCHORS - 1, _ANCHORS + 1, 1025, -1, True, None, "3"))
    lines[0]["anchors"] = other
    if rng.random() < 0.2:
        del lines[0]["anchors"]


def _alter_line(lines: list[Fields], case: Case, rng: Random) -> None:
    line = lines[rng.randrange(1, _ANCHORS + 1)]
    how = rng.randrange(4)
    if how == 0:
        line["size"] += rng.choice((-1, 1, len(case.entries)))
    elif how == 1:
        line["root"] = rng.randbytes(32).hex()
    elif how == 2:
        line["proof"] = []
    else:
        one, two = rng.sample(range(1, _ANCHORS + 1), 2)
        name = rng.choice(("anchor", "root", "size"))
        lines[one][name], lines[two][name] = lines[two][name], lines[one][name]


def _alter_evidence(lines: list[Fields], _: Case, rng: Random) -> None:
    """Anything but the number of the chain, which no block has."""
    evidence = lines[rng.randrange(1, _ANCHORS + 1)]["anchor"]
    how = rng.randrange(5)
    if how < 2:
        holder, key = (evidence, "header") if how else (evidence["nodes"], 0)
        data = bytearray(decode(holder[key]))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        holder[key] = encode(bytes(data))
    elif how == 2:
        evidence[rng.choice(("index", "log"))] += rng.choice((1, 2, 1 << 20))
    elif how == 3:
        evidence["type"] = rng.choice(("opentimestamps", "", None))
    else:
        evidence["nodes"] += [encode(rng.randbytes(40))]


def _another_branch(lines: list[Fields], case: Case, rng: Random) -> None:
    """A root that the log never had, in a block that is made for it; the auditor looked up another."""
    place = rng.randrange(1, _ANCHORS + 1)
    head = rng.randbytes(32)
    size = lines[place]["size"]
    lines[place] = {"anchor": published(size, head, block=7), "root": head.hex(), "size": size}


def _backdated(lines: list[Fields], case: Case, rng: Random) -> None:
    """A true checkpoint in a block that is made for it, with an earlier time."""
    line = lines[rng.randrange(1, _ANCHORS + 1)]
    line["anchor"] = published(line["size"], bytes.fromhex(line["root"]), block=rng.randrange(100))


ANCHORED: Final = tuple(
    Attack(name=name, make=make, weight=weight, case=NAME)
    for name, make, weight in (
        ("anchors: bit flipped", _flip, 6),
        ("anchors: line dropped, end line made true", _lines(_drop), 1),
        ("anchors: lines swapped, end line made true", _lines(_swap), 1),
        ("anchors: line moved, end line made true", _lines(_move), 1),
        ("anchors: line repeated, end line made true", _lines(_repeat), 1),
        ("anchors: announced otherwise", _fields(_announce), 1),
        ("anchors: a line's fields altered", _fields(_alter_line), 2),
        ("anchors: evidence altered", _fields(_alter_evidence), 3),
        ("anchors: a root in a block made for it", _fields(_another_branch), 1),
        ("anchors: a checkpoint in an earlier block made for it", _fields(_backdated), 1),
    )
)
