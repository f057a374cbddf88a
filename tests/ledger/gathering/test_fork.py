"""Proofs that a log was forked: those that hold, those that are forged, and honest logs that look alike."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import KeyStore, Ledger, LedgerError
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.cosignature import cosign
from agentmesh_ledger.fork import (
    MOST_KEPT,
    Fork,
    fork_between,
    keep_fork,
    parse_fork,
    shown_root,
    verify_fork,
)
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.tree import Edge, collect, consistency_nodes, fold_proof, leaf_hash

ORIGIN = "agentmesh.local/desk"
HUNG = 30.0


class Branch:
    """A tree of made-up entries: the first `common` are those of every branch."""

    def __init__(self, key, common: int, size: int, name: str) -> None:
        texts = [f"{at}" if at < common else f"{name} {at}" for at in range(size)]
        self.key = key
        self.leaves = [leaf_hash(text.encode()) for text in texts]

    def root(self, size: int) -> bytes:
        edge = Edge()
        for leaf in self.leaves[:size]:
            edge.append(leaf)
        return edge.root()

    def note(self, size: int | None = None, origin: str = ORIGIN) -> str:
        size = len(self.leaves) if size is None else size
        return Checkpoint(origin=origin, size=size, root=self.root(size)).sign(self.key)

    def proof(self, old: int) -> tuple[bytes, ...]:
        pieces = consistency_nodes(old, len(self.leaves))
        wanted = {node for piece in pieces for node in piece}
        return tuple(fold_proof(pieces, collect(wanted, self.leaves)))


@pytest.fixture
def forked(key_of) -> Callable[..., tuple[Branch, Branch]]:
    """Two branches of one log, of these sizes."""

    def make(first: int, second: int, common: int = 2) -> tuple[Branch, Branch]:
        key = key_of(ORIGIN)
        return Branch(key, common, first, "a"), Branch(key, common, second, "b")

    return make


def fork_of(old: Branch, new: Branch) -> Fork:
    size = len(old.leaves)
    proof = () if size == len(new.leaves) else new.proof(size)
    key = parse_vkey(new.key.vkey)
    return fork_between(old.note(), new.note(), root=new.root(size), proof=proof, keys=[key])


def reason(fork: Fork, *keys) -> str:
    with pytest.raises(LedgerError) as caught:
        verify_fork(fork, [parse_vkey(key.vkey) for key in keys])
    return f"{caught.value.reason}: {caught.value.message}"


@pytest.mark.spec("L-120", "L-121", "L-122")
@pytest.mark.parametrize(
    ("first", "second"),
    [(3, 3), (8, 8), (3, 4), (4, 7), (8, 9), (8, 16), (5, 300), (256, 257), (1, 2), (3, 5)],
)
def test_two_branches_of_any_sizes_are_proven(forked, first: int, second: int) -> None:
    old, new = forked(first, second, common=min(2, first - 1))
    fork = fork_of(old, new)
    again = parse_fork(fork.encode())
    assert again == fork
    found = verify_fork(again, [parse_vkey(old.key.vkey)])
    assert found.origin == ORIGIN and [str(key) for key in found.keys] == [old.key.vkey]
    assert (found.first.size, found.second.size) == (first, second)
    assert found.root == new.root(first) != found.first.root


@pytest.mark.spec("L-121", "L-122")
def test_what_is_no_fork_is_not_taken_for_one(forked, key_of) -> None:
    old, new = forked(5, 9)
    key = old.key
    fork = fork_of(old, new)
    twice = Fork(first=old.note(), second=old.note(), root=old.root(5), proof=())
    assert reason(twice, key) == "fork: this is one checkpoint twice"
    # A cosignature does not make it another one.
    cosigned = cosign(old.note(), key_of("w.example"), 7)
    assert "twice" in reason(Fork(first=cosigned, second=old.note(), root=old.root(5), proof=()), key)
    honest = Fork(first=new.note(5), second=new.note(), root=new.root(5), proof=new.proof(5))
    assert reason(honest, key) == "fork: the second checkpoint continues the first one: nothing was forked"
    lied = Fork(first=new.note(5), second=new.note(), root=old.root(5), proof=new.proof(5))
    assert "not that of the second tree" in reason(lied, key)
    turned = Fork(first=new.note(), second=old.note(), root=old.root(5), proof=())
    assert reason(turned, key) == "fork: the first checkpoint is the larger one"
    without = Fork(first=fork.first, second=fork.second, root=fork.root, proof=())
    assert "not that of the second tree" in reason(without, key)
    same = forked(5, 5)
    extra = Fork(first=same[0].note(), second=same[1].note(), root=same[1].root(5), proof=(bytes(32),))
    assert "not that of the second tree" in reason(extra, key)
    wrong = Fork(first=same[0].note(), second=same[1].note(), root=bytes(32), proof=())
    assert "not that of the second tree" in reason(wrong, key)


@pytest.mark.spec("L-121")
def test_two_logs_two_keys_and_no_key_prove_nothing(forked, key_of) -> None:
    old, new = forked(5, 9)
    other = Branch(key_of("elsewhere.example"), 2, 5, "a")
    logs = Fork(
        first=other.note(origin="elsewhere.example"), second=new.note(), root=new.root(5), proof=new.proof(5)
    )
    assert reason(logs, old.key, other.key) == "fork: these are checkpoints of two logs"
    thief = key_of(ORIGIN + "/thief")
    stolen = Branch(type(thief)(name=ORIGIN, public=thief.public, _key=thief._key), 2, 5, "a")
    keys = Fork(first=stolen.note(), second=new.note(), root=new.root(5), proof=new.proof(5))
    assert reason(keys, old.key, stolen.key) == "fork: no key signed both checkpoints"
    assert reason(keys, old.key).startswith("log_key: no key at hand signed")
    nameless = Fork(first=old.note(), second=new.note(), root=new.root(5), proof=new.proof(5))
    assert reason(nameless).startswith("log_key")
    assert reason(fork_of(old, new), stolen.key) == "log_key: no key that you named signed both checkpoints"
    boast = replace(fork_of(old, new), vkeys=(new.key.vkey, stolen.key.vkey))
    assert reason(boast, old.key).startswith("log_key: the proof names a key")
    unsigned = old.note().rpartition("\n\n")[0] + "\n\n\N{EM DASH} nobody AAAAAAAA\n"
    assert reason(
        Fork(first=unsigned, second=new.note(), root=new.root(5), proof=new.proof(5)), old.key
    ).startswith("log_key")
    # A line of the log's key that does not hold condemns the note.
    text, _, line = old.note().rpartition("\n\n")
    bad = text.replace("\n5", "\n6") + "\n\n" + line
    assert reason(
        Fork(first=bad, second=new.note(), root=new.root(5), proof=new.proof(5)), old.key
    ).startswith("checkpoint")


@pytest.mark.spec("L-121")
def test_a_proof_names_the_key_itself_until_the_reader_does(forked) -> None:
    old, new = forked(5, 9)
    fork = fork_of(old, new)
    assert fork.vkeys == (old.key.vkey,)
    assert [str(key) for key in verify_fork(parse_fork(fork.encode())).keys] == [old.key.vkey]


@pytest.mark.spec("L-120")
def test_every_changed_byte_of_a_proof_is_found(forked) -> None:
    old, new = forked(6, 11)
    data = fork_of(old, new).encode()
    key = parse_vkey(old.key.vkey)
    verify_fork(parse_fork(data), [key])
    for at in range(len(data)):
        with pytest.raises(LedgerError) as caught:
            verify_fork(parse_fork(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]), [key])
        assert caught.value.is_check
    for cut in (b"", data[:-1], data + b"\n", data[1:]):
        with pytest.raises(LedgerError) as caught:
            parse_fork(cut)
        assert caught.value.reason == "fork"


@pytest.mark.spec("L-120")
def test_a_malformed_proof_is_refused_as_such(forked) -> None:
    old, new = forked(6, 11)
    good = json.loads(fork_of(old, new).encode())
    bad: list[dict[str, object]] = [
        {**good, "format": "agentmesh-fork/v2"},
        {**good, "more": 1},
        {name: value for name, value in good.items() if name != "proof"},
        {**good, "first": 7},
        {**good, "vkeys": []},
        {**good, "vkeys": good["vkeys"] * 2},
        {**good, "vkeys": good["vkeys"][0]},
        {**good, "root": None},
        {**good, "root": "00"},
        {**good, "root": good["root"].upper()},
        {**good, "proof": "00"},
        {**good, "proof": [7]},
        {**good, "proof": ["00" * 32] * 64},
    ]
    for value in bad:
        with pytest.raises(LedgerError) as caught:
            parse_fork(canonical(value))  # type: ignore[arg-type]
        assert caught.value.reason == "fork"
    with pytest.raises(LedgerError) as caught:
        parse_fork(b"[" + b" " * 2_000_000 + b"]")
    assert "longer" in caught.value.message
    spaced = json.dumps(good).encode()
    with pytest.raises(LedgerError):
        parse_fork(spaced)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_ledger_error(data: bytes) -> None:
    with pytest.raises(LedgerError):
        parse_fork(data)


@pytest.mark.parametrize("new_size", [2, 3, 6, 9, 16, 100])
def test_a_proof_shows_the_older_root_but_where_it_leaves_it_out(forked, new_size: int) -> None:
    _, new = forked(1, new_size)
    for old in range(new_size + 1):
        proof = new.proof(old)
        shown = shown_root(old, new_size, proof, new.root(new_size))
        if 0 < old < new_size and old & (old - 1):
            assert shown == new.root(old)
            assert shown_root(old, new_size, proof, bytes(32)) is None
            assert shown_root(old, new_size, (*proof, bytes(32)), new.root(new_size)) is None
            assert shown_root(old, new_size, proof[:-1], new.root(new_size)) is None
        else:
            assert shown is None


def test_proofs_are_kept_once_each_and_not_without_end(forked, tmp_path: Path) -> None:
    old, new = forked(3, 5)
    fork = fork_of(old, new)
    first = keep_fork(tmp_path, "a%2Fb", fork, 3)
    assert keep_fork(tmp_path, "a%2Fb", fork, 3) == first and first.read_bytes() == fork.encode()
    for size in range(6, 40):
        keep_fork(tmp_path, "a%2Fb", fork_of(*forked(3, size)), 3)
    kept = list(tmp_path.iterdir())
    assert len(kept) == MOST_KEPT and all(each.suffix == ".fork" for each in kept)
    # Another log has its own.
    assert keep_fork(tmp_path, "a%2Fc", fork, 3).name.startswith("a%2Fc-3-")
    assert keep_fork(tmp_path, "a", fork, 3).name.startswith("a-3-")
    for size in range(6, 40):
        keep_fork(tmp_path, "b-2", fork_of(*forked(3, size)), 3)
    assert keep_fork(tmp_path, "b", fork, 3).read_bytes() == fork.encode()
    with pytest.raises(LedgerError) as caught:
        keep_fork(tmp_path / "none", "a", fork, 3)
    assert caught.value.reason == "failed"


@pytest.fixture
def branches(ledger, grow, tmp_path: Path):
    """Two copies of one log with its keys, each gone on by itself to a size of its own."""

    def make(common: int, first: int, second: int) -> tuple[Ledger, Ledger]:
        grow(ledger, common)
        ledger.close()
        home, copy = ledger.path.parent, tmp_path / "copy"
        shutil.copytree(home, copy)
        opened = [
            Ledger.open(folder / "ledger.db", keys=KeyStore(folder / "keys")) for folder in (home, copy)
        ]
        grow(opened[0], first, "one says")
        grow(opened[1], second, "other says")
        made.extend(opened)
        return opened[0], opened[1]

    made: list[Ledger] = []
    yield make
    for each in made:
        each.close()


def exported(ledger: Ledger, path: Path, **selection: object) -> Path:
    out = io.BytesIO()
    ledger.export(out, **selection)  # type: ignore[arg-type]
    path.write_bytes(out.getvalue())
    return path


def test_a_fork_is_told_as_one_where_its_proof_cannot_be_kept(
    branches, witnesses, make_policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, copy = branches(3, 5, 8)
    policy = make_policy(here.vkey(), witnesses(1), 1)
    here.gather(policy, within=HUNG)

    def full(*_: object) -> Path:
        raise LedgerError("failed", "the proof of the fork cannot be written: No space left on device")

    monkeypatch.setattr(KeyStore, "keep_fork", full)
    for ask in (copy.gather, copy.require_continued):
        with pytest.raises(LedgerError) as caught:
            ask(policy, within=HUNG)
        assert caught.value.reason == "forked" and caught.value.path is None


@pytest.mark.spec("L-126")
@pytest.mark.parametrize(("first", "second"), [(5, 5), (5, 8), (8, 9), (8, 8), (4, 7), (7, 16), (16, 300)])
@pytest.mark.parametrize("shows", ["in its answer", "at its monitoring prefix"])
def test_the_second_of_two_copies_is_refused_and_the_proof_stands_beside_its_key(
    branches, witnesses, make_policy, capsys, tmp_path: Path, first: int, second: int, shows: str
) -> None:
    (one,) = witnesses(1)
    one.shows_note, one.serves_note = shows == "in its answer", shows != "in its answer"
    here, copy = branches(3, first, second)
    policy = make_policy(here.vkey(), [one], 1)
    assert here.gather(policy, within=HUNG).size == first
    with pytest.raises(LedgerError) as caught:
        copy.gather(policy, within=HUNG)
    error = caught.value
    assert error.reason == "forked" and "W0" in error.message and error.path is not None
    path = Path(error.path)
    assert path.parent == copy.path.parent / "keys" / "logs" and path.suffix == ".fork"
    assert path.name.startswith(f"agentmesh.local%2Fdesk-{first}-")
    assert main(["fork", str(path), "--key", here.vkey()]) == 0
    told = capsys.readouterr().out
    assert "forked: proven" in told and f"{first} entries" in told and "the key you named" in told
    # It is told again and again, and written once; before anything is signed as well.
    for ask in (copy.gather, copy.require_continued):
        with pytest.raises(LedgerError) as caught:
            ask(policy, within=HUNG)
        assert caught.value.path == error.path
    assert len(list(path.parent.glob("*.fork"))) == 1
    assert copy.cosigned() is None


@pytest.mark.spec("L-126")
def test_a_witness_that_shows_nothing_is_believed_so_far_that_nothing_is_signed(
    branches, witnesses, make_policy
) -> None:
    (one,) = witnesses(1)
    one.shows_note = False
    here, copy = branches(3, 8, 12)
    policy = make_policy(here.vkey(), [one], 1)
    here.gather(policy, within=HUNG)
    with pytest.raises(LedgerError) as caught:
        copy.gather(policy, within=HUNG)
    assert caught.value.reason == "forked" and caught.value.path is None
    assert "there is no proof yet" in str(caught.value)
    assert list((copy.path.parent / "keys" / "logs").glob("*.fork")) == []


@pytest.mark.spec("L-126")
@pytest.mark.parametrize("serves", [True, False])
def test_a_witness_of_the_older_protocol_says_409_to_another_root_at_its_own_size(
    branches, witnesses, make_policy, serves: bool
) -> None:
    (one,) = witnesses(1)
    one.serves_note = serves
    here, copy = branches(3, 8, 8)
    policy = make_policy(here.vkey(), [one], 1)
    here.gather(policy, within=HUNG)
    one.trick = lambda handler: handler.command == "POST" and (handler.say(409, b"8\n") or True)
    with pytest.raises(LedgerError) as caught:
        copy.gather(policy, within=HUNG)
    assert caught.value.reason == "forked" and (caught.value.path is not None) == serves
    # Of a log that is the witness's own it proves nothing, where the witness shows what it holds.
    if serves:
        assert [each.reason for each in here.gather(policy, within=HUNG).failures] == ["nonsense"]


@pytest.mark.spec("L-126")
@pytest.mark.parametrize("what", ["an older one", "the same", "of another key"])
def test_a_witness_that_refuses_by_what_contradicts_nothing_has_failed_itself(
    ledger, witnesses, make_policy, grow, key_of, what: str
) -> None:
    (one,) = witnesses(1)
    policy = make_policy(ledger.vkey(), [one], 1)
    grow(ledger, 4)
    old = ledger.gather(policy, within=HUNG).note
    grow(ledger, 7)
    note = {"an older one": old, "the same": ledger.checkpoint()}.get(what)
    if note is None:
        note = Checkpoint(origin=ORIGIN, size=4, root=bytes(32)).sign(key_of(ORIGIN))
    one.trick = lambda handler: handler.say(422, note.encode()) or True
    if what == "of another key":
        with pytest.raises(LedgerError) as caught:
            ledger.gather(policy, within=HUNG)
        assert caught.value.reason == "forked" and caught.value.path is None
        return
    found = ledger.gather(policy, within=HUNG)
    assert "by a checkpoint that proves nothing" in found.failures[0].message
    assert found.failures[0].reason == "nonsense"


@pytest.mark.spec("L-125")
def test_a_checkpoint_that_is_larger_than_the_log_shows_that_it_was_cut(
    branches, witnesses, make_policy, grow
) -> None:
    (one,) = witnesses(1)
    here, copy = branches(4, 6, 4)
    policy = make_policy(here.vkey(), [one], 1)
    copy.gather(policy, within=HUNG)  # the witness holds 4, which both have
    note = here.checkpoint()
    one.trick = lambda handler: handler.say(422, note.encode()) or True
    with pytest.raises(LedgerError) as caught:
        copy.gather(policy, within=HUNG)
    assert caught.value.reason == "rollback" and caught.value.expected == "at least 6 entries"


def run(capsys, *words: object) -> tuple[int, str]:
    code = main(["fork", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out + told.err


@pytest.mark.spec("L-123")
@pytest.mark.parametrize(("first", "second"), [(5, 5), (5, 9), (8, 13), (9, 8)])
def test_the_command_confirms_two_branches_from_notes_and_transcripts(
    branches, capsys, tmp_path: Path, first: int, second: int
) -> None:
    here, copy = branches(3, first, second)
    key = ["--key", here.vkey()]
    notes = tmp_path / "a.checkpoint", tmp_path / "b.checkpoint"
    for path, log in zip(notes, (here, copy), strict=True):
        path.write_text(log.checkpoint())
    whole = exported(here, tmp_path / "a.jsonl"), exported(copy, tmp_path / "b.jsonl")
    larger = int(second > first)
    proven = "forked: proven"
    for pair in ((whole[0], whole[1]), (whole[1], whole[0]), (notes[1 - larger], whole[larger])):
        code, told = run(capsys, *pair, *key)
        assert code == 0 and proven in told, told
    code, told = run(capsys, whole[0], whole[1])
    assert code == 0 and "self-asserted" in told
    code, told = run(capsys, *notes, *key)
    if first == second:
        assert code == 0 and proven in told
    else:
        assert code == 1 and "by themselves" in told and proven not in told
        code, told = run(capsys, notes[larger], whole[1 - larger], *key)
        assert code == 1 and proven not in told
    # What it confirms can be handed on.
    out = tmp_path / "found.fork"
    assert run(capsys, *whole, *key, "-o", out)[0] == 0
    assert run(capsys, out, *key)[0] == 0 and run(capsys, out, notes[0], *key)[0] == 0
    code, told = run(capsys, *whole, *key, "-o", out)
    assert code == 3 and "cannot be written" in told
    code, told = run(capsys, out, *key, "--json")
    value = json.loads(told)
    assert value["forked"] is True and value["pinned"] is True and value["origin"] == here.origin
    assert value["first"]["size"] == min(first, second)
    policy = tmp_path / "policy"
    policy.write_text(f"log {here.vkey()}\nquorum none\n")
    assert run(capsys, out, "--policy", policy)[0] == 0


@pytest.mark.spec("L-121")
def test_beside_a_proof_the_other_record_must_be_of_the_log_that_it_is_about(
    branches, forked, capsys, tmp_path: Path
) -> None:
    here, copy = branches(3, 5, 5)
    own, whole = tmp_path / "own.checkpoint", exported(copy, tmp_path / "whole.jsonl")
    own.write_text(here.checkpoint())
    out = tmp_path / "found.fork"
    assert run(capsys, own, whole, "-o", out)[0] == 0
    # Anybody can make up a log of this name, and fork it.
    strange, nothing = tmp_path / "strange.fork", tmp_path / "nothing"
    strange.write_bytes(fork_of(*forked(5, 8)).encode())
    nothing.write_bytes(b"nothing\n")
    assert run(capsys, strange)[0] == 0
    for pair in ((own, strange), (strange, own), (strange, whole), (out, strange), (out, nothing)):
        code, told = run(capsys, *pair)
        assert code == 1 and "proven" not in told, pair
    for pair in ((own, out), (whole, out), (out, out)):
        assert run(capsys, *pair)[0] == 0


@pytest.mark.spec("L-123")
def test_a_dialogue_that_was_exported_since_that_size_proves_it_too(
    branches, capsys, grow, tmp_path: Path
) -> None:
    here, copy = branches(3, 8, 8)
    since, older = copy.checkpoint(), tmp_path / "older"
    older.write_text(here.checkpoint())
    grow(copy, 11)
    key = ["--key", here.vkey()]
    code, told = run(capsys, older, exported(copy, tmp_path / "d", dialogue="d1"), *key)
    assert code == 1 and "by themselves" in told
    code, told = run(capsys, older, exported(copy, tmp_path / "d", dialogue="d1", since=since), *key)
    assert code == 0 and "forked: proven" in told


@pytest.mark.spec("L-121", "L-123")
def test_the_command_does_not_confirm_what_proves_nothing(
    branches, capsys, grow, tmp_path: Path, forked
) -> None:
    here, copy = branches(3, 6, 9)
    key = ["--key", here.vkey()]
    note, later = tmp_path / "note", tmp_path / "later"
    note.write_text(here.checkpoint())
    whole = exported(here, tmp_path / "whole.jsonl")
    assert run(capsys, note, *key) == (1, "NOT VERIFIED  " + str(note) + "\n" + CHECK_ALONE)
    code, told = run(capsys, note, note, *key)
    assert code == 1 and "one checkpoint twice" in told
    code, told = run(capsys, note, whole, *key)
    assert code == 1 and "one checkpoint twice" in told
    old, new = forked(4, 9)
    later.write_text(new.note())
    code, told = run(capsys, later, whole, *key)
    assert code == 1 and "check log_key" in told
    code, told = run(capsys, later, whole, "--key", new.key.vkey)
    assert code == 1 and "check log_key" in told
    code, told = run(capsys, later, whole, *key, "--key", new.key.vkey)
    assert code == 1 and "by themselves" in told
    # An honest log and its own older checkpoint.
    grow(here, 11)
    code, told = run(capsys, note, exported(here, tmp_path / "grown.jsonl"), *key)
    assert code == 1 and "the second checkpoint continues the first one: nothing was forked" in told
    # Without any key nobody signed anything.
    code, told = run(capsys, note, note)
    assert code == 1 and "check log_key" in told
    # Forged: a proof file with one hash changed, and one of another log's key.
    proof = tmp_path / "x.fork"
    fork = fork_of(old, new)
    proof.write_bytes(fork.encode())
    assert run(capsys, proof, "--key", old.key.vkey)[0] == 0
    assert run(capsys, proof, *key)[0] == 1
    proof.write_bytes(fork.encode().replace(fork.root.hex().encode(), bytes(32).hex().encode()))
    code, told = run(capsys, proof, "--key", old.key.vkey)
    assert code == 1 and "check fork" in told
    assert run(capsys, tmp_path / "nowhere", *key)[0] == 3
    assert run(capsys, here.path, note, *key)[0] == 1
    assert run(capsys, "-", "-", *key)[0] == 2
    assert run(capsys, proof, "--key", "nonsense")[0] == 2


CHECK_ALONE = "check fork: one record alone contradicts nothing. Name another one, or the proof of a fork\n"


@pytest.mark.spec("L-123")
def test_a_transcript_whose_entries_are_not_its_checkpoint_s_proves_nothing(
    branches, capsys, edit, tmp_path: Path
) -> None:
    here, copy = branches(3, 5, 9)
    note = tmp_path / "note"
    note.write_text(here.checkpoint())
    key = ["--key", here.vkey()]
    good = exported(copy, tmp_path / "good.jsonl").read_bytes()
    other = exported(here, tmp_path / "other.jsonl").read_bytes()
    mixed = tmp_path / "mixed.jsonl"
    entry = json.loads(other.split(b"\n")[4])
    mixed.write_bytes(edit(good, 4, **entry))
    code, told = run(capsys, note, mixed, *key)
    assert code == 1 and "check root" in told
    lines = good.split(b"\n")
    mixed.write_bytes(edit(b"\n".join([*lines[:-3], *lines[-2:]]), 1, **json.loads(lines[1])))
    code, told = run(capsys, note, mixed, *key)
    assert code == 1 and "check count" in told
    mixed.write_bytes(edit(b"\n".join([lines[0], *lines[2:]]), 1, **json.loads(lines[2])))
    code, told = run(capsys, note, mixed, *key)
    assert code == 1 and "check index" in told
