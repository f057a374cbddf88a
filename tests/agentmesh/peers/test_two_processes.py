"""Two processes with two ledgers hold a signed dialogue over HTTP; each verifies the other's record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_both_sides_record_what_passed_and_each_verifies_the_others(
    command: Command, serve: Command, lab: Make, desk: Make, tmp_path: Path
) -> None:
    answering = lab("It is good.", "It is better.")
    with serve(answering) as url:
        asking = desk(url, "Is it good?", "And now?")
        done = command("run", asking)
        assert (done.code, done.out) == (0, "The critic has spoken.\n"), done.err
        exchange = [("call", ""), ("sent", "request"), ("received", "result"), ("result", "")]
        assert _kinds(asking) == exchange * 2
        assert _kinds(answering) == [("received", "request"), ("sent", "result")] * 2
        for mesh in (asking, answering):
            assert command("verify", mesh).code == 0
        fetched = command("verify", asking, "--with", url, "--json")
        assert fetched.code == 0, fetched.out + fetched.err
        assert (fetched.json["crosscheck"]["matching"], fetched.json["crosscheck"]["agrees"]) == (4, True)
    for one, other in ((asking, answering), (answering, asking)):
        checked = command("verify", one, "--with", other)
        assert checked.code == 0, checked.out + checked.err
        assert "matching   4 messages" in checked.out and "agree      yes" in checked.out
