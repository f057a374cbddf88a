from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, LedgerError
from agentmesh_ledger.identity import is_signed, public_key
from agentmesh_ledger.jcs import canonical, parse
from agentmesh_ledger.keyfile import Owner, PlainKey, SealedKey
from agentmesh_ledger.keyfolder import KeyFolder


@pytest.mark.spec("L-60", "L-61")
def test_a_key_is_made_on_first_use_for_its_owner_alone(keys: KeyStore) -> None:
    ada = keys.agent("ada")
    path = keys.directory / "agents" / "ada.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(keys.directory.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]  # no draft of it is left
    assert KeyStore(keys.directory).agent("ada") == ada
    assert is_signed(public_key(ada.id), b"x", ada.sign(b"x"))


@pytest.mark.spec("L-60")
def test_the_file_is_one_canonical_object_that_names_its_key(keys: KeyStore) -> None:
    ada, log = keys.agent("ada"), keys.log("agentmesh.local/desk")
    data = (keys.directory / "agents" / "ada.key").read_bytes()
    fields = parse(data[:-1])
    assert isinstance(fields, dict) and data.endswith(b"\n")
    assert (fields["id"], fields["name"], fields["role"]) == (ada.id, "ada", "agent")
    fields = parse((keys.directory / "logs" / "agentmesh.local%2Fdesk.key").read_bytes()[:-1])
    assert isinstance(fields, dict) and fields["id"] == log.vkey
    assert keys.names() == ("ada",)
    assert keys.origins() == ("agentmesh.local/desk",)
    assert "seed" not in repr(ada) and str(fields["seed"]) not in repr(log)


@pytest.mark.spec("L-62")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_reach_is_refused_with_the_way_out(keys: KeyStore, mode: int) -> None:
    keys.agent("ada")
    path = keys.directory / "agents" / "ada.key"
    path.chmod(mode)
    with pytest.raises(LedgerError) as caught:
        keys.agent("ada")
    assert caught.value.reason == "permissions"
    assert "chmod 600" in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.spec("L-62")
def test_a_link_or_a_folder_in_place_of_a_key_is_refused(keys: KeyStore, tmp_path: Path) -> None:
    keys.agent("ada")
    path = keys.directory / "agents" / "ada.key"
    (keys.directory / "agents" / "ben.key").symlink_to(path)
    (keys.directory / "agents" / "cyd.key").mkdir()
    os.mkfifo(keys.directory / "agents" / "dan.key", 0o600)
    for name in ("ben", "cyd", "dan"):
        with pytest.raises(LedgerError) as caught:
            keys.agent(name)
        assert caught.value.reason in ("unreadable", "key", "permissions")


@pytest.mark.spec("L-62")
@pytest.mark.parametrize(
    "changes",
    [
        {"role": "log"},
        {"name": "ben"},
        {"seed": "QQ=="},
        {"id": "did:key:z6Mk"},
        {"format": "agentmesh-key/v2"},
        {"extra": 1},
        {"seed": 3},
    ],
)
def test_a_key_file_that_is_not_its_own_is_refused(keys: KeyStore, changes: dict[str, str]) -> None:
    keys.agent("ada")
    path = keys.directory / "agents" / "ada.key"
    fields = parse(path.read_bytes()[:-1])
    assert isinstance(fields, dict)
    path.write_bytes(canonical({**fields, **changes}) + b"\n")
    with pytest.raises(LedgerError) as caught:
        keys.agent("ada")
    assert caught.value.reason == "key" and caught.value.path == str(path)


@pytest.mark.spec("L-62")
@pytest.mark.parametrize("data", [b"", b"\n", b"not a key\n", b"\xff" * 40, b"x" * 10_000, b"[]\n"])
def test_a_damaged_key_file_is_refused_and_left_as_it_is(keys: KeyStore, data: bytes) -> None:
    keys.agent("ada")
    path = keys.directory / "agents" / "ada.key"
    path.write_bytes(data)
    with pytest.raises(LedgerError) as caught:
        keys.agent("ada")
    assert caught.value.reason == "key"
    assert path.read_bytes() == data


@pytest.mark.spec("L-61")
def test_a_key_that_is_not_there_is_not_made_when_it_must_not_be(keys: KeyStore) -> None:
    with pytest.raises(LedgerError) as caught:
        keys.agent("ada", create=False)
    assert caught.value.reason == "not_found"
    assert keys.names() == () and keys.origins() == ()


@pytest.mark.spec("L-63")
@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-a", "é", "x" * 65, "a\n", "a\0"])
def test_an_agent_name_cannot_leave_its_folder(keys: KeyStore, name: str) -> None:
    with pytest.raises(LedgerError) as caught:
        keys.agent(name)
    assert caught.value.reason == "refused"


def test_an_origin_out_of_shape_is_refused(keys: KeyStore) -> None:
    with pytest.raises(LedgerError) as caught:
        keys.log("a b")
    assert caught.value.reason == "refused"
    keys.log("../../up")
    assert (keys.directory / "logs" / "..%2F..%2Fup.key").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LedgerError) as caught:
        KeyStore(tmp_path / "keys").agent("ada")
    assert caught.value.reason == "failed"


def test_a_file_where_the_folder_should_be_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("")
    with pytest.raises(LedgerError) as caught:
        KeyStore(tmp_path / "keys").agent("ada")
    assert caught.value.reason in ("failed", "unreadable")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.spec("L-61")
def test_processes_that_ask_at_once_get_one_key(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from agentmesh_ledger import KeyStore; sys.stdin.readline(); print(KeyStore(Path(sys.argv[1])).agent('ada').id)"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "keys")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    answers = {each.communicate(timeout=60)[0] for each in running}
    assert len(answers) == 1 and answers.pop().startswith("did:key:z6Mk")


def test_a_strangers_file_among_the_keys_is_not_listed(keys: KeyStore) -> None:
    keys.agent("ada")
    keys.log("example.org/desk")
    for name in ("we ird.key", ".key", "-x.key", "a%20b.key", "\u202e.key"):
        (keys.directory / "agents" / name).write_bytes(b"")
    for name in ("bad%ff.key", "a b.key", "example.org%2fdesk.key", "a%2Bb.key"):
        (keys.directory / "logs" / name).write_bytes(b"")
    assert keys.names() == ("ada",)
    assert keys.origins() == ("example.org/desk",)


def test_a_key_is_read_once_until_its_file_changes(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keys.agent("planner")
    assert keys.agent("planner") == first
    read: list[str] = []
    parsed = KeyFolder.parsed

    def counted(folder: KeyFolder, owner: Owner) -> PlainKey | SealedKey:
        read.append(owner.name)
        return parsed(folder, owner)

    monkeypatch.setattr(KeyFolder, "parsed", counted)
    assert keys.agent("planner") is keys.agent("planner")
    assert read == []
    keys.next_agent("planner")
    keys.promote("planner")
    assert keys.agent("planner").id != first.id
    path = keys.directory / "agents" / "planner.key"
    path.chmod(0o640)
    with pytest.raises(LedgerError) as caught:
        keys.agent("planner")
    assert caught.value.reason == "permissions"
    path.unlink()
    with pytest.raises(LedgerError) as caught:
        keys.agent("planner", create=False)
    assert caught.value.reason == "not_found"
