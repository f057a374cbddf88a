"""Serving over this process's standard input and output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

import anyio
import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.stdio import stdio_server


async def serve_stdio(server: MCPServer) -> None:
    """Serve until standard input ends. While it does, what the program prints goes to standard error.

    Can be cancelled: `MCPServer.run_stdio_async` cannot, it waits for the host's next line first, and for the host to
    read what it writes (SDK 2.3); a server that was told to stop would hang until its host goes.
    """
    inner = server._lowlevel_server  # the SDK has no public way to serve on streams of one's own
    with _standard_input() as lines, _standard_output() as out:
        streams = stdio_server(cast("anyio.AsyncFile[str]", lines), cast("anyio.AsyncFile[str]", out))
        async with streams as (read, write):
            await inner.run(read, write, inner.create_initialization_options())


class _Lines:
    """A file by lines, as the SDK reads it; whoever waits for the next one can be cancelled."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __aiter__(self) -> _Lines:
        return self

    async def __anext__(self) -> str:
        line = await anyio.to_thread.run_sync(self._file.readline, abandon_on_cancel=True)
        if not line:
            raise StopAsyncIteration
        return line


class _Out:
    """A descriptor that the SDK writes to; whoever waits until the host has read can be cancelled."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        await anyio.to_thread.run_sync(self._write, data, abandon_on_cancel=True)

    async def flush(self) -> None:
        """Nothing is held back."""

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]


@contextmanager
def _standard_input() -> Iterator[_Lines]:
    """Standard input under a descriptor of its own; meanwhile the program and its children read an empty file."""
    # Never closed: an abandoned thread may still wait on it, and the number must not become another file's.
    kept = os.dup(sys.stdin.fileno())
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, sys.stdin.fileno())
        yield _Lines(os.fdopen(kept, encoding="utf-8", errors="replace", closefd=False))
    finally:
        os.close(nothing)
        os.dup2(kept, sys.stdin.fileno())


@contextmanager
def _standard_output() -> Iterator[_Out]:
    """Standard output under a descriptor of its own; meanwhile what the program prints goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(sys.stdout.fileno())  # never closed, as above
    try:
        aside = os.dup(2)
    except OSError:  # there is no standard error
        aside = os.open(os.devnull, os.O_WRONLY)
    os.dup2(aside, sys.stdout.fileno())
    os.close(aside)
    try:
        yield _Out(kept)
    finally:
        sys.stdout.flush()  # what was printed is no line of the protocol
        os.dup2(kept, sys.stdout.fileno())
