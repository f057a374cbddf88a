"""Formats that are read from files: whatever the bytes, the end is a value or a LedgerError.

The other formats have such a test beside their own tests: transcript, entry and message, note and vkey, tlog-proof,
policy, bundle, sealed key, the remembered checkpoint.
"""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

from agentmesh_ledger import Draft, JsonValue, KeyStore, Ledger, LedgerError, verify_ledger
from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from agentmesh_ledger.checks import LogChecks
from agentmesh_ledger.cosignature import cosignatures, parse_cosigner
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.kept import Kept, kept_note, read_kept, write_kept
from agentmesh_ledger.keyfile import Owner, PlainKey, encode_plain, parse_key
from agentmesh_ledger.note import parse_note, parse_vkey
from agentmesh_ledger.resume import _digest, parse_standing

many = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
junk: st.SearchStrategy[JsonValue] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 2**53 - 1), st.floats(0, 9), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def mixed(good: bytes) -> st.SearchStrategy[bytes]:
    """Bytes of chance, and good ones with a piece replaced, dropped or put in."""

    def mix(start: int, length: int, piece: bytes) -> bytes:
        return good[:start] + piece + good[start + length :]

    pieces = st.one_of(
        st.binary(max_size=20), st.sampled_from([b"\n", b"\n\n", b"-1", b"null", b"{}", b"\xff"])
    )
    places = st.integers(0, len(good))
    return st.one_of(st.binary(max_size=200), st.builds(mix, places, st.integers(0, 40), pieces))


def outcome(reasons: set[str] | None, read: Callable[[], object]) -> object:
    """What is read; None where a LedgerError with one of these reasons says that it cannot be."""
    try:
        return read()
    except LedgerError as error:
        assert reasons is None or error.reason in reasons, error
        return None


# --- the auditor's state


@cache
def log() -> tuple[Ledger, JsonValue]:
    """A log in memory with keys that were rotated and revoked, and the state of its checks."""
    keys = KeyStore(Path(_folder()) / "keys")
    opened = Ledger.open(":memory:", origin="agentmesh.local/fuzz", keys=keys, create=True)
    ada, ben, cyd = (keys.agent(name) for name in ("ada", "ben", "cyd"))
    opened.append([Draft(author=each, kind="say", dialogue="d") for each in (ada, ben)])
    opened.rotate(ben, cyd)
    opened.revoke(cyd.id, after=2, by=ada)
    checks = LogChecks(open_checkpoint(opened.checkpoint(), [parse_vkey(opened.vkey())]))
    for record in opened.read():
        checks.entry(record.index, record.entry, {})
    return opened, checks.state()


_FOLDERS: list[str] = []


def _folder() -> str:
    return _FOLDERS[-1]


@pytest.fixture(autouse=True, scope="module")
def _folder_for_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    _FOLDERS.append(str(tmp_path_factory.mktemp("fuzz")))


