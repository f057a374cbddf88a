"""Attacks on a closed ledger file: its bytes, its rows, its tables.

Deleting a row of `parts` is no attack: content may be erased, and the evidence then counts it as withheld.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger, Ports, verify_ledger
from agentmesh_ledger.jcs import canonical
from tampering.sample import ADA, BEN, CYD, LOG, ORIGIN, encode

Verdict: TypeAlias = Callable[[Callable[[], object]], tuple[str | None, str | None]]
Alter: TypeAlias = Callable[[Path, Random], None]
PAGE: Final = 4096


def _keys(folder: Path) -> KeyStore:
    """A key store whose log key is always the same, so that the file is."""
    path = folder / "logs" / f"{quote(ORIGIN, safe='')}.key"
    path.parent.mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    fields = {
        "created": "2026-11-24T08:00:00Z",
        "format": "agentmesh-key/v1",
        "id": LOG.vkey,
        "name": ORIGIN,
        "role": "log",
        "seed": encode(bytes(LOG._key)),
    }
    path.touch(mode=0o600)
    path.write_bytes(canonical(fields) + b"\n")
    return KeyStore(folder)


@lru_cache(maxsize=1)
def sample() -> tuple[bytes, tuple[str, ...], tuple[bytes, ...]]:
    """A ledger file that was closed, and the checkpoints and tree edges it had after each commit."""
    salts, seconds = count(1), count(0)
    ports = Ports(
        now=lambda: datetime(2026, 11, 24, 8, 0, next(seconds) % 60, tzinfo=UTC),
        salt=lambda: next(salts).to_bytes(16, "big"),
    )
    notes, edges = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        keys = _keys(Path(folder) / "keys")
        with Ledger.open(path, origin=ORIGIN, keys=keys, create=True, ports=ports) as log:
            for number in range(22):  # so many that one block of entries has its places
                for author, dialogue in ((ADA, "d1"), (BEN, "d1"), (CYD, f"e{number}")):
                    drafts = []
                    for each in range(8):  # so many that one tile of hashes is full
                        text = f"{author.name} says {number} {each}".encode()
                        long = number == 3 and each == 0  # more than a page of the file holds
                        part = DraftPart(name="text", type="text/plain", data=text * (1 + 400 * long))
                        drafts.append(Draft(author=author, kind="say", dialogue=dialogue, parts=(part,)))
                    log.append(drafts)
                    notes.append(log.checkpoint())
                    with closing(sqlite3.connect(path)) as connection:
                        edges.append(connection.execute("SELECT edge FROM head").fetchone()[0])
        return path.read_bytes(), tuple(notes), tuple(edges)


def _bytes(change: Callable[[bytes, Random], bytes]) -> Alter:
    return lambda path, rng: _write(path, change(path.read_bytes(), rng))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _flip(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def _replace(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(1) + data[place + 1 :]


def _exchange_pages(data: bytes, rng: Random) -> bytes:
    pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    one, two = rng.sample(range(len(pages)), 2)
    pages[one], pages[two] = pages[two], pages[one]
    return b"".join(pages)


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.choice((rng.randrange(len(data)), PAGE * rng.randrange(1, len(data) // PAGE)))]


def _sql(change: Callable[[sqlite3.Connection, Random], None]) -> Alter:
    def alter(path: Path, rng: Random) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            change(connection, rng)

    return alter


def _row(connection: sqlite3.Connection, table: str, rng: Random) -> int:
    rows = connection.execute(f"SELECT rowid FROM {table} ORDER BY rowid").fetchall()
    return int(rng.choice(rows)[0])


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]


def _delete(connection: sqlite3.Connection, rng: Random) -> None:
    table = rng.choice(("entries", "entries", "entries", "head", "tiles"))
    connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (_row(connection, table, rng),))


def _exchange_rows(connection: sqlite3.Connection, rng: Random) -> None:
    """Two rows change places, whole or one column of them."""
    table = rng.choice(("entries", "parts"))
    names = [each for each in _columns(connection, table) if each not in ("log", "idx")]
    if rng.random() < 0.6:
        names = [rng.choice(names)]
    one, two = _row(connection, table, rng), _row(connection, table, rng)
    wanted = ", ".join(names)
    rows = {
        place: connection.execute(f"SELECT {wanted} FROM {table} WHERE rowid = ?", (place,)).fetchone()
        for place in (one, two)
    }
    if table == "entries":  # the index of dialogues is unique: out of the way first
        connection.execute("UPDATE entries SET seq = -1 WHERE rowid = ?", (one,))
        if "seq" not in names:
            connection.execute("UPDATE entries SET seq = -2 WHERE rowid = ?", (two,))
    for place, other in ((two, one), (one, two)):
        setting = ", ".join(f"{name} = ?" for name in names)
        connection.execute(f"UPDATE {table} SET {setting} WHERE rowid = ?", (*rows[other], place))


def _other_value(value: Any, rng: Random) -> Any:
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value + 2**40, str(value), None))
    data = value if isinstance(value, bytes) else value.encode()
    place = rng.randrange(len(data)) if data else 0
    changed = rng.choice(
        (
            data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] if data else b"x",
            data[:place],
            data + b"\0",
            data + b"x",
            b"",
        )
    )
    if isinstance(value, bytes):
        return rng.choice((changed, changed, changed, data.hex(), None, 7))
    return rng.choice((changed.decode("utf-8", "replace"), data, None, 7))


def _change_column(connection: sqlite3.Connection, rng: Random) -> None:
    table = rng.choice(("entries", "entries", "parts", "head", "tiles"))
    name, place = rng.choice(_columns(connection, table)), _row(connection, table, rng)
    value = connection.execute(f"SELECT {name} FROM {table} WHERE rowid = ?", (place,)).fetchone()[0]
    connection.execute(f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (_other_value(value, rng), place))


def _insert(connection: sqlite3.Connection, rng: Random) -> None:
    """A row too many: an entry at another index, content of another hash, a tile. (A second head is another log.)"""
    table = rng.choice(("entries", "parts", "tiles"))
    names = _columns(connection, table)
    row = dict(
        zip(
            names,
            connection.execute(
                f"SELECT * FROM {table} WHERE rowid = ?", (_row(connection, table, rng),)
            ).fetchone(),
            strict=True,
        )
    )
    changes: dict[str, dict[str, Any]] = {
        "entries": {"idx": rng.choice((-1, 10**6, 531)), "dialogue": "z", "seq": 0},
        "parts": {rng.choice(("idx", "hash")): rng.choice((-1, 10**6))},
        "tiles": {"number": rng.randrange(1, 5)},
    }
    row.update(changes[table])
    if isinstance(row.get("hash"), int):
        row["hash"] = rng.randbytes(32)
    if table == "entries" and rng.random() < 0.3:
        row["log"] = 9
    marks = ", ".join("?" for _ in names)
    connection.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", list(row.values()))


def _misplace(connection: sqlite3.Connection, rng: Random) -> None:
    """A place in a dialogue is changed, deleted or added."""
    names = _columns(connection, "places")
    row = list(rng.choice(connection.execute("SELECT * FROM places").fetchall()))
    key = "WHERE log = ? AND dialogue = ? AND seq = ?"
    match rng.randrange(4):
        case 0:
            connection.execute(f"DELETE FROM places {key}", row[:3])
        case 1:
            row[rng.choice((0, 1, 2))] = rng.choice((7, 1000, "other"))
            connection.execute("INSERT INTO places VALUES (?, ?, ?, ?)", row)
        case _:
            at = rng.randrange(4)
            values = (_other_value(row[at], rng), *row[:3])
            connection.execute(f"UPDATE places SET {names[at]} = ? {key}", values)


def _change_tables(connection: sqlite3.Connection, rng: Random) -> None:
    connection.execute(
        rng.choice(
            (
                "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM parts; END",
                "CREATE VIEW v AS SELECT * FROM entries",
                f"CREATE TABLE more{rng.randrange(100)} (x)",
                f"CREATE INDEX i{rng.randrange(100)} ON entries (author)",
                "DROP TABLE places",
                "DROP TABLE parts",
                "ALTER TABLE entries ADD COLUMN more TEXT",
                "ALTER TABLE parts RENAME COLUMN salt TO pepper",
                f"PRAGMA user_version = {rng.randrange(100, 1000)}",
                f"PRAGMA application_id = {rng.randrange(2, 1000)}",
            )
        )
    )


def _roll_back(connection: sqlite3.Connection, rng: Random) -> None:
    """The log as it stood after an earlier commit, head and all; only a kept checkpoint tells."""
    _, notes, edges = sample()
    number = rng.randrange(len(notes) - 1)
    size = int(notes[number].split("\n")[1])
    connection.execute("DELETE FROM entries WHERE idx >= ?", (size,))
    connection.execute("DELETE FROM parts WHERE idx >= ?", (size,))
    connection.execute(
        "UPDATE head SET size = ?, checkpoint = ?, edge = ?", (size, notes[number], edges[number])
    )


_ATTACKS: Final[tuple[tuple[str, Alter, int], ...]] = (
    ("bit flipped", _bytes(_flip), 10),
    ("byte replaced", _bytes(_replace), 2),
    ("pages exchanged", _bytes(_exchange_pages), 1),
    ("cut off", _bytes(_cut), 1),
    ("row deleted", _sql(_delete), 2),
    ("rows or their columns exchanged", _sql(_exchange_rows), 3),
    ("column changed", _sql(_change_column), 4),
    ("row added", _sql(_insert), 2),
    ("place changed", _sql(_misplace), 2),
    ("tables changed", _sql(_change_tables), 1),
    ("rolled back to an earlier commit", _sql(_roll_back), 1),
)
_SCHEDULE: Final = tuple((name, alter) for name, alter, weight in _ATTACKS for _ in range(weight))


def dump(path: Path) -> dict[str, object]:
    """Everything that can be read: what the database says of itself, and every row of every table."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        found: dict[str, object] = {
            name: connection.execute(f"PRAGMA {name}").fetchall()
            for name in ("user_version", "application_id")
        }
        described = connection.execute("SELECT * FROM sqlite_master ORDER BY name").fetchall()
        found["sqlite_master"] = described
        for kind, name, *_ in described:
            if kind == "table":
                rows = connection.execute(f"SELECT * FROM {name} NOT INDEXED").fetchall()
                found[name] = sorted(rows, key=repr)
        return found


