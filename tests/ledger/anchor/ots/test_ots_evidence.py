"""Evidence of OpenTimestamps shows a checkpoint under a Bitcoin header, or says why not, whatever the bytes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from bitcoin.core import CBlockHeader, CoreMainParams
from hypothesis import given
from hypothesis import strategies as st
from opentimestamps.core.notary import (
    BitcoinBlockHeaderAttestation,
    LitecoinBlockHeaderAttestation,
    PendingAttestation,
    UnknownAttestation,
)
from opentimestamps.core.op import (
    OpAppend,
    OpHexlify,
    OpKECCAK256,
    OpPrepend,
    OpReverse,
    OpRIPEMD160,
    OpSHA1,
    OpSHA256,
)
from opentimestamps.core.serialize import BytesSerializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp

from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.bitcoin import parse_header
from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.anchor.ots import make_evidence, open_stamp, stamped_digest, verify_ots
from agentmesh_ledger.encoding import decode64, encode64

ORIGIN, SIZE, ROOT = "agentmesh.local/desk", 7, bytes(range(32))
DIGEST = stamped_digest(ORIGIN, SIZE, ROOT)
NONCE = b"n" * 16
# Block 358391 of Bitcoin, the one of the first OpenTimestamps proof; its hash and its root are those that explorers show.
REAL_HEADER = (
    "02000000b96394585a281b7e5f438fd1c9ed492645a1fd61cb3802040000000000000000"
    "007ee445d23ad061af4a36b809501fab1ac4f2d7e7a739817dd0cbb7ec661b8a1e376755f58616186272def6"
)


def file_of(tree, operation=None):
    out = BytesSerializationContext()
    DetachedTimestampFile(OpSHA256() if operation is None else operation, tree).serialize(out)
    return out.getbytes()


def a_tree(*more, height=900_000, digest=DIGEST):
    """A timestamp of the digest in a block, by the operations that calendars use, and `more` of them before."""
    tree = Timestamp(digest)
    tip = tree.ops.add(OpAppend(NONCE)).ops.add(OpSHA256())
    for each in more:
        tip = tip.ops.add(each)
    tip = tip.ops.add(OpPrepend(b"tx ")).ops.add(OpSHA256()).ops.add(OpSHA256())
    tip.attestations.add(BitcoinBlockHeaderAttestation(height))
    return tree, tip


@pytest.fixture(scope="module")
def good(block):
    tree, tip = a_tree()
    header = block(tip.msg)
    return make_evidence(file_of(tree), header), header


def verify(value, **changes):
    about = {"origin": ORIGIN, "size": SIZE, "root": ROOT, **changes}
    return verify_ots(value, **about)


def refused(value, **changes) -> str:
    start = time.monotonic()
    with pytest.raises(LedgerError) as caught:
        verify(value, **changes)
    assert caught.value.reason == "anchor"
    assert time.monotonic() - start < 10
    return str(caught.value)


def test_what_it_shows(good, block_hash) -> None:
    value, header = good
    found = verify(value)
    assert (found.type, found.size, found.root) == ("opentimestamps", SIZE, ROOT)
    assert (found.block, found.block_hash, found.time) == (900_000, block_hash(header), 1_800_000_000)
    assert (found.chain, found.contract, found.sender, found.settlement) == (None, None, None, None)
    assert not found.pinned
    assert "2^1.0 hashes of work, which one machine can do" in found.note
    assert "its height is the calendar's word" in found.note


@pytest.mark.parametrize("write", [str, str.upper, "0x{}".format])
def test_only_a_block_that_the_auditor_named_is_pinned(good, block_hash, write) -> None:
    value, header = good
    name = block_hash(header)
    assert verify(value, blocks=frozenset({write(name)})) == replace(verify(value), pinned=True)
    assert not verify(value, blocks=frozenset({bytes.fromhex(name)[::-1].hex()})).pinned
    assert not verify(value, blocks=frozenset({"", "0x", name[:-1]})).pinned


def test_it_goes_through_the_evidence_of_every_kind(good) -> None:
    value, _ = good
    assert verify_evidence(value, origin=ORIGIN, size=SIZE, root=ROOT) == verify(value)


def test_a_promise_is_told_with_who_gave_it() -> None:
    tree = Timestamp(DIGEST)
    tree.ops.add(OpSHA256()).attestations.add(PendingAttestation("https://calendar.example"))
    value = make_evidence(file_of(tree), None)
    assert verify(value).note == "pending, promised by https://calendar.example: nothing is shown yet"
    assert "not about this checkpoint" in refused(value, size=SIZE + 1)
    assert "does not lead to this block's merkle root" in refused({**value, "header": REAL_HEADER})


def test_it_is_about_one_checkpoint(good) -> None:
    value, _ = good
    assert "not about this checkpoint" in refused(value, size=SIZE + 1)
    assert "not about this checkpoint" in refused(value, root=bytes(32))
    assert "not about this checkpoint" in refused(value, origin=ORIGIN + "x")


def test_a_pending_one_shows_nothing(good) -> None:
    value, _ = good
    found = verify({**value, "header": None})
    assert (found.block, found.block_hash, found.time, found.pinned) == (None, "", None, False)
    assert found.note == "said to be in Bitcoin block 900000, whose header is not here: nothing is shown yet"


@pytest.mark.parametrize(
    "change",
    [
        lambda v: None,
        lambda v: [],
        lambda v: "opentimestamps",
        lambda v: {},
        lambda v: {**v, "more": 1},
        lambda v: {**v, "type": "evm-receipt"},
        lambda v: {**v, "proof": None},
        lambda v: {**v, "proof": v["proof"] + "="},
        lambda v: {**v, "proof": ""},
        lambda v: {**v, "header": ""},
        lambda v: {**v, "header": 7},
        lambda v: {**v, "header": v["header"].upper()},
        lambda v: {**v, "header": v["header"] + "00"},
        lambda v: {**v, "header": v["header"][:-1] + "\u0661"},
    ],
)
def test_evidence_out_of_shape_is_refused(good, change) -> None:
    refused(change(good[0]))


def test_the_merkle_root_stands_in_the_header_as_in_the_proof(good, block) -> None:
    value, header = good
    turned = block(header[36:68][::-1])
    assert "does not lead to this block's merkle root" in refused({**value, "header": turned.hex()})


def test_a_header_without_its_work_is_refused(good, block) -> None:
    value, header = good
    for nonce in range(2**16):
        lazy = header[:76] + nonce.to_bytes(4, "little")
        digest = hashlib.sha256(hashlib.sha256(lazy).digest()).digest()
        if digest[-1] >= 0x80:
            break
    assert "proof of work does not hold" in refused({**value, "header": lazy.hex()})
    harder = header[:72] + (0x1D00FFFF).to_bytes(4, "little") + header[76:]
    assert "proof of work does not hold" in refused({**value, "header": harder.hex()})


@pytest.mark.parametrize(
    "bits",
    [0, 1, 0x01003456, 0x04923456, 0x20800001, 0x22000100, 0x23000001, 0xFF123456, 0x207F0000 | 0x800000],
)
def test_a_target_that_is_none_is_refused(good, bits) -> None:
    value, header = good
    odd = header[:72] + bits.to_bytes(4, "little") + header[76:]
    assert "target" in refused({**value, "header": odd.hex()})


def test_a_real_header_is_read_as_explorers_show_it() -> None:
    header = parse_header(bytes.fromhex(REAL_HEADER))
    assert header.hash == "000000000000000003e892881a8cdcdc117c06d444057c98b6f04a9ee75a2319"
    assert (
        header.merkle_root[::-1].hex() == "8a1b66ecb7cbd07d8139a7e7d7f2c41aab1f5009b8364aaf61d03ad245e47e00"
    )
    assert (header.time, header.effort) == (1_432_827_678, "2^67.5 hashes")


def test_headers_are_read_as_bitcoins_own_library_reads_them(good) -> None:
    for data in (CoreMainParams.GENESIS_BLOCK.get_header().serialize(), bytes.fromhex(REAL_HEADER), good[1]):
        judge, header = CBlockHeader.deserialize(data), parse_header(data)
        assert header.hash == judge.GetHash()[::-1].hex()
        assert (header.merkle_root, header.time) == (judge.hashMerkleRoot, judge.nTime)
    with pytest.raises(LedgerError):
        parse_header(bytes(80))
    with pytest.raises(LedgerError):
        parse_header(bytes(79))


@pytest.mark.parametrize("operation", [OpRIPEMD160, OpSHA1, OpKECCAK256, OpHexlify, OpReverse])
def test_an_operation_that_not_every_machine_has_is_refused_on_all(block, operation) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own about reverse
        tree, tip = a_tree(operation())
        data = file_of(tree)
    told = refused(make_evidence(data, block(tip.msg)))
    assert f"an operation {operation.TAG.hex()}, which is not read here" in told


def test_a_file_hash_of_another_kind_is_refused() -> None:
    tree, tip = a_tree(digest=DIGEST[:20])
    assert "an operation 02" in refused(make_evidence(file_of(tree, OpSHA1()), bytes.fromhex(REAL_HEADER)))


def test_other_attestations_are_passed_over_and_show_nothing(block) -> None:
    tree, tip = a_tree()
    tip.attestations.clear()
    tip.attestations |= {
        LitecoinBlockHeaderAttestation(1),
        UnknownAttestation(b"12345678", b"\x00" * 100),
        PendingAttestation("http://127.0.0.1:1"),
    }
    header = block(tip.msg)
    assert "(expected" in refused(make_evidence(file_of(tree), header))
    tip.attestations.add(BitcoinBlockHeaderAttestation(5))
    assert verify(make_evidence(file_of(tree), header)).block == 5
    tip.attestations.add(BitcoinBlockHeaderAttestation(6))
    assert "one block several heights" in refused(make_evidence(file_of(tree), header))


def test_an_attestation_to_something_that_is_no_merkle_root_shows_nothing(block) -> None:
    tree = Timestamp(DIGEST)
    tip = tree.ops.add(OpAppend(b"x"))
    tip.attestations.add(BitcoinBlockHeaderAttestation(5))
    assert "does not lead" in refused(make_evidence(file_of(tree), block(tip.msg[:32])))


def test_a_file_has_one_form(good) -> None:
    value, _ = good
    data = decode64(value["proof"], "anchor", "the proof")
    longer = data.replace(b"\xf0\x10" + NONCE, b"\xf0\x90\x00" + NONCE)
    assert longer != data and "its one form" in refused({**value, "proof": encode64(longer)})
    end = b"\x00" + BitcoinBlockHeaderAttestation.TAG + b"\x03\xa0\xf7\x36"
    assert data.endswith(end)
    twice = data[: -len(end)] + b"\xff" + end + end
    assert "its one form" in refused({**value, "proof": encode64(twice)})
    assert "TrailingGarbage" in refused({**value, "proof": encode64(data + b"\x00")})
    assert "Truncation" in refused({**value, "proof": encode64(data[:-1])})


def test_every_flipped_bit_of_proof_or_header_is_found(good) -> None:
    value, header = good
    data = decode64(value["proof"], "anchor", "the proof")
    height = data.index(b"\x03\xa0\xf7\x36")  # what says which block it is: no header says otherwise
    for place in range(len(data)):
        for bit in range(8):
            other = bytearray(data)
            other[place] ^= 1 << bit
            changed = {**value, "proof": encode64(bytes(other))}
            if place > height and bit < 7:
                try:
                    assert verify(changed).block != 900_000
                except LedgerError:
                    pass
            else:
                refused(changed)
    for place in range(36, 68):
        other = bytearray(header)
        other[place] ^= 1
        refused({**value, "header": other.hex()})


START = file_of(a_tree()[0])[:65]  # magic, version, kind of hash, digest
MANY = b"\xff\x00" + BitcoinBlockHeaderAttestation.TAG


def hostile():
    pending = b"\x00" + PendingAttestation.TAG + b"\x02\x01a"
    yield "too long", START + b"\x08" * 10**6, "longer than 16384 bytes"
    yield "deep", START + b"\x08" * 16_000, "RecursionLimitError"
    yield "as deep as it goes", START + b"\x08" * 255 + pending, "found no block"
    yield (
        "a million attestations",
        START + b"".join(b"%b\x03%b" % (MANY, n.to_bytes(3, "big")) for n in range(10**6)),
        "longer than",
    )
    yield (
        "many attestations",
        START + b"".join(b"%b\x01%c" % (MANY, n % 128) for n in range(1_300)),
        "1024 steps",
    )
    yield "a long number", START + b"\xf0" + b"\x80" * 16_000, "63 bits"
    yield (
        "a height that nobody could print",
        START + b"\x00" + BitcoinBlockHeaderAttestation.TAG + b"\xe8\x07" + b"\xff" * 999 + b"\x01",
        "found no block",
    )
    yield "an empty argument", START + b"\xf0\x00" + pending, "DeserializationError"
    yield "a message too long", START + (b"\xf0\xff\x1f" + b"a" * 4095) * 3 + pending, "DeserializationError"
    yield "no magic", b"x" * 100, "BadMagicError"
    yield "no version", START.replace(b"\x01\x08", b"\x02\x08", 1) + pending, "UnsupportedMajorVersion"
    yield "nothing", START, "TruncationError"
    yield "bad url", START + b"\x00" + PendingAttestation.TAG + b"\x07\x06a?b=c\x1b", "DeserializationError"
    yield (
        "bad payload",
        START + b"\x00" + BitcoinBlockHeaderAttestation.TAG + b"\x02\x01\x01",
        "TrailingGarbageError",
    )


@pytest.mark.parametrize(("data", "told"), [pytest.param(d, t, id=n) for n, d, t in hostile()])
def test_a_hostile_file_is_refused_in_little_time(data, told) -> None:
    assert told in refused(make_evidence(data, bytes.fromhex(REAL_HEADER)))


@given(st.binary(max_size=400))
def test_any_bytes_raise_only_the_ledgers_error(data) -> None:
    for file in (data, START + data):
        with pytest.raises(LedgerError) as caught:
            verify(make_evidence(file, bytes.fromhex(REAL_HEADER)))
        assert caught.value.reason == "anchor"


STEPS = st.recursive(
    st.sampled_from([b"\x00" + BitcoinBlockHeaderAttestation.TAG + b"\x01\x05", b"\x00" + PendingAttestation.TAG + b"\x02\x01a"]),
    lambda below: st.one_of(
        below.map(lambda b: b"\x08" + b),
        st.tuples(st.sampled_from([b"\xf0", b"\xf1"]), st.binary(min_size=1, max_size=40), below).map(
            lambda t: t[0] + bytes([len(t[1])]) + t[1] + t[2]
        ),
        st.tuples(below, below).map(lambda t: b"\xff" + t[0] + t[1]),
    ),
    max_leaves=12,
)  # fmt: skip


@given(STEPS, st.integers(0, 400), st.integers(0, 255))
def test_trees_of_any_shape_read_alike_or_raise_only_the_ledgers_error(steps, place, byte) -> None:
    data = bytearray(START + steps)
    if 65 <= place < len(data):
        data[place] = byte
    try:
        proof = open_stamp(make_evidence(bytes(data), None), origin=ORIGIN, size=SIZE, root=ROOT)
    except LedgerError as error:
        assert error.reason == "anchor"
        return
    for height, merkle_root in proof.blocks():
        line = proof.to_block(height, merkle_root)
        assert line.digest == DIGEST and line.blocks() == ((height, merkle_root),) and line.waiting() == ()


BARE = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"opentimestamps", "bitcoin", "Cryptodome", "sqlalchemy", "pydantic"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocker())
from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.evidence import verify_evidence
try:
    verify_evidence(json.loads(sys.argv[1]), origin="agentmesh.local/desk", size=7, root=bytes(range(32)))
except LedgerError as error:
    print(error.reason, error)
"""


def test_without_the_extra_it_is_not_checked_and_says_what_it_needs(good, python_environment) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BARE, json.dumps(good[0])],
        capture_output=True,
        text=True,
        timeout=120,
        env=python_environment,
    )
    assert done.stdout.startswith("no_extra ") and "agentmesh-runtime[ots]" in done.stdout, done.stderr


def test_reading_a_proof_needs_no_libcrypto_of_the_systems(good, python_environment) -> None:
    """python-bitcoinlib loads OpenSSL by its name in `bitcoin.core.key`, which a machine need not have."""
    script = BARE.replace('"opentimestamps", "bitcoin", "Cryptodome", ', "") + (
        "print([each for each in sys.modules if each.startswith('bitcoin') and each.endswith('key')])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, json.dumps(good[0])],
        capture_output=True,
        text=True,
        timeout=120,
        env=python_environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
