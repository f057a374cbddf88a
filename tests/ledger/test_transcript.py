from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import Ledger, LedgerError, TranscriptAudit, read_transcript, verify_transcript
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.transcript import MAX_HEADER, MAX_LINE, Consistency
from agentmesh_ledger.tree import collect, consistency_nodes, fold_proof, leaf_hash


def verdict(data: bytes, **options: object) -> LedgerError | None:
    """The error of a verification, or None; any other exception is a failed test."""
    try:
        verify_transcript(io.BytesIO(data), **options)  # type: ignore[arg-type]
    except LedgerError as error:
        return error
    return None


@pytest.mark.spec("L-54", "L-70", "L-81")
def test_the_whole_log_verifies_with_its_evidence(exported, spoken: Ledger, keys) -> None:
    found = verify_transcript(io.BytesIO(exported(None)))
    assert (found.entries, found.tree_size, found.withheld, found.origin) == (7, 7, 0, "agentmesh.local/desk")
    assert found.signers == ((keys.agent("ada").id, "ada", 4), (keys.agent("ben").id, "ben", 3))
    assert found.root in json.dumps([found.root]) and len(found.root) == 64
    assert found.selection == "log" and not found.pinned
    assert found.complete.startswith("all 7 entries under the checkpoint are shown")
    assert "nothing here shows whether the log went on" in found.complete


@pytest.mark.spec("L-55", "L-81")
def test_one_dialogue_verifies_with_its_authors_registrations(exported) -> None:
    data = exported("d1")
    assert [json.loads(line).get("index") for line in data.splitlines()] == [None, 0, 1, 2, 3, 4, 6, None]
    found = verify_transcript(io.BytesIO(data))
    assert (found.entries, found.tree_size, found.selection) == (6, 7, "dialogue d1")
    assert "up to its close" in found.complete
    other = verify_transcript(io.BytesIO(exported("d2")))
    assert other.entries == 2 and "no close" in other.complete
    assert verify_transcript(io.BytesIO(exported("log"))).entries == 2


def test_records_come_out_of_a_transcript_as_out_of_the_ledger(
    exported, spoken: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(exported(None))
    assert list(read_transcript(path)) == list(spoken.read())
    audit = TranscriptAudit(io.BytesIO(exported("d1")))
    with pytest.raises(LedgerError):
        audit.verified()
    assert [record.index for record in audit] == [0, 1, 2, 3, 4, 6]
    assert audit.verified().entries == 6


def small(forge, dialogue: str | None) -> bytes:
    forge.add(forge.ada, "key.register", "log")
    forge.say(forge.ada, "hi").add(forge.ada, "close", "d1", facts={"reason": "done"})
    return forge.transcript(dialogue=dialogue)


@pytest.mark.spec("L-50", "L-70")
@pytest.mark.parametrize("dialogue", [None, "d1"])
@pytest.mark.parametrize("mask", [0x01, 0x80])
def test_no_byte_can_change_unseen(forge, dialogue: str | None, mask: int) -> None:
    data = small(forge, dialogue)
    assert verdict(data) is None
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= mask
        error = verdict(bytes(altered))
        assert error is not None, f"byte {place} changed unseen"
        assert error.is_check and error.line is not None
        line = next(number for number, start in enumerate(starts) if start > place)
        # A line feed that is gone, or a new one, shows on the line it spoils; another dialogue named in the
        # header, at the first entry that is not of it.
        assert error.line in (line, line + 1) or error.reason == "selection", (place, str(error))


@pytest.mark.spec("L-50", "L-56", "L-70")
@pytest.mark.parametrize("dialogue", [None, "d1"])
def test_lines_dropped_swapped_repeated_or_cut_are_seen(exported, dialogue: str | None) -> None:
    lines = exported(dialogue).splitlines(keepends=True)
    for one in range(len(lines)):
        assert verdict(b"".join(lines[:one] + lines[one + 1 :])), f"line {one} dropped"
        assert verdict(b"".join([*lines[: one + 1], *lines[one:]])), f"line {one} repeated"
        assert verdict(b"".join(lines[:one])), f"cut before line {one}"
        for two in range(one):
            swapped = list(lines)
            swapped[one], swapped[two] = lines[two], lines[one]
            assert verdict(b"".join(swapped)), f"lines {two} and {one} swapped"
    whole = b"".join(lines)
    for size in range(0, len(whole), 11):
        error = verdict(whole[:size])
        assert error is not None and error.is_check


@pytest.mark.spec("L-50", "L-70")
@pytest.mark.parametrize("tail", [b"\n", b" ", b"\0", b"{}\n", b"x" * 100])
def test_bytes_after_the_end_line_are_seen(exported, tail: bytes) -> None:
    error = verdict(exported(None) + tail)
    assert error is not None and (error.reason, error.line) == ("trailing", 10)


@pytest.mark.spec("L-56")
def test_an_end_line_that_lies_is_seen(exported) -> None:
    lines = exported(None).splitlines()
    end = json.loads(lines[-1])
    for changes, reason in (
        ({"entries": 6}, "count"),
        ({"entries": True}, "line"),
        ({"digest": "0" * 64}, "digest"),
        ({"digest": end["digest"].upper()}, "digest"),
        ({"end": False}, "line"),
        ({"end": 1}, "line"),
        ({"more": 1}, "line"),
    ):
        data = b"\n".join([*lines[:-1], canonical({**end, **changes})]) + b"\n"
        error = verdict(data)
        assert error is not None and (error.reason, error.line) == (reason, 9)


@pytest.mark.spec("L-70", "L-82")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\n", "header"),
        (b"\0" * 4096, "truncated"),
        (b"{}\n", "header"),
        (b"[]\n", "header"),
        (b"\xff\xfe\n", "header"),
        (b'{"format":"agentmesh-transcript/v2"}\n', "header"),
        (b"[" * 100_000 + b"\n", "header"),
        (b"x" * (MAX_HEADER + 5), "line"),
        (b"GGUF", "truncated"),
    ],
)
def test_a_file_that_is_no_transcript_fails_on_its_first_line(data: bytes, reason: str) -> None:
    error = verdict(data)
    assert error is not None and (error.reason, error.line) == (reason, 1)


