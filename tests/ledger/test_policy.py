"""Trust policies and the cosignatures of witnesses: the specification's own text, and forged ones."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from agentmesh_ledger import LedgerError
from agentmesh_ledger.cosignature import (
    MAX_TIME,
    CosignerKey,
    cosign,
    cosignatures,
    parse_cosigner,
)
from agentmesh_ledger.keys import LogKey
from agentmesh_ledger.note import VerifierKey, parse_note, parse_vkey, split_vkey, write_vkey
from agentmesh_ledger.policy import parse_policy, trusted_checkpoint

# The example of c2sp.org/tlog-cosignature, which gives no keys with it.
EXAMPLE = """example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\N{EM DASH} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\N{EM DASH} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
"""


def signer(name: str) -> LogKey:
    key = SigningKey(hashlib.sha256(name.encode()).digest())
    return LogKey(name=name, public=bytes(key.verify_key), _key=key)


WITNESSES = {name: signer(f"{name.lower()}.example") for name in ("X1", "X2", "X3", "Y1", "Y2", "Y3")}


def vkey(name: str) -> str:
    key = WITNESSES[name]
    return str(CosignerKey(name=key.name, public=key.public))


@pytest.fixture
def note(forge) -> str:
    return forge.begin().checkpoint().sign(forge.key)


@pytest.fixture
def policy(forge) -> str:
    """The example of c2sp.org/tlog-policy with keys filled in."""
    lines = [f"log {forge.key.vkey}", "", "# organisation X"]
    lines += [f"witness {name} {vkey(name)}" for name in ("X1", "X2", "X3")]
    lines += ["group X-witnesses 2 X1 X2 X3", ""]
    lines += [f"\twitness  {name}\t{vkey(name)} https://{name}.example/  " for name in ("Y1", "Y2", "Y3")]
    lines += ["group Y-witnesses any Y1 Y2 Y3", "", "group X-and-Y all X-witnesses Y-witnesses"]
    return "\n".join([*lines, "quorum X-and-Y"]) + "\n"


def signed(note: str, *names: str, time: int = 1_700_000_000) -> str:
    for place, name in enumerate(names):
        note = cosign(note, WITNESSES[name], time + place)
    return note


@pytest.mark.spec("L-47")
def test_a_cosignature_signs_exactly_the_bytes_of_the_specification(note: str) -> None:
    key = WITNESSES["X1"]
    whole = cosign(note, key, 1679315147)
    assert whole.startswith(note)
    line = whole[len(note) :]
    assert line.startswith(f"\N{EM DASH} {key.name} ") and line.endswith("\n")
    data = base64.b64decode(line.split(" ")[2])
    text = note[: note.rindex("\n\n") + 1]
    assert data[:4] == hashlib.sha256(key.name.encode() + b"\n\x04" + key.public).digest()[:4]
    assert data[4:12] == (1679315147).to_bytes(8, "big")
    SigningKey(hashlib.sha256(b"x1.example").digest()).verify_key.verify(
        b"cosignature/v1\ntime 1679315147\n" + text.encode(), data[12:]
    )
    found = cosignatures(parse_note(whole), [parse_cosigner(vkey("X1"))])
    assert [(each.key.name, each.time) for each in found] == [("x1.example", 1679315147)]


@pytest.mark.spec("L-47")
def test_the_example_of_the_specification_is_read_with_its_time() -> None:
    parsed = parse_note(EXAMPLE)
    log, witness = parsed.signatures
    assert len(log.signature) == 64 and len(witness.signature) == 72
    assert int.from_bytes(witness.signature[:8], "big") == 1679315147
    assert cosignatures(parsed, [parse_cosigner(vkey("X1"))]) == ()


@pytest.mark.spec("L-47")
def test_a_forged_cosignature_by_a_known_witness_condemns_the_note(note: str) -> None:
    known = [parse_cosigner(vkey("X1")), parse_cosigner(vkey("X2"))]
    good = signed(note, "X1")
    head, line = good[: len(note)], good[len(note) :]
    data = base64.b64decode(line.split(" ")[2])
    forged = {
        "another time": data[:4] + (1).to_bytes(8, "big") + data[12:],
        "a flipped bit": data[:-1] + bytes([data[-1] ^ 1]),
        "a time over 63 bits": data[:4] + b"\xff" * 8 + data[12:],
        "too short": data[:-1],
        "too long": data + b"\0",
        "no signature at all": data[:5],
    }
    for why, altered in forged.items():
        bad = f"{head}\N{EM DASH} x1.example {base64.b64encode(altered).decode()}\n"
        for whole in (bad, signed(bad, "X2")):
            with pytest.raises(LedgerError) as caught:
                cosignatures(parse_note(whole), known)
            assert caught.value.reason == "checkpoint", why
        assert cosignatures(parse_note(bad), known[1:]) == (), "an unknown key's line is ignored"
    moved = good.replace("\n2\n", "\n3\n")
    with pytest.raises(LedgerError):
        cosignatures(parse_note(moved), known)


def test_two_witnesses_that_no_signature_line_tells_apart_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hashed(name: str, kind: int, material: bytes) -> bytes:
        return hashlib.sha256(name.encode() + bytes([kind])).digest()[:4]

    for module in ("note", "cosignature"):
        monkeypatch.setattr(f"agentmesh_ledger.{module}.key_hash", hashed)
    keys = [str(CosignerKey(name="x.example", public=WITNESSES[name].public)) for name in ("X1", "X2")]
    with pytest.raises(LedgerError) as caught:
        parse_policy(f"witness X1 {keys[0]}\nwitness X2 {keys[1]}\nquorum none\n".encode())
    assert caught.value.reason == "policy" and caught.value.line == 2


@pytest.mark.spec("L-49")
def test_a_witness_that_signed_more_than_once_is_one_witness_with_its_newest_time(
    note: str, policy: str
) -> None:
    often = signed(note, "Y2", "X1", "X1", "X3")
    often = cosign(often, WITNESSES["X1"], 1_600_000_000)
    found = parse_policy(policy.encode()).judge(often + often[often.rindex("\n", 0, -1) + 1 :])
    times = [(each.witness, each.time - 1_700_000_000) for each in found.witnesses]
    assert times == [("Y2", 0), ("X1", 2), ("X3", 3)]


@pytest.mark.spec("L-47")
def test_signatures_of_other_types_are_unknown_and_ignored(note: str, policy: str) -> None:
    name, public = WITNESSES["X1"].name, WITNESSES["X1"].public
    kinds = {0x01: b"\1" * 64, 0x06: b"\1" * 2428, 0xFF: b"\1" * 9}
    odd = note
    for kind, signature in kinds.items():
        key_id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]
        odd += f"\N{EM DASH} {name} {base64.b64encode(key_id + signature).decode()}\n"
    found = parse_policy(policy.encode()).judge(signed(odd, "X1", "X3", "Y2"))
    assert [each.witness for each in found.witnesses] == ["X1", "X3", "Y2"]


def test_what_no_witness_would_sign_is_refused(note: str) -> None:
    for text, time in ((note, -1), (note, MAX_TIME + 1), ("hello\n\n\N{EM DASH} a AAAAAAAA\n", 1), ("", 1)):
        with pytest.raises(LedgerError):
            cosign(text, WITNESSES["X1"], time)
    full = note
    for place in range(63):
        full = cosign(full, WITNESSES["X1"], place)
    with pytest.raises(LedgerError, match="64 signatures"):
        cosign(full, WITNESSES["X1"], 64)


def test_vkeys_of_witnesses_and_logs_are_not_taken_for_one_another(forge) -> None:
    with pytest.raises(LedgerError):
        parse_cosigner(forge.key.vkey)
    with pytest.raises(LedgerError):
        parse_vkey(vkey("X1"))
    assert str(parse_cosigner(vkey("X1"))) == vkey("X1")
    small_order = write_vkey("w.example", 0x04, b"\1" + b"\0" * 31)
    with pytest.raises(LedgerError, match="small order"):
        parse_cosigner(small_order)
    for text in ("", "a+b", "a++", "w.example+00000000+", vkey("X1")[:-4], vkey("X1").replace("+", "+0", 1)):
        with pytest.raises(LedgerError):
            split_vkey(text)
    # The vkey of the signed-note specification.
    name, kind, material = split_vkey("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
    assert (name, kind, len(material)) == ("example.com/foo", 1, 32)


@pytest.mark.spec("L-48", "L-49")
def test_the_policy_of_the_specification_asks_for_two_x_and_one_y(note: str, policy: str, forge) -> None:
    read = parse_policy(policy.encode())
    assert [each.name for each in read.witnesses] == ["X1", "X2", "X3", "Y1", "Y2", "Y3"]
    for names in (("X1", "X2", "Y3"), ("X1", "X2", "X3", "Y1", "Y2", "Y3"), ("Y1", "X3", "X1")):
        found = read.judge(signed(note, *names))
        assert found.log_keys == (forge.key.vkey,) and found.quorum == "X-and-Y"
        assert [(each.witness, each.vkey) for each in found.witnesses] == [(n, vkey(n)) for n in names]
        assert [each.time for each in found.witnesses] == [1_700_000_000 + n for n in range(len(names))]
    for names in ((), ("X1", "X2", "X3"), ("Y1", "Y2", "Y3", "X1"), ("X1", "X1", "Y1")):
        with pytest.raises(LedgerError) as caught:
            read.judge(signed(note, *names))
        assert caught.value.reason == "policy" and caught.value.is_check


@pytest.mark.spec("L-49")
def test_the_log_of_the_policy_must_have_signed(note: str, policy: str, forge) -> None:
    whole = signed(note, "X1", "X2", "Y1")
    stranger = signer("other.example/log")
    other = policy.replace(forge.key.vkey, stranger.vkey)
    with pytest.raises(LedgerError) as caught:
        parse_policy(other.encode()).judge(whole)
    assert caught.value.reason == "policy"
    # A key of the log's own that has another name than the origin does not sign for it.
    renamed = VerifierKey(name="other.example/log", public=forge.key.public)
    with pytest.raises(LedgerError):
        parse_policy(policy.replace(forge.key.vkey, str(renamed)).encode()).judge(whole)
    unnamed = parse_policy("\n".join(policy.split("\n")[1:]).encode())
    with pytest.raises(LedgerError):
        unnamed.judge(whole)
    with pytest.raises(LedgerError) as caught:
        trusted_checkpoint(whole, (), unnamed)
    assert caught.value.reason == "log_key"
    trusted = trusted_checkpoint(whole, (parse_vkey(forge.key.vkey),), unnamed)
    assert trusted.policy is not None and len(trusted.policy.witnesses) == 3
    with pytest.raises(LedgerError):
        trusted_checkpoint(whole, (parse_vkey(stranger.vkey),), parse_policy(policy.encode()))


@pytest.mark.spec("L-49")
def test_a_bad_signature_of_the_log_is_not_mended_by_witnesses(note: str, policy: str) -> None:
    whole = signed(note, "X1", "X2", "Y1")
    start = whole.index("\N{EM DASH} ")
    line = whole[start : whole.index("\n", start)]
    data = bytearray(base64.b64decode(line.split(" ")[2]))
    data[9] ^= 1
    bad = whole.replace(line, " ".join([*line.split(" ")[:2], base64.b64encode(data).decode()]))
    with pytest.raises(LedgerError) as caught:
        parse_policy(policy.encode()).judge(bad)
    assert caught.value.reason == "checkpoint"


@pytest.mark.spec("L-49")
def test_quorum_none_asks_for_no_witness_and_a_witness_may_be_the_quorum(note: str, forge) -> None:
    head = f"log {forge.key.vkey}\nwitness X1 {vkey('X1')}\n"
    assert parse_policy(f"{head}quorum none\n".encode()).judge(note).witnesses == ()
    one = parse_policy(f"{head}quorum X1\n".encode())
    assert one.judge(signed(note, "X1")).quorum == "X1"
    with pytest.raises(LedgerError):
        one.judge(signed(note, "X2"))


@pytest.mark.spec("L-48")
def test_an_ml_dsa_witness_is_read_and_never_counts(note: str, forge) -> None:
    key = write_vkey("pq.example", 0x06, b"\7" * 1312)
    head = f"log {forge.key.vkey}\nwitness P {key}\nwitness X1 {vkey('X1')}\n"
    any_of = parse_policy(f"{head}group g any P X1\nquorum g\n".encode())
    assert [each.witness for each in any_of.judge(signed(note, "X1")).witnesses] == ["X1"]
    all_of = parse_policy(f"{head}group g all P X1\nquorum g\n".encode())
    with pytest.raises(LedgerError, match="ML-DSA-44"):
        all_of.judge(signed(note, "X1"))


@pytest.mark.spec("L-48")
@pytest.mark.parametrize(
    "line",
    [
        "log",
        "log {log} https://a b",
        "log {X1}",
        "log {log}",
        "witness X2",
        "witness X2 {log}",
        "witness X1 {X2}",
        "witness none {X2}",
        "witness X9 {X1}",
        "witness own {own}",
        "witness pq {short_pq}",
        "group g",
        "group g all",
        "group g 1",
        "group g 0 X1",
        "group g 2 X1",
        "group g 01 X1",
        "group g +1 X1",
        "group g \N{SUPERSCRIPT ONE} X1",
        "group g some X1",
        "group g any none",
        "group g any later",
        "group g any g",
        "group g any X1 X1",
        "group X1 any X1",
        "group none any X1",
        "group g any X1\ngroup h any X1",
        "quorum X1",
        "quorum later",
        "quorum",
        "quorum X1 X1",
        "LOG {log}",
        "threshold 1",
        "witness X2\u00a0{X2}",
        "witness\rX2 {X2}",
        "# a comment with a bell \a",
        "group g any X1 \x7f",
        "quorum X1 # no comment here",
    ],
)
def test_each_malformed_line_is_refused_with_its_number(forge, line: str) -> None:
    own = CosignerKey(name="own.example", public=forge.key.public)
    names = {
        "log": forge.key.vkey,
        "X1": vkey("X1"),
        "X2": vkey("X2"),
        "own": str(own),
        "short_pq": write_vkey("pq.example", 0x06, b"\7" * 1311),
    }
    good = f"log {forge.key.vkey}\nwitness X1 {vkey('X1')}\n"
    text = f"{good}{line.format(**names)}\nquorum none\n"
    with pytest.raises(LedgerError) as caught:
        parse_policy(text.encode())
    assert caught.value.reason == "policy"
    assert caught.value.line is not None and 3 <= caught.value.line <= 4


@pytest.mark.spec("L-48")
def test_a_policy_without_quorum_cut_off_or_too_long_is_refused(policy: str) -> None:
    for data in (b"", b"# nothing\n", policy[:-1].encode(), b"quorum none\n" + b"#" * 300_000 + b"\n"):
        with pytest.raises(LedgerError) as caught:
            parse_policy(data)
        assert caught.value.reason == "policy"
    assert parse_policy(b"quorum none\n").logs == ()


@pytest.mark.spec("L-48")
def test_where_logs_and_witnesses_are_asked_is_read_and_counts_for_nothing(
    note: str, policy: str, forge
) -> None:
    parsed = parse_policy(policy.encode())
    assert [each.url for each in parsed.witnesses if each.name == "Y2"] == ["https://Y2.example/"]
    assert [each.url for each in parsed.witnesses if each.name == "X1"] == [None]
    assert len(parsed.log_urls) == len(parsed.logs)
    (key,) = [each for each in policy.splitlines() if each.startswith("log ")][:1]
    anywhere = parse_policy(policy.replace(key, f"{key.split()[0]} {key.split()[1]} no-url-at-all").encode())
    assert anywhere.log_urls[0] == "no-url-at-all" and anywhere.logs == parsed.logs


@pytest.mark.spec("L-48")
def test_names_are_octets_and_large_policies_are_read() -> None:
    lines = [b"witness K " + vkey("X1").encode(), b"witness \xe2\x84\xaa " + vkey("X2").encode()]
    lines.append(b"witness \xff\xfe " + vkey("X3").encode() + b" https://\xff/")
    lines.append(b"group g 3 K \xe2\x84\xaa \xff\xfe\nquorum g")
    assert len(parse_policy(b"\n".join(lines) + b"\n").witnesses) == 3
    many = [f"witness w{n} {CosignerKey(name='w', public=signer(str(n)).public)}" for n in range(64)]
    many += [f"group g{n} any w{n}" for n in range(64)]
    many.append("group all 33 " + " ".join(f"g{n}" for n in range(64)))
    assert len(parse_policy("\n".join([*many, "quorum all", ""]).encode()).groups) == 65


@given(st.binary(max_size=300) | st.lists(st.sampled_from(
    [b"log", b"witness", b"group", b"quorum", b"none", b"any", b"1", b" ", b"\n", b"\t", b"X", b"\xff", b"#"]
), max_size=40).map(b"".join))  # fmt: skip
def test_only_ledger_errors_escape_a_policy_of_any_bytes(data: bytes) -> None:
    try:
        parse_policy(data)
    except LedgerError as error:
        assert error.reason == "policy"
