"""Writes the golden ledgers: small logs with fixed keys, salts and times, and the checkpoint of every size.

    python tests/ledger/golden/generate.py [--check] [--folder FOLDER]

With --check nothing is written: the exit status is 1 where a file is not what would be. The files of a version that was
released must never change; a change of them is a new format.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from agentmesh_ledger import AgentKey, JsonValue, LogKey
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.envelope import pae, seal, unseal
from agentmesh_ledger.identity import agent_id
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.message import parse_message
from agentmesh_ledger.record import Opening
from agentmesh_ledger.transcript import Header, TranscriptWriter
from agentmesh_ledger.tree import Edge, collect, fold_proof, inclusion_nodes, leaf_hash

ORIGIN: Final = "agentmesh.local/desk"
FOLDER: Final = Path(__file__).parent


def agent(name: str) -> AgentKey:
    """An agent whose key follows from its name."""
    key = SigningKey(name.encode().ljust(32, b"."))
    return AgentKey(name=name, id=agent_id(bytes(key.verify_key)), _key=key)


class Golden:
    """A log that is written entry by entry."""

    def __init__(self) -> None:
        key = SigningKey(ORIGIN.encode().ljust(32, b".")[:32])
        self._key = LogKey(name=ORIGIN, public=bytes(key.verify_key), _key=key)
        self._entries: list[bytes] = []
        self._openings: dict[int, dict[bytes, Opening | None]] = {}
        self._seqs: dict[str, int] = {}

    @property
    def size(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def add(self, author: AgentKey, kind: str, dialogue: str, **changes: JsonValue) -> None:
        """One entry without content."""
        seq = self._seqs.get(dialogue, 0)
        self._seqs[dialogue] = seq + 1
        fields: dict[str, JsonValue] = {
            "author": author.id,
            "dialogue": dialogue,
            "facts": {},
            "index": self.size,
            "kind": kind,
            "log": ORIGIN,
            "parts": [],
            "prev": (leaf_hash(self._entries[-1]) if self._entries else first_link(ORIGIN)).hex(),
            "reply_to": None,
            "seq": seq,
            "time": "2026-11-24T08:00:00.000Z",
            "to": [],
            "v": 1,
        }
        self._entries.append(seal(author, canonical({**fields, **changes})))

    def register(self, author: AgentKey) -> None:
        """The entry that makes an agent's key known."""
        self.add(author, "key.register", "log", facts={"name": author.name})

    def say(
        self, author: AgentKey, text: str, dialogue: str, *, kind: str = "say", **changes: JsonValue
    ) -> bytes:
        """One entry with a text; gives the hash of its part."""
        opening = Opening(salt=self.size.to_bytes(16, "big"), data=text.encode())
        digest = opening.commitment()
        part = {"hash": digest.hex(), "name": "text", "size": len(opening.data), "type": "text/plain"}
        self._openings[self.size] = {digest: opening}
        self.add(author, kind, dialogue, **{"parts": [part], **changes})
        return digest

    def withhold(self, index: int) -> None:
        """What an entry's content is after it was erased."""
        self._openings.pop(index)

    def checkpoints(self) -> bytes:
        """The signed checkpoint of every size from 0 on, one after the other."""
        tree, notes = Edge(), []
        for entry in [None, *self._entries]:
            if entry is not None:
                tree.append(leaf_hash(entry))
            notes.append(Checkpoint(origin=ORIGIN, size=tree.size, root=tree.root()).sign(self._key))
        return "".join(note + "\n" for note in notes).encode()

    def transcript(self, dialogue: str | None = None, chosen: tuple[int, ...] = ()) -> bytes:
        """The transcript of the whole log, or of a dialogue's entries."""
        tree = Edge()
        leaves = [leaf_hash(entry) for entry in self._entries]
        for leaf in leaves:
            tree.append(leaf)
        note = Checkpoint(origin=ORIGIN, size=tree.size, root=tree.root()).sign(self._key)
        out = io.BytesIO()
        header = Header(
            origin=ORIGIN, vkeys=(self._key.vkey,), checkpoint=note, tree_size=tree.size, dialogue=dialogue
        )
        writer = TranscriptWriter(out, header)
        for index in range(self.size) if dialogue is None else chosen:
            proof = None
            if dialogue is not None:
                nodes = inclusion_nodes(index, self.size)
                proof = fold_proof(nodes, collect({node for piece in nodes for node in piece}, leaves))
            parts = parse_message(unseal(self._entries[index]).payload).parts
            writer.entry(index, self._entries[index], parts, self._openings.get(index, {}), proof)
        writer.end()
        return out.getvalue()