@pytest.mark.spec("L-57")
def test_lines_over_their_limits_are_refused_without_being_read_whole(exported) -> None:
    assert (MAX_HEADER, MAX_LINE) == (196_608, 22_531_624)
    header = exported(None).splitlines(keepends=True)[0]

    class Endless(io.RawIOBase):
        taken = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None and 0 < size <= MAX_LINE + 2
            self.taken += 1
            return header if self.taken == 1 else b"x" * size

    with pytest.raises(LedgerError) as caught:
        verify_transcript(Endless())  # type: ignore[arg-type]
    assert (caught.value.reason, caught.value.line) == ("line", 2)


@pytest.mark.spec("L-57")
@pytest.mark.parametrize("line", [b"[" + b"[]," * 1_000_000 + b"[]]", b'{"a":[' + b"1," * 5_000_000 + b"1]}"])
def test_a_line_of_millions_of_values_is_refused_before_they_are_made(exported, line: bytes) -> None:
    import tracemalloc

    data = exported(None).splitlines(keepends=True)[0] + line + b"\n"
    tracemalloc.start()
    error = verdict(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert error is not None and (error.reason, error.line) == ("line", 2)
    assert peak < 5 * len(line)


HEADER_LIES: list[tuple[dict[str, object], str]] = [
    ({"origin": "agentmesh.local/other"}, "header"),
    ({"origin": "a b"}, "header"),
    ({"origin": 1}, "header"),
    ({"tree_size": 6}, "header"),
    ({"tree_size": -1}, "header"),
    ({"tree_size": 7.5}, "header"),
    ({"vkeys": []}, "header"),
    ({"vkeys": [1]}, "header"),
    ({"vkeys": ["x"]}, "log_key"),
    ({"vkeys": "x"}, "header"),
    ({"selection": "all"}, "header"),
    ({"selection": {"dialogue": "a b"}}, "header"),
    ({"selection": {"dialogue": "d1", "more": 1}}, "header"),
    ({"selection": {"dialogue": "d1"}}, "line"),  # then every line would need a proof
    ({"format": "agentmesh-transcript/v2"}, "header"),
    ({"consistency": {"proof": [], "root": "0" * 64, "size": 1}}, "header"),
    ({"checkpoint": "x"}, "checkpoint"),
    ({"checkpoint": 1}, "header"),
    ({"more": 1}, "header"),
]


@pytest.mark.spec("L-51", "L-71")
@pytest.mark.parametrize(("changes", "reason"), HEADER_LIES)
def test_nothing_in_the_header_is_believed(exported, edit, changes: dict[str, object], reason: str) -> None:
    error = verdict(edit(exported(None), 0, **changes))
    assert error is not None and error.reason == reason, str(error)
    assert error.line == (2 if reason == "line" else 1)


@pytest.mark.spec("L-71")
def test_a_key_in_the_header_that_did_not_sign_is_refused(exported, edit, forge) -> None:
    data = exported(None)
    own = json.loads(data.splitlines()[0])["vkeys"][0]
    for vkeys in ([own, forge.key.vkey], [forge.key.vkey], [own, own]):
        error = verdict(edit(data, 0, vkeys=vkeys))
        assert error is not None and error.reason in ("log_key", "header") and error.line == 1


@pytest.mark.spec("L-71")
def test_a_checkpoint_altered_under_its_signature_is_refused(exported, edit) -> None:
    data = exported(None)
    note = json.loads(data.splitlines()[0])["checkpoint"]
    error = verdict(edit(data, 0, checkpoint=note.replace("\n7\n", "\n6\n"), tree_size=6))
    assert error is not None and (error.reason, error.line) == ("checkpoint", 1)


LINE_LIES: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"index": 1}, ("index",)),
    ({"index": 99}, ("index",)),
    ({"index": True}, ("line",)),
    ({"index": "2"}, ("line",)),
    ({"entry": ""}, ("canonical",)),
    ({"entry": "QQ"}, ("line",)),
    ({"entry": 1}, ("line",)),
    ({"parts": {}}, ("part",)),
    ({"parts": []}, ("line",)),
    ({"parts": {"x": "withheld"}}, ("line",)),
    ({"parts": {"0" * 64: "withheld"}}, ("part",)),
    ({"proof": []}, ("line",)),
    ({"more": 1}, ("line",)),
]


