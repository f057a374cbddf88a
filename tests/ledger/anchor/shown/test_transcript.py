"""A transcript with anchors: what it shows without any network, and that nothing in it can be altered."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError, TranscriptAudit, verify_transcript
from agentmesh_ledger.anchor.lines import MAX_ANCHOR_LINE, AnchorLine
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.report import evidence_json, evidence_lines
from agentmesh_ledger.transcript import MAX_LINE

D1 = [0, 2, 3]  # what a transcript of the dialogue shows


def verdict(data: bytes, **options: object) -> LedgerError | None:
    """The error of a verification, or None; any other exception is a failed test."""
    try:
        verify_transcript(io.BytesIO(data), **options)  # type: ignore[arg-type]
    except LedgerError as error:
        return error
    return None


@pytest.fixture
def whole(short, publish_of, with_anchors) -> bytes:
    """All four entries; the first two and the first three were published."""
    publish = publish_of(short)
    lines = [publish.line(2, block=7), publish.line(3, block=9, time=1_790_000_120)]
    return with_anchors(short.transcript(), [each.encode() for each in lines])


@pytest.fixture
def dialogue(short, publish_of, with_anchors) -> bytes:
    """The same of the dialogue, the last anchor at the checkpoint's own size."""
    publish = publish_of(short)
    lines = [publish.line(3, dialogue=True), publish.line(4, dialogue=True, block=9)]
    return with_anchors(short.transcript(D1, dialogue="d1"), [each.encode() for each in lines])


def block_of(data: bytes, place: int = 0) -> str:
    found = verify_transcript(io.BytesIO(data)).anchors[place].block_hash
    assert found.startswith("0x")
    return found


@pytest.mark.spec("L-106", "L-107", "L-109")
def test_anchors_of_the_whole_log_say_which_entries_existed_before_which_block(whole: bytes) -> None:
    found = verify_transcript(io.BytesIO(whole))
    assert [(each.size, each.block, each.chain, each.pinned) for each in found.anchors] == [
        (2, 7, 31337, False),
        (3, 9, 31337, False),
    ]
    assert found.entries == 4 and found.claimed == ()
    told = evidence_lines(found)
    (line,) = [each for each in told if "block 7 " in each]
    assert line == (
        f"anchor     entries 0 to 1 existed before block 7 of chain 31337 ({block_of(whole)}, 2026-09-21T14:13:20Z):"
        " the block is the file's own word, name it with --block to pin it"
    )
    told_to_programs = evidence_json(found, "x")["anchors"]
    assert isinstance(told_to_programs, list) and told_to_programs[1]["block_hash"] == block_of(whole, 1)


@pytest.mark.spec("L-108")
def test_anchors_of_a_dialogue_bring_their_proofs(dialogue: bytes) -> None:
    found = verify_transcript(io.BytesIO(dialogue))
    assert [each.size for each in found.anchors] == [3, 4]
    assert found.selection == "dialogue d1"


def test_a_record_is_given_out_one_by_one_with_its_anchors(whole: bytes) -> None:
    audit = TranscriptAudit(io.BytesIO(whole))
    assert [record.index for record in audit] == [0, 1, 2, 3]
    assert [each.size for each in audit.verified().anchors] == [2, 3]


@pytest.mark.spec("L-113")
def test_a_block_that_nobody_named_is_told_as_the_files_own_word(whole: bytes, short) -> None:
    found = verify_transcript(io.BytesIO(whole))
    assert any("real chain" in each and "anybody" not in each for each in found.not_shown)
    assert "chain" not in found.complete
    plain = verify_transcript(io.BytesIO(short.transcript()))
    assert not any("chain" in each or "anchor" in each for each in plain.not_shown)
    assert plain.complete == found.complete  # an anchor says nothing of what came after it
    half = verify_transcript(io.BytesIO(whole), blocks=[block_of(whole)])
    assert any("real chain" in each for each in half.not_shown)
    named = verify_transcript(io.BytesIO(whole), blocks=[block_of(whole), block_of(whole, 1)])
    assert not any("real chain" in each for each in named.not_shown)
    assert any("only the chain can tell" in each for each in named.not_shown)


