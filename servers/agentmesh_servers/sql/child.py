"""The process that holds the database for one statement.

A statement can take any time in a single step of the database's own code and any amount of memory; a thread that does can
be stopped by nothing. A process can: it has limits, and it ends when the one that started it closes its standard input, when
that one dies, and when its time is up, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from agentmesh_servers.sql.refusal import Refusal, one_line

MEMORY_BYTES: Final = 256 * 1024 * 1024
SCRATCH_BYTES: Final = 1024 * 1024 * 1024
GRACE_SECONDS: Final = 1.0
TIMED_OUT: Final = 124


class _Database(Protocol):
    def asked(self) -> AbstractContextManager[None]: ...
    def tables(self) -> dict[str, object]: ...
    def table(self, name: str) -> dict[str, object]: ...
    def statement(self, sql: str, parameters: Sequence[object], rows: int) -> dict[str, object]: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


def main() -> None:
    """Reads one request, answers it on standard output, and ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not get among them
    request = json.loads(_first_line())
    _limit(request)
    wait = float(request["seconds"]) + float(request["spare"]) + GRACE_SECONDS
    _after(wait, TIMED_OUT)
    opened: list[_Database] = []
    threading.Thread(target=_stand_by, args=(opened,), daemon=True).start()
    try:
        database = _opened(request)
        opened.append(database)
        try:
            answer: dict[str, object] = {"answer": _done(database, request)}
        finally:
            database.close()
    except Refusal as refusal:
        answer = {"reason": refusal.reason, "message": refusal.message}
    except MemoryError:
        answer = {
            "reason": "too_large",
            "message": "the statement needs more memory than it may have: ask for less",
        }
    except Exception as error:  # noqa: BLE001 - a mistake of ours or of a driver's; nobody sees a traceback here
        what = one_line(f"{type(error).__name__}: {error}")
        answer = {"reason": "failed", "message": f"the database could not be asked: {what}"}
    reply = json.dumps(answer).encode()
    while reply:
        reply = reply[os.write(answers, reply) :]
    os._exit(0)  # a thread still waits on standard input, and Python would wait for it


def _done(database: _Database, request: Mapping[str, object]) -> dict[str, object]:
    """What comes of the task that the request names."""
    with database.asked():
        match request["task"]:
            case "tables":
                return database.tables()
            case "table":
                return database.table(str(request["table"]))
            case _:
                parameters = request["parameters"]
                assert isinstance(parameters, list)
                return database.statement(str(request["sql"]), parameters, int(str(request["rows"])))


def _first_line() -> bytes:
    """Byte by byte in blocks, and not through `sys.stdin`, whose lock a waiting thread would hold to the end."""
    line = b""
    while not line.endswith(b"\n"):
        block = os.read(0, 65_536)
        if not block:
            os._exit(1)  # who asked is gone
        line += block
    return line


def _opened(request: Mapping[str, object]) -> _Database:
    if request["kind"] == "sqlite":
        from agentmesh_servers.sql.sqlite import Sqlite

        return Sqlite(request)
    from agentmesh_servers.sql.postgres import Postgres

    return Postgres(request)


def _stand_by(opened: Sequence[_Database]) -> None:
    """Waits until who asked wants no answer any more."""
    while os.read(0, 4_096):
        pass
    _after(GRACE_SECONDS, 1)
    for database in opened:
        database.stop()


def _after(seconds: float, status: int) -> None:
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()


def _limit(request: Mapping[str, object]) -> None:
    """Limits memory and, of what a reading statement spills to disk, each file, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    limits = [(resource.RLIMIT_DATA, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)]
    if not request["write"]:
        limits.append((resource.RLIMIT_FSIZE, SCRATCH_BYTES))
    for what, most in limits:
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
