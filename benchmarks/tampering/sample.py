"""The log that is tampered with: made of payloads, so that a forger can make it again with one of them changed."""

from __future__ import annotations

import copy
import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from nacl.signing import SigningKey

from agentmesh_ledger import AgentKey, LogKey
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.envelope import pae, seal
from agentmesh_ledger.identity import agent_id
from agentmesh_ledger.jcs import canonical

# Any: a forger writes what no type allows.
Fields: TypeAlias = dict[str, Any]

ORIGIN: Final = "agentmesh.local/tampered"
DIALOGUE: Final = "d1"
WITHHELD: Final = "withheld"


def agent(name: str) -> AgentKey:
    """An agent whose key follows from its name."""
    key = SigningKey(name.encode().ljust(32, b"."))
    return AgentKey(name=name, id=agent_id(bytes(key.verify_key)), _key=key)


def log_key(seed: str) -> LogKey:
    """A key for the log's origin that follows from the seed."""
    key = SigningKey(seed.encode().ljust(32, b"."))
    return LogKey(name=ORIGIN, public=bytes(key.verify_key), _key=key)


ADA, BEN, CYD, EVE = agent("ada"), agent("ben"), agent("cyd"), agent("eve")
BEN_ANEW: Final = agent("ben.2")  # the key that ben goes on with
NOBODY: Final = agent("nobody")  # registered nowhere
LOG: Final = log_key("log")
STRANGER: Final = log_key("stranger")


@dataclass(slots=True, kw_only=True)
class Log:
    """What stands in the log: payloads, who signs each, and the content lines of a transcript (hash -> opening)."""

    payloads: list[Fields]
    authors: list[AgentKey]
    contents: list[Fields]

    def copy(self) -> Log:
        """Another log that can be changed alone."""
        return Log(
            payloads=copy.deepcopy(self.payloads),
            authors=list(self.authors),
            contents=copy.deepcopy(self.contents),
        )

    def add(
        self, author: AgentKey, kind: str, dialogue: str, *texts: str, hidden: bool = False, **fields: Any
    ) -> None:
        """One more message; its texts become parts."""
        index = len(self.payloads)
        parts, content = [], {}
        for number, text in enumerate(texts):
            salt = hashlib.sha256(f"{index} {number}".encode()).digest()[:16]
            digest = hashlib.sha256(salt + text.encode()).hexdigest()
            kind_of = "text/plain" if number == 0 else "application/json"
            parts.append(
                {"hash": digest, "name": f"part{number}", "size": len(text.encode()), "type": kind_of}
            )
            shown = {"data": encode(text.encode()), "salt": encode(salt), "type": kind_of}
            content[digest] = WITHHELD if hidden and number == 0 else shown
        self.payloads.append(
            {
                "author": author.id,
                "dialogue": dialogue,
                "facts": {},
                "index": index,
                "kind": kind,
                "log": ORIGIN,
                "parts": parts,
                "prev": "",
                "reply_to": None,
                "seq": sum(each["dialogue"] == dialogue for each in self.payloads),
                "time": f"2026-11-24T08:00:{index:02d}.000Z",
                "to": [],
                "v": 1,
                **fields,
            }
        )
        self.authors.append(author)
        self.contents.append(content)

    def entries(
        self, later: Callable[[int, Fields], Fields | bytes] = lambda _, payload: payload
    ) -> list[bytes]:
        """Every payload linked to the entry before and signed. `later` may change one when its link stands."""
        link, sealed = hashlib.sha256(ORIGIN.encode()).digest(), []
        for index, (payload, author) in enumerate(zip(self.payloads, self.authors, strict=True)):
            linked = later(index, {**payload, "prev": link.hex()})
            entry = seal(author, linked if isinstance(linked, bytes) else canonical(linked))
            sealed.append(entry)
            link = leaf(entry)
        return sealed


def encode(data: bytes) -> str:
    """Base64, as a text."""
    return b64encode(data).decode()


