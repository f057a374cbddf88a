"""A mesh that is served or stopped is anchored and cosigned as one that runs to its end; nothing that was cut is lost."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from mcp import Client

Scene = Any  # of conftest.py, which tests cannot import


@contextmanager
def serving(scene: Scene) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`agentmesh serve` over HTTP, and its address."""
    steps = [{"say": "Hello."}] * 2
    (scene.folder / "steps.json").write_text(json.dumps(steps))
    process = subprocess.Popen(
        [sys.executable, "-m", "agentmesh", "serve", str(scene.folder), "--http", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=scene.environment,
    )
    try:
        found = re.search(r"http://\S+", until(process, "serving desk at http://"))
        assert found is not None
        yield process, found[0]
    finally:
        process.kill()
        process.wait(60)
        assert process.stderr is not None
        process.stderr.close()


def until(process: subprocess.Popen[str], words: str) -> str:
    """The next line of its standard error with these words."""
    assert process.stderr is not None
    told = ""
    for line in process.stderr:
        told += line
        if words in line:
            return line
    raise AssertionError(f"it never said {words!r}: {told}")


def asked(url: str, agent: str) -> None:
    async def ask() -> None:
        with anyio.fail_after(60):
            async with Client(url) as client:
                result = await client.call_tool(f"ask_{agent}", {"question": "Hello?"})
                assert not result.is_error, result

    anyio.run(ask)


def once_each(scene: Scene) -> list[int]:
    on_chain = scene.on_chain()
    assert len(set(on_chain)) == len(on_chain) and scene.recorded() == on_chain
    return list(on_chain)


def test_what_is_served_is_cosigned_meanwhile_and_anchored_at_the_end(
    set_scene: Callable[..., Scene],
) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    with serving(scene) as (process, url):
        asked(url, "ada")
        until(process, "witnessed: ")  # in the background
        asked(url, "ben")
        process.send_signal(signal.SIGINT)
        until(process, "anchored: ")
        until(process, "witnessed: ")
        assert process.wait(60) == 130
    (size,) = once_each(scene)
    out = scene.folder / "all.jsonl"
    assert scene.agentmesh("export", "all", "--ledger", scene.ledger, "-o", out).returncode == 0
    found = scene.bare(out, "--policy", scene.policy)
    assert found.returncode == 0, found.stdout + found.stderr
    assert size > 8


def test_an_anchor_is_sent_while_a_mesh_is_served_when_one_is_due(set_scene: Callable[..., Scene]) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    path = scene.folder / "mesh.toml"
    path.write_text(path.read_text().replace("confirmations = 2", 'confirmations = 2\nevery = "4"'))
    with serving(scene) as (process, url):
        asked(url, "ada")
        until(process, "anchored: ")
        process.kill()
    assert len(once_each(scene)) == 1


def test_a_second_ctrl_c_leaves_at_once_and_the_anchor_is_gone_on_with(
    set_scene: Callable[..., Scene],
) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    with serving(scene) as (process, url):
        asked(url, "ada")
        asked(url, "ben")
        scene.rpc("evm_setIntervalMining", 0)  # no block comes any more
        process.send_signal(signal.SIGINT)
        until(process, "anchor sent: ")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert scene.recorded() == []
    scene.rpc("evm_setIntervalMining", 1)
    (scene.folder / "steps.json").write_text(json.dumps([{"say": "draft"}, {"say": "polished"}]))
    done = scene.run()
    assert done.code == 0, done.errors
    once_each(scene)


def test_a_run_that_only_waits_for_the_chain_is_let_go_and_is_done_all_the_same(
    set_scene: Callable[..., Scene],
) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    scene.rpc("evm_setIntervalMining", 0)
    with scene.running() as run:
        run.until(lambda event: event["event"] == "anchor")
        run.process.send_signal(signal.SIGINT)
        assert run.finished() == 0, "".join(run.errors)
    assert [event["event"] for event in run.events][-3:] == ["anchor", "witnesses", "end"]
    assert run.events[-1]["reason"] == "done" and run.events[-2]["met"]
    scene.rpc("evm_setIntervalMining", 1)
    assert scene.run().code == 0
    once_each(scene)


def test_a_run_that_is_stopped_ends_soon_and_its_anchor_is_gone_on_with(
    set_scene: Callable[..., Scene],
) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    slow = f'\n[servers.slow]\ncommand = ["{sys.executable}", "slow.py"]\n'
    path = scene.folder / "mesh.toml"
    path.write_text(
        path.read_text().replace('role = "You draft."', 'role = "You draft."\ntools = ["slow"]') + slow
    )
    (scene.folder / "slow.py").write_text(
        "from mcp.server import MCPServer\nimport anyio\nserver = MCPServer('slow', log_level='ERROR')\n"
        "@server.tool()\nasync def wait() -> str:\n    await anyio.sleep(600)\n    return 'gone'\nserver.run()\n"
    )
    (scene.folder / "steps.json").write_text(json.dumps([{"call": {"name": "wait", "arguments": {}}}]))
    with scene.running() as run:
        run.until(lambda event: event["event"] == "tool_call")
        scene.rpc("evm_setIntervalMining", 0)
        began = time.monotonic()
        run.process.send_signal(signal.SIGINT)
        assert run.finished() == 130
        assert time.monotonic() - began < 40  # the end of a run that nobody stops would wait 60
    assert [event["event"] for event in run.events][-2:] == ["witnesses", "end"]
    assert run.events[-1]["reason"] == "cancelled"
    assert any("the next run goes on with it" in line for line in run.errors)
    scene.rpc("evm_setIntervalMining", 1)
    path.write_text(path.read_text().replace('\ntools = ["slow"]', "").replace(slow, ""))
    (scene.folder / "steps.json").write_text(json.dumps([{"say": "draft"}, {"say": "polished"}]))
    done = scene.run()
    assert done.code == 0 and done.of("anchor")[-1]["state"] == "recorded", done.errors
    once_each(scene)
