"""Keys under a passphrase: only it opens them, a slip seals nothing, and no crash leaves a store without a key."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.pwhash import argon2id
from nacl.secret import SecretBox

from agentmesh_ledger import KeyStore, LedgerError
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.encoding import decode64, encode64
from agentmesh_ledger.jcs import JsonValue, canonical, parse
from agentmesh_ledger.keyfile import Cost, Owner, parse_key

CHEAP = Cost(opslimit=1, memlimit=8192)
ORIGIN = "agentmesh.local/desk"
WORD = b"correct horse"


def sealed_store(folder: Path, word: bytes = WORD) -> KeyStore:
    return KeyStore(folder / "keys", lambda: word, cost=CHEAP)


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return sealed_store(tmp_path)


def fields(path: Path) -> dict[str, JsonValue]:
    value = parse(path.read_bytes()[:-1])
    assert isinstance(value, dict)
    return value


def redo(path: Path, **changes: JsonValue) -> None:
    """Changes fields of a sealed file and makes its digest true again, as an attacker would."""
    import hashlib

    value = {**fields(path), **changes}
    del value["digest"]
    path.write_bytes(canonical({**value, "digest": hashlib.sha256(canonical(value)).hexdigest()}) + b"\n")


def refusal(attempt: Callable[[], object]) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        attempt()
    return caught.value


@pytest.mark.spec("L-61", "L-64")
def test_a_new_key_is_sealed_where_there_is_a_passphrase(store: KeyStore, tmp_path: Path) -> None:
    ada, log = store.agent("ada"), store.log(ORIGIN)
    for path in (
        store.directory / "agents" / "ada.key",
        store.directory / "logs" / "agentmesh.local%2Fdesk.key",
    ):
        assert fields(path)["format"] == "agentmesh-key/v2"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert b"seed" not in path.read_bytes()
    again = sealed_store(tmp_path)
    assert again.agent("ada") == ada and again.log(ORIGIN) == log
    assert again.agent("ada").sign(b"x") == ada.sign(b"x")
    assert store.names() == ("ada",) and store.origins() == (ORIGIN,)
    assert fields(store.directory / "agents" / "ada.key")["id"] == ada.id


def test_public_halves_need_no_passphrase_and_make_no_key(store: KeyStore) -> None:
    assert not store.sealed()
    ada, log = store.agent("ada"), store.log("example.org/desk")
    closed = KeyStore(store.directory)
    assert closed.sealed()
    assert (closed.agent_id("ada"), closed.vkey("example.org/desk")) == (ada.id, log.vkey)
    for ask in (lambda: closed.agent_id("ben"), lambda: closed.vkey("example.org/yard")):
        with pytest.raises(LedgerError) as caught:
            ask()
        assert caught.value.reason == "not_found"
    assert (closed.names(), closed.origins()) == (("ada",), ("example.org/desk",))


@pytest.mark.spec("L-64")
def test_the_box_opens_with_libsodium_alone_and_holds_the_plain_file(store: KeyStore) -> None:
    ada = store.agent("ada")
    path = store.directory / "agents" / "ada.key"
    value = fields(path)
    secret = argon2id.kdf(32, WORD, decode64(str(value["salt"]), "key", ""), opslimit=1, memlimit=8192)  # type: ignore[arg-type]  # the check is for verifiers
    plain = SecretBox(secret).decrypt(decode64(str(value["box"]), "key", ""))  # type: ignore[arg-type]
    store.unseal()
    assert path.read_bytes() == plain
    assert KeyStore(store.directory).agent("ada") == ada


@pytest.mark.spec("L-64")
def test_without_a_passphrase_a_sealed_key_is_an_error_with_the_way_out(store: KeyStore) -> None:
    store.agent("ada")
    bare = KeyStore(store.directory)
    for attempt in (lambda: bare.agent("ada"), bare.seal, bare.unseal):
        error = refusal(attempt)
        assert error.reason == "key" and "AGENTMESH_PASSPHRASE" in str(error)


@pytest.mark.spec("L-64")
def test_a_wrong_passphrase_and_a_damaged_file_are_told_apart(store: KeyStore, tmp_path: Path) -> None:
    store.agent("ada")
    path = store.directory / "agents" / "ada.key"
    error = refusal(lambda: sealed_store(tmp_path, b"wrong").agent("ada"))
    assert error.reason == "key" and "does not open" in error.message and error.hint
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        error = refusal(lambda: sealed_store(tmp_path).agent("ada"))
        assert error.reason == "key" and "damaged" in error.message, place
        assert error.path == str(path)


@pytest.mark.spec("L-64")
def test_a_wrong_passphrase_is_asked_for_again(store: KeyStore, tmp_path: Path) -> None:
    ada = store.agent("ada")
    answers = iter([b"wrong", WORD])
    other = KeyStore(store.directory, lambda: next(answers), cost=CHEAP)
    assert refusal(lambda: other.agent("ada")).reason == "key"
    assert other.agent("ada") == ada
    assert refusal(lambda: KeyStore(store.directory, lambda: b"").agent("ada")).reason == "key"


@pytest.mark.spec("L-65")
@pytest.mark.parametrize(
    "changes",
    [
        {"memlimit": 2**30 + 1},
        {"memlimit": 2**53 - 1},
        {"memlimit": 8191},
        {"memlimit": -1},
        {"memlimit": True},
        {"memlimit": "8192"},
        {"memlimit": 1.5},
        {"opslimit": 0},
        {"opslimit": 9},
        {"opslimit": None},
        {"salt": "QQ=="},
        {"salt": 1},
        {"box": "!"},
        {"id": "did:key:z6Mk"},
        {"id": 7},
        {"role": "log"},
        {"name": "ben"},
        {"seed": "QQ=="},
        {"format": "agentmesh-key/v1"},
    ],
)
def test_a_hostile_file_is_refused_before_anything_is_derived(
    store: KeyStore, changes: dict[str, JsonValue], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.agent("ada")
    redo(store.directory / "agents" / "ada.key", **changes)
    derived: list[object] = []
    monkeypatch.setattr(argon2id, "kdf", lambda *args, **_: derived.append(args))
    fresh = KeyStore(store.directory, lambda: WORD, cost=CHEAP)
    error = refusal(lambda: fresh.agent("ada"))
    assert error.reason == "key" and "damaged" in error.message and derived == []


@pytest.mark.spec("L-65")
def test_a_box_with_another_key_is_refused(store: KeyStore) -> None:
    ada, ben = store.agent("ada"), store.agent("ben")
    store.log("a")
    store.log("b")
    agents = store.directory / "agents"
    redo(agents / "ada.key", id=ben.id)
    assert "id is not that" in refusal(lambda: store.agent("ada")).message
    redo(agents / "ada.key", id=ada.id, box=fields(agents / "ben.key")["box"])
    assert "damaged" in refusal(lambda: store.agent("ada")).message
    for box in (b"", b"x" * 39, b"x" * 400):
        redo(agents / "ada.key", box=encode64(box))
        assert "altered" in refusal(lambda: store.agent("ada")).message
    # The vkey outside must be that of the origin.
    redo(store.directory / "logs" / "a.key", id=fields(store.directory / "logs" / "b.key")["id"])
    assert refusal(lambda: store.log("a")).reason == "key"


@pytest.mark.spec("L-65")
@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_too_little_memory_for_the_passphrase_is_a_fault(
    store: KeyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    import nacl.exceptions

    store.agent("ada")

    def fail(*_: object, **__: object) -> bytes:
        raise nacl.exceptions.RuntimeError() if error is RuntimeError else error()

    monkeypatch.setattr(argon2id, "kdf", fail)
    assert refusal(lambda: sealed_store(tmp_path).agent("ada")).reason == "failed"


@pytest.mark.spec("L-64")
def test_a_hundred_keys_cost_one_derivation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    kdf = argon2id.kdf
    monkeypatch.setattr(argon2id, "kdf", lambda *args, **more: made.append(1) or kdf(*args, **more))
    asked: list[object] = []
    store = KeyStore(tmp_path / "keys", lambda: asked.append(1) or WORD, cost=CHEAP)
    for number in range(100):
        store.agent(f"a{number}")
    again = KeyStore(tmp_path / "keys", lambda: asked.append(1) or WORD, cost=CHEAP)
    threads = [threading.Thread(target=again.agent, args=(f"a{number}",)) for number in range(100)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(again.names()) == 100
    again.agent("new")
    assert len(made) == len(asked) == 2


@pytest.mark.spec("L-66")
def test_a_slip_of_the_finger_seals_nothing(store: KeyStore, tmp_path: Path) -> None:
    store.agent("ada")
    KeyStore(store.directory).agent("ben")
    slip = sealed_store(tmp_path, b"correct hrose")
    for attempt in (lambda: slip.agent("cyd"), slip.seal, slip.unseal, lambda: slip.next_agent("ben")):
        assert "does not open" in refusal(attempt).message
    assert store.names() == ("ada", "ben")
    assert fields(store.directory / "agents" / "ben.key")["format"] == "agentmesh-key/v1"


@pytest.mark.spec("L-66")
def test_a_new_key_is_never_sealed_more_cheaply_than_asked(store: KeyStore) -> None:
    store.agent("ada")
    dear = Cost(opslimit=2, memlimit=16384)
    KeyStore(store.directory, lambda: WORD, cost=dear).agent("ben")
    ada, ben = (fields(store.directory / "agents" / f"{name}.key") for name in ("ada", "ben"))
    assert (ada["opslimit"], ben["opslimit"], ben["memlimit"]) == (1, 2, 16384)
    assert ada["salt"] != ben["salt"]
    store.agent("ada"), store.agent("ben")


@pytest.mark.spec("L-61", "L-66")
def test_a_store_is_sealed_and_unsealed_whole(tmp_path: Path) -> None:
    plain = KeyStore(tmp_path / "keys")
    ada, log = plain.agent("ada"), plain.log(ORIGIN)
    plain.next_agent("ada")
    plain.promote("ada")
    plain.next_agent("ada")
    (plain.directory / "agents" / "we ird.key").write_bytes(b"not ours")
    before = {path: path.read_bytes() for path in plain.directory.glob("*/*.*")}
    assert len(before) == 5
    store = sealed_store(tmp_path)
    assert (store.seal(), store.seal()) == (4, 0)
    for path, data in before.items():
        if path.name == "we ird.key":
            assert path.read_bytes() == data
            continue
        assert fields(path)["format"] == "agentmesh-key/v2" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert store.retired("ada") == (ada.id,) == plain.retired("ada")
    assert sealed_store(tmp_path).log(ORIGIN) == log
    note = Checkpoint(origin=ORIGIN, size=1, root=b"r" * 32).sign(log)
    plain.last_checkpoint(ORIGIN).replace(note)
    assert plain.last_checkpoint(ORIGIN).read() == note  # which needs no passphrase
    (plain.directory / "logs" / "agentmesh.local%2Fdesk.checkpoint").unlink()
    assert (sealed_store(tmp_path).unseal(), store.unseal()) == (4, 0)
    assert {path: path.read_bytes() for path in plain.directory.glob("*/*.*")} == before


@pytest.mark.spec("L-66")
def test_one_damaged_file_and_nothing_is_changed(tmp_path: Path) -> None:
    plain = KeyStore(tmp_path / "keys")
    plain.agent("ada")
    plain.agent("ben")
    ben = plain.directory / "agents" / "ben.key"
    ben.write_bytes(ben.read_bytes()[:-2])
    error = refusal(sealed_store(tmp_path).seal)
    assert error.reason == "key" and error.path == str(ben)
    assert fields(plain.directory / "agents" / "ada.key")["format"] == "agentmesh-key/v1"


@pytest.mark.spec("L-66")
def test_a_draft_that_a_crash_left_does_not_keep_the_plain_key(tmp_path: Path) -> None:
    plain = KeyStore(tmp_path / "keys")
    plain.agent("ada")
    agents = plain.directory / "agents"
    # As after a kill between link and unlink, when the key was made.
    os.link(agents / "ada.key", agents / f".{'ab' * 8}.new")
    seed = str(fields(agents / "ada.key")["seed"]).encode()
    sealed_store(tmp_path).seal()
    assert [path.name for path in agents.iterdir()] == ["ada.key"]
    assert not any(seed in path.read_bytes() for path in plain.directory.rglob("*") if path.is_file())


@pytest.mark.spec("L-66")
def test_processes_that_seal_unseal_and_read_lose_no_key(tmp_path: Path) -> None:
    plain = KeyStore(tmp_path / "keys")
    ids = {name: plain.agent(name).id for name in ("ada", "ben", "cyd")}
    code = """
