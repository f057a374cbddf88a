"""The record as MCP resources: dialogues, their transcripts, the checkpoint, single entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote

import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.types import Annotations
from mcp.types import Resource as ListedResource

from agentmesh.events import Ended, Event, Opened
from agentmesh.serving import ledger_record
from agentmesh.serving.answers import MAX_TASK
from agentmesh.serving.dialogues import Dialogue, Dialogues
from agentmesh.serving.icon import ICON
from agentmesh.serving.updates import Updates
from agentmesh.toolbox.results import clean, one_line
from agentmesh_ledger import LedgerError
from agentmesh_ledger.log import Ledger

CHECKPOINT: Final = "ledger://checkpoint"
MOST_LISTED: Final = 50
_READERS: Final = Annotations(audience=["user", "assistant"])
_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_T = TypeVar("_T")


def dialogue_uri(dialogue: str) -> str:
    """Where a dialogue can be read."""
    return f"dialogue://{quote(dialogue, safe='')}"


def transcript_uri(dialogue: str) -> str:
    """Where a dialogue's transcript can be read."""
    return f"{dialogue_uri(dialogue)}/transcript"


def add_resources(server: MCPServer, dialogues: Dialogues, updates: Updates) -> None:
    """Put the record's resources on a server, and tell of their changes."""
    _add_dialogues(server, dialogues.live.ledger)
    _add_entries(server, dialogues.live.ledger)

    def changed(dialogue: str, event: Event) -> None:
        updates.changed(
            dialogue_uri(dialogue),
            transcript_uri(dialogue),
            CHECKPOINT,
            listed=isinstance(event, Opened | Ended),
        )

    dialogues.on_change(changed)


def _add_dialogues(server: MCPServer, log: Ledger) -> None:
    @server.resource(
        "dialogue://{id}",
        name="dialogue",
        title="A dialogue",
        description="What was said in a dialogue, from the record, to be read",
        mime_type="text/plain",
        icons=[ICON],
        annotations=_READERS,
    )
    async def dialogue(id: str) -> str:
        return await _read(partial(ledger_record.dialogue_text, log, id))

    @server.resource(
        "dialogue://{id}/transcript",
        name="transcript",
        title="A dialogue's transcript",
        description="A dialogue as one file that agentmesh-verify checks alone (agentmesh-transcript/v1)",
        mime_type="application/jsonl",
        icons=[ICON],
    )
    async def transcript(id: str) -> str:
        return await _read(partial(ledger_record.transcript, log, id))


def _add_entries(server: MCPServer, log: Ledger) -> None:
    @server.resource(
        CHECKPOINT,
        name="checkpoint",
        title="The ledger's checkpoint",
        description="The last signed checkpoint: kept elsewhere, it shows later that nothing was cut",
        mime_type="text/plain",
        icons=[ICON],
    )
    async def checkpoint() -> str:
        return await _read(log.checkpoint)

    @server.resource(
        "ledger://entry/{n}",
        name="entry",
        title="An entry of the ledger",
        description="One signed entry with its content and the proof that it is in the log",
        mime_type="application/json",
        icons=[ICON],
    )
    async def entry(n: str) -> str:
        # Not an integer of the SDK's making: to what is none it answers with an internal error.
        if not _NUMBER.fullmatch(n):
            raise ResourceNotFoundError("an entry is named by its number, as in ledger://entry/12")
        return await _read(partial(ledger_record.entry_json, log, int(n)))


def listed_dialogues(dialogues: Dialogues) -> list[ListedResource]:
    """The dialogues of this server as resources, the newest first."""
    known = [*reversed(dialogues.running), *reversed(dialogues.ended)]
    return [_listed(each) for each in known[:MOST_LISTED]]


def _listed(dialogue: Dialogue) -> ListedResource:
    asked = f"{dialogue.agent} was asked: " if dialogue.agent else ""
    state = "ended" if dialogue.over else "running"
    return ListedResource(
        uri=dialogue_uri(dialogue.id),
        name=dialogue.id,
        title=one_line(f"{asked}{dialogue.task}", limit=MAX_TASK),
        description=f"A dialogue, {state}",
        mime_type="text/plain",
    )


async def _read(read: Callable[[], _T]) -> _T:
    try:
        return await anyio.to_thread.run_sync(read)
    except LedgerError as error:
        kind = ResourceNotFoundError if error.reason == "not_found" else ResourceError
        raise kind(clean(str(error) if error.is_check else error.message)) from error
