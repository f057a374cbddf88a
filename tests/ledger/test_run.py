"""Entries taken as one run: the same evidence, the same state and the same failures as one by one."""

from __future__ import annotations

import io
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from agentmesh_ledger import (
    Draft,
    DraftPart,
    Ledger,
    LedgerError,
    Verified,
    checks,
    verify_ledger,
    verify_transcript,
)
from agentmesh_ledger.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.findings import Findings, examine
from agentmesh_ledger.jcs import JsonValue, canonical, parse
from agentmesh_ledger.judge import SOUND, Judged, Terms, judge_lines
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.record import Outline
from agentmesh_ledger.run import Outcome, Run, run_of
from agentmesh_ledger.tree import Edge, cover, cover_roots, leaf_hash

LEAVES = [leaf_hash(bytes([number])) for number in range(70)]


def test_the_cover_of_any_leaves_continues_any_tree_as_the_leaves_do() -> None:
    for start in range(len(LEAVES)):
        tree = Edge()
        for leaf in LEAVES[:start]:
            tree.append(leaf)
        one_by_one = tree.copy()
        for stop in range(start, len(LEAVES) + 1):
            at_once = tree.copy()
            at_once.extend(stop - start, cover_roots(start, LEAVES[start:stop]))
            assert (at_once.size, at_once.hashes) == (one_by_one.size, one_by_one.hashes)
            spans = [(number << level, (number + 1) << level) for level, number in cover(start, stop)]
            assert [each for span in spans for each in range(*span)] == list(range(start, stop))
            if stop < len(LEAVES):
                one_by_one.append(LEAVES[stop])


def signed(forge, size: int | None = None) -> SignedCheckpoint:
    return open_checkpoint(forge.checkpoint(size).sign(forge.key), [parse_vkey(forge.key.vkey)])


def outcomes_of(forge) -> list[Outcome]:
    lines = forge.transcript().split(b"\n")[1:-2]
    return judge_lines(lines, Terms(checkpoint=forge.checkpoint(), proof=False))


@pytest.fixture
def long(forge):
    """Twenty entries: two agents, each now here now there in three dialogues."""
    forge.begin()
    for index in range(2, 20):
        forge.say((forge.ada, forge.ben)[index % 5 == 0], f"text {index}", f"d{index % 3}")
    return forge


def test_a_run_says_what_its_entries_say(long) -> None:
    outcomes = outcomes_of(long)
    run = run_of(outcomes[2:])
    assert run is not None
    seen = [Outline._make(each) for each in outcomes[2:]]
    assert (run.first, run.size, run.stop, run.leaf) == (2, 18, 20, seen[-1].leaf_hash)
    assert (run.log, run.prev, run.kind, run.withheld) == (seen[0].log, seen[0].prev, "say", 0)
    assert run.leaf_hashes() == [each.leaf_hash for each in seen]
    assert run.authors == [(long.ada.id, 15, 19), (long.ben.id, 3, 15)]
    assert [(first, count) for _, first, count in run.dialogues] == [(0, 6)] * 3


def test_what_is_not_chained_sound_and_without_a_gap_is_no_run(long) -> None:
    good = outcomes_of(long)[2:]
    assert run_of(good) is not None and run_of(good[:1]) is None and run_of([]) is None
    for at in (0, 7, len(good) - 1):
        seen = Outline._make(good[at])
        for changed in (
            seen._replace(place=seen.place + 1),
            seen._replace(prev=bytes(32)) if at else seen._replace(leaf_hash=bytes(32)),
            seen._replace(log="another.example/log"),
            seen._replace(facts={}),
            seen._replace(seq=seen.seq + 1) if at else seen._replace(seq=9),
        ):
            assert run_of([*good[:at], tuple(changed), *good[at + 1 :]]) is None, changed
        assert (
            run_of([*good[:at], (("line", "x", None, None, None, None), None, None, None), *good[at + 1 :]])
            is None
        )
    assert run_of(outcomes_of(long)) is None  # registrations are the log's own affairs


def both(forge, begun: int) -> tuple[LogChecks, Run]:
    """Checks that took the first entries one by one, and the run of the rest."""
    outcomes = outcomes_of(forge)
    begin = LogChecks(signed(forge))
    for each in outcomes[:begun]:
        begin.take(Outline._make(each))
    run = run_of(outcomes[begun:])
    assert run is not None
    return begin, run


