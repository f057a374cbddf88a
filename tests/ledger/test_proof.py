"""`.tlog-proof` files: one entry, its place, and the checkpoint, in one text."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from agentmesh_ledger import LedgerError
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.cosignature import CosignerKey, cosign
from agentmesh_ledger.keys import LogKey
from agentmesh_ledger.policy import parse_policy
from agentmesh_ledger.proof import make_proof, parse_proof, verify_proof
from agentmesh_ledger.tiles import TileHashes
from agentmesh_ledger.tree import Edge, LeafHash, leaf_hash

SIZE = 300


@pytest.fixture
def log(talk):
    return talk(SIZE)


@pytest.fixture
def prove(log, leaf_tiles):
    """The text of a proof of one entry of the log."""
    leaves = [leaf_hash(entry) for entry in log.entries]
    hashes = TileHashes(leaf_tiles(leaves), SIZE)

    def make(index: int, *, with_entry: bool = False, note: str | None = None) -> str:
        return make_proof(
            index,
            leaves[index],
            hashes.inclusion(index),
            note=note or log.checkpoint().sign(log.key),
            keys=[log.key.vkey],
            extra=log.entries[index] if with_entry else None,
        )

    return make


@pytest.mark.spec("L-39")
def test_a_proof_has_the_lines_of_the_specification(log, prove) -> None:
    text = prove(7, with_entry=True)
    head, note = text.split("\n\n", 1)
    lines = head.split("\n")
    assert lines[0] == "c2sp.org/tlog-proof@v1"
    assert lines[1] == "extra " + base64.b64encode(log.entries[7]).decode()
    assert lines[2] == "index 7"
    assert [len(base64.b64decode(line)) for line in lines[3:]] == [32] * 9
    assert note == log.checkpoint().sign(log.key)
    assert "extra" not in prove(7)
    assert len(prove(7)) < 900


@pytest.mark.spec("L-39")
def test_every_entry_is_proved_and_the_evidence_says_whose_it_is(log, prove) -> None:
    for index in (0, 1, 2, 255, 256, 298, 299):
        entry = log.entries[index]
        found = verify_proof(prove(index), entry=entry, keys=[log.key.vkey])
        assert (found.index, found.tree_size, found.origin) == (index, SIZE, log.key.name)
        assert found.leaf == leaf_hash(entry) and found.root == log.checkpoint().root.hex()
        assert found.record is not None and found.record.message.index == index
        assert found.log_keys == (log.key.vkey,) and found.policy is None
        whole = verify_proof(prove(index, with_entry=True), keys=[log.key.vkey])
        assert whole == found
        bare = verify_proof(prove(index), leaf=leaf_hash(entry), keys=[log.key.vkey])
        assert bare.record is None and bare.leaf == found.leaf


@pytest.mark.spec("L-39")
def test_another_entry_index_log_or_key_is_refused_with_its_reason(log, prove) -> None:
    text, entry, keys = prove(7), log.entries[7], [log.key.vkey]
    other = Checkpoint(origin=log.key.name, size=SIZE, root=b"\1" * 32).sign(log.key)
    cases = {
        "inclusion": [
            (text, log.entries[8]),
            (text.replace("index 7\n", "index 8\n"), entry),
            (text.replace("index 7\n", "index 300\n"), entry),
            (text[: text.index("\n\n") + 2] + other, entry),
            (prove(8), entry),
        ],
        "proof": [(text, None)],
        "checkpoint": [(text.replace("\n300\n", "\n301\n"), entry)],
    }
    for reason, each in cases.items():
        for altered, shown in each:
            with pytest.raises(LedgerError) as caught:
                verify_proof(altered, entry=shown, keys=keys)
            assert caught.value.reason == reason
    with pytest.raises(LedgerError) as caught:
        verify_proof(text, entry=entry, leaf=leaf_hash(b"other"), keys=keys)
    assert caught.value.reason == "inclusion"
    with pytest.raises(LedgerError) as caught:
        verify_proof(text, entry=entry)
    assert caught.value.reason == "log_key"
    with pytest.raises(LedgerError) as caught:
        verify_proof(
            text, entry=entry, keys=["example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"]
        )
    assert caught.value.reason == "log_key"


def one_leaf_log(forge, entry: bytes) -> str:
    tree = Edge()
    tree.append(leaf_hash(entry))
    note = Checkpoint(origin=forge.key.name, size=1, root=tree.root()).sign(forge.key)
    return make_proof(0, leaf_hash(entry), [], note=note, keys=[forge.key.vkey], extra=entry)


@pytest.mark.spec("L-39")
def test_what_is_in_a_log_but_is_no_sound_message_is_refused_as_an_entry(forge) -> None:
    keys = [forge.key.vkey]
    foreign = one_leaf_log(forge, b"no message of ours")
    with pytest.raises(LedgerError) as caught:
        verify_proof(foreign, keys=keys)
    assert caught.value.reason == "canonical"
    assert verify_proof(foreign, leaf=leaf_hash(b"no message of ours"), keys=keys).record is None
    for changes, reason in (({"index": 1}, "index"), ({"log": "agentmesh.local/other"}, "chain")):
        lying = type(forge)().add(forge.ada, "key.register", "log", **changes)
        with pytest.raises(LedgerError) as caught:
            verify_proof(one_leaf_log(forge, lying.entries[0]), keys=keys)
        assert caught.value.reason == reason and caught.value.index == 0


def test_what_would_not_verify_is_never_made(log, leaf_tiles) -> None:
    leaves = [leaf_hash(entry) for entry in log.entries]
    hashes = TileHashes(leaf_tiles(leaves), SIZE).inclusion(7)
    note = log.checkpoint().sign(log.key)
    for index, leaf, path in ((8, leaves[7], hashes), (7, leaves[8], hashes), (7, leaves[7], hashes[:-1])):
        with pytest.raises(LedgerError):
            make_proof(index, leaf, path, note=note, keys=[log.key.vkey])
    with pytest.raises(LedgerError):
        make_proof(7, leaves[7], hashes, note=note.replace("300", "301"), keys=[log.key.vkey])
    with pytest.raises(LedgerError) as caught:
        make_proof(7, leaves[7], hashes, note=note, keys=[log.key.vkey], extra=b"x" * 600_000)
    assert caught.value.reason == "too_large"


@pytest.mark.spec("L-39")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v2\n"),
        ("c2sp.org/tlog-proof@v1\n", ""),
        ("c2sp.org/tlog-proof@v1\n", "\ufeffc2sp.org/tlog-proof@v1\n"),
        ("c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\r\n"),
        ("index 7\n", "extra \nindex 7\n"),
        ("index 7\n", "extra A\nindex 7\n"),
        ("index 7\n", "extra QUI=\nextra QUI=\nindex 7\n"),
        ("index 7\n", "index 07\n"),
        ("index 7\n", "index -7\n"),
        ("index 7\n", "index +7\n"),
        ("index 7\n", "index  7\n"),
        ("index 7\n", "index 7 \n"),
        ("index 7\n", "index \N{ARABIC-INDIC DIGIT SEVEN}\n"),
        ("index 7\n", "index 9007199254740992\n"),
        ("index 7\n", ""),
        ("index 7\n", "index 7\nQUI=\n"),
        ("index 7\n", "index 7\n" + (base64.b64encode(b"\0" * 32).decode() + "\n") * 60),
        ("\n\n", "\n"),
        ("\n\n", "\n\n\n"),
    ],
)
def test_a_file_out_of_form_is_refused(prove, old: str, new: str) -> None:
    text = prove(7)
    assert text.count(old) >= 1
    altered = text.replace(old, new, 1)
    with pytest.raises(LedgerError) as caught:
        parse_proof(altered)
        raise AssertionError("read")
    assert caught.value.reason in ("proof", "checkpoint")


@pytest.mark.spec("L-39")
def test_no_flipped_bit_of_a_proof_goes_unseen(log, prove) -> None:
    text = prove(7, with_entry=True)
    data = text.encode()
    for place in range(0, len(data), 3):
        for bit in (1, 32):
            altered = data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
            try:
                again = altered.decode()
            except UnicodeDecodeError:
                continue
            with pytest.raises(LedgerError):
                verify_proof(again, keys=[log.key.vkey])


@pytest.mark.spec("L-39", "L-49")
def test_a_policy_says_which_witnesses_saw_the_checkpoint(log, prove) -> None:
    secret = SigningKey(b"w1.example".ljust(32, b"."))
    witness = LogKey(name="w1.example", public=bytes(secret.verify_key), _key=secret)
    key = CosignerKey(name=witness.name, public=witness.public)
    policy = parse_policy(f"log {log.key.vkey}\nwitness W1 {key}\nquorum W1\n".encode())
    note = log.checkpoint().sign(log.key)
    with pytest.raises(LedgerError) as caught:
        verify_proof(prove(7, with_entry=True), policy=policy)
    assert caught.value.reason == "policy"
    seen = verify_proof(prove(7, with_entry=True, note=cosign(note, witness, 1_700_000_000)), policy=policy)
    assert seen.policy is not None
    assert [(each.witness, each.time) for each in seen.policy.witnesses] == [("W1", 1_700_000_000)]


@given(st.text(max_size=200) | st.lists(st.sampled_from(
    ["c2sp.org/tlog-proof@v1", "extra ", "index ", "7", "\n", "\n\n", "QUI=", "\N{EM DASH} a AAAAAAAA"]
), max_size=20).map("".join))  # fmt: skip
def test_only_ledger_errors_escape_a_proof_of_any_text(text: str) -> None:
    try:
        verify_proof(text, leaf=LeafHash(b"\0" * 32))
    except LedgerError:
        pass


def test_a_rust_verifier_reads_the_same_proof(log, prove) -> None:
    rust = pytest.importorskip("metamorphic_log", reason="the Rust verifier metamorphic-log is not installed")
    proof = parse_proof(prove(42))
    rust.checkpoint_verify_inclusion(
        proof.note, [log.key.vkey], 42, leaf_hash(log.entries[42]), list(proof.hashes)
    )


def test_the_command_verifies_a_proof_and_says_whose_entry_it_is(
    log, prove, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, bare, entry = tmp_path / "7.tlog-proof", tmp_path / "bare.tlog-proof", tmp_path / "entry"
    path.write_text(prove(7, with_entry=True))
    bare.write_text(prove(7))
    entry.write_bytes(log.entries[7])
    key = ["--key", log.key.vkey]
    assert main(["proof", str(path), *key]) == 0
    told = capsys.readouterr().out
    assert "entry      7 of 300" in told and f"signed by {log.ada.id}" in told
    assert main(["proof", str(bare), "--entry", str(entry), *key, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verified"], found["index"], found["tree_size"]) == (True, 7, 300)
    assert found["message"]["author"] == log.ada.id and found["policy"] == "no policy was asked for"
    policy = tmp_path / "policy"
    policy.write_text(f"log {log.key.vkey}\nquorum none\n")
    assert main(["proof", str(path), "--policy", str(policy)]) == 0
    assert "quorum none" in capsys.readouterr().out


def test_the_command_tells_a_bad_proof_from_a_missing_one(
    log, prove, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, entry, key = tmp_path / "7.tlog-proof", tmp_path / "entry", ["--key", log.key.vkey]
    path.write_text(prove(7))
    assert main(["proof", str(path), *key]) == 1
    assert "does not carry its entry" in capsys.readouterr().err
    for data, check in (
        (log.entries[8], "inclusion"),
        (b"x" * 70_000, "envelope"),
        (b"", "inclusion"),
    ):
        entry.write_bytes(data)
        assert main(["proof", str(path), "--entry", str(entry), *key, "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["check"] == check
    for data in (b"\xff", b"", b"x" * 600_000):
        path.write_bytes(data)
        assert main(["proof", str(path), *key, "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["check"] == "proof"
    assert main(["proof", str(tmp_path / "none"), *key]) == 3
    assert main(["proof", str(tmp_path), *key]) == 3
    assert main(["proof", str(path)]) == 2
    assert main(["proof", str(path), "--key", "x"]) == 2
