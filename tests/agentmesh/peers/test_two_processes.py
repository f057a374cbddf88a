"""Two processes with two ledgers hold a signed dialogue over HTTP; each verifies the other's record.

One altered message on either side is found: a byte that was changed, and a whole ledger that its owner signed anew.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger.log import Ledger

Command = Callable[..., Any]
Make = Callable[..., Path]


def _kinds(mesh: Path) -> list[tuple[str, str]]:
    with Ledger.open(mesh / ".agentmesh" / "ledger.db", read_only=True) as log:
        return [
            (each.message.kind, str(each.message.facts.get("type", "")))
            for each in log.read()
            if each.message.kind in ("sent", "received", "call", "result")
        ]


def _dialogues(mesh: Path) -> list[str]:
    with Ledger.open(mesh / ".agentmesh" / "ledger.db", read_only=True) as log:
        return [each.id for each in log.dialogues()]


def test_both_sides_record_what_passed_in_order(held: Any) -> None:
    exchange = [("call", ""), ("sent", "request"), ("received", "result"), ("result", "")]
    assert _kinds(held.desk) == exchange * 2
    assert _kinds(held.lab) == [("received", "request"), ("sent", "result")] * 2


def test_each_side_verifies_the_others_record_and_they_agree(command: Command, held: Any) -> None:
    for one, other in ((held.desk, held.lab), (held.lab, held.desk)):
        checked = command("verify", one, "--with", other)
        assert checked.code == 0, checked.out + checked.err
        assert "matching   4 messages" in checked.out and "agree      yes" in checked.out


def test_the_agent_itself_signs_its_calls_and_the_host_of_the_other_side_its_answers(held: Any) -> None:
    with Ledger.open(held.desk / ".agentmesh" / "ledger.db", read_only=True) as log:
        names = log.names()
        sent = [each.message for each in log.read() if each.message.kind == "sent"]
    assert {names[each.author] for each in sent} == {"front"}
    with Ledger.open(held.lab / ".agentmesh" / "ledger.db", read_only=True) as log:
        answers = [each.message for each in log.read() if each.message.kind == "sent"]
        opened = [each.message for each in log.read() if each.message.kind == "open"]
    assert {each.dialogue.split(":")[0] for each in answers} == {"wire"}
    asked_by = [each.facts["asked_by"] for each in opened]
    assert [each["exchange"] for each in asked_by] == [each.facts["exchange"] for each in sent]  # type: ignore[call-overload,index]  # JSON
    assert {each["author"] for each in asked_by} == {sent[0].author}  # type: ignore[call-overload,index]  # JSON


def test_transcripts_of_one_dialogue_are_compared_as_far_as_they_go(
    command: Command, held: Any, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "desk.jsonl", tmp_path / "lab.jsonl"
    (dialogue,) = _dialogues(held.desk)
    wire = next(each for each in _dialogues(held.lab) if each.startswith("wire:"))
    assert command("export", dialogue, "--ledger", held.desk, "-o", ours).code == 0
    assert command("export", wire, "--ledger", held.lab, "-o", theirs).code == 0
    for one, other in ((ours, theirs), (theirs, ours), (held.desk, theirs), (ours, held.lab)):
        checked = command("verify", one, "--with", other)
        assert checked.code == 0, checked.out + checked.err
    # A dialogue of its own in which nothing passed has nothing in common with the other side's.
    own = next(each for each in _dialogues(held.lab) if not each.startswith("wire:"))
    assert command("export", own, "--ledger", held.lab, "-o", theirs).code == 0
    checked = command("verify", held.desk, "--with", theirs)
    assert checked.code == 1 and "no exchange in common" in checked.out


@pytest.mark.parametrize("side", ["desk", "lab"])
@pytest.mark.parametrize("question", [b"It is good.", b"Is it good?"])
def test_a_changed_byte_on_either_side_is_found(
    command: Command, held: Any, side: str, question: bytes
) -> None:
    ledger = getattr(held, side) / ".agentmesh" / "ledger.db"
    with sqlite3.connect(ledger) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = ledger.read_bytes()
    assert question in data
    ledger.write_bytes(data.replace(question, question[:-1] + b"!", 1))
    for one, other in ((held.desk, held.lab), (held.lab, held.desk)):
        checked = command("verify", one, "--with", other)
        assert checked.code == 1 and "NOT VERIFIED, check part" in checked.err, checked.err
        assert str(ledger) in checked.err


GOOD, BAD, ASKED, OTHER = b"It is good.", b"It is bad.", b"Is it good?", b"Is it bad?"
FORGERIES: dict[str, tuple[str, str, Callable[[Any, Path], Any]]] = {
    "lab's answer, and its statement signed anew": (
        "lab",
        "differs",
        lambda forge, mesh: forge.answers_instead(BAD, mesh),
    ),
    "lab's answer, under the old statement": (
        "lab",
        "differs",
        lambda forge, _: forge.says_instead(BAD, kind="sent"),
    ),
    "lab's question": (
        "lab",
        "differs",
        lambda forge, _: forge.says_instead(OTHER, ASKED, kind="received"),
    ),
    "what lab's agent said": (
        "lab",
        "contradicts",
        lambda forge, _: forge.says_instead(BAD, kind="say"),
    ),
    "what lab's agent was asked": (
        "lab",
        "contradicts",
        lambda forge, _: forge.says_instead(OTHER, ASKED, kind="task"),
    ),
    "lab's answer left out": ("lab", "lacking", lambda forge, _: forge.without("sent")),
    "lab's question left out": ("lab", "lacking", lambda forge, _: forge.without("received", "request")),
    "desk's answer": (
        "desk",
        "differs",
        lambda forge, _: forge.says_instead(BAD, kind="received"),
    ),
    "what desk's agent was answered": (
        "desk",
        "contradicts",
        lambda forge, _: forge.says_instead(BAD, kind="result"),
    ),
    "what desk's agent called": (
        "desk",
        "contradicts",
        lambda forge, _: forge.says_instead(OTHER, ASKED, kind="call"),
    ),
    "desk's answer left out": ("desk", "lacking", lambda forge, _: forge.without("received")),
    "desk's question left out": ("desk", "lacking", lambda forge, _: forge.without("sent", "request")),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_whole_ledger_signed_anew_with_one_altered_message_is_found(
    command: Command, held: Any, forge: Any, forgery: str
) -> None:
    side, verdict, how = FORGERIES[forgery]
    altered: Path = getattr(held, side)
    forged = forge.sign_anew(altered, how(forge, altered))
    assert command("verify", forged).code == 0  # by itself it is sound
    honest = held.desk if side == "lab" else held.lab
    for one, other in ((forged, honest), (honest, forged)):
        checked = command("verify", one, "--with", other, "--json")
        assert checked.code == 1, checked.out
        found = checked.json["crosscheck"]
        assert found["agrees"] is False and found[verdict] == 1, found
        (finding,) = found["findings"]
        assert finding["verdict"] == verdict
        mine = "ours" if one == forged else "theirs"
        if verdict != "lacking":
            assert finding[mine] is not None, finding
        else:
            assert finding[mine] is None, finding
        assert (found["matching"] == 4) == (verdict == "contradicts"), found


def test_a_ledger_signed_anew_without_a_change_agrees(command: Command, held: Any, forge: Any) -> None:
    forged = forge.sign_anew(held.lab, lambda record, copy: copy)
    assert command("verify", held.desk, "--with", forged).code == 0


def test_two_statements_about_one_answer_name_who_signed_both(
    command: Command, held: Any, forge: Any
) -> None:
    forged = forge.sign_anew(held.lab, forge.answers_instead(b"It is bad.", held.lab))
    checked = command("verify", held.desk, "--with", forged)
    assert checked.code == 1
    assert "two statements about it, both signed by did:key:" in checked.out, checked.out
    assert "differs: tools/call ask_critic result (entry 7 here, entry " in checked.out


def test_a_dialogue_that_goes_on_lacks_its_last_messages_on_one_side(
    command: Command, held: Any, forge: Any, tmp_path: Path
) -> None:
    """The lab answered and recorded it; the desk has not received it yet."""
    cut: list[int] = []

    def until_the_last_answer(record: Any, copy: Any) -> Any:
        content = b"".join(copy.parts.values())
        if record.message.kind in ("received", "result", "say", "close", "inference") and (
            cut or b"It is better." in content
        ):
            cut.append(record.index)
            return None
        return copy

    forged = forge.sign_anew(held.desk, until_the_last_answer)
    checked = command("verify", forged, "--with", held.lab, "--json")
    found = checked.json["crosscheck"]
    assert checked.code == 1 and (found["matching"], found["lacking"]) == (3, 1), found
    assert "our record has no such result" in found["findings"][0]["why"]
    assert found["findings"][0]["ours"] is None


def test_withheld_content_is_compared_by_its_statement_and_said_so(command: Command, held: Any) -> None:
    erased = next(
        record.index
        for record in Ledger.open(held.lab / ".agentmesh" / "ledger.db", read_only=True).read()
        if record.message.kind == "sent"
    )
    done = command("ledger", "erase", erased, "--part", "content", "--yes", "--ledger", held.lab)
    assert done.code == 0, done.err
    checked = command("verify", held.desk, "--with", held.lab)
    assert checked.code == 0, checked.out
    assert "1 of them by their statements alone: one side withholds the content" in checked.out


def test_a_record_has_nothing_to_say_about_itself(command: Command, held: Any) -> None:
    assert command("verify", held.desk, "--with", held.desk).code == 2


def test_a_stranger_has_nothing_in_common(command: Command, held: Any, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    text = (held.lab / "mesh.toml").read_text()
    (stranger / "mesh.toml").write_text(text)
    (stranger / "steps.json").write_text(json.dumps([{"say": "Hello."}]))
    assert command("run", stranger, "Greet.").code == 0
    checked = command("verify", held.desk, "--with", stranger)
    assert checked.code == 1 and "no exchange in common" in checked.out or "lacking" in checked.out