@pytest.mark.spec("L-52", "L-53", "L-70")
@pytest.mark.parametrize(("changes", "reasons"), LINE_LIES)
def test_an_entry_line_that_lies_is_seen(
    exported, edit, changes: dict[str, object], reasons: tuple[str, ...]
) -> None:
    error = verdict(edit(exported(None), 3, **changes))
    assert error is not None and error.line == 4 and error.reason in reasons, str(error)


@pytest.mark.spec("L-53", "L-80")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": "MTcgKiAyND8="}, "part"),
        ({"data": "MTcgKiAyMz8/"}, "part"),
        ({"salt": "AAAAAAAAAAAAAAAAAAAACQ=="}, "part"),
        ({"salt": ""}, "part"),
        ({"type": "text/html"}, "part"),
        ({"type": 1}, "line"),
        ({"data": "!"}, "line"),
        ({"more": 1}, "line"),
    ],
)
def test_shown_content_must_be_what_was_signed(
    exported, edit, changes: dict[str, object], reason: str
) -> None:
    data = exported(None)
    ((digest, content),) = json.loads(data.splitlines()[3])["parts"].items()
    error = verdict(edit(data, 3, parts={digest: {**content, **changes}}))
    assert error is not None and (error.reason, error.line) == (reason, 4)
    if reason == "part":
        assert error.index == 2


@pytest.mark.spec("L-53")
def test_content_can_be_withheld_and_the_rest_still_verifies(exported, edit) -> None:
    data = exported("d1")
    ((digest, _),) = json.loads(data.splitlines()[3])["parts"].items()
    found = verify_transcript(io.BytesIO(edit(data, 3, parts={digest: "withheld"})))
    assert found.withheld == 1
    record = list(read_transcript(io.BytesIO(edit(data, 3, parts={digest: "withheld"}))))[2]
    assert record.parts[0].data is None


@pytest.mark.spec("L-52", "L-79")
def test_each_entry_of_a_dialogue_needs_its_inclusion_proof(exported, edit) -> None:
    data = exported("d1")
    proof = json.loads(data.splitlines()[3])["proof"]
    for wrong in ([], proof[:-1], proof[::-1], [*proof, proof[0]], ["0" * 64] * 64, [1], "x", ["AB" * 32]):
        error = verdict(edit(data, 3, proof=wrong))
        assert error is not None and error.line == 4 and error.reason in ("inclusion", "line")


