"""A process that is killed while it stamps or upgrades leaves nothing that the next one has to mend."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from agentmesh_ledger import KeyStore
from agentmesh_ledger.anchor.blocks import headers_of
from agentmesh_ledger.anchor.stamping import stamp, upgrade
from agentmesh_ledger.anchor.stamps import stamps
from agentmesh_ledger.log import Ledger

SCRIPT = """
import sys
from pathlib import Path
from agentmesh_ledger import KeyStore
from agentmesh_ledger.anchor.blocks import headers_of
from agentmesh_ledger.anchor.stamping import stamp, upgrade
from agentmesh_ledger.log import Ledger

step, place, calendar, node = sys.argv[1:]
keys = KeyStore(Path(place).parent / "keys")
with Ledger.open(place, keys=keys) as log:
    if step == "stamp":
        stamp(log, keys.agent("host"), [calendar], within=120)
    else:
        upgrade(log, keys.agent("host"), [calendar], headers=headers_of(node), within=120)
"""


@pytest.fixture
def place(spoken, keys):
    keys.agent("host")
    spoken.close()
    return spoken.path


@pytest.fixture
def killed(place, calendar, node, python_environment):
    """Runs a step in a process of its own, and kills it once the server holds its answer back."""

    def run(step: str, server) -> None:
        reached, honest = threading.Event(), server.answer

        def hang(method, path, body):
            honest(method, path, body)  # it has done what it was asked for, and nobody learns of it
            reached.set()
            server.held.wait(60)
            return None

        server.answer = hang
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, step, str(place), calendar.url, node.url], env=python_environment
        )
        try:
            assert reached.wait(60), "the process never asked"
        finally:
            process.kill()
            process.wait(60)
        server.answer = honest

    return run


def test_killed_at_each_server_it_goes_on_from_there(place, keys, calendar, node, killed) -> None:
    killed("stamp", calendar)
    with Ledger.open(place, keys=keys) as log:
        assert stamps(log) == ()
        done = stamp(log, keys.agent("host"), [calendar.url])
        assert done.new
    calendar.confirm()
    killed("upgrade", calendar)
    killed("upgrade", node)
    with Ledger.open(place, keys=KeyStore(place.parent / "keys")) as log:
        headers = headers_of(node.url)
        assert [each.state for each in upgrade(log, keys.agent("host"), [calendar.url], headers=headers)] == [
            "complete"
        ]
        assert [each.complete for each in stamps(log)] == [False, True]
        log.verify()
