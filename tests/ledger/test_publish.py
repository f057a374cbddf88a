"""A tlog-tiles directory: conformant, grown in steps, whole after a crash, and never another log's."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger import publish as publishing
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.publish import publish_tiles
from agentmesh_ledger.tiles import bundle_path, decode_bundle, tiles_of
from agentmesh_ledger.tree import leaf_hash


@pytest.fixture(scope="session")
def publish(leaf_tiles):
    """Publishes the first entries of a log into a directory."""

    def run(folder: Path, log, size: int, **changes):
        entries = log.entries[:size]
        arguments = {
            "note": log.checkpoint(size).sign(log.key),
            "keys": [log.key.vkey],
            "source": leaf_tiles([leaf_hash(entry) for entry in entries]),
            "entries": lambda start, stop: entries[start:stop],
        }
        return publish_tiles(folder, **{**arguments, **changes})

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.spec("L-34", "L-36")
@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 600])
def test_a_directory_holds_exactly_the_files_of_its_tree(publish, talk, tmp_path: Path, size: int) -> None:
    log = talk(600)
    folder = tmp_path / "deep" / "tiles"
    done = publish(folder, log, size)
    found = files(folder)
    tiles = list(tiles_of(size))
    wanted = {"checkpoint"} | {tile.path for tile in tiles}
    wanted |= {bundle_path(tile.number, tile.width) for tile in tiles if tile.level == 0}
    assert found.keys() == wanted
    assert (done.before, done.size, done.written, done.removed) == (0, size, len(wanted), 0)
    assert done.bytes == sum(map(len, found.values()))
    assert found["checkpoint"].decode() == log.checkpoint(size).sign(log.key)
    entries: list[bytes] = []
    for tile in tiles:
        assert len(found[tile.path]) == 32 * tile.width
        if tile.level == 0:
            shown = decode_bundle(found[bundle_path(tile.number, tile.width)], tile.width)
            assert b"".join(map(leaf_hash, shown)) == found[tile.path]
            entries += shown
    assert entries == log.entries[:size]


@pytest.mark.spec("L-37")
def test_a_directory_grown_in_steps_is_the_one_made_at_once(publish, talk, tmp_path: Path) -> None:
    log = talk(1100)
    before = 0
    for size in (1, 3, 255, 256, 256, 300, 512, 1000, 1025, 1100):
        told: list[tuple[int, int]] = []
        done = publish(
            tmp_path / "steps", log, size, progress=lambda at, of, told=told: told.append((at, of))
        )
        assert done.before == before
        new = list(tiles_of(size, since=before))
        assert done.written == sum(2 if tile.level == 0 else 1 for tile in new) + (size != before)
        assert [at for at, _ in told] == sorted(at for at, _ in told)
        assert not told or told[-1][0] == told[-1][1] == done.written - 1
        before = size
    publish(tmp_path / "once", log, 1100)
    steps, once = files(tmp_path / "steps"), files(tmp_path / "once")
    assert {path: data for path, data in steps.items() if path in once} == once
    # What is left over are partial tiles of tiles that are not full yet: older checkpoints still need them.
    assert all(
        path.partition(".p/")[0] + ".p" in {p.partition(".p/")[0] + ".p" for p in once}
        for path in steps.keys() - once.keys()
    )


@pytest.mark.spec("L-37")
def test_partial_tiles_go_once_the_full_one_is_there_and_nothing_else_does(
    publish, talk, tmp_path: Path
) -> None:
    log = talk(600)
    publish(tmp_path, log, 100)
    publish(tmp_path, log, 200)
    assert {p.name for p in (tmp_path / "tile" / "0" / "000.p").iterdir()} == {"100", "200"}
    (tmp_path / "tile" / "0" / "000.p" / "notes.txt").write_text("not of the log")
    done = publish(tmp_path, log, 300)
    assert done.removed == 4
    assert [p.name for p in (tmp_path / "tile" / "0" / "000.p").iterdir()] == ["notes.txt"]
    assert not (tmp_path / "tile" / "entries" / "000.p").exists()


@pytest.mark.spec("L-37")
def test_only_what_the_log_gained_is_read_and_written(publish, talk, tmp_path: Path) -> None:
    log = talk(1100)
    publish(tmp_path, log, 1000)
    stamp = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    asked: list[int] = []

    def entries(start: int, stop: int) -> list[bytes]:
        asked.extend(range(start, stop))
        return log.entries[start:stop]

    publish(tmp_path, log, 1100, entries=entries)
    assert asked == list(range(768, 1100))
    changed = {p for p, at in stamp.items() if p.exists() and p.stat().st_mtime_ns != at}
    assert changed == {tmp_path / "checkpoint"}


def test_publishing_again_changes_nothing_and_new_cosignatures_are_taken(
    publish, talk, tmp_path: Path
) -> None:
    log = talk(300)
    publish(tmp_path, log, 300)
    before = files(tmp_path)
    done = publish(tmp_path, log, 300)
    assert done.written == 0 and files(tmp_path) == before
    note = log.checkpoint().sign(log.key)
    more = note + "\N{EM DASH} w.example AAAAAAAA\n"
    assert publish(tmp_path, log, 300, note=more).written == 1
    assert (tmp_path / "checkpoint").read_text() == more


def test_a_directory_without_its_checkpoint_is_compared_whole_and_mended(
    publish, talk, tmp_path: Path
) -> None:
    log = talk(600)
    publish(tmp_path, log, 600)
    whole = files(tmp_path)
    (tmp_path / "tile/0/000").write_bytes(bytes(8192))
    (tmp_path / "tile/entries/001").unlink()
    (tmp_path / "checkpoint").unlink()
    assert (publish(tmp_path, log, 600).written, files(tmp_path)) == (3, whole)


@pytest.mark.spec("L-37")
def test_another_log_a_fork_and_an_older_checkpoint_are_refused(publish, talk, tmp_path: Path) -> None:
    log = talk(300)
    publish(tmp_path, log, 280)
    before = files(tmp_path)
    other = type(log)().begin()
    while len(other.entries) < 300:
        other.add(other.ada, "say", "d2")
    with pytest.raises(LedgerError) as caught:
        publish(tmp_path, other, 300)
    assert caught.value.reason == "consistency"
    with pytest.raises(LedgerError) as caught:
        publish(tmp_path, other, 280)
    assert caught.value.reason == "consistency"
    with pytest.raises(LedgerError) as caught:
        publish(tmp_path, log, 279)
    assert caught.value.reason == "consistency" and caught.value.found == "280"
    assert files(tmp_path) == before


@pytest.mark.spec("L-37")
def test_a_directory_of_another_origin_or_with_a_damaged_checkpoint_is_refused(
    publish, talk, tmp_path: Path, forge
) -> None:
    from nacl.signing import SigningKey

    from agentmesh_ledger.keys import LogKey

    log = talk(300)
    publish(tmp_path, log, 280)
    secret = SigningKey(b"z" * 32)
    named = LogKey(name="other.example/log", public=bytes(secret.verify_key), _key=secret)
    stranger = Checkpoint(origin=named.name, size=300, root=log.checkpoint(300).root)
    for keys, reason in (([named.vkey], "log_key"), ([named.vkey, log.key.vkey], "origin")):
        with pytest.raises(LedgerError) as caught:
            publish(tmp_path, log, 300, note=stranger.sign(named), keys=keys)
        assert caught.value.reason == reason
    for damaged in (b"", b"\xff", b"hello\n", (tmp_path / "checkpoint").read_bytes()[:-9]):
        (tmp_path / "checkpoint").write_bytes(damaged)
        with pytest.raises(LedgerError) as caught:
            publish(tmp_path, log, 300)
        assert caught.value.reason in ("checkpoint", "log_key")
        assert (tmp_path / "checkpoint").read_bytes() == damaged


@pytest.mark.spec("L-37")
def test_one_wrong_hash_or_entry_is_never_published(publish, talk, tmp_path: Path, leaf_tiles) -> None:
    log = talk(600)
    good = leaf_tiles([leaf_hash(entry) for entry in log.entries])

    class Wrong:
        def __init__(self, *place: int) -> None:
            self.place = place

        def tile(self, level: int, number: int, width: int) -> bytes:
            data = bytearray(good.tile(level, number, width))
            if (level, number) == self.place[:2]:
                data[self.place[2] * 32] ^= 1
            return bytes(data)

    for place in ((0, 0, 0), (0, 1, 255), (0, 2, 87), (1, 0, 0), (1, 0, 1)):
        with pytest.raises(LedgerError) as caught:
            publish(tmp_path / "a", log, 600, source=Wrong(*place))
        assert caught.value.reason in ("root", "tile")
    with pytest.raises(LedgerError) as caught:
        publish(tmp_path / "a", log, 600, entries=lambda a, b: log.entries[a : b - 1])
    assert caught.value.reason == "count"
    swapped = [log.entries[1], log.entries[0], *log.entries[2:]]
    with pytest.raises(LedgerError) as caught:
        publish(tmp_path / "a", log, 600, entries=lambda a, b: swapped[a:b])
    assert (caught.value.reason, caught.value.index) == ("tile", 0)
    for size, root in ((599, log.checkpoint(600).root), (600, log.checkpoint(599).root)):
        wrong = Checkpoint(origin=log.key.name, size=size, root=root).sign(log.key)
        with pytest.raises(LedgerError) as caught:
            publish(tmp_path / "a", log, 600, note=wrong)
        assert caught.value.reason == "root"
    assert not (tmp_path / "a" / "checkpoint").exists()


@pytest.mark.spec("L-37")
@given(data=st.data())
@settings(max_examples=40)
def test_whichever_step_fails_the_checkpoint_on_disk_has_all_its_files(
    publish, talk, tmp_path_factory: pytest.TempPathFactory, data
) -> None:
    """Each rename and each fsync may be the last thing that happens; then a run finishes the work."""
    log = talk(600)
    folder = tmp_path_factory.mktemp("crash")
    publish(folder, log, 250)
    left = data.draw(st.integers(0, 24))
    real = {"replace": os.replace, "fsync": os.fsync}

    def failing(name: str):
        def call(*arguments: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(28, "No space left on device")
            real[name](*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(publishing.os, name, failing(name))
        try:
            publish(folder, log, 520)
        except LedgerError as error:
            assert error.reason == "failed" and "No space left" in str(error)
    size = int((folder / "checkpoint").read_text().split("\n")[1])
    assert size in (250, 520)
    present = files(folder)
    for tile in tiles_of(size):
        assert len(present[tile.path]) == 32 * tile.width
    publish(folder, log, 600)
    assert not [path for path in files(folder) if ".new" in path]
    assert len(files(folder)["tile/1/000.p/2"]) == 64


def test_two_runs_at_once_do_not_mix(publish, talk, tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(LedgerError) as caught:
            publish(tmp_path, talk(300), 300)
        assert caught.value.reason == "failed"
    finally:
        os.close(handle)
    assert publish(tmp_path, talk(300), 300).size == 300


def test_where_nothing_can_be_written_it_is_said(publish, talk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError) as caught:
        publish(tmp_path / "file", talk(300), 300)
    assert caught.value.reason == "failed"
