"""What issue 6 promises of a run with witnesses and a chain, with real ones: processes, a node, a network that fails."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

Scene = Any  # of conftest.py, which tests cannot import

SLOW_SERVER = """\
from pathlib import Path
import anyio
from mcp.server import MCPServer

server = MCPServer("slow", log_level="ERROR")

@server.tool()
async def wait() -> str:
    while not Path("go").exists():
        await anyio.sleep(0.02)
    return "gone"

server.run()
"""


def is_anchor(state: str, *, mined: bool | None = None) -> Callable[[dict[str, Any]], bool]:
    def held(event: dict[str, Any]) -> bool:
        if event["event"] != "anchor" or event["state"] != state:
            return False
        return mined is None or mined == (event["block"] is not None)

    return held


def is_(kind: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["event"] == kind


def settled(scene: Scene) -> list[int]:
    """The sizes that are anchored: once each, in the ledger as on the chain."""
    on_chain = scene.on_chain()
    assert len(set(on_chain)) == len(on_chain), f"a size was posted twice: {on_chain}"
    assert scene.recorded() == on_chain
    return list(on_chain)


def without(scene: Scene, table: str) -> None:
    """Takes a table out of the mesh file."""
    path = scene.folder / "mesh.toml"
    head, mark, rest = path.read_text().partition(f"[{table}]\n")
    assert mark
    _, after, following = rest.partition("\n[")
    path.write_text(head + (after.lstrip("\n") + following if after else ""))


def within(scene: Scene, seconds: int) -> None:
    """How long the end of a run waits for its anchor."""
    path = scene.folder / "mesh.toml"
    path.write_text(path.read_text().replace("within = 60", f"within = {seconds}"))


def test_a_run_ends_with_a_transcript_that_the_policy_accepts_with_the_network_off(scene: Scene) -> None:
    done = scene.run()
    assert done.code == 0, done.errors
    *_, anchor, witnesses, end = done.events
    assert (end["event"], end["reason"], end["answer"]) == ("end", "done", "polished")
    assert (anchor["event"], anchor["state"]) == ("anchor", "recorded")
    assert anchor["depth"] >= 2 and anchor["tx"].startswith("0x") and anchor["block"] > 0
    assert (witnesses["event"], witnesses["met"], witnesses["needed"]) == ("witnesses", True, "2 of 3")
    assert len(witnesses["names"]) >= 2
    # The anchor's own entry is under what the witnesses cosigned.
    assert witnesses["size"] == anchor["size"] + 1
    assert settled(scene) == [anchor["size"]]

    transcript = scene.exported(end["dialogue"])
    scene.line.cut()
    for witness in scene.witnesses:
        witness.kill()
    found = scene.bare(transcript, "--policy", scene.policy)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "met: quorum" in found.stdout
    assert f"block {anchor['block']}" in found.stdout.replace(",", "")

    data = transcript.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 7)):
        transcript.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert scene.bare(transcript, "--policy", scene.policy).returncode == 1


def test_one_witness_of_three_may_die_and_of_two_it_is_told(scene: Scene) -> None:
    scene.witnesses[0].kill()
    done = scene.run()
    assert done.code == 0, done.errors
    last = done.of("witnesses")[-1]
    assert last["met"] and last["names"] == ["w1", "w2"] and list(last["missing"]) == ["w0"]
    assert "note: witness w0: " in done.errors  # already said at the beginning

    scene.witnesses[1].kill()
    done = scene.run()
    assert done.code == 0 and done.end["reason"] == "done", done.errors
    last = done.of("witnesses")[-1]
    assert not last["met"] and last["names"] == ["w2"] and sorted(last["missing"]) == ["w0", "w1"]
    assert "policy not met (2 of 3 needed)" in done.errors
    quiet = scene.agentmesh("run", scene.folder, "--quiet")
    assert quiet.returncode == 0 and quiet.stderr.startswith("policy not met (2 of 3 needed)"), quiet.stderr
    assert len(quiet.stderr.splitlines()) == 3  # and the two that are silent
    transcript = scene.exported(done.end["dialogue"])
    assert scene.bare(transcript, "--policy", scene.policy).returncode == 1

    for witness in scene.witnesses[:2]:
        witness.start()
    met = scene.run()
    assert met.code == 0 and met.of("witnesses")[-1]["met"], met.errors
    # What was said without them is under the next checkpoint that they cosign.
    transcript = scene.exported(done.end["dialogue"])
    assert scene.bare(transcript, "--policy", scene.policy).returncode == 0
    assert len(settled(scene)) == 4
    quiet = scene.agentmesh("run", scene.folder, "--quiet")
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_a_witness_killed_in_the_middle_of_a_run_holds_nothing_up(scene: Scene) -> None:
    with scene.running() as run:
        run.until(is_("message"))
        scene.witnesses[2].kill()
        assert run.finished() == 0, "".join(run.errors)
    last = [event for event in run.events if event["event"] == "witnesses"][-1]
    assert last["met"]


def test_a_chain_that_is_cut_in_the_middle_of_a_run_is_told_and_nothing_is_lost(scene: Scene) -> None:
    within(scene, 5)
    with scene.running() as run:
        run.until(is_("message"))
        scene.line.cut()
        assert run.finished() == 0, "".join(run.errors)
    assert run.events[-1]["reason"] == "done"
    assert [event["met"] for event in run.events if event["event"] == "witnesses"][-1]
    assert any(is_anchor("waiting")(event) for event in run.events)
    assert any("the next run goes on with it" in line for line in run.errors)

    done = scene.run()  # still cut: told at the beginning, and no reason to stop
    assert done.code == 0 and "the chain cannot be asked" in done.errors

    scene.line.mend()
    within_again = scene.folder / "mesh.toml"
    within_again.write_text(within_again.read_text().replace("within = 5\n", "within = 60\n"))
    done = scene.run()
    assert done.code == 0 and done.of("anchor")[-1]["state"] == "recorded", done.errors
    sizes = settled(scene)
    # One transaction covers all three.
    assert sizes[-1] == done.of("anchor")[-1]["size"]


def test_a_chain_that_is_cut_once_the_anchor_is_sent_has_it_recorded_by_the_next_run(scene: Scene) -> None:
    within(scene, 8)
    with scene.running() as run:
        sent = run.until(is_anchor("pending"))
        scene.line.cut()
        assert run.finished() == 0, "".join(run.errors)
    assert scene.recorded() == []
    scene.line.mend()
    shown = scene.agentmesh(
        *("anchor", "status", scene.folder),
    )
    assert shown.returncode == 0 and str(sent["size"]) in shown.stdout, shown.stdout + shown.stderr
    done = scene.run()
    assert done.code == 0, done.errors
    assert settled(scene)[0] == sent["size"]


@pytest.mark.parametrize("depth", [1, 3])
def test_an_anchor_that_a_reorg_takes_away_is_sent_again(set_scene: Callable[..., Scene], depth: int) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    path = scene.folder / "mesh.toml"
    path.write_text(path.read_text().replace("confirmations = 2", "confirmations = 4"))
    with scene.running() as run:
        run.until(is_anchor("pending", mined=True))
        scene.rpc("anvil_reorg", depth, [])
        assert run.finished() == 0, "".join(run.errors)
    assert [event for event in run.events if event["event"] == "anchor"][-1]["state"] == "recorded"
    assert len(settled(scene)) == 1


POINTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "said": is_("message"),
    "sent": is_anchor("pending", mined=False),
    "mined": is_anchor("pending", mined=True),
    "recorded": is_anchor("recorded"),
    "cosigned": is_("witnesses"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_run_that_dies_and_one_after_it_anchor_each_size_once(
    set_scene: Callable[..., Scene], point: str
) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    path = scene.folder / "mesh.toml"
    written = path.read_text()
    if (
        point == "mined"
    ):  # of two blocks a busy machine may see the second only, and the anchor is deep enough then
        path.write_text(written.replace("confirmations = 2", "confirmations = 8"))
    with scene.running() as run:
        run.until(POINTS[point])
        run.kill()
    path.write_text(written)
    for _ in range(2):
        done = scene.run()
        assert done.code == 0 and done.of("anchor")[-1]["state"] == "recorded", done.errors
        assert done.of("witnesses")[-1]["met"]
        settled(scene)


def test_runs_that_die_at_any_moment_anchor_each_size_once(set_scene: Callable[..., Scene]) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    chance = random.Random(6)
    began = time.monotonic()
    assert scene.run().code == 0
    whole = time.monotonic() - began
    for _ in range(6):
        with scene.running() as run:
            time.sleep(chance.uniform(0.2, 1.0) * whole)  # a moment of its life, which no event marks
            run.kill()
    done = scene.run()
    assert done.code == 0 and done.of("anchor")[-1]["state"] == "recorded", done.errors
    settled(scene)
    verified = scene.agentmesh("verify", scene.folder, "--policy", scene.policy)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("who", ["witness", "anchor"])
def test_a_database_put_back_with_its_keys_is_refused(
    set_scene: Callable[..., Scene], tmp_path: Path, who: str
) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    assert scene.run().code == 0
    kept = scene.copied("kept")
    assert scene.run().code == 0
    scene.put_back(kept)
    without(scene, "anchor" if who == "witness" else "witness")
    before = scene.agentmesh("ledger", "checkpoint", "--ledger", scene.ledger).stdout
    done = scene.run()
    assert (done.code, done.events) == (1, [])
    assert "put back from an older copy" in done.errors and "Put the newest copy" in done.errors
    # Nothing was signed.
    assert scene.agentmesh("ledger", "checkpoint", "--ledger", scene.ledger).stdout == before


@pytest.mark.parametrize("who", ["witness", "anchor"])
def test_a_log_that_went_on_twice_is_refused_and_the_fork_proven(
    set_scene: Callable[..., Scene], tmp_path: Path, who: str
) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    assert scene.run().code == 0
    kept = scene.copied("kept")
    assert scene.run().code == 0  # the branch that both have seen
    ours = tmp_path / "ours.jsonl"
    assert scene.agentmesh("export", "all", "--ledger", scene.ledger, "-o", ours).returncode == 0
    scene.put_back(kept)
    mesh = (scene.folder / "mesh.toml").read_text()
    without(scene, "anchor")
    without(scene, "witness")
    for _ in range(3):
        assert scene.run().code == 0  # the branch that nobody has seen
    (scene.folder / "mesh.toml").write_text(mesh)
    without(scene, "anchor" if who == "witness" else "witness")
    done = scene.run()
    assert (done.code, done.events) == (1, []), done.errors
    assert "another" in done.errors

    vkey = json.loads(scene.agentmesh("keys", scene.folder, "--json").stdout.splitlines()[-1])["id"]
    if who == "witness":
        (proof,) = (scene.folder / ".agentmesh" / "keys" / "logs").glob("*.fork")
        found = scene.bare("fork", proof, "--key", vkey)
        assert found.returncode == 0 and "proven" in found.stdout, found.stdout + found.stderr
    theirs = tmp_path / "theirs.jsonl"
    assert scene.agentmesh("export", "all", "--ledger", scene.ledger, "-o", theirs).returncode == 0
    found = scene.bare("fork", ours, theirs, "--key", vkey)
    assert found.returncode == 0 and "proven" in found.stdout, found.stdout + found.stderr
    assert scene.bare("fork", ours, ours, "--key", vkey).returncode == 1


def test_two_copies_that_run_at_the_same_time_are_found_out(
    set_scene: Callable[..., Scene], tmp_path: Path
) -> None:
    scene = set_scene("--block-time", "1", witnesses=1)
    without(scene, "anchor")
    other = replace(scene, folder=Path(shutil.copytree(scene.folder, tmp_path / "other")))
    path = scene.folder / "mesh.toml"
    path.write_text(
        # It asks the witness at its end only, when the other copy's branch is there before.
        path.read_text()
        .replace("every = 1\n", "every = 600\n")
        .replace('role = "You draft."', 'role = "You draft."\ntools = ["slow"]')
        + f'\n[servers.slow]\ncommand = ["{sys.executable}", "slow.py"]\n'
    )
    (scene.folder / "slow.py").write_text(SLOW_SERVER)
    steps = [{"call": {"name": "wait", "arguments": {}}}, {"say": "draft"}, {"say": "polished"}]
    (scene.folder / "steps.json").write_text(json.dumps(steps))
    with scene.running() as run:
        run.until(is_("tool_call"))
        assert other.run().code == 0
        (scene.folder / "go").touch()
        code = run.finished()
    # The dialogue itself is closed in its ledger, and told as what it is.
    told = "".join(run.errors)
    assert code == 1 and run.events[-1]["reason"] == "done", told
    assert "forked" in told or "older copy" in told
    assert scene.run().code == 1