@pytest.mark.spec("L-113")
def test_entries_that_no_anchor_covers_are_told(
    whole: bytes, dialogue: bytes, short, publish_of, with_anchors
) -> None:
    def uncovered(data: bytes) -> list[str]:
        return [each for each in verify_transcript(io.BytesIO(data)).not_shown if "covers" in each]

    assert len(uncovered(whole)) == 1 and "from 3 on" in uncovered(whole)[0]
    assert uncovered(dialogue) == [] == uncovered(short.transcript())
    # The registration alone was published: nothing of what the dialogue says.
    line = publish_of(short).line(1, dialogue=True).encode()
    said = uncovered(with_anchors(short.transcript(D1, dialogue="d1"), [line]))
    assert len(said) == 1 and "from 1 on" in said[0]


@pytest.mark.spec("L-112")
def test_a_block_that_was_named_is_pinned_and_one_that_holds_no_anchor_fails(whole: bytes, short) -> None:
    name = block_of(whole)
    for written in (name, name.removeprefix("0x"), name.upper().replace("0X", "0x")):
        found = verify_transcript(io.BytesIO(whole), blocks=[written])
        assert [each.pinned for each in found.anchors] == [True, False]
        assert f"before the block {name} that you named" in "\n".join(evidence_lines(found))
    other = "ab" * 32
    error = verdict(whole, blocks=[name, other])
    assert error is not None and error.reason == "anchor" and other in str(error)
    error = verdict(short.transcript(), blocks=[name])
    assert error is not None and error.reason == "anchor" and "No anchor" in str(error)
    error = verdict(whole, blocks=["0x12"])
    assert error is not None and error.reason == "anchor"


def lies(short, publish) -> list[tuple[str, list[AnchorLine], str, int]]:
    """Anchor lines that are false: what was done, the lines, the check that has to say so, and on which line."""
    two, three = publish.line(2), publish.line(3)
    other = publish.line(3, origin="agentmesh.local/other")
    beyond = replace(two, size=5, evidence=other.evidence)
    return [
        ("sizes fall", [three, two], "anchor", 3),
        ("twice", [two, two], "anchor", 3),
        ("size 0", [replace(two, size=0)], "anchor", 2),
        ("beyond the checkpoint", [two, beyond], "anchor", 3),
        ("another log's", [two, other], "anchor", 3),
        ("evidence of another size", [replace(three, evidence=two.evidence)], "anchor", 2),
        ("evidence of another root", [replace(two, root=three.root)], "anchor", 2),
        ("a proof in the whole log", [replace(two, proof=publish.proof(2))], "line", 2),
        ("an empty proof in the whole log", [replace(two, proof=())], "line", 2),
    ]


@pytest.mark.spec("L-107", "L-109", "L-110")
def test_anchor_lines_of_a_whole_log_that_lie_fail_on_their_line(short, publish_of, with_anchors) -> None:
    for what, lines, reason, number in lies(short, publish_of(short)):
        data = with_anchors(short.transcript(), [each.encode() for each in lines])
        error = verdict(data)
        assert error is not None and (error.reason, error.line) == (reason, number), (what, str(error))


@pytest.mark.spec("L-109")
def test_a_root_that_the_log_never_had_fails_though_a_block_has_it(
    short, publish_of, with_anchors, evidence_of
) -> None:
    root = b"\x17" * 32
    good = publish_of(short).line(2)
    false = AnchorLine(size=3, root=root, evidence=evidence_of(3, root))
    error = verdict(with_anchors(short.transcript(), [good.encode(), false.encode()]))
    assert error is not None and (error.reason, error.line, error.index) == ("anchor", 3, None)
    assert "not the root of the log's first 3 entries" in str(error)
    proved = replace(false, proof=publish_of(short).proof(3))
    error = verdict(with_anchors(short.transcript(D1, dialogue="d1"), [proved.encode()]))
    assert error is not None and (error.reason, error.line) == ("consistency", 2)


