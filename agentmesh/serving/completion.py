"""Completion of dialogue ids, entries and agents in resource templates and prompt arguments."""

from __future__ import annotations

from typing import Final

import anyio.to_thread
from mcp.server import MCPServer
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from agentmesh.serving.dialogues import Dialogues
from agentmesh_ledger import LedgerError

MOST: Final = 100
"""The protocol allows no more values."""
_IDS: Final = frozenset({"id", "dialogue", "dialogue_id"})


def add_completion(server: MCPServer, dialogues: Dialogues) -> None:
    """Let hosts complete what they type."""

    # The SDK's decorator has no types.
    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(
        ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion | None:
        if argument.name in _IDS:
            return _matching(await _ids(dialogues), argument.value)
        if argument.name == "agent":
            return _matching(list(dialogues.live.mesh.agents), argument.value)
        if isinstance(ref, ResourceTemplateReference) and ref.uri == "ledger://entry/{n}":
            size = await _size(dialogues)
            return _matching(
                [str(each) for each in range(size - 1, max(-1, size - 1 - 10 * MOST), -1)], argument.value
            )
        return None


async def _ids(dialogues: Dialogues) -> list[str]:
    """All dialogues, the newest first: those of this server, then those only the ledger knows."""
    here = [each.id for each in (*reversed(dialogues.running), *reversed(dialogues.ended))]
    try:
        recorded = await anyio.to_thread.run_sync(dialogues.live.ledger.dialogues)
    except LedgerError:  # of a damaged ledger `verify_record` tells; completing is no place for it
        recorded = ()
    return list(dict.fromkeys([*here, *(each.id for each in reversed(recorded))]))


async def _size(dialogues: Dialogues) -> int:
    try:
        return await anyio.to_thread.run_sync(lambda: dialogues.live.ledger.size)
    except LedgerError:  # as above
        return 0


def _matching(values: list[str], begun: str) -> Completion:
    found = [value for value in values if value.startswith(begun)]
    return Completion(values=found[:MOST], total=len(found), has_more=len(found) > MOST)