def leaf(entry: bytes) -> bytes:
    """The leaf hash."""
    return hashlib.sha256(b"\0" + entry).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962's tree head, by its definition and not by the code under test."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    cut = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(leaves[:cut]) + root(leaves[cut:])).digest()


def inclusion(index: int, leaves: Sequence[bytes]) -> list[str]:
    """RFC 6962's audit path, as hex."""
    if len(leaves) < 2:
        return []
    cut = 1 << (len(leaves) - 1).bit_length() - 1
    if index < cut:
        return [*inclusion(index, leaves[:cut]), root(leaves[cut:]).hex()]
    return [*inclusion(index - cut, leaves[cut:]), root(leaves[:cut]).hex()]


def consistency(old: int, leaves: Sequence[bytes], whole: bool = True) -> list[str]:
    """RFC 6962's proof that a tree of `old` leaves is the beginning of this one, as hex."""
    if old == len(leaves):
        return [] if whole else [root(leaves).hex()]
    cut = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= cut:
        return [*consistency(old, leaves[:cut], whole), root(leaves[cut:]).hex()]
    return [*consistency(old - cut, leaves[cut:], False), root(leaves[:cut]).hex()]


def note(entries: Sequence[bytes], key: LogKey = LOG) -> str:
    """A checkpoint over these entries."""
    return Checkpoint(origin=ORIGIN, size=len(entries), root=root([leaf(each) for each in entries])).sign(key)


