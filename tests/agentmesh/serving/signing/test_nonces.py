"""The nonce store: once is once, across restarts and processes, bounded, and closed where it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh.serving.signing import NonceStore, SigningError
from agentmesh.serving.signing import nonces as module

KEY = "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., NonceStore]:
    clock = Clock()

    def store(**more: int) -> NonceStore:
        path = tmp_path / "folder" / "nonces" if request.param == "file" else None
        made = NonceStore(path, clock=clock, **more)
        request.addfinalizer(made.close)
        return made

    store.clock = clock  # type: ignore[attr-defined]
    return store


def reason(store: NonceStore, nonce: str, *, key: str = KEY, until: float = Clock.now + 120) -> str:
    try:
        store.remember(key, nonce, until)
    except SigningError as error:
        return error.reason
    return "new"


def test_a_nonce_counts_once_for_each_key(make: Callable[..., NonceStore]) -> None:
    store = make()
    assert [reason(store, "a"), reason(store, "a"), reason(store, "b")] == ["new", "replayed", "new"]
    assert [reason(store, "a", key="other"), reason(store, "a", key="other")] == ["new", "replayed"]
    assert len(store) == 3


def test_a_nonce_is_known_as_long_as_its_statement_would_be_accepted(make: Callable[..., NonceStore]) -> None:
    """A statement dated 119 seconds ahead is accepted for 239 seconds, and must be known for as long."""
    store, clock = make(), make.clock  # type: ignore[attr-defined]
    until = clock.now + 119 + 120
    assert reason(store, "a", until=until) == "new"
    clock.now = until
    assert reason(store, "a", until=until) == "replayed"
    clock.now = until + 11
    assert reason(store, "b", until=clock.now + 120) == "new"
    assert len(store) == 1


def test_where_there_is_no_room_nothing_passes(make: Callable[..., NonceStore]) -> None:
    store, clock = make(limit=5, per_key=3), make.clock  # type: ignore[attr-defined]
    assert [reason(store, n) for n in "abcd"] == ["new", "new", "new", "too_many"]
    assert reason(store, "a") == "replayed"
    assert [reason(store, n, key="other") for n in "abc"] == ["new", "new", "too_many"]
    clock.now += 131
    assert reason(store, "d", until=clock.now + 1) == "new"
    assert len(store) == 1


def test_a_restart_forgets_nothing_that_counts(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "nonces"
    store = NonceStore(path, clock=clock)
    assert reason(store, "old", until=clock.now + 5) == "new"
    assert reason(store, "a") == "new"
    store.close()
    clock.now += 60
    again = NonceStore(path, clock=clock)
    assert path.read_text().count("\n") == 2, "what is over was taken out"
    assert [reason(again, "a"), reason(again, "b")] == ["replayed", "new"]
    again.close()


def test_two_servers_with_one_key_share_what_they_saw(tmp_path: Path) -> None:
    path = tmp_path / "nonces"
    first, second = NonceStore(path, clock=Clock()), NonceStore(path, clock=Clock())
    assert [reason(first, "a"), reason(second, "a"), reason(second, "b"), reason(first, "b")] == [
        "new", "replayed", "new", "replayed",
    ]  # fmt: skip
    third = NonceStore(path, clock=Clock())  # which may write the file anew
    assert [reason(third, "c"), reason(first, "c"), reason(second, "c")] == ["new", "replayed", "replayed"]
    for each in (first, second, third):
        each.close()


def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPARE", 10)
    clock, path = Clock(), tmp_path / "nonces"
    store, other = NonceStore(path, clock=clock), NonceStore(path, clock=clock)
    for number in range(100):
        clock.now += 10
        assert reason(store, f"n{number}", until=clock.now + 20) == "new"
    assert path.read_text().count("\n") < 20
    assert reason(other, "n99") == "replayed"
    store.close()
    other.close()


def test_a_line_that_a_crash_tore_is_dropped_and_the_others_count(tmp_path: Path) -> None:
    path = tmp_path / "nonces"
    store = NonceStore(path, clock=Clock())
    assert reason(store, "a") == "new"
    store.close()
    with path.open("ab") as file:
        file.write(b"1000120 did:key:z6Mkp")
    again = NonceStore(path, clock=Clock())
    assert [reason(again, "a"), reason(again, "b")] == ["replayed", "new"]
    again.close()
    assert [reason(NonceStore(path, clock=Clock()), each) for each in "ab"] == ["replayed", "replayed"]


@pytest.mark.parametrize(
    "text", ["something else\n", "agentmesh-nonces/v1\nabc\n", "agentmesh-nonces/v1\n\xff a b\n"]
)
def test_a_file_that_is_none_of_ours_is_refused_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / "nonces"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SigningError) as caught:
        NonceStore(path, clock=Clock())
    assert caught.value.reason == "unrecorded"
    assert path.read_text(encoding="latin-1") == text


def test_a_file_that_takes_nothing_closes_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = NonceStore(tmp_path / "nonces", clock=Clock())
    written = os.write

    def full(handle: int, data: bytes) -> int:
        written(handle, data[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "write", full)
        assert reason(store, "a") == "unrecorded"
    # The half line is gone, and the nonce was not used up: its statement did not pass.
    assert [reason(store, "a"), reason(store, "b"), reason(store, "a")] == ["new", "new", "replayed"]
    store.close()


def test_a_nonce_is_new_in_one_of_many_processes_only(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom agentmesh.serving.signing import NonceStore, SigningError\n"
        "store, new = NonceStore(Path(sys.argv[1])), 0\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "import time\nfor n in range(200):\n    try:\n        store.remember('key', str(n), time.time() + 100)\n"
        "        new += 1\n    except SigningError as error:\n        assert error.reason == 'replayed'\nprint(new)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "nonces")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(3)
    ]
    for each in running:
        assert each.stdout is not None and each.stdout.readline() == "ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    counts = [int(each.communicate(timeout=60)[0]) for each in running]
    assert sum(counts) == 200