@pytest.mark.spec("L-108")
def test_a_proof_of_a_dialogues_anchor_must_be_there_and_hold(short, publish_of, with_anchors) -> None:
    publish = publish_of(short)
    line = publish.line(3, dialogue=True)
    assert line.proof
    last = publish.line(4, dialogue=True)
    for proof, reason in (
        (None, "line"),
        ((), "consistency"),
        (line.proof[:-1], "consistency"),
        (line.proof[::-1], "consistency"),
        ((*line.proof, line.proof[0]), "consistency"),
    ):
        data = with_anchors(short.transcript(D1, dialogue="d1"), [replace(line, proof=proof).encode()])
        error = verdict(data)
        assert error is not None and (error.reason, error.line) == (reason, 2), str(error)
    data = with_anchors(short.transcript(D1, dialogue="d1"), [replace(last, proof=line.proof).encode()])
    error = verdict(data)
    assert error is not None and (error.reason, error.line) == ("consistency", 2)


@pytest.mark.spec("L-106")
@pytest.mark.parametrize(
    ("announced", "reason", "line"),
    [
        *((each, "header", 1) for each in (0, -1, 1025, True, "2", 1.5, [])),
        (3, "line", 4),
        (1, "line", 3),
        (None, "line", 2),  # a header as of old
    ],
)
def test_a_header_announces_exactly_the_anchors_that_follow(
    short, publish_of, with_anchors, announced: object, reason: str, line: int
) -> None:
    publish = publish_of(short)
    lines = [publish.line(2).encode(), publish.line(3).encode()]
    assert verdict(with_anchors(short.transcript(), lines)) is None
    error = verdict(with_anchors(short.transcript(), lines, announced))
    assert error is not None
    assert (error.reason, error.line) == (reason, line), str(error)
    if announced == 3:
        assert "anchor lines are missing" in str(error)


def test_an_announced_line_may_not_be_the_end_line(short, with_anchors, seal_again) -> None:
    header = json.loads(short.transcript().splitlines()[0])
    data = seal_again([canonical({**header, "anchors": 1})], 0)
    error = verdict(data)
    assert error is not None and (error.reason, error.line) == ("line", 2) and "missing" in str(error)


@pytest.mark.spec("L-107")
@pytest.mark.parametrize(
    "changes",
    [
        {"size": "2"},
        {"size": True},
        {"root": "AB" * 32},
        {"root": 1},
        {"anchor": []},
        {"anchor": "x"},
        {"more": 1},
    ],
)
def test_a_malformed_anchor_line_is_refused(
    short, publish_of, with_anchors, changes: dict[str, object]
) -> None:
    line = json.loads(publish_of(short).line(2).encode())
    error = verdict(with_anchors(short.transcript(), [canonical({**line, **changes})]))
    assert error is not None and (error.reason, error.line) == ("line", 2)


def test_evidence_of_a_kind_that_is_not_known_fails(short, publish_of, with_anchors) -> None:
    line = publish_of(short).line(2)
    for evidence in ({}, {"type": "word of honour"}, {**line.evidence, "more": 1}):
        error = verdict(with_anchors(short.transcript(), [replace(line, evidence=evidence).encode()]))
        assert error is not None and (error.reason, error.line) == ("anchor", 2), str(error)


@pytest.mark.usefixtures("swift_hash")
@pytest.mark.spec("L-50", "L-110")
@pytest.mark.parametrize(("whole_log", "mask"), [(True, 0x01), (False, 0x80)])
def test_no_byte_of_an_anchored_transcript_can_change_unseen(
    short, publish_of, with_anchors, whole_log: bool, mask: int
) -> None:
    plain = short.transcript() if whole_log else short.transcript(D1, dialogue="d1")
    data = with_anchors(plain, [publish_of(short).line(3, dialogue=not whole_log).encode()])
    assert verdict(data) is None
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= mask
        error = verdict(bytes(altered))
        assert error is not None and error.is_check, f"byte {place} changed unseen"
        assert error.line is not None


