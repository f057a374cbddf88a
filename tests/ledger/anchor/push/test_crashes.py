"""Killed at any point, and started again: one transaction mined, one entry in the log."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import KEY, Desk, Node, settle

PROGRAM = Path(__file__).with_name("crashing.py")
# Every point at which something is half done, in the order in which a push comes by.
POINTS = ("signed", "prepared", "sent", "deep", "proved", "appended", "recorded")


@contextmanager
def mining(node: Node) -> Iterator[None]:
    """Blocks come all the time."""
    over = threading.Event()

    def mine() -> None:
        while not over.wait(0.05):
            node.mine()

    thread = threading.Thread(target=mine)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def start(
    desk: Desk, environment: dict[str, str], point: str, times: int = 1, url: str | None = None
) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(PROGRAM),
        str(desk.path),
        url or desk.node.url,
        desk.contract,
        point,
        str(times),
    ]
    return subprocess.Popen(
        command, env=environment | {"KEY": KEY}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def killed(desk: Desk, environment: dict[str, str], point: str, times: int = 1) -> list[str]:
    """What the process came by until it died."""
    process = start(desk, environment, point, times)
    out, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, out + err
    return out.split()


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_any_point_leaves_one_transaction_and_one_entry(
    desk: Desk, node: Node, python_environment: dict[str, str], point: str
) -> None:
    with mining(node):
        came_by = killed(desk, python_environment, point)
    # Blocks come every 50 ms: where the machine is busy some pass before the process looks, and it pays more.
    assert [each for each in came_by if each != "replaced"] == list(POINTS[: POINTS.index(point) + 1])
    done = settle(desk.anchorer(), node)
    assert done.state in ("recorded", "idle") and done.size == 2
    (mined,) = node.mined(desk.account.address)
    (entry,) = desk.anchors()
    assert mined["hash"] == entry.message.facts["tx"] and mined["status"] == "0x1"
    assert desk.sizes() == [2]
    assert desk.anchorer().step().state == "idle"
    assert desk.ledger.verify().entries == desk.ledger.size


def test_a_process_killed_at_every_point_in_turn_ends_at_last(
    desk: Desk, node: Node, python_environment: dict[str, str]
) -> None:
    with mining(node):
        for point in ("signed", "prepared", "sent", "deep", "proved", "appended"):
            # What is already prepared is not signed again: from then on those points are not reached any more.
            process = start(desk, python_environment, point)
            out, err = process.communicate(timeout=120)
            assert process.returncode == -signal.SIGKILL, (point, out, err)
    assert settle(desk.anchorer(), node).state == "recorded"
    assert len(node.mined(desk.account.address)) == 1 and len(desk.anchors()) == 1


def test_a_process_killed_while_it_replaces_leaves_one_nonce(
    desk: Desk, node: Node, python_environment: dict[str, str]
) -> None:
    desk.anchorer().step()
    for _ in range(2):
        node.base_fee(10 * 10**9)
        node.mine()
    assert killed(desk, python_environment, "replaced") == ["replaced"]
    newest = desk.journal.newest(desk.anchorer().setting.target())
    assert newest is not None and [each.sent is None for each in newest.attempts] == [False, True]
    assert settle(desk.anchorer(), node).state == "recorded"
    (mined,) = node.mined(desk.account.address)
    assert mined["nonce"] == "0x0" and len(desk.anchors()) == 1


def test_a_process_killed_when_it_sees_the_reorg_sends_it_again(
    desk: Desk, node: Node, python_environment: dict[str, str]
) -> None:
    done = settle(desk.anchorer(), node)
    node.ask("anvil_reorg", 3, [])
    assert killed(desk, python_environment, "vanished") == ["vanished"]
    again = settle(desk.anchorer(), node)
    assert (again.state, again.tx) == ("recorded", done.tx)
    assert desk.sizes() == [done.size] and len(desk.anchors()) == 2


def test_kills_at_random_moments_lose_no_anchor_and_post_none_twice(
    desk: Desk, node: Node, python_environment: dict[str, str]
) -> None:
    rng = random.Random(6)
    sizes = []
    with mining(node):
        for _ in range(8):
            desk.say()
            sizes.append(desk.ledger.size)
            process = start(desk, python_environment, "never")
            assert process.stdout is not None
            line = process.stdout.readline()
            # From its first sign of life on: to come so far takes a second or two of imports.
            deadline = time.monotonic() + rng.uniform(0, 0.25)
            while line and time.monotonic() < deadline and process.poll() is None:
                threading.Event().wait(0.005)
            process.kill()
            process.communicate(timeout=60)
    while settle(desk.anchorer(), node).state != "idle":
        pass
    mined = node.mined(desk.account.address)
    assert {each["status"] for each in mined} == {"0x1"} and len(mined) >= 2
    assert desk.sizes() == sorted(set(desk.sizes())) and desk.sizes()[-1] >= sizes[-1]
    assert [record.message.facts["size"] for record in desk.anchors()] == desk.sizes()
    assert len(desk.sizes()) == len(mined)


def test_two_processes_at_once_post_each_size_once(
    desk: Desk, node: Node, python_environment: dict[str, str]
) -> None:
    with mining(node):
        both = [start(desk, python_environment, "never") for _ in range(2)]
        for _ in range(5):
            desk.say()
        outs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    assert all(out.split()[-1] in ("recorded", "idle") for out, _ in outs), outs
    sizes = desk.sizes()
    assert sizes == sorted(set(sizes)) and len(node.mined(desk.account.address)) == len(sizes)
    assert [record.message.facts["size"] for record in desk.anchors()] == sizes
