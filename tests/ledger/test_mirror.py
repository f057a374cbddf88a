"""A published log verified from a directory, whole, in part, interrupted, and lied about."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger import mirror as mirroring
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.cosignature import CosignerKey, cosign
from agentmesh_ledger.crew import judge_chunk
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.judge import SOUND, Terms
from agentmesh_ledger.kept import Kept, kept_note, read_kept, write_kept
from agentmesh_ledger.mirror import TilesVerified, verify_tiles
from agentmesh_ledger.policy import parse_policy
from agentmesh_ledger.tilelog import DirectoryFiles

SIZE = 600


@pytest.fixture
def log(talk):
    return talk(SIZE)


@pytest.fixture
def other(talk):
    """Another history of the same log, signed by the same key, alike up to entry 400."""
    log = talk(SIZE)
    fork = type(log)().begin()
    while len(fork.entries) < SIZE:
        kind = "say" if len(fork.entries) < 400 else "task"
        fork.add(fork.ada if len(fork.entries) % 2 else fork.ben, kind, "d1")
    assert fork.entries[:400] == log.entries[:400] and fork.entries[400] != log.entries[400]
    return fork


class Watched:
    """The files of a directory, and which of them were asked for."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self._files = DirectoryFiles(folder)

    def fetch(self, path: str, limit: int) -> bytes:
        self.asked.append(path)
        return self._files.fetch(path, limit)


def check(log, source, **arguments: object) -> TilesVerified:
    return verify_tiles(source, keys=[log.key.vkey], **arguments)  # type: ignore[arg-type]