@pytest.mark.usefixtures("swift_hash")
@pytest.mark.spec("L-112")
def test_nor_can_one_in_an_anchor_once_its_block_is_named_though_the_end_line_be_made_true(
    short, publish_of, with_anchors, seal_again
) -> None:
    """Whoever alters a file makes its end line true as well. Only the chain's number is in no block."""
    line = publish_of(short).line(3).encode()
    data = with_anchors(short.transcript(), [line])
    name = block_of(data)
    lines = data.split(b"\n")[:-2]
    (before,) = verify_transcript(io.BytesIO(data), blocks=[name]).anchors
    seen = 0
    for place in range(len(line)):
        altered = bytearray(line)
        altered[place] ^= 0x01
        changed = seal_again([lines[0], bytes(altered), *lines[2:]], 4)
        try:
            (after,) = verify_transcript(io.BytesIO(changed), blocks=[name]).anchors
        except LedgerError as error:
            assert error.is_check
            seen += 1
        else:
            assert replace(after, chain=0, note="") == replace(before, chain=0, note=""), place
    assert len(line) - seen == len("31337")


@pytest.mark.spec("L-50", "L-106")
@pytest.mark.parametrize("name", ["whole", "dialogue"])
def test_lines_of_an_anchored_transcript_dropped_swapped_repeated_or_cut_are_seen(
    request: pytest.FixtureRequest, seal_again, name: str
) -> None:
    data: bytes = request.getfixturevalue(name)
    lines = data.splitlines(keepends=True)
    for one in range(len(lines)):
        assert verdict(b"".join(lines[:one] + lines[one + 1 :])), f"line {one} dropped"
        assert verdict(b"".join([*lines[: one + 1], *lines[one:]])), f"line {one} repeated"
        assert verdict(b"".join(lines[:one])), f"cut before line {one}"
        for two in range(one):
            swapped = list(lines)
            swapped[one], swapped[two] = lines[two], lines[one]
            assert verdict(b"".join(swapped)), f"lines {two} and {one} swapped"
    # The same with a true end line: only of the lines before the last entry, without which a dialogue is a shorter one.
    bare = [each.rstrip(b"\n") for each in lines[:-1]]
    for one in range(1, len(bare) - 1):
        assert verdict(seal_again(bare[:one] + bare[one + 1 :], len(bare) - 4)), f"line {one} dropped"
        for two in range(1, one):
            swapped = list(bare)
            swapped[one], swapped[two] = bare[two], bare[one]
            assert verdict(seal_again(swapped, len(bare) - 3)), f"lines {two} and {one} swapped"


@pytest.mark.spec("L-111")
def test_an_anchor_line_over_its_limit_is_refused_without_being_read_whole(whole: bytes) -> None:
    assert MAX_ANCHOR_LINE == 524_288
    header = whole.splitlines(keepends=True)[0]

    class Endless(io.RawIOBase):
        taken = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None and 0 < size <= MAX_LINE + 2
            self.taken += 1
            if self.taken > 1:
                assert size <= MAX_ANCHOR_LINE + 2
            return header if self.taken == 1 else b"x" * size

    with pytest.raises(LedgerError) as caught:
        verify_transcript(Endless())  # type: ignore[arg-type]
    assert (caught.value.reason, caught.value.line) == ("line", 2)


@pytest.mark.spec("L-83", "L-110")
def test_behind_an_anchor_that_fails_the_rest_is_looked_at_all_the_same(
    short, publish_of, with_anchors, edit
) -> None:
    publish = publish_of(short)
    two, three = publish.line(2), publish.line(3)
    false = [replace(two, evidence=three.evidence), replace(three, evidence=two.evidence)]
    data = with_anchors(edit(short.transcript(), 3, index=9), [each.encode() for each in false])
    error = verdict(data)
    assert error is not None
    assert [(each.reason, each.line) for each in (error, *error.others)][:3] == [
        ("anchor", 2),
        ("anchor", 3),
        ("index", 6),
    ]
    error = verdict(data, limit=1)
    assert error is not None and (error.line, error.others, error.more) == (2, (), True)


@pytest.mark.spec("L-83", "L-109")
def test_an_entry_that_fails_does_not_accuse_the_anchors_of_it(
    short, publish_of, with_anchors, seal_again
) -> None:
    publish = publish_of(short)
    lines = [publish.line(size) for size in (3, 4)]
    data = with_anchors(short.transcript(), [each.encode() for each in lines])
    before, line, after = data.splitlines()[:5], json.loads(data.splitlines()[5]), data.splitlines()[6:-1]
    (digest,) = line["parts"]
    content = {digest: {**line["parts"][digest], "data": "AAAA"}}
    error = verdict(seal_again([*before, canonical({**line, "parts": content}), *after], 4))
    assert error is not None and (error.reason, error.line, error.others) == ("part", 6, ())
    # Other bytes make another tree, and that is said once, whatever was published of the true one.
    other = json.loads(before[4])["entry"]
    error = verdict(seal_again([*before, canonical({**line, "entry": other}), *after], 4))
    assert error is not None and "anchor" not in {each.reason for each in (error, *error.others)}


