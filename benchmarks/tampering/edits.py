"""Attacks by whoever holds the file but no key: bytes, lines and fields altered, the end line made true or not."""

from __future__ import annotations

import string
from collections.abc import Callable, MutableSequence
from random import Random
from typing import Final

from agentmesh_ledger.jcs import canonical
from tampering.attack import Attack, Make
from tampering.sample import LOG, ORIGIN, STRANGER, WITHHELD, Case, Fields, decode, encode, note, sealed


def _flip(data: bytes, rng: Random) -> bytes:
    place, bit = rng.randrange(len(data)), 1 << rng.randrange(8)
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def _replace(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]


def _insert(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    # A byte of JSON more often than any: it has to get further than the parser.
    new = rng.choice(b'0123456789abcdef",:{}[] \n') if rng.random() < 0.7 else rng.randrange(256)
    return data[:place] + bytes([new]) + data[place:]


def _delete(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.choice((1, 1, 1, 2, 8, 64)) :]


def _digit(data: bytes, rng: Random) -> bytes:
    """One letter or digit for another: what stays JSON, base64 and hex in most places."""
    place = rng.choice([at for at, each in enumerate(data) if chr(each).isalnum()])
    return data[:place] + rng.choice(string.hexdigits[:16]).encode() + data[place + 1 :]


def _raw(change: Callable[[bytes, Random], bytes]) -> Make:
    """The change somewhere in the file, its end line included."""
    return lambda case, rng: change(case.transcript, rng)


def _sealed(change: Callable[[bytes, Random], bytes]) -> Make:
    """The change somewhere before the end line, which is then made true again."""

    def make(case: Case, rng: Random) -> bytes:
        body = b"".join(line + b"\n" for line in case.lines())
        lines = change(body, rng).split(b"\n")
        return sealed(lines[:-1] if not lines[-1] else lines)

    return make


def _cut(case: Case, rng: Random) -> bytes:
    data = case.transcript
    if rng.random() < 0.2:  # between two lines
        return data[: rng.choice([at + 1 for at, each in enumerate(data[:-1]) if each == 10])]
    return data[: rng.randrange(len(data))]


def _append(case: Case, rng: Random) -> bytes:
    more = rng.choice((b"\n", b" ", b"{}\n", b"\0", case.transcript, case.lines()[-1] + b"\n"))
    return case.transcript + more


def _lines(change: Callable[[MutableSequence[bytes], Case, Random], None], *, seal: bool) -> Make:
    def make(case: Case, rng: Random) -> bytes:
        if seal:
            lines = case.lines()
            change(lines, case, rng)
            return sealed(lines)
        lines = case.transcript.split(b"\n")[:-1]
        change(lines, case, rng)
        return b"".join(line + b"\n" for line in lines)

    return make


def _drop(lines: MutableSequence[bytes], case: Case, rng: Random) -> None:
    # Not the last: without it a dialogue is a true, shorter showing, and says that it has no close.
    del lines[rng.choice([0, *case.needed()])]


def _drop_run(lines: MutableSequence[bytes], case: Case, rng: Random) -> None:
    place = rng.choice(case.needed())
    last = len(case.lines()) - 1
    del lines[rng.randrange(max(0, place - 3), place + 1) : rng.randrange(place + 1, last + 1)]


def _swap(lines: MutableSequence[bytes], case: Case, rng: Random) -> None:
    one, two = rng.sample(range(len(lines)), 2)
    lines[one], lines[two] = lines[two], lines[one]


def _repeat(lines: MutableSequence[bytes], case: Case, rng: Random) -> None:
    lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))


def _truncate(case: Case, rng: Random) -> bytes:
    """Entries cut off at the end, the header kept, the end line made true."""
    lines = case.lines()
    return sealed(lines[: rng.randrange(1, len(lines))])


def _roll_back(case: Case, rng: Random) -> bytes:
    """A transcript that was true once: only a checkpoint that someone kept shows what is gone."""
    return case.write(case.entries[: rng.randrange(5, len(case.entries))])


