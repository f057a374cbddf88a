"""One task of the Tasks extension: its state, what it asks, what came of it, in the extension's own terms."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import anyio
from mcp.server.context import HandlerResult
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, InputRequiredResult, InputResponses
from pydantic import BaseModel, TypeAdapter

from agentmesh.toolbox.results import one_line

Status = Literal["working", "input_required", "completed", "failed", "cancelled"]
MAX_MESSAGE: Final = 200
_RESPONSES: Final[TypeAdapter[InputResponses]] = TypeAdapter(InputResponses)


class Job:
    """A tool call that runs as a task. `principal` is whose it is; to others it does not exist.

    `settled` is set once it has a result or asks for the first time, `stopped` is whether its host cancelled it.
    """

    def __init__(self, *, ttl: float, poll: float, principal: str | None) -> None:
        self.id = secrets.token_hex(16)
        self.principal = principal
        self.scope = anyio.CancelScope()
        self.settled = anyio.Event()
        self.asked: InputRequiredResult | None = None
        self.stopped = False
        self._status: Status = "working"
        self._message = ""
        self._result: HandlerResult = None
        self._error: MCPError | None = None
        self._ttl = ttl
        self._poll = poll
        self._began = time.monotonic()
        self._created = self._updated = _now()
        self._round = 0
        self._pending: dict[str, Any] = {}
        self._answers: dict[str, Any] = {}
        self._answered = anyio.Event()

    @property
    def over(self) -> bool:
        """Whether it has come to its end."""
        return self._status in ("completed", "failed", "cancelled")

    @property
    def asks(self) -> bool:
        """Whether it waits for its host's answers."""
        return self._status == "input_required"

    @property
    def expired(self) -> bool:
        """Whether nobody can count on finding it any longer."""
        return time.monotonic() - self._began > self._ttl

    def say(self, message: str) -> None:
        """Note how far it is."""
        if not self.over:
            self._message = one_line(message, limit=MAX_MESSAGE)
            self._updated = _now()

    async def ask(self, asked: InputRequiredResult) -> InputResponses:
        """Ask the host, and wait until it has answered everything."""
        requests = _plain(asked)["inputRequests"] if asked.input_requests else {}
        if not requests:
            await anyio.sleep(self._poll)  # it wants to be called again, and asks nothing
            return {}
        self._round += 1
        # Keys of different rounds must not be mistaken for one another.
        self._pending = {f"{self._round}.{key}": request for key, request in requests.items()}
        self._answers = {}
        self._answered = anyio.Event()
        self.asked = asked
        self._turn("input_required")
        self.settled.set()
        await self._answered.wait()
        return _RESPONSES.validate_python(self._answers)

    def answer(self, responses: Mapping[str, Any]) -> None:
        """Take the host's answers; what was not asked is ignored.

        Raises:
            ValueError: an answer has not the shape of one; none of them is taken.
        """
        known = {key: value for key, value in responses.items() if key in self._pending}
        _RESPONSES.validate_python(known)
        for key, value in known.items():
            del self._pending[key]
            self._answers[key.partition(".")[2]] = value
        if known and not self._pending:
            self._turn("working")
            self._answered.set()

    def stop(self) -> None:
        """Cancel it on behalf of its host; of no effect once it is over."""
        if not self.over:
            self.stopped = True
            self.scope.cancel()

    def complete(self, result: HandlerResult) -> None:
        """It has a result; a tool that failed has one too."""
        self._result = result
        self._turn("completed")

    def fail(self, code: int, message: str, data: object) -> None:
        """It ended in an error of the protocol."""
        self._error = MCPError(code, message, data)
        self._turn("failed")

    def end(self) -> None:
        """It runs no longer: what neither completed nor failed was cancelled; answers come too late."""
        self._pending = {}
        if not self.over:
            self._turn("cancelled")
        self.settled.set()

    def outcome(self) -> HandlerResult:
        """The result, as if the call had never been a task.

        Raises:
            MCPError: the call's own.
        """
        if self._error is not None:
            raise self._error
        if self._status == "cancelled":
            raise MCPError(INTERNAL_ERROR, "the call was cancelled")
        return self._result

    def created(self) -> dict[str, Any]:
        """What the call is answered with: the task as it stands, without what only `tasks/get` tells."""
        return {"resultType": "task", **self._task()}

    def detailed(self) -> dict[str, Any]:
        """What `tasks/get` answers."""
        found = {"resultType": "complete", **self._task()}
        if self._status == "completed":
            found["result"] = _plain(self._result)
        elif self._error is not None:
            found["error"] = _plain(self._error.error)
        elif self._pending:
            found["inputRequests"] = dict(self._pending)
        return found

    def _task(self) -> dict[str, Any]:
        task: dict[str, Any] = {
            "taskId": self.id,
            "status": self._status,
            "createdAt": self._created,
            "lastUpdatedAt": self._updated,
            "ttlMs": round(self._ttl * 1000),
            "pollIntervalMs": round(self._poll * 1000),
        }
        return task | {"statusMessage": self._message} if self._message else task

    def _turn(self, status: Status) -> None:
        self._status = status
        self._updated = _now()


def _plain(value: HandlerResult) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(value or {})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
