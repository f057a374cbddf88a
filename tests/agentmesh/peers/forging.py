"""An owner who signs their own ledger anew, with something in it changed: sound in itself, and not what passed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agentmesh_ledger import AgentKey, Draft, DraftPart, JsonValue, KeyStore, Record
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.statement import content_digest, open_statement, seal_statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A message as it is written again; in its old dialogue, unless another is given, and without a reply if so told."""

    parts: Mapping[str, bytes]
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    dialogue: str | None = None
    replies: bool = True


Alter = Callable[[Record, Copy], "Copy | None"]
"""Gives what is to stand in the place of a message; None leaves it out."""


def text_of(record: Record) -> str:
    """All content of a message."""
    return "\n".join((part.data or b"").decode() for part in record.parts)


def sign_anew(mesh: Path, alter: Alter) -> Path:
    """A copy of a mesh's folder whose ledger was written and signed anew by its owner, with all keys they have."""
    forged = mesh.with_name(f"{mesh.name}-forged")
    shutil.copytree(mesh, forged)
    place = forged / ".agentmesh"
    for old in place.glob("ledger.db*"):
        old.unlink()
    for last in (place / "keys" / "logs").glob("*.checkpoint"):
        last.unlink()
    keys = KeyStore(place / "keys")
    signers = {keys.agent_id(name): keys.agent(name) for name in keys.names()}
    with Ledger.open(mesh / ".agentmesh" / "ledger.db", read_only=True) as log:
        records, origin = list(log.read()), log.origin
    places: dict[int, int] = {}
    with Ledger.open(place / "ledger.db", origin=origin, keys=keys, create=True) as log:
        for record in records:
            message = record.message
            if message.kind == "key.register":
                continue  # the log writes these by itself
            copy = alter(
                record,
                Copy(parts={part.name: part.data or b"" for part in record.parts}, facts=message.facts),
            )
            if copy is not None:
                replies = message.reply_to is not None and copy.replies
                reply_to = places.get(message.reply_to) if replies else None
                (receipt,) = log.append([_draft(record, copy, signers[message.author], reply_to)])
                places[record.index] = receipt.index
    return forged


def says_instead(new: bytes, old: bytes = b"It is good.", *, kind: str) -> Alter:
    """Another text in the messages of this kind, and nothing else."""

    def alter(record: Record, copy: Copy) -> Copy:
        if record.message.kind != kind:
            return copy
        return replace(copy, parts={name: data.replace(old, new) for name, data in copy.parts.items()})

    return alter


def answers_instead(new: bytes, mesh: Path, old: bytes = b"It is good.") -> Alter:
    """Another answer in what was said and sent, under a statement that its owner signs for it, with all its old fields."""
    host = KeyStore(mesh / ".agentmesh" / "keys").agent("host")

    def alter(record: Record, copy: Copy) -> Copy:
        if record.message.kind == "say":
            return replace(copy, parts={name: data.replace(old, new) for name, data in copy.parts.items()})
        content = copy.parts.get("content", b"")
        if record.message.kind != "sent" or old not in content:
            return copy
        content = content.replace(old, new)
        statement = open_statement(copy.parts["statement"]).statement
        sealed = seal_statement(host, replace(statement, digest=content_digest(statement.nonce, content)))
        return Copy(
            parts={"statement": sealed.envelope, "content": content},
            facts={**copy.facts, "statement": sealed.digest},
        )

    return alter


def without(kind: str, type: str = "result") -> Alter:
    """The first such message left out."""
    left_out: list[int] = []

    def alter(record: Record, copy: Copy) -> Copy | None:
        facts = record.message.facts
        if not left_out and record.message.kind == kind and facts.get("type", type) == type:
            left_out.append(record.index)
            return None
        return copy

    return alter


def _draft(record: Record, copy: Copy, key: AgentKey, reply_to: int | None) -> Draft:
    message = record.message
    types = {part.name: part.type for part in record.parts}
    return Draft(
        author=key,
        kind=message.kind,
        dialogue=copy.dialogue or message.dialogue,
        to=message.to,
        reply_to=reply_to,
        parts=tuple(DraftPart(name=name, type=types[name], data=data) for name, data in copy.parts.items()),
        facts=dict(copy.facts),
    )
