"""The process that changes key files dies at every step, once before it is done and once after."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore
from agentmesh_ledger.keyfile import Cost

CHEAP = Cost(opslimit=1, memlimit=8192)
STEPS = ("open", "link", "replace", "fsync", "unlink")
NAMES = ("ada", "ben", "cyd")
AT_MOST = 200


class Dead(BaseException):
    """The process is gone: whatever it still tries fails, so that no handler can mend what a kill would leave."""


@contextmanager
def dying(moment: int, persisted: bool) -> Iterator[None]:
    """The n-th step of all those on files is the last: it fails, or is done, and then nothing is possible."""
    steps = [0]
    before = {name: getattr(os, name) for name in STEPS}

    def guarded(real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **more: object) -> object:
            steps[0] += 1
            if steps[0] <= moment:
                return real(*args, **more)
            if steps[0] == moment + 1 and persisted:
                done = real(*args, **more)
                if isinstance(done, int):
                    os.close(done)
            raise Dead

        return step

    for name, real in before.items():
        setattr(os, name, guarded(real))
    try:
        yield
    finally:
        for name, real in before.items():
            setattr(os, name, real)


def store_at(folder: Path, *, sealed: bool) -> KeyStore:
    return KeyStore(folder / "keys", (lambda: b"word") if sealed else None, cost=CHEAP)


def ids(store: KeyStore) -> list[str]:
    return [store.agent(name, create=False).id for name in NAMES]


def lives_through(moment: int, persisted: bool, act: Callable[[], object]) -> bool:
    try:
        with dying(moment, persisted):
            act()
    except Dead:
        return False
    return True


@pytest.mark.spec("L-66")
@pytest.mark.parametrize("persisted", [False, True])
@pytest.mark.parametrize("seal", [True, False])
def test_sealing_loses_no_key_and_goes_on(tmp_path: Path, seal: bool, persisted: bool) -> None:
    plain = store_at(tmp_path, sealed=False)
    for name in NAMES:
        plain.agent(name)
    expected = ids(plain)
    for moment in range(AT_MOST):
        # Back to the start: all the other way round.
        start = store_at(tmp_path, sealed=True)
        start.unseal() if seal else start.seal()
        store = store_at(tmp_path, sealed=True)
        lived = lives_through(moment, persisted, store.seal if seal else store.unseal)
        assert ids(store_at(tmp_path, sealed=True)) == expected
        assert plain.names() == NAMES
        again = store_at(tmp_path, sealed=True)
        done = again.seal() if seal else again.unseal()
        assert not (lived and done)
        forms = {path.read_bytes().count(b'"seed"') for path in (plain.directory / "agents").iterdir()}
        assert forms == {0 if seal else 1}  # of every file, drafts too
        assert len(list((plain.directory / "agents").iterdir())) == len(NAMES)
        if lived:
            break
    assert lived and moment > 12  # three files of four steps each, and the lock


@pytest.mark.spec("L-67")
@pytest.mark.parametrize("persisted", [False, True])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_rotation_leaves_one_key_and_is_ended_by_the_next_call(
    tmp_path: Path, sealed: bool, persisted: bool
) -> None:
    def rotate() -> None:
        store = store_at(tmp_path, sealed=sealed)
        store.next_agent("ada")
        store.promote("ada")

    had = [store_at(tmp_path, sealed=sealed).agent("ada").id]
    for moment in range(AT_MOST):
        lived = lives_through(moment, persisted, rotate)
        store = store_at(tmp_path, sealed=sealed)
        now = store.agent("ada", create=False).id
        assert store.names() == ("ada",) and now not in store.retired("ada")
        assert set(had) - {now} == set(store.retired("ada"))
        # Whether the key or its successor is in use, the caller's next attempt ends at the successor.
        new = store.next_agent("ada").id if now == had[-1] else now
        assert not lived or new == now
        store.promote("ada")
        assert store.agent("ada", create=False).id == new != had[-1]
        assert store.retired("ada") == tuple(sorted(had))
        had.append(new)
        if lived:
            break
    assert lived and moment > 12
    assert len(list((store.directory / "agents").iterdir())) <= len(had) + 1


@pytest.mark.spec("L-61")
@pytest.mark.parametrize("persisted", [False, True])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_key_is_made_whole_or_not_at_all(tmp_path: Path, sealed: bool, persisted: bool) -> None:
    made: list[str] = []
    for moment in range(AT_MOST):
        name = f"a{moment}"
        store = store_at(tmp_path, sealed=sealed)
        lived = lives_through(
            moment, persisted, lambda name=name, store=store: made.append(store.agent(name).id)
        )  # type: ignore[misc]
        path = store.directory / "agents" / f"{name}.key"
        first = path.read_bytes() if path.exists() else None
        found = store_at(tmp_path, sealed=sealed).agent(name)
        assert first is None or path.read_bytes() == first
        if lived:
            assert made[-1] == found.id
            break
    assert lived and moment > 5 and len(made) == 1
    store.agent("last")
    assert len(list((store.directory / "agents").iterdir())) == moment + 2  # no draft is left for ever
