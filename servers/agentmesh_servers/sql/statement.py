"""One task for the database, run in a process that lives as long as it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from agentmesh_servers.errors import ServersError
from agentmesh_servers.sql.child import GRACE_SECONDS, TIMED_OUT
from agentmesh_servers.sql.refusal import too_slow

# The child's import path is ours, and nothing else of the environment counts for it.
_START: Final = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from agentmesh_servers.sql.child import main; main()"
_MAX_REPLY: Final = 16 * 1024 * 1024


class Statement:
    """A task, which `run` does and waits for in a thread, and `stop` ends from another."""

    def __init__(self, request: Mapping[str, object], *, seconds: float, spare: float) -> None:
        self._request = {**request, "seconds": seconds, "spare": spare}
        self._seconds = seconds
        self._longest = seconds + spare + 3 * GRACE_SECONDS
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self) -> Mapping[str, object]:
        """The answer, when the process has ended. Raises `ServersError`."""
        process = self._start()
        # The process ends itself in time; this is for one that cannot, such as one that was suspended.
        last = threading.Timer(self._longest, process.kill)
        last.start()
        try:
            assert process.stdout is not None
            reply = process.stdout.read(_MAX_REPLY)
        finally:
            last.cancel()
            self.stop()
            process.kill()
            code = process.wait()
            assert process.stdout is not None
            process.stdout.close()
        return self._answer(reply, code)

    def stop(self) -> None:
        """Lets the process end soon; does nothing where it has ended."""
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError):  # it ended before it read all
                    self._process.stdin.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-c", _START, json.dumps([each for each in sys.path if each])]
        with self._lock:
            if self._stopped:
                raise ServersError("failed", "the call was cancelled")
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the server, which then closes the standard input
                )
                assert self._process.stdin is not None
                with suppress(BrokenPipeError):  # it ended at once; its status tells
                    self._process.stdin.write(json.dumps(self._request).encode() + b"\n")
                    self._process.stdin.flush()
            except OSError as error:
                raise ServersError(
                    "unavailable", f"no process can be started for the statement: {error}"
                ) from error
            return self._process

    def _answer(self, reply: bytes, code: int) -> Mapping[str, object]:
        try:
            told = json.loads(reply)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            if code == TIMED_OUT or code == -9:
                refusal = too_slow(self._seconds)
                raise ServersError(refusal.reason, refusal.message)
            raise ServersError("failed", f"the database's process ended without an answer (status {code})")
        if "answer" in told:
            answer = told["answer"]
            assert isinstance(answer, dict)
            return answer
        raise ServersError(told["reason"], told["message"])