def test_every_check_of_the_order_of_entries_names_itself_and_its_place(forge) -> None:
    """Forged with every key at hand: good signatures, a true checkpoint, a true end line."""
    forge.begin().say(forge.ada, "one").say(forge.ben, "two")
    assert verdict(forge.transcript()) is None
    for chosen, reason, line in (
        ([0, 1, 3], "index", 4),
        ([0, 2, 1, 3], "index", 3),
        ([0, 1, 2, 2], "index", 5),
        ([0, 1, 2], "count", 5),
        ([1, 2, 3], "index", 2),
    ):
        error = verdict(forge.transcript(chosen))
        assert error is not None and (error.reason, error.line) == (reason, line), str(error)


CHANGED: list[tuple[str, dict[str, object], str]] = [
    ("chain", {"prev": "0" * 64}, "chain"),
    ("another log", {"log": "agentmesh.local/other"}, "chain"),
    ("index", {"index": 5}, "index"),
    ("message missing", {"seq": 2}, "sequence"),
    ("message twice", {"seq": 0}, "sequence"),
    ("not a message", {"v": 2}, "message"),
    (
        "registered twice",
        {"kind": "key.register", "dialogue": "log", "parts": [], "facts": {"name": "x"}, "seq": 2},
        "author",
    ),
]


@pytest.mark.spec("L-21", "L-72", "L-73", "L-74", "L-75", "L-76")
@pytest.mark.parametrize(("name", "changes", "reason"), CHANGED)
def test_a_well_signed_entry_out_of_its_order_is_seen(
    forge, name: str, changes: dict[str, object], reason: str
) -> None:
    forge.begin().say(forge.ada, "one")
    payload = {**forge.payload(forge.ada, "say", "d1"), **changes}
    from agentmesh_ledger.envelope import seal

    forge.entries.append(seal(forge.ada, canonical(payload)))
    error = verdict(forge.transcript())
    assert error is not None and (error.reason, error.index, error.line) == (reason, 3, 5), str(error)


@pytest.mark.spec("L-74")
def test_the_first_entry_is_bound_to_the_origin(forge) -> None:
    forge.add(forge.ada, "key.register", "log", prev="0" * 64)
    error = verdict(forge.transcript())
    assert error is not None and (error.reason, error.index) == ("chain", 0)


@pytest.mark.spec("L-75")
def test_an_author_must_be_registered_before_it_speaks(forge) -> None:
    forge.add(forge.ada, "key.register", "log").say(forge.ben, "hi")
    error = verdict(forge.transcript())
    assert error is not None and (error.reason, error.index, error.line) == ("author", 1, 3)
    error = verdict(forge.transcript([1], dialogue="d1"))
    assert error is not None and error.reason == "author"


@pytest.mark.spec("L-44", "L-75")
def test_the_log_key_cannot_be_an_author(forge) -> None:
    from nacl.signing import SigningKey

    from agentmesh_ledger import AgentKey
    from agentmesh_ledger.identity import agent_id

    key = SigningKey(forge.key.name.encode().ljust(32, b".")[:32])
    forge.add(AgentKey(name="log", id=agent_id(bytes(key.verify_key)), _key=key), "key.register", "log")
    error = verdict(forge.transcript())
    assert error is not None and (error.reason, error.index) == ("author", 0)


@pytest.mark.spec("L-73")
def test_an_entry_that_is_not_canonical_is_seen_whatever_signs_it(forge) -> None:
    forge.begin().say(forge.ada, "x")
    forge.entries[2] = forge.entries[2].replace(b'","payloadType', b'", "payloadType')
    error = verdict(forge.transcript())
    assert error is not None and (error.reason, error.index) == ("canonical", 2)


@pytest.mark.spec("L-73")
def test_a_signature_of_another_message_is_seen(forge) -> None:
    forge.begin().say(forge.ada, "x")
    other = forge.entries[0]
    value = json.loads(forge.entries[2])
    value["signatures"] = json.loads(other)["signatures"]
    forge.entries[2] = canonical(value)
    error = verdict(forge.transcript())
    assert error is not None and (error.reason, error.index) == ("signature", 2)