def changed(value: JsonValue, data: st.DataObject) -> JsonValue:
    """The value with one thing in it replaced by something else."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 4)):
        name = data.draw(st.sampled_from(sorted(value)))
        rest = {key: item for key, item in value.items() if key != name}
        if data.draw(st.integers(0, 5)) == 0:
            return rest
        return {**rest, data.draw(st.sampled_from([name, name, name, "x"])): changed(value[name], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 4)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], changed(value[place], data), *value[place + 1 :]]
    return data.draw(junk)


@pytest.mark.spec("L-82")
@many
@given(data=st.data())
def test_a_state_of_the_checks_made_by_a_stranger_is_refused_or_goes_on(data: st.DataObject) -> None:
    opened, state = log()
    assert isinstance(state, dict) and parse_standing(state)
    body = changed({key: item for key, item in state.items() if key != "digest"}, data)
    if isinstance(body, dict):
        body = {**body, "digest": _digest(body)}  # as one who knows the format would
    signed = open_checkpoint(opened.checkpoint(), [parse_vkey(opened.vkey())])

    def go_on() -> LogChecks:
        checks = LogChecks.resumed(body, signed)
        checks.finish()
        return checks

    outcome(None, go_on)


@pytest.mark.spec("L-38", "L-82")
@many
@given(data=st.data())
def test_a_damaged_state_file_is_unreadable_or_reads_as_it_was(tmp_path: Path, data: st.DataObject) -> None:
    opened, state = log()
    path = tmp_path / "state"
    kept = Kept(seen=opened.checkpoint(), verified=opened.checkpoint(), checks=state)
    write_kept(path, kept)
    good = path.read_bytes()
    value = json.loads(good)
    bad = data.draw(
        st.one_of(
            mixed(good),
            st.builds(
                lambda name, item: canonical({**value, name: item}) + b"\n",
                st.sampled_from([*value, "x"]),
                junk,
            ),
        )
    )
    path.write_bytes(bad)
    found = outcome({"unreadable"}, lambda: read_kept(path))
    assert (found is not None) == (bad == good)
    outcome({"unreadable", "consistency"}, lambda: kept_note(str(path)))


# --- notes, keys


@many
@given(data=st.data())
def test_only_ledger_errors_escape_a_checkpoint_and_its_cosignatures(data: st.DataObject) -> None:
    opened, _ = log()
    own = parse_vkey(opened.vkey())
    good = opened.checkpoint()
    bad = data.draw(mixed(good.encode())).decode("utf-8", "surrogateescape")
    for read in (
        lambda: parse_checkpoint(bad),
        lambda: open_checkpoint(bad, [own]),
        lambda: cosignatures(parse_note(bad), []),
        lambda: parse_cosigner(bad),
        lambda: parse_vkey(bad),
    ):
        found = outcome(None, read)
        if found is not None and not isinstance(found, Checkpoint | tuple):
            assert bad.startswith(good.split("\n\n")[0]) or bad == good


@pytest.mark.spec("L-60", "L-62")
@many
@given(data=st.data())
def test_a_damaged_plain_key_file_is_refused_whatever_is_in_it(tmp_path: Path, data: st.DataObject) -> None:
    owner = Owner(role="agent", name="ada", path=tmp_path / "ada.key")
    good = encode_plain(SigningKey(b"s" * 32), owner)
    value = json.loads(good)
    names = st.sampled_from([*value, "x"])
    items = st.one_of(junk, st.binary(max_size=40).map(encode64))
    bad = data.draw(
        st.one_of(mixed(good), st.builds(lambda n, i: canonical({**value, n: i}) + b"\n", names, items))
    )
    found = outcome({"key"}, lambda: parse_key(bad, owner))
    if found is not None:  # when it was made is said by nobody but the file
        assert isinstance(found, PlainKey) and bytes(found.key) == b"s" * 32
        assert {**json.loads(bad), "created": None} == {**value, "created": None}


# --- the database


@pytest.mark.spec("L-82", "L-91", "L-93")
@pytest.mark.parametrize("which", ["l.db", "l.db-wal", "l.db-shm"])
def test_bytes_changed_in_a_database_under_a_log_file_never_show_as_anything_but_a_ledger_error(
    tmp_path: Path, keys: KeyStore, which: str
) -> None:
    home = tmp_path / "home"
    log = Ledger.open(home / "l.db", origin="agentmesh.local/fuzz", keys=keys, create=True)
    draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
    log.append([draft] * 20)
    note = log.checkpoint()
    with log._store.reading() as rows:  # so that no checkpoint moves the log file into the database
        rows.heads()
        log.append([draft] * 20)
        kept = {each.name: each.read_bytes() for each in home.iterdir()}
    log.close()
    assert len(kept) == 3
    chance = random.Random(which)
    for turn in range(60):
        broken = tmp_path / f"broken{turn}"
        broken.mkdir()
        for name, data in kept.items():
            altered = bytearray(data)
            for _ in range(chance.choice((1, 8, 64)) if name == which and altered else 0):
                altered[chance.randrange(len(altered))] = chance.randrange(256)
            (broken / name).write_bytes(altered)
        outcome(None, lambda path=broken / "l.db": use(path, keys))  # type: ignore[misc]
        verified = outcome(None, lambda path=broken / "l.db": verify_ledger(path, expect=note))  # type: ignore[misc]
        assert verified is None or verified.entries in (21, 41)  # type: ignore[attr-defined]
        shutil.rmtree(broken)


def use(path: Path, keys: KeyStore) -> None:
    with Ledger.open(path) as log:
        list(log.read())
        log.dialogues()
        log.names()
        log.export(io.BytesIO())
        log.export(io.BytesIO(), dialogue="d")
        log.prove(3)
