"""Agents that ask agents of another mesh, over HTTP, signed or not, there or away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentmesh.mesh import load_mesh
from agentmesh.runtime import open_mesh
from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger

Command = Callable[..., Any]
Make = Callable[..., Path]


def _messages(mesh: Path, *kinds: str) -> list[Any]:
    with Ledger.open(mesh / ".agentmesh" / "ledger.db", read_only=True) as log:
        return [record for record in log.read() if record.message.kind in kinds]


def _said(mesh: Path, *steps: dict[str, object]) -> None:
    (mesh / "steps.json").write_text(json.dumps(list(steps)))


ASK: dict[str, object] = {"call": {"name": "ask_critic", "arguments": {"question": "Is it good?"}}}


def test_the_pinned_digest_of_a_peer_stands_in_each_call(
    command: Command, serve: Command, lab: Make, desk: Make
) -> None:
    with serve(lab("It is good.")) as url:
        asking = desk(url, "Is it good?")
        done = command("run", asking)
        assert done.code == 0, done.err
    (pin,) = json.loads((asking / ".agentmesh" / "pins.json").read_text())["pins"]
    assert (pin["server"], pin["source"]) == ("lab", url)
    assert [tool["name"] for tool in pin["tools"]] == ["ask_critic"]
    (call,) = _messages(asking, "call")
    assert (call.message.facts["server"], call.message.facts["tool"]) == ("lab", "ask_critic")
    assert call.message.facts["tools_digest"] == pin["digest"]


def test_an_answer_that_takes_long_is_waited_for_and_the_records_agree(
    command: Command, serve: Command, lab: Make, desk: Make
) -> None:
    answering = lab("It is good.")
    with serve(answering, PATIENCE="0") as url:
        asking = desk(url, "Is it good?")
        done = command("run", asking)
        assert done.code == 0, done.err
    requests = [
        json.loads(next(part.data for part in record.parts if part.name == "content"))["name"]
        for record in _messages(asking, "sent")
    ]
    assert requests == ["ask_critic", "wait_dialogue"]
    (result,) = _messages(asking, "result")
    assert b"It is good." in result.parts[0].data
    checked = command("verify", asking, "--with", answering)
    assert checked.code == 0 and "matching   4 messages" in checked.out, checked.out


def test_one_agent_here_and_one_there_of_the_same_name_are_told_apart(
    serve: Command, lab: Make, desk: Make
) -> None:
    more = '[agents.critic]\nmodel = "scripted:steps.json"\nrole = "You judge."'
    with serve(lab("Here.")) as url:
        asking = desk(url, more=more)
        text = (asking / "mesh.toml").read_text().replace('peers = ["lab"]', 'peers = ["lab", "critic"]')
        (asking / "mesh.toml").write_text(text)
        _said(
            asking,
            {"call": {"name": "lab_ask_critic", "arguments": {"question": "There?"}}},
            {"say": "Done."},
        )
        shown: list[str] = []

        async def look() -> None:
            mesh = load_mesh(asking)
            with anyio.fail_after(60):
                async with open_mesh(mesh, listen=lambda event: None) as live:
                    ended = await live.ask("front", "Ask there.")
                    assert ended.answer == "Done.", ended
                    shown.append(ended.reason)

        anyio.run(look)
    assert shown == ["done"]
    (call,) = _messages(asking, "call")
    assert (call.message.facts["server"], call.message.facts["tool"]) == ("lab", "ask_critic")


def test_a_peer_whose_key_changed_is_not_asked(
    command: Command, serve: Command, lab: Make, desk: Make
) -> None:
    answering = lab("It is good.")
    with serve(answering) as url:
        asking = desk(url, "Is it good?")
        assert command("run", asking).code == 0
    port = int(url.split(":")[2].split("/")[0])
    shutil.rmtree(answering / ".agentmesh")  # another owner, at the same address
    with serve(answering, port=port):
        done = command("run", asking)
        assert done.code == 1 and "was known by the key did:key:" in done.err, done.err
        forgotten = command("pins", "forget", asking, "lab")
        assert forgotten.code == 0 and "lab: its key is forgotten" in forgotten.out
        done = command("run", asking)
        assert done.code == 0, done.err


def test_the_key_in_the_mesh_file_is_the_one_that_must_sign(
    command: Command, serve: Command, lab: Make, desk: Make
) -> None:
    answering = lab("It is good.")
    key = KeyStore(answering / ".agentmesh" / "keys").agent("host").id
    with serve(answering) as url:
        asking = desk(url, "Is it good?", more=f'key = "{key}"')
        assert command("run", asking).code == 0
        other = KeyStore(asking / "others").agent("host").id
        stranger = desk(url, "Is it good?", more=f'key = "{other}"', name="stranger")
        done = command("run", stranger)
        assert done.code == 1 and "peer lab" in done.err, done.err


def test_a_peer_that_does_not_sign_is_asked_only_where_the_file_allows_it(
    command: Command, serve: Command, lab: Make, desk: Make
) -> None:
    with serve(lab("It is good.", "It is good."), "bare") as url:
        done = command("run", desk(url, "Is it good?"))
        assert done.code == 1 and "did not sign" in done.err, done.err
        for mode in ("prefer", "off"):
            asking = desk(url, "Is it good?", more=f'signing = "{mode}"', name=mode)
            done = command("run", asking)
            assert done.code == 0, done.err
            recorded = _messages(asking, "sent", "received")
            assert {record.message.facts["statement"] for record in recorded} == (
                {""} if mode == "prefer" else set()
            )


def test_a_server_may_be_signed_as_a_peer_is(command: Command, serve: Command, lab: Make, desk: Make) -> None:
    answering = lab("It is good.")
    with serve(answering) as url:
        asking = desk(url, "Is it good?")
        text = (asking / "mesh.toml").read_text()
        text = text.replace('peers = ["lab"]', 'tools = ["far.ask_critic"]')
        (asking / "mesh.toml").write_text(f'{text}\n[servers.far]\nurl = "{url}"\nsigning = "require"\n')
        done = command("run", asking)
        assert done.code == 0, done.err
    assert len(_messages(asking, "sent")) == len(_messages(asking, "received")) == 1
    checked = command("verify", asking, "--with", answering)
    assert checked.code == 0, checked.out


def test_a_peer_that_is_away_is_told_to_the_model_and_the_dialogue_ends_as_it_should(
    command: Command, serve: Command, lab: Make, desk: Make
) -> None:
    with serve(lab("It is good.")) as url:
        asking = desk(url, "Is it good?")
        assert command("run", asking).code == 0
    _said(asking, ASK, {"say": "Nobody is there.", "expect": "peer lab is gone"})
    done = command("run", asking)
    assert (done.code, done.out) == (0, "Nobody is there.\n"), done.err
    assert "peer lab is away" in done.err


def test_a_peer_that_was_never_there_stops_the_run_at_its_line(command: Command, desk: Make) -> None:
    asking = desk("http://127.0.0.1:9/mcp", "Is it good?")
    done = command("run", asking)
    assert done.code == 1 and "nothing answers at its address" in done.err
    assert f"{asking / 'mesh.toml'}:10: peer lab" in done.err, done.err


def test_a_token_that_is_missing_is_named(
    command: Command, desk: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAB_TOKEN", raising=False)
    done = command("run", desk("http://127.0.0.1:9/mcp", "Is it good?", more='token_env = "LAB_TOKEN"'))
    assert done.code == 2 and "LAB_TOKEN" in done.err


def test_an_agent_that_the_peer_does_not_have_is_told_at_the_line_of_who_asks(
    command: Command, serve: Command, lab: Make, desk: Make
) -> None:
    with serve(lab()) as url:
        asking = desk(url, "Is it good?")
        text = (asking / "mesh.toml").read_text().replace('peers = ["lab"]', 'peers = ["lab.critik"]')
        (asking / "mesh.toml").write_text(text)
        done = command("run", asking)
    assert done.code == 2 and "mesh.toml:9: agents.front.peers: lab serves no tool 'ask_critik'" in done.err
    assert "did you mean lab.ask_critic?" in done.err


def test_pins_of_a_peer_are_compared_signed(command: Command, serve: Command, lab: Make, desk: Make) -> None:
    with serve(lab("It is good.")) as url:
        asking = desk(url, "Is it good?")
        assert command("run", asking).code == 0
        same = command("pins", "diff", asking)
        assert same.code == 0 and "lab: as pinned; 1 tool" in same.out, same.out
    size = len(_messages(asking, "sent"))
    assert size == 1  # looking is not asking, and leaves nothing in the record


def test_a_token_that_the_peer_does_not_take_is_told(
    command: Command,
    serve_command: Callable[..., Any],
    lab: Make,
    desk: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_TOKEN", "what-the-lab-wants-to-be-shown-by-all")
    with serve_command(lab("It is good."), "--token-env", "LAB_TOKEN") as url:
        monkeypatch.setenv("LAB_TOKEN", "what-the-lab-has-never-heard-of-before")
        done = command("run", desk(url, "Is it good?", more='token_env = "LAB_TOKEN"'))
    assert done.code == 1 and "it answered HTTP 401, and wants another token" in done.err, done.err


def test_the_key_of_a_peer_is_listed_with_its_tools(command: Command, held: Any) -> None:
    key = KeyStore(held.lab / ".agentmesh" / "keys").agent("host").id
    listed = command("pins", held.desk)
    assert listed.code == 0 and f"signs with {key}" in listed.out, listed.out
    assert command("pins", held.desk, "--json").json["key"] == key


@pytest.mark.parametrize("words", [("run",), ("pins",), ("pins", "forget")])
def test_known_keys_that_are_damaged_stop_everything(
    command: Command, held: Any, words: tuple[str, ...]
) -> None:
    (held.desk / ".agentmesh" / "known-keys.json").write_text("{")
    done = command(*words, held.desk, *(["lab"] if len(words) == 2 else []))
    assert done.code == 3 and "known keys cannot be read" in done.err, done


def test_a_key_is_not_forgotten_where_the_tools_cannot_be(command: Command, held: Any) -> None:
    place = held.desk / ".agentmesh"
    before = (place / "known-keys.json").read_bytes()
    (place / "pins.json").write_text("{")
    assert command("pins", "forget", held.desk, "lab").code == 3
    assert (place / "known-keys.json").read_bytes() == before
