"""A small log to look at and to forge; vectors of others where they are at hand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from nacl.signing import SigningKey

from agentmesh_ledger import AgentKey, Draft, DraftPart, JsonValue, KeyStore, Ledger, LogKey, Ports
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.envelope import seal
from agentmesh_ledger.identity import agent_id
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.message import Part, parse_message
from agentmesh_ledger.publish import publish_tiles
from agentmesh_ledger.record import Opening
from agentmesh_ledger.transcript import Consistency, Header, TranscriptWriter
from agentmesh_ledger.tree import Edge, collect, fold_proof, inclusion_nodes, leaf_hash

ORIGIN = "agentmesh.local/desk"

# The machine may be busy; a slow example is no fault.
settings.register_profile("agentmesh", deadline=None)
settings.load_profile("agentmesh")


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Path]:
    """Where a folder of foreign test vectors lies; skips where it does not."""
    root = Path(os.environ.get("AGENTMESH_VECTORS", Path(__file__).parents[3] / "shared" / "vectors"))

    def folder(name: str) -> Path:
        found = root / name
        if not found.exists():
            pytest.skip(f"the vectors {name} are not here; set AGENTMESH_VECTORS to their folder")
        return found

    return folder


@pytest.fixture
def ports() -> Ports:
    """A clock and salts that repeat."""
    salts, seconds = count(1), count(0)
    return Ports(
        now=lambda: datetime(2026, 11, 24, 8, 0, next(seconds) % 60, tzinfo=UTC),
        salt=lambda: next(salts).to_bytes(16, "big"),
    )


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


@pytest.fixture
def ledger(tmp_path: Path, keys: KeyStore, ports: Ports) -> Iterator[Ledger]:
    """An empty log."""
    path = tmp_path / "ledger.db"
    with Ledger.open(path, origin=ORIGIN, keys=keys, create=True, ports=ports) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "memory", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new ledger can be made, in each kind of store."""
    return _place(request, tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, in each kind of store that outlives its ledger and that several ledgers may have open."""
    return _place(request, tmp_path)


def _place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        found: str = request.getfixturevalue("database")
        return found
    return ":memory:" if request.param == "memory" else str(tmp_path / "ledger.db")


def text_part(text: str, name: str = "text") -> DraftPart:
    return DraftPart(name=name, type="text/plain", data=text.encode())


@pytest.fixture
def spoken(ledger: Ledger, keys: KeyStore) -> Ledger:
    """Two dialogues of two agents: d1 stands at 1, 2, 4 and 6, d2 at 5; 0 and 3 register the agents."""
    ada, ben = keys.agent("ada"), keys.agent("ben")
    ledger.append(
        [
            Draft(author=ada, kind="open", dialogue="d1", facts={"mesh": "ab" * 4}),
            Draft(author=ada, kind="task", dialogue="d1", to=(ben.id,), parts=(text_part("17 * 23?"),)),
        ]
    )
    ledger.append([Draft(author=ben, kind="say", dialogue="d1", reply_to=2, parts=(text_part("391"),))])
    ledger.append([Draft(author=ben, kind="open", dialogue="d2", facts={"seconds": 0.25})])
    ledger.append([Draft(author=ada, kind="close", dialogue="d1", facts={"reason": "done"})])
    return ledger


@pytest.fixture
def file(spoken: Ledger, tmp_path: Path) -> Path:
    """The small log as one closed file."""
    path = tmp_path / "closed.db"
    with closing(sqlite3.connect(spoken.path)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    return path


@pytest.fixture
def exported(spoken: Ledger) -> Callable[[str | None], bytes]:
    """A transcript of the small log, or of one of its dialogues."""

    def export(dialogue: str | None = None) -> bytes:
        out = io.BytesIO()
        spoken.export(out, dialogue=dialogue)
        return out.getvalue()

    return export


def agent(name: str) -> AgentKey:
    key = SigningKey(name.encode().ljust(32, b"."))
    return AgentKey(name=name, id=agent_id(bytes(key.verify_key)), _key=key)


def log_key(origin: str = ORIGIN) -> LogKey:
    key = SigningKey(origin.encode().ljust(32, b".")[:32])
    return LogKey(name=origin, public=bytes(key.verify_key), _key=key)


class Forge:
    """A log whose operator and agents lie as a test wants: every signature good, every rule to be broken."""

    def __init__(self) -> None:
        self.key = log_key()
        self.ada, self.ben = agent("ada"), agent("ben")
        self.entries: list[bytes] = []
        self.openings: dict[int, dict[bytes, Opening | None]] = {}
        self._seqs: dict[str, int] = {}

    def payload(
        self, author: AgentKey, kind: str, dialogue: str, **changes: JsonValue
    ) -> dict[str, JsonValue]:
        """A payload in its right place, with some of its fields changed."""
        index = len(self.entries)
        seq = self._seqs.get(dialogue, 0)
        self._seqs[dialogue] = seq + 1
        prev = leaf_hash(self.entries[-1]) if self.entries else first_link(ORIGIN)
        facts: dict[str, JsonValue] = {"name": author.name} if kind == "key.register" else {}
        fields: dict[str, JsonValue] = {
            "author": author.id,
            "dialogue": dialogue,
            "facts": facts,
            "index": index,
            "kind": kind,
            "log": ORIGIN,
            "parts": [],
            "prev": prev.hex(),
            "reply_to": None,
            "seq": seq,
            "time": "2026-11-24T08:00:00.000Z",
            "to": [],
            "v": 1,
        }
        return {**fields, **changes}

    def add(self, author: AgentKey, kind: str, dialogue: str, **changes: JsonValue) -> Forge:
        self.entries.append(seal(author, canonical(self.payload(author, kind, dialogue, **changes))))
        return self

    def say(
        self, author: AgentKey, text: str, dialogue: str = "d1", *, kind: str = "say", **changes: JsonValue
    ) -> Forge:
        opening = Opening(salt=len(self.entries).to_bytes(16, "big"), data=text.encode())
        digest = opening.commitment()
        part: dict[str, JsonValue] = {
            "hash": digest.hex(),
            "name": "text",
            "size": len(opening.data),
            "type": "text/plain",
        }
        self.openings[len(self.entries)] = {digest: opening}
        return self.add(author, kind, dialogue, **{"parts": [part], **changes})

    def begin(self) -> Forge:
        """Both agents registered, at 0 and 1."""
        return self.add(self.ada, "key.register", "log").add(self.ben, "key.register", "log")

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        tree = Edge()
        for entry in self.entries[:size]:
            tree.append(leaf_hash(entry))
        return Checkpoint(origin=ORIGIN, size=tree.size, root=tree.root())

    def transcript(
        self,
        chosen: list[int] | None = None,
        *,
        dialogue: str | None = None,
        note: str | None = None,
        consistency: Consistency | None = None,
        **header: object,
    ) -> bytes:
        """The transcript of the chosen entries, with a true end line whatever else is false."""
        size = len(self.entries)
        fields: dict[str, object] = {
            "origin": ORIGIN,
            "vkeys": (self.key.vkey,),
            "checkpoint": note or self.checkpoint().sign(self.key),
            "tree_size": size,
            "dialogue": dialogue,
            "consistency": consistency,
        }
        out = io.BytesIO()
        writer = TranscriptWriter(out, Header(**{**fields, **header}))  # type: ignore[arg-type]  # lies on purpose
        leaves = [leaf_hash(entry) for entry in self.entries]
        for index in range(size) if chosen is None else chosen:
            proof = None
            if dialogue is not None:
                nodes = inclusion_nodes(index, size)
                proof = fold_proof(nodes, collect({n for each in nodes for n in each}, leaves))
            writer.entry(index, self.entries[index], self.parts(index), self.openings.get(index, {}), proof)
        writer.end()
        return out.getvalue()

    def parts(self, index: int) -> tuple[Part, ...]:
        from agentmesh_ledger.envelope import unseal

        try:
            return parse_message(unseal(self.entries[index]).payload).parts
        except Exception:  # noqa: BLE001  # a forged entry need not parse
            return ()


@pytest.fixture
def forge() -> Forge:
    return Forge()


@pytest.fixture(scope="session")
def forge_of() -> type[Forge]:
    """For a test that needs more than one."""
    return Forge


def resealed(lines: list[bytes]) -> bytes:
    """The lines (without the end line) under an end line that is true of them: what a forger would do."""
    body = b"".join(line + b"\n" for line in lines)
    end = {"digest": hashlib.sha256(body).hexdigest(), "end": True, "entries": len(lines) - 1}
    return body + canonical(end) + b"\n"


@pytest.fixture
def reseal() -> Callable[[list[bytes]], bytes]:
    return resealed


@pytest.fixture
def edit() -> Callable[..., bytes]:
    """A transcript with fields of one line (from 0) changed and the end line made true again."""

    def change(transcript: bytes, line: int, **fields: JsonValue) -> bytes:
        lines = transcript.split(b"\n")[:-2]
        value: Mapping[str, JsonValue] = json.loads(lines[line])
        lines[line] = canonical({**value, **fields})
        return resealed(lines)

    return change


class LeafTiles:
    """The tiles of a list of leaf hashes, each hash computed apart by the RFC's own recursion."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels: list[list[bytes]] = [list(leaves)]
        while len(self._levels[-1]) >= 256:
            row = self._levels[-1]
            self._levels.append(
                [plain_root(row[place : place + 256]) for place in range(0, len(row) - 255, 256)]
            )

    def tile(self, level: int, number: int, width: int) -> bytes:
        assert 1 <= width <= 256
        found = self._levels[level][number * 256 : number * 256 + width]
        assert len(found) == width, (level, number, width)
        return b"".join(found)


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 2.1 word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + plain_root(leaves[:split]) + plain_root(leaves[split:])).digest()


@pytest.fixture(scope="session")
def leaf_tiles() -> type[LeafTiles]:
    """A source of tiles over a list of leaf hashes."""
    return LeafTiles


@pytest.fixture(scope="session")
def talk() -> Callable[[int], Forge]:
    """A log of so many entries: two agents registered, then one long dialogue. Each size is made once."""
    made: dict[int, Forge] = {}

    def long(size: int) -> Forge:
        if size not in made:
            log = Forge().begin()
            while len(log.entries) < size:
                log.add(log.ada if len(log.entries) % 2 else log.ben, "say", "d1")
            made[size] = log
        return made[size]

    return long


@pytest.fixture
def publish(leaf_tiles) -> Callable[..., Path]:
    """Publishes the first entries of a log."""

    def run(folder: Path, log, size: int, note: str | None = None) -> Path:
        entries = log.entries[:size]
        publish_tiles(
            folder,
            note or log.checkpoint(size).sign(log.key),
            [log.key.vkey],
            leaf_tiles([leaf_hash(entry) for entry in entries]),
            lambda start, stop: entries[start:stop],
        )
        return folder

    return run
