"""Records whose own messages are odd: they are judged, and end nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from agentmesh.audit.exchanges import Exchanged, Reading, Side
from agentmesh.audit.retold import contradictions
from agentmesh_ledger import Draft, DraftPart, JsonValue, KeyStore
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.store import LedgerAudit

_ASKED = b'{"arguments":{"question":"?"},"name":"ask"}'


def _part(name: str, data: bytes) -> tuple[DraftPart, ...]:
    return (DraftPart(name=name, type="application/json", data=data),)


def _side(folder: Path, tool: JsonValue, arguments: bytes, calls: int = 1) -> Side:
    keys = KeyStore(folder / "keys")
    key = keys.agent("front")
    with Ledger.open(folder / "ledger.db", origin="x.example", keys=keys, create=True) as log:
        call = Draft(
            author=key, kind="call", dialogue="d", facts={"tool": tool}, parts=_part("arguments", arguments)
        )
        sent = Draft(
            author=key,
            kind="sent",
            dialogue="d",
            facts={"exchange": "e", "statement": "s", "type": "request", "method": "tools/call", "peer": "p"},
            parts=_part("content", _ASKED),
        )
        for _ in range(calls // 1_000 + 1):
            log.append([call, sent] * min(calls, 1_000))
    audit, reading = LedgerAudit(folder / "ledger.db"), Reading()
    reading.take(audit)
    return reading.side(audit.verified())


def _found(side: Side) -> list[str]:
    # No statement is kept in this record: that is not what is looked at here.
    sound: list[Exchanged] = [each for each in side.exchanged if each.kind == "sent"]
    return [each.why for each in contradictions(side, [_sound(each) for each in sound])]


def _sound(each: Exchanged) -> Exchanged:
    return replace(each, flaw="")


@pytest.mark.parametrize("tool", [["ask"], {"ask": 1}, None, 7])
@pytest.mark.parametrize(
    "arguments", [b"[" * 100_000, b'{"question":1e999}', b"\xff", b'{"q":9007199254740993}']
)
def test_a_call_of_odd_facts_and_arguments_is_not_the_one_that_was_sent(
    tmp_path: Path, tool: JsonValue, arguments: bytes
) -> None:
    assert _found(_side(tmp_path, tool, arguments)) == ["a request was sent that none of its calls tells of"]


def test_a_record_of_many_calls_alike_is_judged_in_a_moment(tmp_path: Path) -> None:
    side = _side(tmp_path, "ask", b'{"question":"?"}', calls=5_000)
    begin = time.process_time()
    assert _found(side) == []
    assert time.process_time() - begin < 10