@pytest.mark.spec("L-38")
@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 512, 600])
def test_a_whole_directory_is_verified_in_one_pass(log, publish, tmp_path: Path, size: int) -> None:
    publish(tmp_path, log, size)
    files = Watched(tmp_path)
    told: list[tuple[int, int]] = []
    found = check(log, files, progress=lambda done, total: told.append((done, total)))
    assert (found.log.entries, found.log.tree_size, found.since) == (size, size, 0)
    assert found.log.root == log.checkpoint(size).root.hex() and found.log.pinned
    assert sum(count for _, _, count in found.log.signers) == size
    assert len(files.asked) == len(set(files.asked)) == found.files, "each file is read once"
    assert {path for path in files.asked} == {
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    }
    assert [total for _, total in told] == [size] * -(-size // 256)
    assert not told or told[-1][0] == size


@pytest.mark.spec("L-36", "L-38")
def test_every_file_of_a_directory_altered_dropped_or_cut_is_found(log, publish, tmp_path: Path) -> None:
    publish(tmp_path / "good", log, SIZE)
    paths = [p.relative_to(tmp_path / "good") for p in (tmp_path / "good").rglob("*") if p.is_file()]
    assert len(paths) == 8
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    for path in paths:
        target = tmp_path / "bad" / path
        good = target.read_bytes()
        step = max(1, len(good) // 20)
        damaged = [good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :] for at in range(0, len(good), step)]
        damaged += [good[:-1], good + b"\0", good[: len(good) // 2], b"", good + good]
        for data in damaged:
            target.write_bytes(data)
            with pytest.raises(LedgerError) as caught:
                check(log, tmp_path / "bad")
            assert caught.value.is_check, (path, caught.value)
        target.unlink()
        with pytest.raises(LedgerError) as caught:
            check(log, tmp_path / "bad")
        assert caught.value.reason == ("not_found" if path.name == "checkpoint" else "tile")
        target.write_bytes(good)
    assert check(log, tmp_path / "bad").log.entries == SIZE


def test_an_altered_entry_is_named_with_its_check_and_index(log, publish, tmp_path: Path) -> None:
    publish(tmp_path, log, SIZE)
    bundle = tmp_path / "tile" / "entries" / "001"
    data = bytearray(bundle.read_bytes())
    place = data.index(b'"sig":"') + 10
    data[place] = ord("A") if data[place] != ord("A") else ord("B")
    bundle.write_bytes(data)
    with pytest.raises(LedgerError) as caught:
        check(log, tmp_path)
    assert (caught.value.reason, caught.value.index) == ("signature", 256)


def test_every_damaged_place_is_listed_up_to_the_limit(log, publish, tmp_path: Path) -> None:
    publish(tmp_path, log, SIZE)
    for name in ("000", "001", "002.p/88"):
        bundle = tmp_path / "tile" / "entries" / name
        data = bytearray(bundle.read_bytes())
        place = data.rindex(b'"sig":"') + 10  # of its last entry
        data[place] = ord("A") if data[place] != ord("A") else ord("B")
        bundle.write_bytes(data)
    tile = tmp_path / "tile" / "0" / "001"
    tile.write_bytes(tile.read_bytes()[:-1] + b"?")
    state = tmp_path / "state"
    for jobs in (1, 2):
        with pytest.raises(LedgerError) as caught:
            check(log, tmp_path, jobs=jobs, state=state)
        told = [caught.value, *caught.value.others]
        assert {(each.reason, each.index) for each in told} == {
            ("signature", 255), ("chain", 256), ("tile", None), ("signature", 511), ("chain", 512), ("signature", 599)
        }  # fmt: skip
        assert not caught.value.more
    kept = read_kept(state)
    assert kept is not None and kept.verified is None
    with pytest.raises(LedgerError) as caught:
        check(log, tmp_path, limit=2)
    assert len(caught.value.others) == 1 and caught.value.more


def test_workers_judge_a_longer_log_and_the_evidence_is_the_same(talk, publish, tmp_path: Path) -> None:
    log = talk(3000)
    folder = publish(tmp_path / "log", log, 3000)
    alone, many = (check(log, folder, jobs=jobs) for jobs in (1, 2))
    assert alone == many and many.log.entries == 3000
    bundle = folder / "tile" / "entries" / "010"
    bundle.write_bytes(bundle.read_bytes().replace(b'"sig":"', b'"sog":"', 1))
    with pytest.raises(LedgerError) as caught:
        check(log, folder, jobs=2)
    assert caught.value.index == 2560


def test_the_first_failure_is_the_same_however_many_work(talk, publish, tmp_path: Path) -> None:
    log = talk(3000)
    folder = publish(tmp_path / "log", log, 3000)
    bundle = folder / "tile" / "entries" / "000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"sig":"', b'"sog":"', 1))
    tile = folder / "tile" / "0" / "005"
    tile.write_bytes(tile.read_bytes()[:-1] + b"?")
    told = []
    for jobs in (1, 2):
        with pytest.raises(LedgerError) as caught:
            check(log, folder, jobs=jobs)
        told.append([(each.reason, each.index) for each in (caught.value, *caught.value.others)])
    assert told[0] == told[1] and told[0][0] == ("envelope", 0) and told[0][-1] == ("tile", None)


def test_parts_are_counted_as_withheld_and_both_ways_of_judging_agree(forge, publish, tmp_path: Path) -> None:
    log = forge.begin()
    for text in ("17 * 23?", "391", "thanks"):
        log.say(log.ada, text)
    log.add(log.ben, "say", "d2", to=[log.ada.id], facts={"seconds": 0.25})
    found = check(log, publish(tmp_path, log, len(log.entries)))
    assert (found.log.entries, found.log.withheld) == (6, 3)
    rows = list(enumerate(log.entries))
    rows += [
        (9, log.entries[3]),
        (3, log.entries[3][:-9]),
        (3, b""),
        (3, log.entries[3].replace(b"sig", b"sog")),
    ]
    rows.append((3, log.entries[3].replace(b'"sig":"', b'"sig":"A', 1)))
    point = log.checkpoint()
    quick, strict = (
        judge_chunk(rows, Terms(checkpoint=point, proof=False, swift=swift)) for swift in (True, False)
    )
    assert quick == strict
    assert [len(each) == SOUND for each in quick] == [True] * 6 + [False] * 5


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=5),
).map(lambda value: canonical(value) + b"\n"))  # fmt: skip
def test_only_ledger_errors_escape_a_state_of_any_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        path.write_bytes(data)
        with pytest.raises(LedgerError) as caught:
            read_kept(path)
        assert caught.value.reason == "unreadable"