def _fields(change: Callable[[list[Fields], Random], None]) -> Make:
    """The change in the parsed lines, written canonically under a true end line."""

    def make(case: Case, rng: Random) -> bytes:
        fields = case.fields()
        change(fields, rng)
        return sealed([canonical(each) for each in fields])

    return make


def _exchange(*names: str) -> Make:
    def change(lines: list[Fields], rng: Random) -> None:
        one, two = rng.sample(lines[1:], 2)
        for name in names:
            one[name], two[name] = two[name], one[name]

    return _fields(change)


def _openings(lines: list[Fields]) -> list[Fields]:
    return [each for line in lines[1:] for each in line["parts"].values() if each != WITHHELD]


def _exchange_in_openings(name: str) -> Make:
    def change(lines: list[Fields], rng: Random) -> None:
        one, two = rng.sample(_openings(lines), 2)
        one[name], two[name] = two[name], one[name]

    return _fields(change)


def _exchange_parts(lines: list[Fields], rng: Random) -> None:
    """The whole opening of one part for that of another, of the same message or of two."""
    places = [(line["parts"], key) for line in lines[1:] for key in line["parts"]]
    (one, first), (two, second) = rng.sample(places, 2)
    if WITHHELD in (one[first], two[second]):
        # Content moved to where it was withheld; that it is missing where it was is a true showing.
        two[second] = one[first] = two[second] if one[first] == WITHHELD else one[first]
    else:
        one[first], two[second] = two[second], one[first]


def _alter_content(lines: list[Fields], rng: Random) -> None:
    opening = rng.choice(_openings(lines))
    name = rng.choice(("data", "salt"))
    data = decode(opening[name])
    change = rng.choice((_flip, _replace, _delete)) if data else _insert
    opening[name] = encode(change(data, rng))


def _rename_content(lines: list[Fields], rng: Random) -> None:
    """A part under another hash, a part too many, or a part not spoken of."""
    parts = rng.choice([line["parts"] for line in lines[1:] if line["parts"]])
    key = rng.choice(sorted(parts))
    how = rng.randrange(3)
    if how == 0:
        parts[rng.randbytes(32).hex()] = parts.pop(key)
    elif how == 1:
        parts[rng.randbytes(32).hex()] = parts[key]
    else:
        del parts[key]


def _exchange_proof_hashes(lines: list[Fields], rng: Random) -> None:
    line = rng.choice(lines[1:])
    proof = line["proof"]
    how = rng.randrange(4)
    if how == 0:
        one, two = rng.sample(range(len(proof)), 2)
        proof[one], proof[two] = proof[two], proof[one]
    elif how == 1:
        proof[rng.randrange(len(proof))] = rng.choice(rng.choice(lines[1:])["proof"])
    elif how == 2:
        proof.insert(rng.randrange(len(proof) + 1), rng.randbytes(32).hex())
    else:
        del proof[rng.randrange(len(proof))]


def _alter_consistency(lines: list[Fields], rng: Random) -> None:
    header = lines[0]
    grown = header["consistency"]
    how = rng.randrange(5)
    if how == 0:
        header["consistency"] = None
    elif how == 1:
        grown["size"] = rng.randrange(2 * header["tree_size"])
    elif how == 2:
        grown["root"] = rng.randbytes(32).hex()
    elif how == 3:
        grown["proof"][rng.randrange(len(grown["proof"]))] = rng.randbytes(32).hex()
    else:
        del grown["proof"][rng.randrange(len(grown["proof"]))]


