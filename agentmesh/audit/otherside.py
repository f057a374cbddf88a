"""Getting at the two records of a cross-check: files and ledgers, and what a served mesh hands out of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mcp import Client
from mcp.client import Transport
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, TextResourceContents

from agentmesh.audit.exchanges import Reading, Side
from agentmesh.errors import AgentMeshError
from agentmesh.keys import open_keys
from agentmesh.locations import LogPlace
from agentmesh.mesh import Mesh
from agentmesh.mesh.peers import remote_peers
from agentmesh.outside import known_keys
from agentmesh.recorder import HOST
from agentmesh.serving.signing import KnownKeys, Policy, Signing, reason_of, signed_transport
from agentmesh.serving.signing.record import wire_dialogue
from agentmesh.toolbox import failures
from agentmesh.toolbox.web import over_http
from agentmesh_ledger import AgentId, KeyStore, LedgerError, TranscriptAudit, Verified
from agentmesh_ledger import Policy as LogPolicy
from agentmesh_ledger.source import is_ledger, opened
from agentmesh_ledger.store import LedgerAudit
from agentmesh_ledger.verify import require_origin

MOST_DIALOGUES: Final = 1_000
_MOST_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a record must meet beside being sound: the log's keys, a checkpoint it must contain, a policy."""

    keys: Sequence[str] = ()
    expect: str | None = None
    policy: LogPolicy | None = None


def read_side(
    source: LogPlace | str, *, origin: str | None = None, terms: Terms | None = None
) -> tuple[Side, Verified]:
    """A record, verified in full: a log at its place, or the file (`-`: standard input) of a transcript or a ledger.

    Raises: LedgerError, whose `path` says which record it is.
    """
    asked = terms or Terms()
    try:
        if isinstance(source, LogPlace):
            return _of_ledger(source.ledger, source.origin, asked, KeyStore(source.keys))
        with opened(source) as stream:
            if is_ledger(stream, source):
                return _of_ledger(source, origin, asked, KeyStore(Path(source).parent / "keys"))
            written = TranscriptAudit(stream, keys=asked.keys, expect=asked.expect, policy=asked.policy)
            reading = Reading()
            reading.take(written)
            found = written.verified()
            require_origin(found, origin)
            return reading.side(found), found
    except LedgerError as error:
        error.path = error.path or str(source)
        raise


