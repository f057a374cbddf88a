"""An agent's next key takes its turn: at every moment there is one key, old or new, and a crash is mended."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, LedgerError
from agentmesh_ledger.jcs import canonical, parse
from agentmesh_ledger.keyfile import Cost


def refusal(attempt: Callable[[], object]) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        attempt()
    return caught.value


@pytest.mark.spec("L-61", "L-67")
def test_the_next_key_is_found_again_and_takes_its_turn(keys: KeyStore) -> None:
    old = keys.agent("ada")
    new = keys.next_agent("ada")
    assert new.id != old.id and new.name == "ada"
    assert KeyStore(keys.directory).next_agent("ada", create=False) == new
    assert keys.agent("ada") == old and keys.retired("ada") == ()
    assert keys.names() == ("ada",)
    keys.promote("ada")
    keys.promote("ada")
    assert KeyStore(keys.directory).agent("ada") == new
    assert keys.retired("ada") == (old.id,) and keys.names() == ("ada",)
    agents = keys.directory / "agents"
    short = old.id.removeprefix("did:key:")[:12]
    assert sorted(path.name for path in agents.iterdir()) == ["ada.key", f"ada.{short}.retired"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in agents.iterdir())
    assert refusal(lambda: keys.next_agent("ada", create=False)).reason == "not_found"


@pytest.mark.spec("L-67")
def test_an_agent_that_rotates_often_keeps_all_its_keys(keys: KeyStore) -> None:
    had = []
    for _ in range(5):
        had.append(keys.agent("ada").id)
        keys.next_agent("ada")
        keys.promote("ada")
    assert keys.retired("ada") == tuple(sorted(had))
    assert keys.agent("ada").id not in had


@pytest.mark.spec("L-67")
def test_names_that_look_like_the_files_of_another_are_kept_apart(keys: KeyStore) -> None:
    old = keys.agent("ada")
    short = old.id.removeprefix("did:key:")[:12]
    names = ("ada", "ada.key", "ada.key.next", f"ada.{short}", f"ada.{short}.retired", "ada.next")
    first = {name: keys.agent(name).id for name in names}
    assert keys.names() == tuple(sorted(names))
    for name in names:
        keys.next_agent(name)
    assert keys.names() == tuple(sorted(names))
    for name in names:
        keys.promote(name)
    assert keys.names() == tuple(sorted(names))
    for name in names:
        assert keys.retired(name) == (first[name],)


@pytest.mark.spec("L-67")
def test_without_a_key_there_is_nothing_to_follow(keys: KeyStore) -> None:
    assert refusal(lambda: keys.next_agent("ada")).reason == "not_found"
    assert refusal(lambda: keys.promote("ada")).reason == "not_found"
    assert keys.retired("ada") == ()
    for attempt in (keys.next_agent, keys.promote, keys.retired):
        assert refusal(lambda attempt=attempt: attempt("../x")).reason == "refused"  # type: ignore[misc]
    assert not (keys.directory / "agents").exists()


@pytest.mark.spec("L-62", "L-67")
def test_what_is_no_key_of_the_agents_does_not_take_its_turn(keys: KeyStore, tmp_path: Path) -> None:
    old, ben = keys.agent("ada"), keys.agent("ben")
    agents = keys.directory / "agents"
    successor = agents / "ada.key.next"
    for data in (b"", b"x", (agents / "ben.key").read_bytes()):
        successor.write_bytes(data)
        successor.chmod(0o600)
        assert refusal(lambda: keys.promote("ada")).reason == "key"
        assert refusal(lambda: keys.next_agent("ada")).reason == "key"
    successor.unlink()
    successor.symlink_to(tmp_path / "nowhere")
    assert refusal(lambda: keys.promote("ada")).reason == "unreadable"
    successor.unlink()
    keys.next_agent("ada")
    successor.chmod(0o644)
    assert refusal(lambda: keys.promote("ada")).reason == "permissions"
    assert keys.agent("ada") == old and keys.agent("ben") == ben and keys.retired("ada") == ()


@pytest.mark.spec("L-67")
def test_another_file_under_the_retired_name_is_not_overwritten(keys: KeyStore) -> None:
    old = keys.agent("ada")
    keys.next_agent("ada")
    agents = keys.directory / "agents"
    retired = agents / f"ada.{old.id.removeprefix('did:key:')[:12]}.retired"
    (agents / "ada.key.next").rename(retired)
    stranger = retired.read_bytes()
    keys.next_agent("ada")
    error = refusal(lambda: keys.promote("ada"))
    assert error.reason == "refused" and error.path == str(retired)
    assert retired.read_bytes() == stranger and keys.agent("ada") == old


@pytest.mark.spec("L-67")
def test_a_sealed_key_takes_its_turn_without_the_passphrase(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys", lambda: b"word", cost=Cost(opslimit=1, memlimit=8192))
    old, new = store.agent("ada"), store.next_agent("ada")
    bare = KeyStore(tmp_path / "keys")
    bare.promote("ada")
    assert bare.retired("ada") == (old.id,)
    assert store.agent("ada") == new
    value = parse((store.directory / "agents" / "ada.key").read_bytes()[:-1])
    assert isinstance(value, dict) and value["format"] == "agentmesh-key/v2"


@pytest.mark.spec("L-62")
def test_a_damaged_retired_key_is_told(keys: KeyStore) -> None:
    old = keys.agent("ada")
    keys.next_agent("ada")
    keys.promote("ada")
    path = keys.directory / "agents" / f"ada.{old.id.removeprefix('did:key:')[:12]}.retired"
    path.write_bytes(canonical({"format": "agentmesh-key/v1"}) + b"\n")
    error = refusal(lambda: keys.retired("ada"))
    assert error.reason == "key" and error.path == str(path)


@pytest.mark.spec("L-67")
def test_processes_that_rotate_at_once_agree(keys: KeyStore) -> None:
    first = keys.agent("ada").id
    code = """
import sys
from pathlib import Path
from agentmesh_ledger import KeyStore
keys = KeyStore(Path(sys.argv[1]))
sys.stdin.readline()
for _ in range(10):
    keys.next_agent("ada")
    keys.promote("ada")
    keys.agent("ada", create=False)
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(keys.directory)], stdin=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in running:
        each.communicate(timeout=120)
    assert [each.returncode for each in running] == [0, 0]
    # Both may have found the same next key, so there are between 10 and 20 turns; none lost a key.
    retired = keys.retired("ada")
    assert 10 <= len(retired) <= 20 and first in retired and len(set(retired)) == len(retired)
    assert keys.agent("ada", create=False).id not in retired
