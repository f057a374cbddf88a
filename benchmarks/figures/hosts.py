"""Hosts that call: one whose calls are timed in turn at two servers, and many at once at one."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from agentmesh.serving.signing import signed_transport
from agentmesh_ledger.log import Ledger
from figures.calls import ANSWER, Kind, Transport, signing_side

SERVER: Final = Path(__file__).with_name("calls.py")
_PATIENCE: Final = 60.0


@contextmanager
def listening(command: Sequence[str], environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    """A server that listens and says where, on either stream; its address and process."""
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    guard = threading.Timer(_PATIENCE, process.kill)
    guard.start()
    try:
        told = ""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/\S+", told)):
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the server has ended: {told}")
            told += line
        guard.cancel()
        # It may go on talking; a full pipe would stop it.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield found.group(), process.pid
    finally:
        guard.cancel()
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@asynccontextmanager
async def host(
    kind: Kind, transport: Transport, folder: Path, environment: dict[str, str]
) -> AsyncIterator[Client]:
    """A client of the trivial server; both sides of a signed one have a ledger."""
    async with AsyncExitStack() as stack:
        command = [str(SERVER), kind, transport, str(folder / "server")]
        if transport == "http":
            address, _ = stack.enter_context(listening(command, environment))
            wire = streamable_http_client(address)
        else:
            wire = stdio_client(StdioServerParameters(command=sys.executable, args=command, env=environment))
        if kind != "plain":
            side = stack.enter_context(signing_side(folder / "client", "client", kind))
            wire = signed_transport(wire, side, peer="server")
        client = await stack.enter_async_context(Client(wire))
        # Else the first call would be followed by this, unasked.
        await client.list_tools()
        yield client


async def times_in_turn(
    transport: Transport,
    folder: Path,
    environment: dict[str, str],
    *,
    calls: int,
    warm: int,
    kinds: Sequence[Kind],
) -> dict[Kind, list[float]]:
    """Seconds of each call of `add`, one at the server of each kind, and so on."""
    taken: dict[Kind, list[float]] = {kind: [] for kind in kinds}
    async with AsyncExitStack() as stack:
        clients: dict[Kind, Client] = {}
        for kind in taken:
            made = host(kind, transport, folder / f"{transport}-{kind}", environment)
            clients[kind] = await stack.enter_async_context(made)
        for number in range(warm + calls):
            for kind, client in clients.items():
                started = time.perf_counter()
                result = await client.call_tool("add", {"a": number, "b": 1})
                seconds = time.perf_counter() - started
                _require(result, str(number + 1))
                if number >= warm:
                    taken[kind].append(seconds)
    for kind in taken:
        if kind not in ("plain", "unrecorded"):
            _require_recorded(folder / f"{transport}-{kind}", warm + calls)
    return taken


def _require(result: CallToolResult, text: str) -> None:
    """A benchmark of wrong answers would say nothing."""
    said = "".join(getattr(each, "text", "") for each in result.content)
    if result.is_error or said != text:
        raise RuntimeError(f"wanted {text!r}, was told {said!r}")


def _require_recorded(folder: Path, calls: int) -> None:
    """Both sides have every request and every result in their ledgers; a benchmark of less would say nothing."""
    for side in ("client", "server"):
        with Ledger.open(folder / side / "ledger.db", read_only=True) as ledger:
            if ledger.size < 2 * calls:
                raise RuntimeError(f"the {side} recorded {ledger.size} entries of {calls} calls")


class Assistants:
    """So many hosts, each with a connection of its own, all asking the same agent again and again."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = clients

    async def rate(self, seconds: float) -> tuple[float, list[float]]:
        """Calls a second that were answered while all asked, and the seconds that each took."""
        until = time.perf_counter() + seconds
        taken: list[float] = []

        async def ask(client: Client) -> None:
            while (started := time.perf_counter()) < until:
                result = await client.call_tool("ask_front", {"question": "What is 17 * 23?"})
                _require(result, ANSWER)
                taken.append(time.perf_counter() - started)

        started = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for client in self._clients:
                tasks.start_soon(ask, client)
        return len(taken) / (time.perf_counter() - started), taken


@asynccontextmanager
async def assistants(address: str, count: int) -> AsyncIterator[Assistants]:
    """Connect them all."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(address)) for _ in range(count)]
        for client in clients:
            await client.list_tools()
        yield Assistants(clients)


async def rates_in_turn(
    addresses: dict[str, str],
    *,
    count: int,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> dict[str, list[tuple[float, list[float]]]]:
    """For each address, what came of each round; they take turns, and the first round warms up."""
    found: dict[str, list[tuple[float, list[float]]]] = {name: [] for name in addresses}
    async with AsyncExitStack() as stack:
        groups: dict[str, Any] = {}
        for name, address in addresses.items():
            groups[name] = await stack.enter_async_context(assistants(address, count))
        for each in range(rounds + 1):
            for name in addresses if each % 2 else reversed(addresses):
                rated = await groups[name].rate(seconds if each else seconds / 2)
                if each:
                    found[name].append(rated)
            say(f"round {each} of {rounds}")
    return found