@pytest.mark.spec("L-79")
def test_entries_of_another_tree_than_the_checkpoints_are_seen(forge) -> None:
    forge.begin().say(forge.ada, "one")
    real = forge.transcript()
    assert verdict(real) is None
    note = json.loads(real.splitlines()[0])["checkpoint"]
    forge.entries.pop()
    forge._seqs["d1"] = 0
    forge.say(forge.ada, "two")
    error = verdict(forge.transcript(note=note))
    assert error is not None and error.reason == "root"
    error = verdict(forge.transcript([0, 2], dialogue="d1", note=note))
    assert error is not None and error.reason == "inclusion"


@pytest.mark.spec("L-55", "L-76")
def test_a_dialogue_selection_holds_that_dialogue_and_all_of_it(forge) -> None:
    forge.begin().say(forge.ada, "a0").say(forge.ada, "b0", "d2").say(forge.ada, "a1").say(forge.ada, "a2")
    assert verdict(forge.transcript([0, 2, 4, 5], dialogue="d1")) is None
    for chosen, reason in (
        ([0, 2, 3, 4, 5], "selection"),  # an entry of d2
        ([0, 1, 2, 4, 5], "selection"),  # ben's registration, who says nothing
        ([0, 2, 5], "sequence"),  # one left out of the middle
        ([0, 4, 5], "sequence"),  # the first left out
        ([0], "selection"),  # nothing of the dialogue
        ([], "selection"),
        ([2, 4, 5], "author"),  # without the registration
    ):
        error = verdict(forge.transcript(chosen, dialogue="d1"))
        assert error is not None and error.reason == reason, (chosen, str(error))


@pytest.mark.spec("L-55")
def test_only_key_affairs_may_stand_beside_a_dialogue(forge) -> None:
    forge.begin().add(forge.ada, "anchor", "log").say(forge.ada, "hi")
    error = verdict(forge.transcript([0, 2, 3], dialogue="d1"))
    assert error is not None and (error.reason, error.index) == ("selection", 2)


@pytest.mark.spec("L-77")
def test_a_pinned_key_must_be_the_one_that_signed(exported, spoken: Ledger, forge) -> None:
    data = exported(None)
    assert verify_transcript(io.BytesIO(data), keys=[spoken.vkey()]).pinned
    assert verify_transcript(io.BytesIO(data), keys=[forge.key.vkey, spoken.vkey()]).pinned
    error = verdict(data, keys=[forge.key.vkey])
    assert error is not None and (error.reason, error.line) == ("log_key", 1)
    # The same log written anew under a key of the forger's: intact by its own word, refused by a pin.
    forge.begin()
    assert verdict(forge.transcript()) is None
    error = verdict(forge.transcript(), keys=[spoken.vkey()])
    assert error is not None and error.reason == "log_key"


@pytest.mark.spec("L-78")
def test_the_whole_log_is_held_against_a_checkpoint_the_auditor_kept(forge) -> None:
    forge.begin().say(forge.ada, "one").say(forge.ben, "two")
    for size in range(5):
        note = forge.checkpoint(size).sign(forge.key)
        found = verify_transcript(io.BytesIO(forge.transcript()), expect=note)
        assert found.expected_size == size and f"all {size} entries of your checkpoint" in found.complete
    kept = forge.checkpoint().sign(forge.key)
    early = forge.checkpoint(3).sign(forge.key)
    forge.entries.pop()
    error = verdict(forge.transcript(), expect=kept)
    assert error is not None and error.reason == "consistency" and "cut" in str(error)
    forge.entries.pop()
    forge._seqs["d1"] = 0
    forge.say(forge.ada, "rewritten").say(forge.ben, "two")
    error = verdict(forge.transcript(), expect=early)
    assert error is not None and (error.reason, error.index) == ("consistency", 2) or error.line == 4
    assert "rewritten" in str(error)


@pytest.mark.spec("L-78")
def test_a_checkpoint_brought_along_must_be_of_this_log(exported, spoken: Ledger, forge) -> None:
    for note in (forge.checkpoint(0).sign(forge.key), "x", "", spoken.checkpoint().replace("\n7\n", "\n6\n")):
        error = verdict(exported(None), expect=note)
        assert error is not None and (error.reason, error.line) == ("consistency", 1)


