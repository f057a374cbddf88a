from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from agentmesh_ledger import LedgerError
from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.keys import LogKey
from agentmesh_ledger.note import VerifierKey, parse_note, parse_vkey, sign_note

# The examples of C2SP's signed-note.md and of Go's golang.org/x/mod/sumdb/note documentation.
C2SP_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_NOTE = (
    "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Z"
    "tg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def key(name: str, seed: int = 7) -> LogKey:
    secret = SigningKey(bytes([seed]) * 32)
    return LogKey(name=name, public=bytes(secret.verify_key), _key=secret)


HEAD = Checkpoint(origin="agentmesh.local/desk", size=7, root=b"\x2a" * 32)


@pytest.mark.spec("L-40", "L-41")
@pytest.mark.parametrize(("vkey", "note"), [(C2SP_VKEY, C2SP_NOTE), (GO_VKEY, GO_NOTE)])
def test_published_notes_verify_under_their_published_keys(vkey: str, note: str) -> None:
    parsed = parse_vkey(vkey)
    assert str(parsed) == vkey
    assert parse_note(note).verified_by([parsed]) == (parsed,)


@pytest.mark.spec("L-41")
@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "a b" + C2SP_VKEY[15:],
        C2SP_VKEY.replace("530d903a", "530D903A"),
        C2SP_VKEY.replace("530d903a", "530d903b"),
        C2SP_VKEY.replace("+Aek", "+Bek"),
        C2SP_VKEY[:-1],
        C2SP_VKEY + "=",
        "+" + C2SP_VKEY,
        "x" * 600 + C2SP_VKEY,
        str(VerifierKey(name="a", public=b"\0" * 32)),
    ],
)
def test_a_vkey_that_is_not_exactly_its_own_is_refused(vkey: str) -> None:
    with pytest.raises(LedgerError) as caught:
        parse_vkey(vkey)
    assert caught.value.reason == "log_key"


@pytest.mark.spec("L-40")
@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        C2SP_NOTE[:-1],
        C2SP_NOTE + "\n",
        C2SP_NOTE.replace("\n\n", "\n"),
        C2SP_NOTE.replace("— ", "- "),
        C2SP_NOTE.replace("— example", "—  example"),
        C2SP_NOTE.replace("\n\n", "\n\n\x0b"),
        C2SP_NOTE.replace("message", "mess\tage"),
        C2SP_NOTE.replace("message.\n", "message.\r\n"),
        C2SP_NOTE.replace("=\n", "\n"),
        C2SP_NOTE.replace("Uw2Q", "Uw2Q\u00a0"),
        "t\n\n— a AAAA\n",
        "t\n\n" + "— a AAAAAAAA\n" * 65,
        "t" * 70_000 + C2SP_NOTE,
        "\ud800" + C2SP_NOTE,
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    with pytest.raises(LedgerError) as caught:
        parse_note(note)
    assert caught.value.reason == "checkpoint"


@pytest.mark.spec("L-40")
def test_the_last_empty_line_divides_and_sixty_four_signatures_are_read() -> None:
    signer = key("a.example")
    note = sign_note("one\n\ntwo\n", signer)
    assert parse_note(note).text == "one\n\ntwo\n"
    many = note + "— other.example AAAAAAAA\n" * 63
    assert parse_note(many).verified_by([parse_vkey(signer.vkey)])


@pytest.mark.spec("L-42")
def test_unknown_signatures_are_ignored_and_a_false_known_one_condemns() -> None:
    ours, theirs = key("agentmesh.local/desk"), key("witness.example", 8)
    note = HEAD.sign(ours)
    line = sign_note(HEAD.text, theirs).split("\n\n")[1]
    known = [parse_vkey(ours.vkey), parse_vkey(theirs.vkey)]
    assert open_checkpoint(note + line, known[:1]).checkpoint == HEAD
    assert open_checkpoint(note + line, known).keys == (known[0],)  # a witness is no log key
    false = note + sign_note("something else\n", theirs).split("\n\n")[1]
    assert open_checkpoint(false, known[:1]).checkpoint == HEAD
    with pytest.raises(LedgerError) as caught:
        open_checkpoint(false, known)
    assert caught.value.reason == "checkpoint"
    with pytest.raises(LedgerError) as caught:
        open_checkpoint(note, known[1:])
    assert caught.value.reason == "log_key"


@pytest.mark.spec("L-42")
def test_a_signature_line_with_our_name_and_another_key_id_counts_for_nothing() -> None:
    ours, impostor = key("agentmesh.local/desk"), key("agentmesh.local/desk", 9)
    with pytest.raises(LedgerError) as caught:
        open_checkpoint(HEAD.sign(impostor), [parse_vkey(ours.vkey)])
    assert caught.value.reason == "log_key"


@pytest.mark.spec("L-44")
def test_a_log_key_of_another_origin_cannot_sign_for_this_one() -> None:
    other = key("agentmesh.local/other")
    with pytest.raises(LedgerError) as caught:
        open_checkpoint(HEAD.sign(other), [parse_vkey(other.vkey)])
    assert caught.value.reason == "log_key"


@pytest.mark.spec("L-43")
@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "o\n1\n" + encode64(b"r" * 32),
        f"o\n1\n{encode64(b'r' * 32)}\nextension\n",
        f"o\n1\n{encode64(b'r' * 32)}\n\n",
        f"o\n1\n{encode64(b'r' * 31)}\n",
        f"\n1\n{encode64(b'r' * 32)}\n",
        f"o o\n1\n{encode64(b'r' * 32)}\n",
        *(
            f"o\n{size}\n{encode64(b'r' * 32)}\n"
            for size in ("", "01", "+1", " 1", "1 ", "-1", "1_0", "1.0", "٣", "9007199254740992", "9" * 400)
        ),
    ],
)
def test_a_checkpoint_has_one_spelling(text: str) -> None:
    with pytest.raises(LedgerError) as caught:
        parse_checkpoint(text)
    assert caught.value.reason == "checkpoint"


@pytest.mark.spec("L-43")
@given(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_a_checkpoint_reads_back(size: int, root: bytes) -> None:
    head = Checkpoint(origin="a/b", size=size, root=root)
    assert parse_checkpoint(head.text) == head


@given(st.text(max_size=300))
def test_only_ledger_errors_escape_the_note_parsers(text: str) -> None:
    for note in (text, f"{text}\n\n— {text} {text}\n", C2SP_NOTE.replace("example", text)):
        for parse in (parse_note, parse_vkey, parse_checkpoint):
            try:
                parse(note)
            except LedgerError:
                pass
