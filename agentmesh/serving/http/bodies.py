"""The body of an HTTP request: read within limits, and looked through before the SDK sees it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from mcp.types import PARSE_ERROR
from starlette.responses import Response
from starlette.types import Message, Receive

from agentmesh.serving.http.refusals import refusal

MAX_DEPTH: Final = 64
"""How deep lists and objects may stand in one another."""

MAX_PARTS: Final = 100_000
"""How many values, lists and objects one body may be made of."""

# Also one without an end: else each of its quotes would be tried as a beginning.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


class Bodies:
    """The bodies that are held in memory at one time: each at most `each` bytes, all together at most `together`."""

    def __init__(self, *, each: int, together: int) -> None:
        self._each = each
        self._together = together
        self.held = 0

    @contextmanager
    def open(self) -> Iterator[Body]:
        """A body to read, whose room is given back at the end of the block."""
        body = Body(self)
        try:
            yield body
        finally:
            self.held -= len(body.data)

    def refused(self, size: int, more: int) -> Response | None:
        """The answer to a body of `size` bytes that would take `more` bytes of room, or None where there is room."""
        if size > self._each:
            return refusal(413, f"the body has more than {self._each} bytes")
        if self.held + more > self._together:
            return refusal(503, "too many bodies at one time")
        return None


class Body:
    """One request's body."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self.data = bytearray()

    async def read(self, receive: Receive, declared: str | None) -> Response | None:
        """Read it whole. Gives the answer to a body that is not taken.

        Raises: ConnectionError where the client has gone before its end.
        """
        if declared is not None and declared.isdecimal():
            refused = self._bodies.refused(int(declared[:20]), 0)
            if refused is not None:
                return refused
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionError("the client has gone")
            piece = message.get("body", b"")
            refused = self._bodies.refused(len(self.data) + len(piece), len(piece))
            if refused is not None:
                return refused
            self._bodies.held += len(piece)
            self.data += piece
            if not message.get("more_body", False):
                return None

    def replayed(self, receive: Receive) -> Receive:
        """What hands the body out in one piece, and after it whatever else `receive` has."""
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(self.data), "more_body": False}

        return again


def unreadable(data: bytes | bytearray) -> Response | None:
    """The answer to a body that is not JSON as everyone reads it, or None.

    The SDK (2.3) answers all of these without a fault of its own, but what its modern path takes goes to the tools: bodies
    in UTF-16, lone surrogates, NaN and Infinity, none of which can be signed or recorded, and nesting that ends whichever
    recursive reader comes first. And it reads four megabytes of `[],` for seconds, in which nobody else is answered.
    """
    if _parts(data) > MAX_PARTS and _parts(_STRING.sub(b"", data)) > MAX_PARTS:
        return refusal(400, f"Parse error: more than {MAX_PARTS} values", code=PARSE_ERROR)
    try:
        text = data.decode("utf-8")
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        told = "too deep" if isinstance(error, RecursionError) else "not JSON in UTF-8"
        return refusal(400, f"Parse error: {told}", code=PARSE_ERROR)
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        return refusal(400, "Parse error: too deep", code=PARSE_ERROR)
    return None


def _parts(data: bytes | bytearray) -> int:
    return data.count(b"[") + data.count(b"{") + data.count(b",")


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _finite(word: str) -> float:
    """A number beyond what a double holds is Infinity to whoever reads it into one."""
    number = float(word)
    return number if math.isfinite(number) else _no_number(word)


def _is_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(below for below in each.values() if isinstance(below, dict | list))
            elif isinstance(each, list):
                inner.extend(below for below in each if isinstance(below, dict | list))
        if not inner:
            return False
        level = inner
    return True
