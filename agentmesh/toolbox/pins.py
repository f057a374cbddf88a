"""A server's whole tool set, the digest that pins it, and the file of pins.

The digest covers every tool's name, title, description, schemas and annotations, and the server's instructions,
whatever the order they are listed in. It is over the set and not over each tool, because a tool that was renamed or
added is a change too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import rfc8785
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from agentmesh.errors import ToolboxError
from agentmesh_ledger import LedgerError
from agentmesh_ledger.durable import exclusive, replace_file

FILE_NAME: Final = "pins.json"
_MOST_BYTES: Final = 64 * 1024 * 1024
# The key folder's lock is a secret keeper's; drafts of this file are swept by nobody, and named apart.
_DRAFT: Final = ".pins"

WireTool = dict[str, JsonValue]
"""A tool as it came over the wire: name, title, description, inputSchema, outputSchema, annotations."""


def digest_of_tools(tools: Sequence[WireTool], instructions: str) -> str:
    """Hex SHA-256 of the RFC 8785 form of `{"instructions": ..., "tools": [sorted by name]}`.

    Raises:
        ValueError: a value in it has no canonical form (NaN, or a whole number beyond 2**53).
    """
    in_order = sorted(tools, key=lambda tool: str(tool["name"]))
    whole: dict[str, JsonValue] = {"instructions": instructions, "tools": [*in_order]}
    return hashlib.sha256(rfc8785.dumps(whole)).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSet:
    """All that a server says of its tools. `digest` follows from the rest."""

    tools: tuple[WireTool, ...]
    instructions: str
    digest: str

    @classmethod
    def of(cls, tools: Iterable[WireTool], instructions: str) -> ToolSet:
        """The set of these tools. Raises `ValueError` as `digest_of_tools`."""
        in_order = tuple(sorted(tools, key=lambda tool: str(tool["name"])))
        return cls(tools=in_order, instructions=instructions, digest=digest_of_tools(in_order, instructions))


class _Written(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _WrittenPin(_Written):
    server: str
    source: str
    time: str
    digest: str
    instructions: str
    tools: list[WireTool]


class _WrittenFile(_Written):
    format: str
    pins: list[_WrittenPin]


_FORMAT: Final = "agentmesh-pins/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A tool set that was accepted: of which server of the mesh file, started or reached how, and since when."""

    server: str
    source: str
    tools: ToolSet
    time: str


class PinFile:
    """The pins of a mesh, in one file that changes whole or not at all; several processes may share it.

    Every method raises `ToolboxError` `pins_unreadable` where the file is damaged or cannot be read or written: what
    is not known to be pinned is not taken for new.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def pins(self) -> tuple[Pin, ...]:
        """All pins, by server and source."""
        try:
            with self.path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unreadable(f"cannot be read: {error.strerror}") from error
        if len(data) > _MOST_BYTES:
            raise self._unreadable("is too large to be a file of pins")
        try:
            written = _WrittenFile.model_validate_json(data)
            pins = tuple(_read(each) for each in written.pins)
        except (ValidationError, ValueError, KeyError, RecursionError) as error:
            raise self._unreadable("is damaged") from error
        if written.format != _FORMAT:
            raise self._unreadable(f"is not of the format {_FORMAT}")
        return pins

    def find(self, server: str, source: str) -> Pin | None:
        """The pin of a server that is started or reached in this way."""
        return next((pin for pin in self.pins() if (pin.server, pin.source) == (server, source)), None)

    def hold(self, server: str, source: str, found: ToolSet) -> ToolSet:
        """The set that this server is held to: what is pinned, or on first use `found`, which is pinned thereby."""
        known = self.find(server, source)
        if known is not None:
            return known.tools
        with self._locked():
            known = self.find(server, source)  # another process may have been first
            if known is None:
                self._write([*self.pins(), _pin(server, source, found)])
        return found if known is None else known.tools

    def accept(self, server: str, source: str, found: ToolSet) -> None:
        """Pin `found` in the place of what was pinned."""
        with self._locked():
            others = [pin for pin in self.pins() if (pin.server, pin.source) != (server, source)]
            self._write([*others, _pin(server, source, found)])

    def forget(self, servers: Collection[str]) -> tuple[Pin, ...]:
        """Remove every pin of these servers; their next start is a first use. Returns what was removed."""
        with self._locked():
            pins = self.pins()
            gone = tuple(pin for pin in pins if pin.server in servers)
            if gone:
                self._write([pin for pin in pins if pin.server not in servers])
        return gone

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The lock beside the file, for as long as it is read and written again."""
        with ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive(self.path.with_name(f".{self.path.name}.lock")))
            except (OSError, LedgerError) as error:
                raise self._unreadable(f"cannot be locked: {error}") from error
            yield

    def _write(self, pins: Iterable[Pin]) -> None:
        written: list[JsonValue] = [
            {
                "server": pin.server,
                "source": pin.source,
                "time": pin.time,
                "digest": pin.tools.digest,
                "instructions": pin.tools.instructions,
                "tools": [*pin.tools.tools],
            }
            for pin in sorted(pins, key=lambda pin: (pin.server, pin.source))
        ]
        whole: dict[str, JsonValue] = {"format": _FORMAT, "pins": written}
        try:
            replace_file(self.path, rfc8785.dumps(whole) + b"\n", draft_suffix=_DRAFT)
        except OSError as error:
            raise self._unreadable(f"cannot be written: {error.strerror}") from error

    def _unreadable(self, what: str) -> ToolboxError:
        return ToolboxError(
            "pins_unreadable",
            f"{self.path}: {what}",
            hint="restore it from a copy; without the file every server's tools would be pinned anew, unseen",
        )


def _pin(server: str, source: str, found: ToolSet) -> Pin:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Pin(server=server, source=source, tools=found, time=now)


def _read(written: _WrittenPin) -> Pin:
    tools = ToolSet.of(written.tools, written.instructions)
    if tools.digest != written.digest:
        raise ValueError("the digest is not that of the tools")
    return Pin(server=written.server, source=written.source, tools=tools, time=written.time)
