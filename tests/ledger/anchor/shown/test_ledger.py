"""Anchors recorded in a ledger: held to their evidence and to the tree, and chosen for its transcripts."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from agentmesh_ledger import (
    Draft,
    DraftPart,
    JsonValue,
    KeyStore,
    Ledger,
    LedgerAudit,
    LedgerError,
    verify_transcript,
)
from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.anchor.recording import EVIDENCE_TYPE
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.report import evidence_lines
from agentmesh_ledger.transcript import TranscriptReader

Record = Callable[..., int]


@pytest.fixture
def record(spoken: Ledger, keys: KeyStore, evidence_of) -> Record:
    """Appends an `anchor` entry as whoever pushed one does, some of its facts changed; its index."""

    def run(
        size: int,
        *,
        evidence: JsonValue = None,
        part: str = "evidence",
        media: str = EVIDENCE_TYPE,
        data: bytes | None = None,
        without: str | None = None,
        facts: dict[str, JsonValue] | None = None,
        **where: object,
    ) -> int:
        root = spoken.root(size)
        made = evidence_of(size, root, **where)
        shows = verify_evidence(made, origin=spoken.origin, size=size, root=root)
        said: dict[str, JsonValue] = {
            "type": "evm",
            "chain": shows.chain,
            "contract": shows.contract,
            "sender": shows.sender,
            "size": size,
            "root": root.hex(),
            "block": shows.block,
            "block_hash": shows.block_hash,
            "tx": "0x" + "7a" * 32,
            **(facts or {}),
        }
        said.pop(without or "", None)
        content = data or canonical(made if evidence is None else evidence)
        parts = (DraftPart(name=part, type=media, data=content),)
        draft = Draft(author=keys.agent("ada"), kind="anchor", dialogue="log", facts=said, parts=parts)
        return spoken.append([draft])[0].index

    return run


def export(ledger: Ledger, dialogue: str | None = None, under: str | None = None) -> bytes:
    out = io.BytesIO()
    ledger.export(out, dialogue=dialogue, under=under)
    return out.getvalue()


def sizes(data: bytes) -> list[int]:
    return [each.size for each in verify_transcript(io.BytesIO(data)).anchors]


@pytest.mark.spec("L-117")
def test_recorded_anchors_are_verified_with_the_ledger(spoken: Ledger, record: Record) -> None:
    assert spoken.verify().anchors == ()
    record(5)
    record(8, block=9)
    found = spoken.verify()
    assert [(each.size, each.block, each.pinned) for each in found.anchors] == [(5, 7, False), (8, 9, False)]
    assert found.claimed == () and any("real chain" in each for each in found.not_shown)
    name = found.anchors[0].block_hash
    assert [each.pinned for each in spoken.verify(blocks=[name]).anchors] == [True, False]
    with pytest.raises(LedgerError) as caught:
        spoken.verify(blocks=["ab" * 32])
    assert caught.value.reason == "anchor"
    audit = LedgerAudit(spoken.path, blocks=[name])
    assert len(list(audit)) == 9 and [each.size for each in audit.verified().anchors] == [5, 8]


FALSE: list[tuple[str, dict[str, object]]] = [
    ("another root", {"facts": {"root": "17" * 32}}),
    ("a size to come", {"facts": {"size": 8}}),
    ("no size", {"without": "size"}),
    ("size 0", {"facts": {"size": 0}}),
    ("a size that is none", {"facts": {"size": "5"}}),
    ("another size than the evidence", {"facts": {"size": 4}}),
    ("another block", {"facts": {"block": 8}}),
    ("another block's hash", {"facts": {"block_hash": "0x" + "17" * 32}}),
    ("another chain", {"facts": {"chain": 1}}),
    ("another contract", {"facts": {"contract": "0x" + "17" * 20}}),
    ("another sender", {"facts": {"sender": "0x" + "17" * 20}}),
    ("no sender", {"without": "sender"}),
    ("a stamp", {"facts": {"type": "opentimestamps", "status": "complete"}}),
    ("a stamp of no status", {"facts": {"type": "opentimestamps"}}),
    ("another log's evidence", {"origin": None}),
    ("no evidence", {"part": "other"}),
    ("evidence of another media type", {"media": "text/plain"}),
    ("evidence that is no JSON", {"data": b"{"}),
    ("evidence that is no object", {"data": b"[]"}),
    ("evidence of no kind", {"data": b"{}"}),
    ("evidence without end", {"data": canonical({"x": "x" * 300_000})}),
]


@pytest.mark.spec("L-117")
@pytest.mark.parametrize(("what", "changes"), FALSE)
def test_an_anchor_entry_that_is_false_fails_with_its_index_and_is_in_no_transcript(
    spoken: Ledger, record: Record, evidence_of, what: str, changes: dict[str, object]
) -> None:
    record(5)
    if "origin" in changes:
        changes = {"evidence": evidence_of(5, spoken.root(5), origin="agentmesh.local/other")}
    index = record(5, **changes)
    assert index == 8
    with pytest.raises(LedgerError) as caught:
        spoken.verify()
    assert (caught.value.reason, caught.value.index) == ("anchor", 8), what
    with pytest.raises(LedgerError) as caught:
        list(LedgerAudit(spoken.path))
    assert (caught.value.reason, caught.value.index) == ("anchor", 8)
    assert sizes(export(spoken)) == [5]


def test_every_false_anchor_is_listed(spoken: Ledger, record: Record) -> None:
    record(5, facts={"block": 8})
    record(6)
    record(7, facts={"chain": 1})
    with pytest.raises(LedgerError) as caught:
        spoken.verify()
    assert [each.index for each in (caught.value, *caught.value.others)] == [7, 9]
    assert "block" in caught.value.message and "chain" in caught.value.others[0].message


@pytest.mark.spec("L-117")
def test_an_anchor_whose_evidence_was_erased_is_told_as_claimed_only(
    spoken: Ledger, record: Record, keys: KeyStore
) -> None:
    index = record(5)
    spoken.erase(index, by=keys.agent("ada"))
    found = spoken.verify()
    assert found.anchors == () and [each.index for each in found.claimed] == [index]
    told = "\n".join(evidence_lines(found))
    assert f"claimed only: entry {index} says that entries 0 to 4 were published in block 7" in told
    assert "existed before" not in told
    assert sizes(export(spoken)) == []


@pytest.mark.spec("L-117")
def test_an_anchor_of_a_type_to_come_is_told_as_claimed_only(spoken: Ledger, record: Record) -> None:
    index = record(5, facts={"type": "sundial"})
    found = spoken.verify()
    assert found.anchors == () and [each.index for each in found.claimed] == [index]
    assert "sundial" in "\n".join(evidence_lines(found))


def test_the_kind_anchor_in_a_dialogue_is_a_message_as_any_other(spoken: Ledger, keys: KeyStore) -> None:
    spoken.append([Draft(author=keys.agent("ada"), kind="anchor", dialogue="d2", facts={"type": "evm"})])
    assert spoken.verify().anchors == ()


@pytest.mark.spec("L-118")
def test_a_dialogue_shows_the_earliest_and_the_newest_anchor_of_each_place_that_has_its_last_message(
    spoken: Ledger, record: Record
) -> None:
    record(5)  # d1 ends with entry 6
    assert sizes(export(spoken, "d1")) == []
    record(8)
    record(7, chain=1)
    record(9)
    record(10)
    record(8, contract=b"\x07" * 20)
    found = verify_transcript(io.BytesIO(export(spoken, "d1"))).anchors
    assert sorted((each.size, each.chain, each.contract) for each in found) == [
        (7, 1, "0x" + "c0" * 20),
        (8, 31337, "0x" + "07" * 20),
        (8, 31337, "0x" + "c0" * 20),
        (10, 31337, "0x" + "c0" * 20),
    ]
    assert [each.size for each in found] == [7, 8, 8, 10]
    # d2 has only entry 5, and so an earlier anchor would do: none of five entries has it.
    assert sizes(export(spoken, "d2")) == [7, 8, 8, 10]


@pytest.mark.spec("L-118")
def test_the_whole_log_shows_the_newest_anchors_as_many_as_may_be(
    spoken: Ledger, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmesh_ledger.store import anchors

    for size in (5, 6, 7, 8):
        record(size)
    assert sizes(export(spoken)) == [5, 6, 7, 8]
    monkeypatch.setattr(anchors, "MAX_ANCHORS", 2)
    assert sizes(export(spoken)) == [7, 8]


def test_an_anchor_recorded_anew_stands_for_the_one_whose_block_the_chain_dropped(
    spoken: Ledger, record: Record
) -> None:
    record(7)
    record(7, block=8)
    for dialogue in (None, "d1"):
        found = verify_transcript(io.BytesIO(export(spoken, dialogue))).anchors
        assert [each.block for each in found] == [8]
    assert len(spoken.verify().anchors) == 2


def test_an_anchor_is_written_once_however_often_it_was_recorded(spoken: Ledger, record: Record) -> None:
    record(7)
    record(7, facts={"tx": "0x" + "00" * 32})
    assert sizes(export(spoken)) == [7]


def test_a_transcript_without_anchors_is_to_the_byte_as_it_was(spoken: Ledger) -> None:
    header = TranscriptReader(io.BytesIO(export(spoken))).header
    assert header.anchors == 0 and b"anchors" not in header.encode()


def test_a_transcript_under_an_earlier_note_is_that_of_the_log_of_that_time(
    spoken: Ledger, record: Record, keys: KeyStore
) -> None:
    before, note = export(spoken), spoken.checkpoint()
    dialogue = export(spoken, "d1")
    assert export(spoken, under=note) == before
    for _ in range(300):  # beyond a tile: the hashes of the smaller tree are parts of full ones by now
        spoken.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d3")])
    assert export(spoken, under=note) == before
    assert export(spoken, "d1", under=note) == dialogue
    record(5)
    record(300)
    again = verify_transcript(io.BytesIO(export(spoken, under=note)), expect=note)
    assert (again.tree_size, again.entries, [each.size for each in again.anchors]) == (7, 7, [5])
    late = spoken.checkpoint()
    assert spoken.covers(note, dialogue="d1") and not spoken.covers(note, dialogue="d3")
    assert not spoken.covers(note) and spoken.covers(late)
    assert sizes(export(spoken, under=late)) == [5, 300]


def test_a_note_that_the_log_does_not_continue_is_refused(spoken: Ledger, keys: KeyStore) -> None:
    from agentmesh_ledger.checkpoint import Checkpoint

    log = keys.log(spoken.origin)
    fork = Checkpoint(origin=spoken.origin, size=5, root=b"\x17" * 32).sign(log)
    beyond = Checkpoint(origin=spoken.origin, size=8, root=b"\x17" * 32).sign(log)
    for note, reason in ((fork, "consistency"), (beyond, "consistency"), ("x", "checkpoint")):
        out = io.BytesIO()
        with pytest.raises(LedgerError) as caught:
            spoken.export(out, under=note)
        assert caught.value.reason == reason and out.getvalue() == b""
    unsigned = spoken.checkpoint().replace("\n7\n", "\n6\n")
    with pytest.raises(LedgerError):
        spoken.export(io.BytesIO(), under=unsigned)


@pytest.mark.spec("L-114", "L-116")
def test_a_promise_of_a_block_is_a_claim_and_in_no_transcript(
    spoken: Ledger, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from agentmesh_ledger.anchor import evidence

    index = record(7)
    real = evidence.verify_evidence

    def promised(*args: object, **options: object) -> object:
        found = real(*args, **options)  # type: ignore[arg-type]
        return replace(found, block=None, block_hash="", note="pending, promised by a calendar")

    monkeypatch.setattr(evidence, "verify_evidence", promised)
    with pytest.raises(LedgerError) as caught:  # an entry that names a block is not one that has a promise
        spoken.verify()
    assert (caught.value.reason, caught.value.index) == ("anchor", index)
    assert sizes(export(spoken)) == []