@pytest.mark.spec("L-78", "L-79")
def test_a_dialogue_is_held_against_a_checkpoint_by_the_proof_it_carries(forge) -> None:
    forge.begin().say(forge.ada, "one").say(forge.ada, "two")
    leaves = [leaf_hash(entry) for entry in forge.entries]

    def proof(old: int, root: bytes | None = None) -> Consistency:
        nodes = consistency_nodes(old, 4)
        hashes = collect({n for each in nodes for n in each}, leaves)
        return Consistency(
            size=old, root=root or forge.checkpoint(old).root, proof=tuple(fold_proof(nodes, hashes))
        )

    def data(consistency: Consistency | None) -> bytes:
        return forge.transcript([0, 2, 3], dialogue="d1", consistency=consistency)

    kept = forge.checkpoint(3).sign(forge.key)
    assert verdict(data(proof(3)), expect=kept) is None
    assert verdict(data(None), expect=forge.checkpoint(4).sign(forge.key)) is None
    for shown, note in (
        (None, kept),  # no proof at all
        (proof(2), kept),  # a proof from elsewhere
        (proof(3, b"\1" * 32), None),  # a proof that does not hold, though nobody asked
        (Consistency(size=5, root=b"\1" * 32, proof=()), None),
        (Consistency(size=3, root=forge.checkpoint(3).root, proof=()), None),
    ):
        error = verdict(data(shown), expect=note)
        assert error is not None and (error.reason, error.line) == ("consistency", 1), str(error)
    from dataclasses import replace

    fork = replace(forge.checkpoint(3), root=b"\2" * 32).sign(forge.key)
    error = verdict(data(proof(3)), expect=fork)
    assert error is not None and error.reason == "consistency" and "rewritten" in str(error)


@pytest.mark.spec("L-33", "L-78")
def test_an_export_since_a_checkpoint_proves_that_the_log_only_grew(ledger: Ledger, keys) -> None:
    from agentmesh_ledger import Draft

    notes = [ledger.checkpoint()]
    for _ in range(6):
        ledger.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d1")])
        notes.append(ledger.checkpoint())
    for note in notes:
        out = io.BytesIO()
        ledger.export(out, dialogue="d1", since=note)
        found = verify_transcript(io.BytesIO(out.getvalue()), expect=note, keys=[ledger.vkey()])
        assert found.expected_size is not None and found.pinned


def test_a_file_that_cannot_be_read_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "not_found"), (tmp_path, "unreadable")):
        with pytest.raises(LedgerError) as caught:
            verify_transcript(path)
        assert caught.value.reason == reason and not caught.value.is_check
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(LedgerError) as caught:
        verify_transcript(tmp_path / "empty")
    assert caught.value.is_check


def test_a_disk_that_fails_while_a_transcript_is_written_is_a_ledger_error(spoken: Ledger) -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(LedgerError) as caught:
        spoken.export(Full())
    assert caught.value.reason == "failed" and "No space" in str(caught.value)


@pytest.mark.spec("L-82")
@given(st.binary(max_size=300))
def test_only_ledger_errors_escape_the_transcript_reader(data: bytes) -> None:
    assert verdict(data) is not None


@pytest.mark.spec("L-82")
@given(data=st.data())
def test_only_ledger_errors_escape_fields_exchanged_between_lines(data: st.DataObject) -> None:
    lines = _small_lines()
    number = data.draw(st.integers(0, len(lines) - 1))
    value, other = json.loads(lines[number]), json.loads(data.draw(st.sampled_from(lines)))
    key = data.draw(st.sampled_from(sorted(value)))
    value[key] = other.get(key, data.draw(st.sampled_from([None, 0, "", [], {}, other])))
    if canonical(value) == lines[number]:
        return
    altered = [*lines[:number], canonical(value), *lines[number + 1 :]]
    assert verdict(b"\n".join(altered) + b"\n") is not None


_LINES: list[bytes] = []


def _small_lines() -> list[bytes]:
    if not _LINES:
        import importlib.util

        spec = importlib.util.spec_from_file_location("forging", Path(__file__).with_name("conftest.py"))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _LINES.extend(small(module.Forge(), "d1").splitlines())
    return _LINES