def test_a_sound_entry_in_the_place_of_another_is_found_by_the_tree(
    log, other, publish, tmp_path: Path
) -> None:
    publish(tmp_path / "a", log, SIZE)
    publish(tmp_path / "b", other, SIZE)
    for name in ("002.p/88", "001"):
        shutil.copy(tmp_path / "b" / "tile" / "entries" / name, tmp_path / "a" / "tile" / "entries" / name)
    with pytest.raises(LedgerError) as caught:
        check(log, tmp_path / "a")
    assert (caught.value.reason, caught.value.index) == ("tile", 400)


@pytest.mark.spec("L-38")
def test_an_auditor_with_a_state_reads_only_what_is_new(log, publish, tmp_path: Path) -> None:
    folder, state = tmp_path / "log", tmp_path / "desk.audit"
    publish(folder, log, 300)
    assert check(log, folder, state=state).since == 0
    publish(folder, log, SIZE)
    files = Watched(folder)
    found = check(log, files, state=state)
    assert (found.since, found.log.entries) == (300, SIZE)
    assert sum(count for _, _, count in found.log.signers) == SIZE, "signers of both runs"
    assert "the first 300 of them by an earlier run: whether they are still published" in found.log.complete
    assert [path for path in files.asked if "entries" in path] == [
        "tile/entries/001",
        "tile/entries/002.p/88",
    ]
    assert "tile/entries/000" not in files.asked
    files = Watched(folder)
    assert check(log, files, state=state).since == SIZE
    assert [path for path in files.asked if "entries" in path] == []


@pytest.mark.spec("L-38")
@pytest.mark.parametrize("first", [0, 1, 100, 255, 256, 257, 399, 511, 512, 599])
def test_from_any_size_on_the_tiles_of_the_new_right_edge_are_held(
    log, publish, tmp_path: Path, first: int
) -> None:
    folder, state = tmp_path / "log", tmp_path / "state"
    publish(folder, log, first)
    check(log, folder, state=state)
    publish(folder, log, SIZE)
    kept = state.read_bytes()
    new = [p for p in folder.rglob("*") if p.is_file() and p.name != "checkpoint"]
    new = [p for p in new if ".p" not in str(p) or p.name in ("88", "2")]
    for path in new:
        number = int(path.parts[-1] if ".p" not in str(path) else path.parts[-2][:3])
        if "tile/1" not in str(path) and (number + 1) * 256 <= first:
            continue  # a full tile of what was verified before
        good = path.read_bytes()
        state.write_bytes(kept)
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        with pytest.raises(LedgerError) as caught:
            check(log, folder, state=state)
        assert caught.value.is_check
        path.write_bytes(good)
    state.write_bytes(kept)
    assert check(log, folder, state=state).log.entries == SIZE


@pytest.mark.spec("L-38", "L-78")
def test_a_log_that_shrank_forked_or_was_rewritten_is_told_apart(log, other, publish, tmp_path: Path) -> None:
    state = tmp_path / "state"
    publish(tmp_path / "full", log, 500)
    check(log, tmp_path / "full", state=state)
    kept = state.read_bytes()
    cases = {
        "shorter than the one it showed before": publish(tmp_path / "short", log, 499),
        "the log is forked": publish(tmp_path / "fork", other, 500),
        "history was rewritten": publish(tmp_path / "rewritten", other, SIZE),
    }
    for words, folder in cases.items():
        for arguments in ({"state": state}, {"expect": kept_note(str(state))}):
            with pytest.raises(LedgerError) as caught:
                check(log, folder, **arguments)
            assert caught.value.reason == "consistency"
            wanted = (
                words
                if "state" in arguments
                else words.replace("the one it showed before", "your checkpoint")
            )
            assert wanted in caught.value.message
            assert caught.value.expected and caught.value.found
    assert state.read_bytes() == kept, "nothing of the false histories is kept"
    assert check(log, publish(tmp_path / "full", log, SIZE), state=state).since == 500