def test_checks_that_took_a_run_stand_where_one_by_one_they_would(long) -> None:
    for begun in range(2, 18):
        at_once, run = both(long, begun)
        one_by_one, _ = both(long, begun)
        for each in outcomes_of(long)[begun:]:
            one_by_one.take(Outline._make(each))
        assert at_once.take_run(run)
        assert canonical(at_once.state()) == canonical(one_by_one.state())
        assert list(at_once.authors.counts.items()) == list(one_by_one.authors.counts.items())
        at_once.finish()


Spoil = Callable[[LogChecks, Run], Run]


def revoked(begin: LogChecks, run: Run) -> Run:
    begin.authors.revoked[run.authors[-1][0]] = None  # type: ignore[assignment]
    return run


def rotated(begin: LogChecks, run: Run) -> Run:
    begin.authors.rotated[run.authors[-1][0]] = None  # type: ignore[assignment]
    return run


def unregistered(begin: LogChecks, run: Run) -> Run:
    del begin.authors.names[run.authors[-1][0]]
    return run


def spoken_on(begin: LogChecks, run: Run) -> Run:
    begin._sequence[run.dialogues[-1][0]] += 1
    return run


def unread(begin: LogChecks, run: Run) -> Run:
    begin._unread = 1
    return run


def gap(begin: LogChecks, run: Run) -> Run:
    begin._gapless = False
    return run


def selected(begin: LogChecks, run: Run) -> Run:
    begin.dialogue = "d1"
    return run


def expecting(size: int) -> Spoil:
    def spoil(begin: LogChecks, run: Run) -> Run:
        begin.expect = Checkpoint(origin=begin.checkpoint.origin, size=size, root=bytes(32))
        return run

    return spoil


def cut(begin: LogChecks, run: Run) -> Run:
    begin.checkpoint = Checkpoint(origin=run.log, size=run.stop - 1, root=bytes(32))
    return run


@pytest.mark.parametrize(
    "spoil",
    [
        lambda begin, run: run._replace(first=run.first + 1),
        lambda begin, run: run._replace(first=run.first - 1),
        lambda begin, run: run._replace(log="another.example/log"),
        lambda begin, run: run._replace(prev=bytes(32)),
        revoked,
        rotated,
        unregistered,
        spoken_on,
        unread,
        gap,
        selected,
        cut,
        expecting(9),
        expecting(13),
        expecting(20),
    ],
)
def test_a_run_against_which_anything_stands_changes_nothing(long, spoil: Spoil) -> None:
    begin, run = both(long, 8)
    run = spoil(begin, run)
    before = begin.__dict__ | {"edge": begin._edge.hashes, "sequence": dict(begin._sequence)}
    counts = dict(begin.authors.counts)
    assert not begin.take_run(run)
    assert begin.__dict__ | {"edge": begin._edge.hashes, "sequence": dict(begin._sequence)} == before
    assert begin.authors.counts == counts and begin._edge.size == begin.entries == 8


def test_a_size_outside_of_a_run_does_not_stand_against_it(long) -> None:
    for size in (7, 8, 21):
        begin, run = both(long, 8)
        assert begin.take_run(expecting(size)(begin, run))


