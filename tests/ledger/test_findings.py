"""Behind the first failure a verification goes on, tells each fault once, and gives no evidence."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh_ledger import LedgerError, TranscriptAudit, verify_ledger, verify_transcript
from agentmesh_ledger.checkpoint import SignedCheckpoint, open_checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.jcs import JsonValue, canonical, parse
from agentmesh_ledger.note import parse_vkey


def failures(data: bytes, limit: int = 20, jobs: int | None = 1) -> list[tuple[str, int | None]]:
    with pytest.raises(LedgerError) as caught:
        verify_transcript(io.BytesIO(data), limit=limit, jobs=jobs)
    first = caught.value
    assert all(not each.others for each in first.others)
    return [(each.reason, each.index) for each in (first, *first.others)]


@pytest.fixture
def talk(forge) -> Callable[[], object]:
    """Logs of twelve entries, all the same: two agents, each with a dialogue of its own."""

    def made() -> object:
        one = type(forge)().begin()
        for index in range(2, 12):
            one.say((one.ada, one.ben)[index % 2], f"text {index}", f"d{index % 2}")
        return one

    return made


def lines_of(forge) -> list[bytes]:
    return forge.transcript().split(b"\n")[:-2]


def damaged(line: bytes) -> bytes:
    """The line with a letter of its content changed."""
    place = line.index(b'"data":"') + 8
    return line[:place] + (b"A" if line[place : place + 1] != b"A" else b"B") + line[place + 1 :]


@pytest.mark.spec("L-83")
def test_each_damaged_part_is_told_once_and_the_end_too(talk, reseal) -> None:
    lines = lines_of(talk())
    for number in (4, 7):
        lines[number] = damaged(lines[number])
    assert failures(reseal(lines)) == [("part", 3), ("part", 6)]
    assert failures(b"\n".join([*lines, talk().transcript().split(b"\n")[-2], b""])) == [
        ("part", 3),
        ("part", 6),
        ("digest", None),
    ]


@pytest.mark.spec("L-83")
def test_an_entry_exchanged_for_a_good_one_breaks_one_link_and_the_root(talk) -> None:
    forge, other = talk(), talk()
    other.entries = other.entries[:5]
    other._seqs["d1"] -= 4  # only the seq of the entry added matters here
    other.say(other.ben, "never said", "d1", seq=1)
    forge_note = forge.checkpoint().sign(forge.key)
    forge.entries[5], forge.openings[5] = other.entries[5], other.openings[5]
    assert failures(forge.transcript(note=forge_note)) == [("chain", 6), ("root", None)]


@pytest.mark.spec("L-83")
@pytest.mark.parametrize("junk", [b"{}", b'{"entry":"', b"\xff" * 9, b""])
def test_a_line_that_cannot_be_read_leaves_the_next_link_unchecked(talk, reseal, junk: bytes) -> None:
    lines = lines_of(talk())
    lines[6] = junk
    assert failures(reseal(lines)) == [("line", None)]
    lines[9] = damaged(lines[9])
    assert failures(reseal(lines)) == [("line", None), ("part", 8)]


@pytest.mark.spec("L-83")
def test_lines_dropped_repeated_and_swapped_are_told_and_the_rest_is_still_looked_at(talk, reseal) -> None:
    lines = lines_of(talk())
    lines[11] = damaged(lines[11])
    dropped = failures(reseal([*lines[:5], *lines[6:]]))
    assert dropped[0] == ("index", 5) and dropped[-1] == ("part", 10) and len(dropped) <= 3
    assert failures(reseal([*lines[:5], lines[4], *lines[5:]])) == [("index", 3), ("part", 10)]
    swapped = failures(reseal([*lines[:5], lines[6], lines[5], *lines[7:]]))
    assert swapped[0] == ("index", 5) and ("part", 10) in swapped


@pytest.mark.spec("L-83")
def test_a_bad_registration_is_not_told_again_at_each_entry_of_its_agent(forge) -> None:
    forge.add(forge.ada, "key.register", "log").say(forge.ben, "a").say(forge.ben, "b").say(forge.ada, "c")
    assert failures(forge.transcript()) == [("author", 1)]


@pytest.mark.spec("L-83")
def test_the_list_ends_at_the_limit_and_says_so(talk, reseal) -> None:
    lines = lines_of(talk())
    lines[3:] = [damaged(line) for line in lines[3:]]
    for limit in (1, 4, 9, 10, 50):
        with pytest.raises(LedgerError) as caught:
            verify_transcript(io.BytesIO(reseal(lines)), limit=limit)
        assert len(caught.value.others) + 1 == min(limit, 10)
        assert caught.value.more == (limit < 10)
    with pytest.raises(LedgerError) as wrong:
        verify_transcript(io.BytesIO(reseal(lines)), limit=0)
    assert wrong.value.reason == "refused"


@pytest.mark.spec("L-83")
def test_a_file_that_is_cut_is_told_with_what_failed_before(talk) -> None:
    lines = lines_of(talk())
    lines[4] = damaged(lines[4])
    assert failures(b"\n".join(lines) + b"\n") == [("part", 3), ("truncated", None)]


def test_records_one_by_one_end_at_the_first_failure(talk, reseal) -> None:
    lines = lines_of(talk())
    lines[4] = damaged(lines[4])
    taken = []
    with pytest.raises(LedgerError) as caught:
        for record in TranscriptAudit(io.BytesIO(reseal(lines))):
            taken.append(record.index)
    assert taken == [0, 1, 2] and caught.value.others == ()


@pytest.mark.spec("L-83", "L-91")
def test_a_damaged_ledger_file_has_every_fault_told(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("UPDATE entries SET kind = 'task' WHERE idx = 1")
        connection.execute("UPDATE parts SET data = X'00' WHERE idx = 4")
        connection.execute("DELETE FROM entries WHERE idx = 5")
    with pytest.raises(LedgerError) as caught:
        verify_ledger(file)
    told = [(each.reason, each.index) for each in (caught.value, *caught.value.others)]
    assert told[:3] == [("store", 1), ("part", 4), ("index", 5)]


def test_progress_is_told_as_it_goes(talk) -> None:
    told: list[tuple[int, int]] = []
    verify_transcript(
        io.BytesIO(talk().transcript()), progress=lambda done, total: told.append((done, total))
    )
    assert told == [(12, 12)]


def signed(forge, size: int | None = None) -> SignedCheckpoint:
    return open_checkpoint(forge.checkpoint(size).sign(forge.key), [parse_vkey(forge.key.vkey)])


@pytest.mark.spec("L-86")
def test_checks_go_on_from_where_they_stood_after_any_entry(talk) -> None:
    forge = talk()
    for stop in range(len(forge.entries) + 1):
        first = LogChecks(signed(forge))
        for index in range(stop):
            first.entry(index, forge.entries[index], {})
        again = LogChecks.resumed(parse(canonical(first.state())), signed(forge))
        for index in range(stop, len(forge.entries)):
            again.entry(index, forge.entries[index], {})
        again.finish()
        assert (again.entries, again.withheld) == (12, 10)
        assert again.authors.counts == {forge.ada.id: 6, forge.ben.id: 6}


def changed(value: JsonValue) -> JsonValue:
    """Another value of the same kind."""
    if isinstance(value, dict):
        return {**value, "x": 1}
    if isinstance(value, list):
        return [*value, "00" * 32]
    return value + 1 if isinstance(value, int) else f"{value}x"


@pytest.mark.spec("L-86")
def test_a_state_that_was_changed_or_is_of_another_log_is_refused(talk) -> None:
    forge = talk()
    checks = LogChecks(signed(forge))
    for index in range(5):
        checks.entry(index, forge.entries[index], {})
    state = parse(canonical(checks.state()))
    assert isinstance(state, dict)
    lies: list[JsonValue] = [{**state, key: changed(value)} for key, value in state.items()]
    lies += [None, [], "x", {}, {key: value for key, value in state.items() if key != "edge"}]
    for lie in lies:
        with pytest.raises(LedgerError) as caught:
            LogChecks.resumed(lie, signed(forge))
        assert caught.value.reason == "header"
    with pytest.raises(LedgerError) as shorter:
        LogChecks.resumed(state, signed(forge, 4))
    assert shorter.value.reason == "consistency"
    with pytest.raises(LedgerError) as older:
        LogChecks.resumed(state, signed(forge), expect=forge.checkpoint(4))
    assert older.value.reason == "consistency"


@pytest.mark.spec("L-86")
def test_a_state_of_a_log_that_was_rewritten_does_not_reach_the_root(talk) -> None:
    forge, other = talk(), talk()
    other.entries = other.entries[:4]
    other.say(other.ada, "another history", "d0", seq=1)
    checks = LogChecks(signed(other))
    for index in range(5):
        checks.entry(index, other.entries[index], {})
    again = LogChecks.resumed(checks.state(), signed(forge))
    with pytest.raises(LedgerError) as caught:
        again.entry(5, forge.entries[5], {})
    assert caught.value.reason == "chain"