@pytest.mark.spec("L-38")
def test_an_interrupted_run_goes_on_where_it_was(
    log, publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirroring, "KEEP_EVERY", 1)
    monkeypatch.setattr(mirroring, "_KEEP_SHARE", 0)
    folder, state = publish(tmp_path / "log", log, SIZE), tmp_path / "state"

    def interrupt(done: int, total: int) -> None:
        if done == 512:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(log, folder, state=state, progress=interrupt)
    kept = read_kept(state)
    assert kept is not None and kept.verified is None
    with pytest.raises(LedgerError, match="no checkpoint verified"):
        kept_note(str(state))
    found = check(log, folder, state=state)
    assert found.since in (256, 512) and found.log.entries == SIZE
    assert kept_note(str(state)) == log.checkpoint(SIZE).sign(log.key)
    assert sum(count for _, _, count in found.log.signers) == SIZE


@pytest.mark.spec("L-38")
def test_a_checkpoint_seen_binds_the_log_though_its_run_was_cut_off(
    log, other, publish, tmp_path: Path
) -> None:
    folder, state = publish(tmp_path / "log", log, SIZE), tmp_path / "state"
    (folder / "tile" / "entries" / "000").unlink()
    with pytest.raises(LedgerError):
        check(log, folder, state=state)
    with pytest.raises(LedgerError, match="forked"):
        check(log, publish(tmp_path / "fork", other, SIZE), state=state)


def test_a_source_that_fails_in_the_middle_costs_nothing_that_was_verified(
    log, publish, tmp_path: Path
) -> None:
    folder, state = publish(tmp_path / "log", log, SIZE), tmp_path / "state"

    class Failing(Watched):
        def fetch(self, path: str, limit: int) -> bytes:
            if path == "tile/entries/002.p/88":
                raise LedgerError("unreadable", "the cable is out")
            return super().fetch(path, limit)

    with pytest.raises(LedgerError, match="the cable is out"):
        check(log, Failing(folder), state=state)
    assert check(log, folder, state=state).since == 512


def test_a_partial_tile_that_was_deleted_is_read_from_the_full_one(log, publish, tmp_path: Path) -> None:
    old = (publish(tmp_path, log, 300) / "checkpoint").read_bytes()
    publish(tmp_path, log, SIZE)
    (tmp_path / "checkpoint").write_bytes(old)  # a reader that fetched it just before
    files = Watched(tmp_path)
    found = check(log, files)
    assert found.log.entries == 300
    assert "tile/0/001.p/44" in files.asked and "tile/0/001" in files.asked


@pytest.mark.spec("L-49")
def test_a_policy_names_the_log_and_its_witnesses(log, publish, tmp_path: Path, forge) -> None:
    from nacl.signing import SigningKey

    from agentmesh_ledger.keys import LogKey

    secret = SigningKey(b"w" * 32)
    witness = LogKey(name="w.example", public=bytes(secret.verify_key), _key=secret)
    key = CosignerKey(name=witness.name, public=witness.public)
    policy = parse_policy(f"log {log.key.vkey}\nwitness W {key}\nquorum W\n".encode())
    note = log.checkpoint(300).sign(log.key)
    publish(tmp_path / "log", log, 300, note)
    with pytest.raises(LedgerError) as caught:
        verify_tiles(tmp_path / "log", policy=policy)
    assert caught.value.reason == "policy"
    publish(tmp_path / "log", log, 300, cosign(note, witness, 1_700_000_000))
    found = verify_tiles(tmp_path / "log", policy=policy)
    assert found.policy is not None and found.policy.witnesses[0].witness == "W"
    assert "nothing larger was shown to the witnesses W" in found.log.complete
    with pytest.raises(LedgerError) as caught:
        verify_tiles(tmp_path / "log")
    assert caught.value.reason == "log_key"


