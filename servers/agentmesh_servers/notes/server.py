"""The notes as an MCP server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

from mcp.server import MCPServer
from mcp.types import CallToolResult
from pydantic import BaseModel, ConfigDict, Field

from agentmesh_servers.errors import ServersError
from agentmesh_servers.face import READS_ONLY, advice, answer, make_server
from agentmesh_servers.notes.folder import NotesFolder

FOLDER_VARIABLE: Final = "AGENTMESH_NOTES"
INSTRUCTIONS = (
    "A person's notes, read-only. `search_notes` lists the titles of the notes that hold all the words asked for; "
    "`read_note` gives the text of one note by its title. Search first when the title is not known."
)


class Found(BaseModel):
    """The notes that match."""

    model_config = ConfigDict(title="Found notes")

    count: int = Field(title="Count", description="How many notes match")
    titles: list[str] = Field(title="Titles", description="Their titles, best match first, at most 20")


class NoteText(BaseModel):
    """One note."""

    model_config = ConfigDict(title="Note")

    title: str = Field(title="Title", description="Title of the note")
    text: str = Field(title="Text", description="The note's text without its title line")


def build(*, folder: str | None = None) -> MCPServer:
    """The notes server with its tools `search_notes` and `read_note`.

    Serves `folder`, or the one that the environment variable AGENTMESH_NOTES names.

    Raises:
        ServersError: `bad_option` when no folder is named or it is not a folder.
    """
    named = folder or os.environ.get(FOLDER_VARIABLE)
    if not named:
        raise ServersError(
            "bad_option",
            f"the notes server needs a folder: give --folder DIR, the option folder, or set {FOLDER_VARIABLE}",
        )
    notes = NotesFolder.open(Path(named))
    server = make_server("notes", title="Notes", instructions=INSTRUCTIONS)

    @server.tool(
        title="Search notes",
        description="Search the notes and list the titles that match.",
        annotations=READS_ONLY,
    )
    def search_notes(
        query: Annotated[str, Field(description="Words to look for")],
    ) -> Annotated[CallToolResult, Found]:
        with advice():
            found = notes.search(query)
        return answer(found.text, Found(count=found.count, titles=list(found.titles)))

    @server.tool(title="Read note", description="Read the text of a note.", annotations=READS_ONLY)
    def read_note(
        title: Annotated[str, Field(description="Title of the note")],
    ) -> Annotated[CallToolResult, NoteText]:
        with advice():
            note = notes.read(title)
        return answer(note.text, NoteText(title=note.title, text=note.text))

    return server
