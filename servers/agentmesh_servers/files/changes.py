"""The tools of the files server that change something; they are there only when that was asked for."""

from __future__ import annotations

from typing import Annotated, Final

from mcp.server import MCPServer
from mcp.types import CallToolResult
from pydantic import BaseModel, ConfigDict, Field

from agentmesh_servers.face import ADDS, CHANGES, CHANGES_ONCE, advice, answer
from agentmesh_servers.files import writing
from agentmesh_servers.files.names import clean
from agentmesh_servers.files.tree import Tree

_PATH: Final = "Path of the file"


class ChangeTold(BaseModel):
    """What was changed."""

    model_config = ConfigDict(title="Change")

    done: str = Field(title="Done", description="What was done, for example written")
    path: str = Field(title="Path", description="Path of what was changed")
    size: int = Field(title="Size", description="Bytes of the file, 0 for a folder")


def add_changes(server: MCPServer, tree: Tree) -> None:
    """Gives the server its tools `write_file`, `edit_file`, `make_folder`, `move` and `delete`."""

    @server.tool(
        title="Write file",
        description="Write a whole text file; one that is there is replaced only with overwrite.",
        annotations=CHANGES_ONCE,
    )
    def write_file(
        path: Annotated[str, Field(description=_PATH)],
        text: Annotated[str, Field(description="All that the file will hold")],
        overwrite: Annotated[bool, Field(description="Replace a file that is there")] = False,
    ) -> Annotated[CallToolResult, ChangeTold]:
        with advice():
            return _told(writing.write_file(tree, path, text, overwrite=overwrite))

    @server.tool(
        title="Edit file",
        description="Replace a text that a file holds exactly once.",
        annotations=CHANGES,
    )
    def edit_file(
        path: Annotated[str, Field(description=_PATH)],
        old: Annotated[str, Field(description="The text to replace, exactly as it stands in the file")],
        new: Annotated[str, Field(description="The text to put in its place")],
    ) -> Annotated[CallToolResult, ChangeTold]:
        with advice():
            return _told(writing.edit_file(tree, path, old, new))

    @server.tool(title="Make folder", description="Make a folder, and those above it.", annotations=ADDS)
    def make_folder(
        path: Annotated[str, Field(description="Path of the folder")],
    ) -> Annotated[CallToolResult, ChangeTold]:
        with advice():
            return _told(writing.make_folder(tree, path))

    @server.tool(
        title="Move",
        description="Give a file or folder another name or place; nothing is replaced.",
        annotations=CHANGES,
    )
    def move(
        path: Annotated[str, Field(description="Path of the file or folder")],
        to: Annotated[str, Field(description="Its new path, its own name included")],
    ) -> Annotated[CallToolResult, ChangeTold]:
        with advice():
            return _told(writing.move(tree, path, to))

    @server.tool(
        title="Delete", description="Delete a file or an empty folder, for good.", annotations=CHANGES_ONCE
    )
    def delete(
        path: Annotated[str, Field(description="Path of the file or empty folder")],
    ) -> Annotated[CallToolResult, ChangeTold]:
        with advice():
            return _told(writing.delete(tree, path))


def _told(change: writing.Change) -> CallToolResult:
    told = ChangeTold(done=change.done, path=clean(change.path), size=change.size)
    size = f" ({change.size:,} bytes)" if change.done in ("written", "replaced", "edited") else ""
    return answer(f"{told.path}: {told.done}{size}", told)