def sealed(lines: Sequence[bytes]) -> bytes:
    """Header and entry lines under an end line that is true of them: an attacker can always make that."""
    body = b"".join(line + b"\n" for line in lines)
    digest = hashlib.sha256(body).hexdigest()
    return body + canonical({"digest": digest, "end": True, "entries": len(lines) - 1}) + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of transcript of the log, and what its auditor holds: the key, checkpoints kept at every size, and blocks."""

    name: str
    dialogue: str | None
    log: Log
    entries: Sequence[bytes]
    notes: Sequence[str]
    transcript: bytes
    blocks: tuple[str, ...] = ()

    @property
    def older(self) -> str:
        """The checkpoint that the auditor kept when the log had fewer entries."""
        return self.notes[OLDER]

    def lines(self) -> list[bytes]:
        """Header and entry lines."""
        return self.transcript.split(b"\n")[:-2]

    def fields(self) -> list[Fields]:
        """The same, parsed."""
        return [json.loads(line) for line in self.lines()]

    def shown(self) -> list[int]:
        """The indices that stand in it."""
        return [each["index"] for each in self.fields()[1:]]

    def needed(self) -> list[int]:
        """The numbers of the lines that may not be missing (the last and the header not among them).

        Of a dialogue's transcript tombstones and revocations may: it shows a dialogue and not what else the log says.
        """
        lines = self.fields()
        return [
            number
            for number, line in enumerate(lines[:-1])
            if number
            and (
                self.dialogue is None
                or self.log.payloads[line["index"]]["kind"] not in ("erase", "key.revoke")
            )
        ]

    def write(
        self, entries: Sequence[bytes], log: Log | None = None, *, key: LogKey = LOG, old: int | None = None
    ) -> bytes:
        """The transcript of other entries, all proofs and the checkpoint made for them by whoever has `key`."""
        contents, leaves = (log or self.log).contents, [leaf(each) for each in entries]
        grown = None
        if self.dialogue is not None and old is not None:
            grown = {"proof": consistency(old, leaves), "root": root(leaves[:old]).hex(), "size": old}
        header = {
            "checkpoint": note(entries, key),
            "consistency": grown,
            "format": "agentmesh-transcript/v1",
            "origin": ORIGIN,
            "selection": "log" if self.dialogue is None else {"dialogue": self.dialogue},
            "tree_size": len(entries),
            "vkeys": [key.vkey],
        }
        lines = [canonical(header)]
        for index in selected(self.dialogue, log or self.log):
            if index >= len(entries):
                break
            line: Fields = {"entry": encode(entries[index]), "index": index, "parts": contents[index]}
            if self.dialogue is not None:
                line["proof"] = inclusion(index, leaves)
            lines.append(canonical(line))
        return sealed(lines)


OLDER: Final = 11  # how many entries the auditor's older checkpoint has


def selected(dialogue: str | None, log: Log) -> list[int]:
    """The indices shown: all, or the dialogue's with what the log says of its speakers' keys."""
    if dialogue is None:
        return list(range(len(log.payloads)))
    speakers = {each["author"] for each in log.payloads if each["dialogue"] == dialogue}
    return [
        index
        for index, each in enumerate(log.payloads)
        if each["dialogue"] == dialogue
        or (
            each["dialogue"] == "log"
            and (each["kind"].startswith("key.") or each["kind"] == "erase")
            and each["author"] in speakers
        )
    ]


def rotation(old: AgentKey, new: AgentKey, *, log: str = ORIGIN, signer: AgentKey | None = None) -> Fields:
    """The facts of a `key.rotate`: the new key's consent to take the old one's place in this log."""
    statement = pae(
        "application/vnd.agentmesh.rotation.v1+json", canonical({"log": log, "new": new.id, "old": old.id})
    )
    return {"new": new.id, "consent": encode((signer or new).sign(statement))}


def small_log() -> Log:
    """Dialogues of four agents; texts shown, withheld and erased; one key rotated, two revoked."""
    log = Log(payloads=[], authors=[], contents=[])
    for each in (ADA, BEN, CYD):
        log.add(each, "key.register", "log", facts={"name": each.name})
    log.add(ADA, "open", "d1", facts={"mesh": "ab" * 8, "seconds": 0.25})
    log.add(ADA, "task", "d1", "What is 17 * 23?", '{"unit":"none"}', to=[BEN.id])
    log.add(BEN, "open", "d2", facts={"é€": [None, True, "\n"]})
    log.add(BEN, "call", "d1", '{"a":17,"b":23}', reply_to=4, facts={"tool": "multiply"})
    log.add(CYD, "task", "d2", "Is it raining?", to=[BEN.id], hidden=True)
    log.add(BEN, "result", "d1", "391", "[391]", reply_to=6, hidden=True)
    log.add(EVE, "key.register", "log", facts={"name": "eve"})
    log.add(EVE, "say", "d2", "It is.", reply_to=7)
    log.add(BEN, "say", "d1", "391", reply_to=4, to=[ADA.id, CYD.id])
    log.add(ADA, "say", "d1", "", "{}", reply_to=11)
    log.add(BEN, "close", "d2", facts={"reason": "done"})
    log.add(BEN, "key.rotate", "log", facts=rotation(BEN, BEN_ANEW))
    log.add(BEN_ANEW, "say", "d1", "Anything else?", reply_to=12)
    log.add(ADA, "erase", "log", facts={"entry": 4, "hashes": [list(log.contents[4])[1]], "reason": "asked"})
    log.contents[4][list(log.contents[4])[1]] = WITHHELD
    log.add(ADA, "key.revoke", "log", facts={"agent": EVE.id, "after": 9})
    log.add(ADA, "close", "d1", facts={"reason": "done"})
    log.add(CYD, "say", "d3", "Good night.")
    log.add(CYD, "key.revoke", "log", facts={"agent": CYD.id, "after": 19, "reason": "gone"})
    return log


def cases() -> Mapping[str, Case]:
    """The transcripts that are tampered with, by name."""
    log = small_log()
    entries = log.entries()
    notes = [note(entries[:size]) for size in range(len(entries) + 1)]
    found = {}
    for name, dialogue in (("log", None), ("dialogue", DIALOGUE)):
        blank = Case(name=name, dialogue=dialogue, log=log, entries=entries, notes=notes, transcript=b"")
        data = blank.write(entries, old=OLDER)
        found[name] = Case(
            name=name, dialogue=dialogue, log=log, entries=entries, notes=notes, transcript=data
        )
    return found


def decode(text: str) -> bytes:
    """The bytes of a base64 text."""
    return b64decode(text)