def test_a_run_of_more_dialogues_than_are_allowed_is_not_taken(long, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, fits in ((3, False), (4, True)):  # the log's own, and three
        monkeypatch.setattr(checks, "MAX_DIALOGUES", limit)
        begin, run = both(long, 2)
        assert begin.take_run(run) is fits


def in_chunks(outcomes: list[Outcome], dice: random.Random, *, runs: bool) -> Iterator[Judged]:
    """The outcomes in pieces, told as runs where they make one, or one by one."""
    at = 0
    while at < len(outcomes):
        piece = outcomes[at : at + dice.randrange(1, 9)]
        yield Judged(
            count=len(piece), run=run_of(piece) if runs else None, outcomes=lambda piece=piece: piece
        )
        at += len(piece)


def spoken(forge_of, dice: random.Random):
    """A small log with registrations, rotations and revocations in it, and things that are not right."""
    forge = forge_of().begin()
    wrong = dice.randrange(3)
    for index in range(2, dice.randrange(8, 40)):
        author, dialogue = dice.choice([forge.ada, forge.ada, forge.ben]), f"d{dice.randrange(3)}"
        lot = dice.randrange(60) if wrong == 0 else 9
        if lot == 0:
            forge.add(
                author,
                "key.revoke",
                "log",
                facts={"agent": forge.ben.id, "after": index - 1, "reason": "lost"},
            )
        elif lot == 1:
            forge.say(author, "x", dialogue, seq=dice.randrange(4))
        elif lot == 2:
            forge.say(author, "x", dialogue, prev="00" * 32)
        elif lot == 3:
            forge.say(author, "x", dialogue, log="another.example/log")
        elif lot == 4:
            forge.say(author, "x", dialogue, index=index + 1)
        else:
            forge.say(author, f"text {index}", dialogue)
    return forge


def damaged(lines: list[bytes], dice: random.Random) -> list[bytes]:
    """The lines with up to three damages: bits, lines lost, twice or in each other's place, bytes exchanged."""
    lines = list(lines)
    for _ in range(dice.choice([0, 0, 1, 1, 2, 3])):
        one, two = dice.randrange(1, len(lines)), dice.randrange(1, len(lines))
        kind = dice.randrange(6)
        if kind == 0:
            line = bytearray(lines[one])
            line[dice.randrange(len(line))] ^= 1 << dice.randrange(8)
            lines[one] = bytes(line).replace(b"\n", b" ")
        elif kind == 1 and len(lines) > 3:
            del lines[one]
        elif kind == 2:
            lines[one], lines[two] = lines[two], lines[one]
        elif kind == 3:
            lines.insert(two, lines[one])
        elif kind == 4:
            place, other = lines[one].find(b'"parts":'), lines[two].find(b'"parts":')
            lines[one] = lines[one][:place] + lines[two][other:]
        else:
            lines[one] = dice.choice([b"{}", b"", b'{"entry":"', lines[one][:-1]])
    return lines


@dataclass(frozen=True)
class Told:
    """All that a verification says, for one to be held against another."""

    errors: list[tuple[object, ...]]
    entries: int
    withheld: int
    counts: list[tuple[str, int]]
    lasts: list[tuple[str, int]]
    state: bytes | None


def examined(begin: LogChecks, judged: Iterator[Judged], limit: int = 20) -> Told:
    findings = Findings(limit)
    if examine(begin, judged, findings, line=2):
        for error in begin.endings():
            findings.add(error)
    errors: list[tuple[object, ...]] = []
    try:
        findings.settle()
    except LedgerError as first:
        each = (first, *first.others)
        errors = [(e.reason, e.index, e.line, e.message, e.expected, e.found, e.hint, e.more) for e in each]
    try:
        state = canonical(begin.state())
    except LedgerError:
        state = None
    counts, lasts = begin.authors.counts, begin.authors.lasts
    full = bool(errors) and errors[0][-1]
    if full:  # whoever has enough failures does not read on, nor say where he stands
        return Told(errors, 0, 0, [], [], None)
    return Told(errors, begin.entries, begin.withheld, list(counts.items()), list(lasts.items()), state)


@pytest.mark.spec("L-83", "L-85")
def test_any_damaged_log_gets_one_verdict_by_runs_and_one_by_one(forge_of) -> None:
    sound = taken = 0
    for seed in range(700):
        dice = random.Random(seed)  # repeatable on purpose
        forge = spoken(forge_of, dice)
        lines = damaged(forge.transcript().split(b"\n")[:-2], dice)
        size = len(forge.entries)
        outcomes = judge_lines(lines[1:], Terms(checkpoint=forge.checkpoint(), proof=False))
        expect = None
        if dice.randrange(2):
            at = dice.randrange(size + 1)
            root = forge.checkpoint(at).root if dice.randrange(3) else bytes(32)
            expect = Checkpoint(origin=forge.checkpoint().origin, size=at, root=root)
        limit, told = dice.choice([1, 2, 20]), []
        for runs in (False, True):
            try:
                begin = LogChecks(signed(forge), expect=expect)
            except LedgerError as error:
                told.append(error.message)
                continue
            again = random.Random(seed)
            told.append(examined(begin, in_chunks(outcomes, again, runs=runs), limit))
        assert told[0] == told[1], seed
        sound += isinstance(told[0], Told) and not told[0].errors
        taken += any(each.run for each in in_chunks(outcomes, random.Random(seed), runs=True))
    assert 100 < sound < 600 and taken > 600


@pytest.mark.spec("L-86")
def test_resumed_anywhere_runs_lead_to_the_same_state(forge_of) -> None:
    for seed in range(40):
        dice = random.Random(seed)
        forge = forge_of().begin()
        for index in range(2, 30):
            forge.say(dice.choice([forge.ada, forge.ben]), f"text {index}", f"d{dice.randrange(4)}")
        outcomes = outcomes_of(forge)
        stop = dice.randrange(len(outcomes))
        told = []
        for runs in (False, True):
            first = LogChecks(signed(forge))
            assert examine(first, in_chunks(outcomes[:stop], random.Random(seed), runs=runs), Findings(1))
            state: JsonValue = parse(canonical(first.state()))
            again = LogChecks.resumed(state, signed(forge), expect=forge.checkpoint(dice.randrange(stop, 31)))
            told.append((state, examined(again, in_chunks(outcomes[stop:], random.Random(seed), runs=runs))))
            dice = random.Random(seed + 1)
        assert told[0] == told[1] and not told[0][1].errors


def verdict(verify: Callable[[], Verified]) -> object:
    """The evidence, or every error in full."""
    try:
        return verify()
    except LedgerError as first:
        return [(each.reason, each.index, each.line, str(each), each.more) for each in (first, *first.others)]


def without_runs(patch: pytest.MonkeyPatch, verify: Callable[[], Verified]) -> object:
    with patch.context() as plain:
        plain.setattr(LogChecks, "take_run", lambda checks, run: False)
        return verdict(verify)


@pytest.mark.spec("L-83")
def test_whole_transcripts_get_one_verdict_both_ways(
    forge_of, reseal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentmesh_ledger.verify.CHUNK_ENTRIES", 5)
    for seed in range(150):
        dice = random.Random(seed)
        forge = spoken(forge_of, dice)
        data = reseal(damaged(forge.transcript().split(b"\n")[:-2], dice))
        size = dice.randrange(1, len(forge.entries) + 1)
        expect = forge.checkpoint(size).sign(forge.key) if dice.randrange(2) else None

        def verify(data: bytes = data, expect: str | None = expect) -> Verified:
            return verify_transcript(io.BytesIO(data), expect=expect, jobs=1)

        assert verdict(verify) == without_runs(monkeypatch, verify), seed


@pytest.mark.spec("L-83")
def test_a_transcript_read_in_blocks_gets_the_verdict_of_one_read_line_by_line(forge_of, reseal) -> None:
    whole = spoken(forge_of, random.Random(7)).transcript()
    for seed in range(300):
        dice = random.Random(seed)
        lines = damaged(whole.split(b"\n")[:-2], dice)
        data = reseal(lines)
        cut = dice.randrange(6)
        if cut == 0:
            data = data[: dice.randrange(len(data))]
        elif cut == 1:
            data += dice.choice([b"x", b"\n", data])
        elif cut == 2:
            end = data.split(b"\n")[-2]
            data = b"\n".join([*lines[:3], end, *lines[3:], end, b""])

        def by_lines(data: bytes = data) -> Verified:
            return verify_transcript(io.BytesIO(data), jobs=1)

        def by_blocks(data: bytes = data, size: int = dice.choice([16, 3000, 10_000, 1 << 20])) -> Verified:
            raw = cast(io.RawIOBase, io.BytesIO(data))
            return verify_transcript(io.BufferedReader(raw, size), jobs=1)

        assert verdict(by_blocks) == verdict(by_lines), seed


@pytest.mark.spec("L-83", "L-88", "L-91")
def test_damaged_databases_get_one_verdict_both_ways(
    ledger: Ledger, keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = keys.agent("ada")
    part = DraftPart(name="text", type="text/plain", data=b"391")
    ledger.append(
        [Draft(author=ada, kind="say", dialogue=f"d{each % 7}", parts=(part,)) for each in range(600)]
    )
    for damage in (
        "SELECT 1",
        "UPDATE entries SET kind = 'task' WHERE idx = 300",
        "UPDATE parts SET data = X'00' WHERE idx = 301",
        "DELETE FROM parts WHERE idx = 302",
        "DELETE FROM entries WHERE idx = 303",
        "UPDATE tiles SET data = zeroblob(8192) WHERE level = 0 AND number = 0",
        "UPDATE tiles SET data = zeroblob(8192) WHERE level = 0",
        "UPDATE tiles SET data = zeroblob(64) WHERE level = 1",
    ):
        path = tmp_path / "damaged.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(ledger.path)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
            assert target.execute(damage).rowcount or True
            target.commit()
        for limit in (1, 20):

            def verify(path: Path = path, limit: int = limit) -> Verified:
                return verify_ledger(path, jobs=1, limit=limit)

            found = verdict(verify)
            assert found == without_runs(monkeypatch, verify), damage
            assert isinstance(found, Verified) == (
                damage in ("SELECT 1", "DELETE FROM parts WHERE idx = 302")
            ), found


def test_every_sound_entry_has_the_fields_of_an_outline(long) -> None:
    assert {len(each) for each in outcomes_of(long)} == {SOUND}