@pytest.mark.spec("L-85", "L-109")
@pytest.mark.parametrize("jobs", [1, 2])
def test_roots_are_recomputed_wherever_they_stand_in_a_long_log(
    talk, publish_of, with_anchors, evidence_of, jobs: int
) -> None:
    log = talk(2600)
    publish = publish_of(log)
    lines = [publish.line(size) for size in (1, 2, 255, 256, 257, 511, 1000, 1001, 2048, 2599, 2600)]
    found = verify_transcript(
        io.BytesIO(with_anchors(log.transcript(), [each.encode() for each in lines])), jobs=jobs
    )
    assert [each.size for each in found.anchors] == [each.size for each in lines]
    root = b"\x17" * 32
    lines[6] = AnchorLine(size=1000, root=root, evidence=evidence_of(1000, root))
    lines[8] = AnchorLine(size=2048, root=root, evidence=evidence_of(2048, root))
    error = verdict(with_anchors(log.transcript(), [each.encode() for each in lines]), jobs=jobs)
    assert error is not None
    assert [(each.reason, each.line) for each in (error, *error.others)] == [("anchor", 8), ("anchor", 10)]


@pytest.mark.spec("L-114")
def test_evidence_that_takes_an_extra_is_told_as_unchecked_and_is_no_failure(
    whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmesh_ledger.anchor import evidence

    def bare(*_: object, **__: object) -> object:
        raise LedgerError("no_extra", "needs the extra ots")

    monkeypatch.setattr(evidence, "verify_evidence", bare)
    found = verify_transcript(io.BytesIO(whole))
    assert found.anchors == () and [each.line for each in found.claimed] == [2, 3]
    told = "\n".join(evidence_lines(found))
    assert "claimed only: line 2 has evidence" in told and "needs the extra ots" in told
    assert "existed before" not in told
    error = verdict(whole, blocks=["17" * 32])  # which may be that of the evidence that was not read
    assert error is not None and error.reason == "anchor" and "needs the extra ots" in str(error)


def test_of_many_anchors_people_are_told_the_first_the_newest_and_those_they_named(
    talk, publish_of, with_anchors
) -> None:
    log = talk(260)
    publish = publish_of(log)
    lines = [publish.line(size, block=size) for size in range(1, 41)]
    data = with_anchors(log.transcript(), [each.encode() for each in lines])
    name = block_of(data, 19)
    told = [
        each
        for each in evidence_lines(verify_transcript(io.BytesIO(data), blocks=[name]))
        if each.startswith("anchor")
    ]
    assert len(told) == 9
    assert "block 1 " in told[0] and f"block {name}" in told[1]
    assert "block 35 " in told[2] and "block 40 " in told[7]
    assert told[8] == "anchor     32 more between the first and these: --json lists them"


@pytest.mark.spec("L-82")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_only_ledger_errors_escape_fields_exchanged_between_anchored_lines(
    whole: bytes, seal_again, data: st.DataObject
) -> None:
    lines = whole.splitlines()[:-1]
    number = data.draw(st.integers(0, 3))
    value, other = json.loads(lines[number]), json.loads(data.draw(st.sampled_from(lines)))
    holder = value["anchor"] if "anchor" in value and data.draw(st.booleans()) else value
    key = data.draw(st.sampled_from(sorted(holder)))
    holder[key] = other.get(key, data.draw(st.sampled_from([None, 0, "", [], {}, -1, "AAAA", [""], other])))
    altered = [*lines[:number], canonical(value), *lines[number + 1 :]]
    if altered != lines:
        error = verdict(seal_again(altered, 4))
        assert error is None or error.is_check
        assert error is not None or (holder, key) == (value.get("anchor"), "chain")