import sys
from pathlib import Path
from agentmesh_ledger import KeyStore
from agentmesh_ledger.keyfile import Cost
sys.stdin.readline()
for turn in range(15):
    store = KeyStore(Path(sys.argv[1]), lambda: b"correct horse", cost=Cost(opslimit=1, memlimit=8192))
    store.seal() if sys.argv[2] == "seal" else store.unseal()
    print(*(store.agent(name, create=False).id for name in ("ada", "ben", "cyd")), store.agent(f"new{turn}").id)
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(plain.directory), way],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for way in ("seal", "unseal")
    ]
    for each in running:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    lines = [each.communicate(timeout=120)[0].splitlines() for each in running]
    assert [len(each) for each in lines] == [15, 15]
    assert lines[0] == lines[1]
    assert all(line.split()[:3] == list(ids.values()) for line in lines[0])


@pytest.mark.spec("L-62", "L-64", "L-65")
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_whatever_the_bytes_reading_a_key_ends_in_a_key_or_a_ledger_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "keys" / "agents" / "ada.key"
    owner = Owner(role="agent", name="ada", path=path)
    if not path.exists():
        sealed_store(tmp_path).agent("ada")
    values = st.one_of(st.none(), st.integers(), st.text(max_size=8), st.binary(max_size=60).map(encode64))
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(fields(path))), values, max_size=4))
    raw = canonical({**fields(path), **{k: v for k, v in changes.items() if not isinstance(v, int)}}) + b"\n"
    bad = data.draw(st.one_of(st.binary(max_size=200), st.just(raw)))
    if bad != path.read_bytes():
        error = refusal(lambda: parse_key(bad, owner))
        assert error.reason == "key"