@lru_cache(maxsize=1)
def _original() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        path.write_bytes(sample()[0])
        return dump(path)


def judge(number: int, seed: int, verdict: Verdict) -> tuple[str, str | None, str | None, bool]:
    """The mutation of this number: its name, the check that caught it, else what came of it, and whether it is one
    that nothing reads: the verifier accepts the file because a dump of it is what it was."""
    name, alter = _SCHEDULE[number % len(_SCHEDULE)]
    rng = Random(f"{seed}:{number}")
    data, notes, _ = sample()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        for _ in range(1000):
            path.write_bytes(data)
            try:
                alter(path, rng)
            except sqlite3.IntegrityError:
                continue  # the database itself would not have it
            # A statement counts commits in the file's header: rows tell whether anything was done.
            if path.read_bytes() != data and (alter in _OF_BYTES or dump(path) != _original()):
                break
        else:
            raise RuntimeError(f"{name} never changes the file")
        check, missed = verdict(lambda: verify_ledger(path, keys=[LOG.vkey], expect=notes[-1]))
        if missed is None or not missed.startswith("accepted"):
            return name, check, missed, False
        try:
            now, before = dump(path), _original()
        except sqlite3.Error as error:
            return name, None, f"accepted, but cannot be dumped: {error}", False
        if now == before:
            return name, None, None, True
        differing = sorted(each for each in now.keys() | before.keys() if now.get(each) != before.get(each))
        return name, None, f"accepted, though other rows are read from {', '.join(differing)}", False


_OF_BYTES: Final = frozenset(alter for _, alter, _ in _ATTACKS[:4])