def _of_ledger(path: Path | str, origin: str | None, terms: Terms, keys: KeyStore) -> tuple[Side, Verified]:
    stored = LedgerAudit(
        path,
        origin=origin,
        keys=terms.keys,
        expect=terms.expect,
        policy=terms.policy,
        cosigned=None if terms.policy is None else keys.cosigned_notes(),
    )
    reading = Reading()
    reading.take(stored)
    found = stored.verified()
    return reading.side(found), found


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A mesh that is served at a URL: the name its key is pinned under here, and the key itself."""

    url: str
    name: str
    key: AgentId
    token: str | None


def find_served(url: str, place: LogPlace, mesh: Mesh | None) -> Served:
    """The served mesh at `url`, as this mesh knows it.

    Raises:
        AgentMeshError: no key of it is known here, so that anybody might answer in its place; or the file of known keys
            is damaged (`unreadable`).
    """
    peers = {} if mesh is None else remote_peers(mesh)
    peer = next((each for each in peers.values() if each.spec.url == url), None)
    name = url if peer is None else peer.pin
    key = peer.spec.key if peer is not None else None
    key = key or known_keys(place).pin_of("server", name)
    if key is None:
        raise AgentMeshError(
            "no_key",
            f"no key is known here of the mesh at {url}, so nobody could say whose record it is",
            hint="the first call to it pins its key; or give the mesh of which it is a peer as RECORD",
        )
    variable = None if peer is None else peer.spec.token_env
    token = None if variable is None else os.environ.get(variable)
    if variable is not None and not token:
        raise AgentMeshError("usage", f"the environment variable {variable} holds no token")
    return Served(url=url, name=name, key=AgentId(key), token=token)


async def fetch_side(served: Served, ours: Side, place: LogPlace, keys: KeyStore | None = None) -> Side:
    """What a served mesh shows of the dialogues that we held with it, each transcript verified.

    Every answer must be signed by the key that we know. What it does not have is shown as nothing.

    Raises:
        AgentMeshError: it cannot be reached, or hands out what is not its own. LedgerError: a transcript does not verify.
    """
    keys_of_it = _keys_of(ours, served.key)
    wanted = sorted(_dialogues(ours, keys_of_it))
    if len(wanted) > MOST_DIALOGUES:
        raise AgentMeshError(
            "usage",
            f"there are {len(wanted)} dialogues with it, and at most {MOST_DIALOGUES} are fetched",
            hint="give the transcript of one dialogue as RECORD",
        )
    side = Side(
        origin="",
        dialogues=frozenset(wanted),
        keys=keys_of_it,
        exchanged=(),
        retold=(),
        entries=0,
    )
    try:
        async with Client(_transport(served, place, keys)) as client:
            for dialogue in wanted:
                text = await _transcript(client, dialogue)
                if text is not None:
                    found = _own(text, dialogue, served, keys_of_it)
                    side = replace(side, origin=found.origin).and_also(found)
    except failures.FAILURES as error:
        own = next(failures.refusals(error), None)
        if own is not None:
            raise own from error
        if failures.is_ours(error):
            raise
        raise AgentMeshError("not_fetched", f"{served.url}: {failures.words(error)}") from error
    return side


def _transport(served: Served, place: LogPlace, keys: KeyStore | None) -> Transport:
    store = keys or open_keys(place.keys)
    signing = Signing(
        key=store.agent(HOST),
        subject=f"{HOST}@{place.origin or 'agentmesh'}",
        policy=Policy(mode="require", known=KnownKeys(listed=[served.key])),
    )
    transport = over_http(served.url, token=served.token, largest=_MOST_BYTES)
    return signed_transport(transport, signing, peer=served.name, audience=served.key)


def _keys_of(ours: Side, key: AgentId) -> frozenset[str]:
    """The key, and those that answered us under the same name before it: the other side may have changed its key."""
    answers = [
        (each.called, each.sealed.statement.author)
        for each in ours.exchanged
        if (each.kind, each.part) == ("received", "answer")
        and each.sealed is not None
        and not (each.flaw or each.refused)
    ]
    names = {called for called, author in answers if author == key} - {""}
    return frozenset({key, *(author for called, author in answers if called in names)})


def _dialogues(ours: Side, keys: frozenset[str]) -> Iterator[str]:
    """Where the other side records the exchanges that we began."""
    found: set[str] = set()
    for each in ours.exchanged:
        if each.kind == "sent" and each.part == "request" and each.sealed is not None:
            statement = each.sealed.statement
            if statement.audience in keys or each.peer in keys:
                found.add(wire_dialogue(statement.author, statement.dialogue))
    yield from found


async def _transcript(client: Client, dialogue: str) -> bytes | None:
    """The transcript of a dialogue; None where the mesh has none of it."""
    try:
        result = await client.read_resource(f"dialogue://{quote(dialogue, safe='')}/transcript")
    except MCPError as error:
        if reason_of(error) is None and error.code == INVALID_PARAMS:
            return None
        raise
    texts = [each.text for each in result.contents if isinstance(each, TextResourceContents)]
    if len(texts) != 1:
        raise AgentMeshError("not_fetched", f"the transcript of {dialogue} is no text")
    return texts[0].encode("utf-8", "replace")


def _own(text: bytes, dialogue: str, served: Served, keys: frozenset[str]) -> Side:
    """The fetched dialogue, verified. Raises: LedgerError; AgentMeshError where it is another, or another's."""
    try:
        audit = TranscriptAudit(BytesIO(text))
        reading = Reading()
        reading.take(audit)
        side = reading.side(audit.verified())
    except LedgerError as error:
        error.path = error.path or served.url
        raise
    if side.dialogues != frozenset({dialogue}):
        raise AgentMeshError("not_verified", f"{served.url} handed out another dialogue than {dialogue}")
    if not keys & side.keys:
        told = f"the record of {dialogue} is not signed by {served.key}, the key known of {served.name}"
        raise AgentMeshError("not_verified", f"{served.url}: {told}")
    return side