def first() -> Mapping[str, bytes]:
    """Two agents, eight entries, two dialogues, every kind of field."""
    ada, ben, log = agent("ada"), agent("ben"), Golden()
    log.register(ada)
    log.register(ben)
    log.add(ada, "open", "d1", facts={"mesh": "desk", "seconds": 0.25, "é€": [None, True, "\n"]})
    log.say(ada, "What is 17 * 23?", "d1", kind="task", to=[ben.id])
    log.say(ben, "", "d2")
    log.say(ben, "391 \N{WHITE HEAVY CHECK MARK}", "d1", reply_to=3, time="2026-11-24T08:00:01.999Z")
    log.add(ben, "made.up-kind_1", "d2", facts={"\N{DESERET CAPITAL LETTER EW}": 1e21, "\ue000": -0.5})
    log.add(ada, "close", "d1", facts={"reason": "done"})
    return {
        "v1-log.transcript.jsonl": log.transcript(),
        "v1-d1.transcript.jsonl": log.transcript("d1", (0, 1, 2, 3, 5, 7)),
        "v1-checkpoints.txt": log.checkpoints(),
    }


def second() -> Mapping[str, bytes]:
    """Three agents, twelve entries: one key rotated, one revoked by the log's steward, one by itself, a text erased."""
    ada, ben, cyd, anew, log = agent("ada"), agent("ben"), agent("cyd"), agent("ben.2"), Golden()
    log.register(ada)
    log.register(ben)
    asked = log.size
    secret = log.say(ada, "My number is 0123456789.", "d1", kind="task", to=[ben.id])
    log.say(ben, "Noted.", "d1", reply_to=asked)
    statement = pae(
        "application/vnd.agentmesh.rotation.v1+json",
        canonical({"log": ORIGIN, "new": anew.id, "old": ben.id}),
    )
    consent = encode64(anew.sign(statement))
    log.add(ben, "key.rotate", "log", facts={"new": anew.id, "consent": consent})
    log.say(anew, "It is ben, with another key.", "d1", reply_to=asked)
    log.withhold(asked)
    log.add(anew, "erase", "log", facts={"entry": asked, "hashes": [secret.hex()], "reason": "private"})
    log.register(cyd)
    log.say(cyd, "Whatever.", "d2")
    log.add(
        ada, "key.revoke", "log", facts={"agent": cyd.id, "after": 7, "reason": "stolen \N{WARNING SIGN}"}
    )
    log.add(ada, "close", "d1", facts={"reason": "done"})
    log.add(ada, "key.revoke", "log", facts={"agent": ada.id, "after": 10})
    return {
        "v1-keys-log.transcript.jsonl": log.transcript(),
        "v1-keys-d1.transcript.jsonl": log.transcript("d1", (0, 1, 2, 3, 4, 5, 6, 9, 10, 11)),
        "v1-keys-checkpoints.txt": log.checkpoints(),
    }


def files() -> Mapping[str, bytes]:
    """Every golden file by its name."""
    return {**first(), **second()}


def main(arguments: list[str] | None = None) -> int:
    """Writes the files, or says which of them differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file differs")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args(arguments)
    differing = []
    for name, data in files().items():
        path: Path = args.folder / name
        if path.exists() and path.read_bytes() == data:
            continue
        differing.append(name)
        if not args.check:
            path.write_bytes(data)
    for name in differing:
        print(f"{name} {'differs' if args.check else 'written'}")
    return int(args.check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