def test_a_damaged_state_accuses_nobody(log, publish, tmp_path: Path) -> None:
    folder, state = publish(tmp_path / "log", log, 300), tmp_path / "state"
    check(log, folder, state=state)
    good = state.read_bytes()
    for data in (
        b"",
        b"{}\n",
        good[:-1],
        good[:-20] + b"\n",
        good.replace(b'"size":300', b'"size":301'),
        b"\xff\n",
    ):
        state.write_bytes(data)
        with pytest.raises(LedgerError) as caught:
            check(log, folder, state=state)
        assert caught.value.reason == "unreadable" and not caught.value.is_check
        assert state.read_bytes() == data
    kept = Kept(seen=log.checkpoint(300).sign(log.key), verified=None, checks={"format": "of tomorrow"})
    write_kept(state, kept)
    assert read_kept(state) == kept
    with pytest.raises(LedgerError, match="another version"):
        check(log, folder, state=state)
    with pytest.raises(LedgerError) as caught:
        write_kept(tmp_path / "no" / "such" / "folder", kept)
    assert caught.value.reason == "failed"


def test_a_state_of_another_log_is_refused(log, publish, tmp_path: Path) -> None:
    from agentmesh_ledger.checkpoint import Checkpoint

    folder, state = publish(tmp_path / "log", log, 300), tmp_path / "state"
    seen = Checkpoint(origin="other.example", size=3, root=b"\0" * 32).sign(log.key)
    write_kept(state, Kept(seen=seen, verified=None, checks=None))
    with pytest.raises(LedgerError) as caught:
        check(log, folder, state=state)
    assert caught.value.reason == "origin"


def test_a_directory_that_is_none_and_a_pipe_in_a_files_place_are_refused(
    log, publish, tmp_path: Path
) -> None:
    with pytest.raises(LedgerError) as caught:
        check(log, tmp_path / "nowhere")
    assert caught.value.reason == "not_found"
    publish(tmp_path, log, 300)
    (tmp_path / "tile" / "0" / "000").unlink()
    os.mkfifo(tmp_path / "tile" / "0" / "000")
    with pytest.raises(LedgerError) as caught:
        check(log, tmp_path)
    assert caught.value.reason == "unreadable"


def test_the_command_verifies_and_says_what_it_read(
    log, publish, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, state = publish(tmp_path / "log", log, 300), str(tmp_path / "state")
    words = ["tiles", str(folder), "--key", log.key.vkey, "--state", state]
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.err == "" and "read       300 new entries, 0 verified by earlier runs" in told.out
    publish(folder, log, SIZE)
    assert main([*words, "--json", "--expect", state]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verified"], found["since"], found["entries"], found["expected_size"]) == (
        True,
        300,
        SIZE,
        300,
    )
    assert main(words[:2]) == 2 and "--key" in capsys.readouterr().err
    assert main([*words[:2], "--key", "nonsense"]) == 2
    assert main(["tiles", str(tmp_path / "nowhere"), *words[2:4]]) == 3
    (folder / "tile" / "0" / "001").unlink()
    assert main(["tiles", str(folder), *words[2:4]]) == 1
    assert "check tile: " in capsys.readouterr().err
    assert main(["tiles", str(folder), *words[2:4], "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["check"], found["more"]) == ("tile", False)
    with pytest.raises(SystemExit):
        main(["tiles", str(folder), *words[2:4], "--limit", "0"])
    capsys.readouterr()
    # A file of that name is still a file.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiles").write_text("no transcript")
    assert main(["./tiles"]) == 1
    with pytest.raises(SystemExit) as left:
        main(["tiles"])
    assert left.value.code == 2


def test_the_command_takes_a_policy_and_is_interrupted_with_130(
    log, publish, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(tmp_path / "log", log, 300)
    policy = tmp_path / "policy"
    policy.write_text(f"log {log.key.vkey}\nquorum none\n")
    assert main(["tiles", str(folder), "--policy", str(policy)]) == 0
    assert "policy     met: quorum none" in capsys.readouterr().out
    policy.write_text("quorum none")
    assert main(["tiles", str(folder), "--policy", str(policy)]) == 2
    assert main(["tiles", str(folder), "--policy", str(tmp_path / "none")]) == 3

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agentmesh_ledger.commands.verify_tiles", interrupted)
    monkeypatch.setattr("agentmesh_ledger.__main__.verify_transcript", interrupted)
    for words in (["tiles", str(folder), "--key", log.key.vkey], [str(policy)]):
        assert main(words) == 130
        assert "interrupted" in capsys.readouterr().err