def _alter_header(case: Case, rng: Random) -> bytes:
    fields = case.fields()
    header = fields[0]
    text, size = header["checkpoint"], header["tree_size"]
    name, value = rng.choice(
        [
            ("format", rng.choice(("agentmesh-transcript/v2", "", None))),
            ("origin", rng.choice((ORIGIN + "x", "agentmesh.local/other", "", 7))),
            ("selection", rng.choice(("log", "dialogue", {"dialogue": "d2"}, {"dialogue": "d9"}, None))),
            ("tree_size", rng.choice((size - 1, size + 1, 0, -1, 2**53 - 1, str(size), rng.randrange(size)))),
            (
                "vkeys",
                rng.choice(([], [LOG.vkey, LOG.vkey], [STRANGER.vkey], [LOG.vkey, STRANGER.vkey], None)),
            ),
            ("checkpoint", text.replace(f"\n{size}\n", f"\n{rng.randrange(size)}\n")),
            ("checkpoint", text.replace(ORIGIN, ORIGIN + "x", rng.choice((1, 2)))),
            ("checkpoint", rng.choice((text[:-1], text + "\n", text.replace("\n\n", "\n"), "", "\n\n"))),
            ("checkpoint", case.notes[rng.randrange(size)]),
            ("consistency", {"proof": [], "root": "00" * 32, "size": 0}),
            (rng.choice(("more", "", "end")), rng.choice((None, 1, "x"))),
        ]
    )
    header[name] = value
    return sealed([canonical(each) for each in fields])


def _stranger(case: Case, rng: Random) -> bytes:
    """The checkpoint signed anew by a key of the same name that nobody pinned, for this log or a shorter one."""
    if rng.random() < 0.5:
        return case.write(case.entries[: rng.randrange(5, len(case.entries) + 1)], key=STRANGER)
    fields = case.fields()
    header = fields[0]
    header["checkpoint"] = note(case.entries, STRANGER)
    # With its own key named, or under the name of the right one.
    header["vkeys"] = rng.choice(([STRANGER.vkey], [LOG.vkey], [LOG.vkey, STRANGER.vkey]))
    return sealed([canonical(each) for each in fields])


_BYTES: Final = (
    ("bit flipped", _flip, 12),
    ("byte replaced", _replace, 4),
    ("byte inserted", _insert, 4),
    ("bytes deleted", _delete, 4),
    ("letter or digit exchanged", _digit, 4),
)
_LINES: Final = (
    ("line dropped", _drop, 2),
    ("run of lines dropped", _drop_run, 2),
    ("lines swapped", _swap, 2),
    ("line repeated", _repeat, 2),
)

EDITS: Final = (
    *(Attack(name=name, make=_raw(change), weight=weight) for name, change, weight in _BYTES),
    *(
        Attack(name=f"{name}, end line made true", make=_sealed(change), weight=weight, expect="older")
        for name, change, weight in _BYTES
    ),
    Attack(name="cut off, in a line or between two", make=_cut, weight=3),
    Attack(name="bytes after the end", make=_append),
    *(Attack(name=name, make=_lines(change, seal=False), weight=weight) for name, change, weight in _LINES),
    *(
        Attack(name=f"{name}, end line made true", make=_lines(change, seal=True), weight=weight)
        for name, change, weight in _LINES
    ),
    Attack(name="truncated at a line, end line made true", make=_truncate, case="log", weight=2),
    Attack(name="rolled back to a true older checkpoint", make=_roll_back, expect="latest", weight=2),
    Attack(name="entries exchanged", make=_exchange("entry"), weight=2),
    Attack(name="indices exchanged", make=_exchange("index"), weight=2),
    Attack(name="entries and indices exchanged", make=_exchange("entry", "index"), weight=2),
    Attack(name="contents of two entries exchanged", make=_exchange("parts"), weight=2),
    Attack(name="proofs exchanged", make=_exchange("proof"), case="dialogue", weight=2),
    Attack(name="a proof's hashes altered", make=_fields(_exchange_proof_hashes), case="dialogue", weight=2),
    Attack(
        name="consistency proof altered", make=_fields(_alter_consistency), case="dialogue", expect="older"
    ),
    Attack(name="salts exchanged", make=_exchange_in_openings("salt"), weight=2),
    Attack(name="data exchanged", make=_exchange_in_openings("data"), weight=2),
    Attack(name="media types exchanged", make=_exchange_in_openings("type")),
    Attack(name="parts exchanged", make=_fields(_exchange_parts), weight=2),
    Attack(name="content altered", make=_fields(_alter_content), weight=2),
    Attack(name="content under another hash", make=_fields(_rename_content), weight=2),
    Attack(name="header field changed", make=_alter_header, weight=4, expect="older"),
    Attack(name="checkpoint signed by a stranger's log key", make=_stranger, weight=2),
)
