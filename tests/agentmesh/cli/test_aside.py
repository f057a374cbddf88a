"""A host that does not read what a server writes holds up no dialogue, fails none, and does not keep it from its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentmesh.cli.aside import MOST_WAITING, Aside
from agentmesh_ledger.log import Ledger

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
MESH = """\
[mesh]
name = "desk"
[agents.front]
model = "scripted:steps.json"
role = "You pass questions on."
"""
OPENING = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        for end in (read, write):
            try:
                os.close(end)
            except OSError:
                continue  # the test closed it


def fill(write: int) -> None:
    os.set_blocking(write, False)
    try:
        while os.write(write, b"x" * 4096):
            pass
    except BlockingIOError:
        os.set_blocking(write, True)


def ask(desk: Path, stderr: int) -> tuple[dict[str, Any], int]:
    """What the agent of a process with that standard error answers, and how the process ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agentmesh", "serve", str(desk)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    alarm = threading.Timer(60, process.kill)
    alarm.start()
    try:
        assert process.stdin is not None and process.stdout is not None
        call = {"name": "ask_front", "arguments": {"question": "Hello?"}}
        for line in (
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": OPENING},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
        ):
            process.stdin.write(json.dumps(line) + "\n")
            process.stdin.flush()
        while (answer := json.loads(process.stdout.readline())).get("id") != 2:
            continue
        process.stdin.close()
        process.stdout.close()
        return answer["result"]["structuredContent"], process.wait()
    finally:
        alarm.cancel()
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", ["full", "gone"])
def test_a_host_need_not_read_standard_error(tmp_path: Path, how: str) -> None:
    (tmp_path / "mesh.toml").write_text(MESH)
    (tmp_path / "steps.json").write_text('[{"say": "Yes."}]')
    with pipe() as (read, write):
        if how == "full":
            fill(write)
        else:
            os.close(read)
        answer, code = ask(tmp_path, write)
    assert (answer["answer"], answer["reason"], code) == ("Yes.", "done", 0)
    with Ledger.open(tmp_path / ".agentmesh" / "ledger.db", read_only=True) as log:
        assert [record.message.kind for record in log.read(dialogue=answer["dialogue"])][-1] == "close"


def test_a_host_that_reads_no_answers_does_not_keep_a_server_from_its_end(tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text(MESH)
    (tmp_path / "steps.json").write_text('[{"say": "Yes."}]')
    with pipe() as (_, write):
        fill(write)
        process = subprocess.Popen(
            [sys.executable, "-m", "agentmesh", "serve", str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            assert process.stdin is not None and process.stderr is not None
            call = {"name": "ask_front", "arguments": {"question": "Hello?"}}
            for line in (
                {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": OPENING},
                {"jsonrpc": "2.0", "method": "notifications/initialized"},
                {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
            ):
                process.stdin.write(json.dumps(line) + "\n")
                process.stdin.flush()
            assert any("Yes." in line for line in process.stderr)  # the answer to the first is on its way
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()
            process.communicate()


def test_what_was_said_is_written_before_the_end_and_in_order() -> None:
    with pipe() as (read, write):
        aside = Aside(write)
        for number in range(100):
            aside.say(f"line {number}")
        aside.close()
        assert os.read(read, 65536).decode().splitlines() == [f"line {number}" for number in range(100)]


def test_what_waits_is_bounded_and_what_is_left_out_is_counted() -> None:
    with pipe() as (read, write):
        fill(write)
        aside = Aside(write)
        for _ in range(30):
            aside.say("y" * (MOST_WAITING // 10))
        assert aside._waiting <= MOST_WAITING
        aside.say("z")
        written = b""
        while not written.endswith(b"z\n"):
            written += os.read(read, 65536)
        aside.close()
        assert b" lines were left out\n" in written
