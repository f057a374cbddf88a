"""What servers show now, beside what is pinned of them; nothing is called, and nothing pinned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio

from agentmesh.errors import AgentMeshError
from agentmesh.toolbox.changes import Change
from agentmesh.toolbox.pins import PinFile, ToolSet
from agentmesh.toolbox.servers import open_servers
from agentmesh.toolbox.targets import Source, Wrap, source_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A server that was looked at. `tools` is None where it did not start: then `failure` says why."""

    server: str
    source: str
    pinned: ToolSet | None
    tools: ToolSet | None
    failure: str = ""

    @property
    def change(self) -> Change | None:
        """What differs, where anything is pinned and does."""
        if self.pinned is None or self.tools is None or self.pinned.digest == self.tools.digest:
            return None
        return Change(server=self.server, source=self.source, pinned=self.pinned, found=self.tools)


async def look(
    sources: Mapping[str, Source], *, base: Path, pins: PinFile, wraps: Mapping[str, Wrap]
) -> list[Looked]:
    """Start the servers side by side, each by itself, and list their tools.

    Raises:
        ToolboxError: `pins_unreadable`.
    """
    found: dict[str, Looked] = {}
    known = {(pin.server, pin.source): pin.tools for pin in pins.pins()}

    async def one(name: str, source: Source) -> None:
        words = source_words(source)
        pinned = known.get((name, words))
        tools, failure = None, ""
        try:
            async with open_servers({name: source}, base=base, wraps=wraps) as servers:
                tools = servers[name].tool_set
        except AgentMeshError as error:
            failure = error.message
        found[name] = Looked(server=name, source=words, pinned=pinned, tools=tools, failure=failure)

    async with anyio.create_task_group() as tasks:
        for name, source in sources.items():
            tasks.start_soon(one, name, source)
    return [found[name] for name in sources]
