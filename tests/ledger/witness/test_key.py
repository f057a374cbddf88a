"""A witness's key and the list of the logs it trusts, as files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore
from agentmesh_ledger.cosignature import parse_cosigner
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import parse
from agentmesh_ledger.keyfile import Cost
from agentmesh_ledger.witness.folder import WitnessFolder
from agentmesh_ledger.witness.key import memory_path, witness_key, witness_names
from agentmesh_ledger.witness.trusted import TrustedLogs, read_logs, trust_logs

CHEAP = Cost(opslimit=1, memlimit=8192)


@pytest.mark.spec("L-130")
def test_the_key_file_is_that_of_a_witness_and_its_id_a_vkey_of_cosignatures(tmp_path: Path) -> None:
    key = witness_key(tmp_path, "example.org/w1")
    path = tmp_path / "witnesses" / "example.org%2Fw1.key"
    fields = parse(path.read_bytes()[:-1])
    assert isinstance(fields, dict)
    assert (fields["role"], fields["name"], fields["id"]) == ("witness", "example.org/w1", key.vkey)
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert parse_cosigner(key.vkey) == key.id
    assert witness_key(tmp_path, "example.org/w1").public == key.public
    assert witness_names(tmp_path) == ("example.org/w1",)
    assert str(fields["seed"]) not in repr(key)


@pytest.mark.spec("L-130")
@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "x" * 201, "\N{SNOWMAN}"])
def test_a_name_that_could_not_stand_in_a_note_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LedgerError) as error:
        witness_key(tmp_path, name)
    assert error.value.reason == "refused" and not list(tmp_path.iterdir())


@pytest.mark.spec("L-130")
def test_a_key_of_another_role_or_name_is_no_witnesss_key(tmp_path: Path) -> None:
    witness_key(tmp_path, "example.org/w1")
    KeyStore(tmp_path).log("example.org/log")
    folder = tmp_path / "witnesses"
    (folder / "example.org%2Fw2.key").write_bytes((folder / "example.org%2Fw1.key").read_bytes())
    (folder / "example.org%2Flog.key").write_bytes((tmp_path / "logs" / "example.org%2Flog.key").read_bytes())
    for name in ("example.org/w2", "example.org/log"):
        (folder / f"{name.replace('/', '%2F')}.key").chmod(0o600)
        memory_path(tmp_path, name).write_bytes(b"")
        with pytest.raises(LedgerError) as error:
            witness_key(tmp_path, name)
        assert error.value.reason == "key"


@pytest.mark.spec("L-130")
def test_a_witnesss_key_is_sealed_and_opened_with_the_others_of_the_store(tmp_path: Path) -> None:
    public = witness_key(tmp_path, "example.org/w1").public
    store = KeyStore(tmp_path, lambda: b"secret", cost=CHEAP)
    assert store.seal() == 1
    with pytest.raises(LedgerError) as error:
        witness_key(tmp_path, "example.org/w1")
    assert error.value.reason == "key"
    assert witness_key(tmp_path, "example.org/w1", lambda: b"secret").public == public
    assert store.unseal() == 1
    assert witness_key(tmp_path, "example.org/w1").public == public


@pytest.mark.spec("L-135")
def test_the_memory_is_made_before_the_key_and_no_crash_leaves_a_key_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmesh_ledger.witness import key as module

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.KeyFolder, "key", crash)
        with pytest.raises(KeyboardInterrupt):
            witness_key(tmp_path, "example.org/w1")
    assert memory_path(tmp_path, "example.org/w1").exists() and not witness_names(tmp_path)
    assert witness_key(tmp_path, "example.org/w1").name == "example.org/w1"


def test_threads_that_ask_for_a_new_key_at_once_get_the_same(tmp_path: Path) -> None:
    start, found = threading.Barrier(8), []

    def ask() -> None:
        start.wait()
        found.append(witness_key(tmp_path, "example.org/w1").public)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_a_key_that_may_not_be_made_is_not(tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as error:
        witness_key(tmp_path, "example.org/w1", create=False)
    assert error.value.reason == "not_found" and not list(tmp_path.iterdir())


def test_a_folder_names_its_witness_and_holds_but_one(tmp_path: Path) -> None:
    place = WitnessFolder.at(tmp_path / "w1")
    assert place.name(None) == "agentmesh.local/w1"
    assert place.name("example.org/w9") == "example.org/w9"
    key = place.key("example.org/w9")
    assert place.key().public == key.public and place.name(None) == "example.org/w9"
    with pytest.raises(LedgerError) as error:
        place.key("example.org/other")
    assert error.value.reason == "refused" and "example.org/w9" in error.value.message
    with pytest.raises(LedgerError) as error:
        WitnessFolder.at(tmp_path / "with space").key()
    assert error.value.reason == "refused"
    assert WitnessFolder.at(tmp_path / "w1", tmp_path / "elsewhere").keys == tmp_path / "elsewhere"


def test_logs_are_trusted_once_each_and_what_stands_there_stays(tmp_path: Path, log, other) -> None:
    path = tmp_path / "w1" / "logs"
    assert trust_logs(path, [log.vkey, other.vkey, log.vkey]) == 2
    path.write_text(f"# ours\n{log.vkey}\n\n")
    second = type(log)(name=log.name)
    assert trust_logs(path, [log.vkey, second.vkey]) == 1
    assert path.read_text() == f"# ours\n{log.vkey}\n\n{second.vkey}\n"
    found = read_logs(path)
    assert [str(each) for each in found[log.name]] == [log.vkey, second.vkey] and other.name not in found
    assert read_logs(tmp_path / "none") == {}


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e", "\r"])
def test_what_stands_in_a_comment_is_not_trusted(tmp_path: Path, log, other, separator: str) -> None:
    path = tmp_path / "logs"
    text = f"# the desk's, not{separator}{other.vkey}\r\n\n{log.vkey}\r\n"
    path.write_bytes(text.encode())
    assert list(read_logs(path)) == [log.name]
    assert trust_logs(path, [log.vkey]) == 0 and trust_logs(path, [other.vkey]) == 1
    assert path.read_bytes() == f"{text}{other.vkey}\n".encode()


@pytest.mark.parametrize("line", ["x", "a+b+c", "\x1b[31m", "example.org/log+00000000+AAAA"])
def test_a_list_with_a_line_that_is_no_key_is_refused_with_its_number(tmp_path: Path, log, line: str) -> None:
    path = tmp_path / "logs"
    path.write_text(f"{log.vkey}\n{line}\n")
    with pytest.raises(LedgerError) as error:
        read_logs(path)
    assert (error.value.reason, error.value.line) == ("unreadable", 2) and "\x1b" not in str(error.value)
    with pytest.raises(LedgerError):
        trust_logs(path, [log.vkey])
    with pytest.raises(LedgerError):
        trust_logs(tmp_path / "new", [log.vkey, line])
    assert not (tmp_path / "new").exists()


def test_a_witnesss_own_vkey_is_not_a_logs(tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as error:
        trust_logs(tmp_path / "logs", [witness_key(tmp_path, "example.org/w1").vkey])
    assert error.value.reason == "log_key"


def test_a_list_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with pytest.raises(LedgerError) as error:
        read_logs(tmp_path / "logs")
    assert error.value.reason == "key"
    (tmp_path / "bytes").write_bytes(b"\xff\n")
    with pytest.raises(LedgerError) as error:
        read_logs(tmp_path / "bytes")
    assert error.value.reason == "unreadable"


def test_a_change_of_the_list_is_seen_and_a_broken_one_changes_nothing(tmp_path: Path, log, other) -> None:
    path, now, said = tmp_path / "logs", [0.0], []
    trust_logs(path, [log.vkey])
    trusted = TrustedLogs(path, told=said.append, clock=lambda: now[0])
    assert trusted.keys(log.name) and not trusted.keys(other.name)
    trust_logs(path, [other.vkey])
    assert not trusted.keys(other.name)  # not looked at again yet
    now[0] += 2
    assert trusted.keys(other.name) and trusted.origins() == tuple(sorted([log.name, other.name]))
    path.write_text("broken\n")
    for _ in range(3):
        now[0] += 2
        assert trusted.keys(other.name)
    assert len(said) == 1 and "stays as it was" in said[0]
    path.write_text(f"{other.vkey}\n")
    now[0] += 2
    assert not trusted.keys(log.name)
    os.unlink(path)
    now[0] += 2
    assert trusted.origins() == ()
