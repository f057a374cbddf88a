from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agentmesh_ledger import Draft, KeyStore, Ledger
from agentmesh_ledger.__main__ import main
from agentmesh_ledger.jcs import canonical


@pytest.fixture
def transcript(exported, tmp_path: Path) -> Path:
    path = tmp_path / "d1.transcript.jsonl"
    path.write_bytes(exported("d1"))
    return path


def test_a_good_transcript_is_verified_with_its_evidence(
    transcript: Path, spoken: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(transcript)]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    for word in (
        "verified",
        "agentmesh.local/desk",
        "self-asserted",
        "dialogue d1: 6 entries of 7",
        "ada",
        "ben",
        "intact     yes",
        "complete ",
        "not shown",
    ):
        assert word in told.out
    assert main([str(transcript), "--key", spoken.vkey()]) == 0
    assert "the key you named" in capsys.readouterr().out


def test_json_says_the_same(transcript: Path, spoken: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(transcript), "--json", "--key", spoken.vkey()]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verified"] is True and told["pinned"] is True and told["entries"] == 6
    assert [signer["name"] for signer in told["signers"]] == ["ada", "ben"]


@pytest.mark.spec("L-82")
def test_one_changed_byte_exits_1_and_says_where(
    transcript: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(transcript.read_bytes())
    place = data.index(b'"data":"') + 9
    data[place] ^= 1
    transcript.write_bytes(data)
    assert main([str(transcript)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "NOT VERIFIED" in told.err and "check part: line 4, entry 2:" in told.err
    assert main([str(transcript), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["verified"], found["check"], found["line"], found["index"]) == (False, "part", 4, 2)


@pytest.mark.spec("L-83")
def test_every_failure_is_printed_and_the_list_has_a_limit(
    exported, reseal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = exported(None).split(b"\n")[:-2]
    for number in (3, 5):
        place = lines[number].index(b'"data":"') + 8
        lines[number] = lines[number][:place] + b"AAAA" + lines[number][place + 4 :]
    path = tmp_path / "t.jsonl"
    path.write_bytes(reseal(lines))
    assert main([str(path)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in told[1:]] == ["check part: line 4", "check part: line 6"]
    assert main([str(path), "--limit", "1"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("there is more: the list ends after 1")
    assert main([str(path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["line"], [each["line"] for each in found["others"]], found["more"]) == (4, [6], False)
    with pytest.raises(SystemExit):
        main([str(path), "--limit", "0"])


@pytest.mark.spec("L-84")
def test_the_report_tells_of_keys_erasure_and_policy(
    spoken: Ledger, keys: KeyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    ada, ben = keys.agent("ada"), keys.agent("ben")
    spoken.rotate(ben, keys.next_agent("ben"))
    spoken.erase(2, by=ada)
    spoken.revoke(keys.next_agent("ben").id, after=8, by=ada)
    assert main([str(spoken.path)]) == 0
    told = capsys.readouterr().out
    new = keys.next_agent("ben").id
    for line in (
        f"rotated    {ben.id} to {new} at entry 7",
        f"revoked    {new} at entry 9, as of entry 8",
        "erased     1 part, by tombstones that are shown",
        "policy     no policy was asked for",
        "not shown  that any statement is true",
    ):
        assert line in told
    assert main([str(spoken.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["erased"], found["rotated"][0]["new"], found["revoked"][0]["id"]) == (1, new, new)
    assert found["policy"] == "no policy was asked for" and len(found["not_shown"]) >= 6


@pytest.mark.parametrize("data", [b"", b"\0\1\2", b"GGUF" * 1000, b"SQLite format 3\x00 but not really"])
def test_an_empty_or_foreign_file_exits_1(
    tmp_path: Path, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_bytes(data)
    assert main([str(tmp_path / "x")]) == 1
    assert "NOT VERIFIED" in capsys.readouterr().err


def test_what_cannot_be_read_exits_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none")]) == 3
    assert "there is no such file" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 3
    (tmp_path / "t").write_bytes(b"x")
    assert main([str(tmp_path / "t"), "--expect", str(tmp_path / "none")]) == 3


def test_wrong_usage_exits_2(transcript: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(transcript), "--key", "nonsense"]) == 2
    assert "--key" in capsys.readouterr().err
    for arguments in ([], [str(transcript), "--no-such-option"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


@pytest.mark.spec("L-77", "L-78")
def test_a_pin_and_a_kept_checkpoint_are_held_against_the_file(
    exported, spoken: Ledger, forge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, kept = tmp_path / "all.jsonl", tmp_path / "kept"
    path.write_bytes(exported(None))
    kept.write_text(spoken.checkpoint())
    assert main([str(path), "--expect", str(kept)]) == 0
    assert "still holds all 7 entries of your checkpoint" in capsys.readouterr().out
    assert main([str(path), "--key", forge.key.vkey]) == 1
    assert "check log_key" in capsys.readouterr().err
    kept.write_bytes(b"\xff")
    assert main([str(path), "--expect", str(kept)]) == 1


def test_a_ledger_file_is_verified_too(spoken: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(spoken.path)]) == 0
    assert "log: 7 entries of 7" in capsys.readouterr().out


@pytest.mark.spec("L-82")
def test_no_name_in_a_log_can_drive_the_terminal(
    forge, reseal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forge.add(forge.ada, "key.register", "log", facts={"name": "a\u202eb"})
    (tmp_path / "t").write_bytes(forge.transcript())
    assert main([str(tmp_path / "t")]) == 0
    assert "\u202e" not in capsys.readouterr().out
    lines = forge.transcript().split(b"\n")[:-2]
    lines[0] = canonical({**json.loads(lines[0]), "vkeys": ["\u001b[31mred+00000000+AAAA"]})
    (tmp_path / "t").write_bytes(reseal(lines))
    assert main([str(tmp_path / "t")]) == 1
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_evidence_that_cannot_be_written_exits_3_without_a_traceback(
    transcript: Path, options: list[str]
) -> None:
    command = [sys.executable, "-m", "agentmesh_ledger", str(transcript), *options]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        help_done = subprocess.run(
            [*command[:3], "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (done.returncode, done.stderr) == (3, "the output cannot be written: No space left on device\n")
    assert (help_done.returncode, help_done.stderr) == (3, done.stderr)


def test_a_reader_that_has_gone_is_no_reason_for_a_word_and_a_failed_check_stays_1(transcript: Path) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "agentmesh_ledger", str(transcript), *options]
        try:
            return subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
        finally:
            os.close(writing)

    assert (run().returncode, run().stderr) == (3, "")
    transcript.write_bytes(transcript.read_bytes()[:-1])
    assert run("--json").returncode == 1


def test_a_name_that_the_terminal_cannot_write_is_escaped(forge, tmp_path: Path) -> None:
    forge.add(forge.ada, "key.register", "log", facts={"name": "\u5f20"})
    (tmp_path / "t").write_bytes(forge.transcript())
    done = subprocess.run(
        [sys.executable, "-m", "agentmesh_ledger", str(tmp_path / "t")],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0 and "\\u5f20" in done.stdout


def test_of_a_file_with_a_second_log_the_one_that_is_meant_is_named(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("INSERT INTO head SELECT 2, 'other', vkey, size, checkpoint, edge FROM head")
    assert main([str(file)]) == 2
    assert "name the one you mean" in capsys.readouterr().err
    # Entries of the second log are none of the first one's.
    assert main([str(file), "--origin", "agentmesh.local/desk"]) == 0
    assert main([str(file), "--origin", "other"]) == 1
    assert "check store: the head's columns are not those" in capsys.readouterr().err


def test_help_and_version_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    for option, word in (("--help", "example:"), ("--version", "agentmesh-verify")):
        with pytest.raises(SystemExit) as caught:
            main([option])
        assert caught.value.code == 0
        assert word in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["verify"]])
def test_it_runs_as_a_module(transcript: Path, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agentmesh_ledger", *words, str(transcript)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and "verified" in done.stdout


@pytest.mark.spec("L-57")
def test_memory_does_not_grow_with_the_log(tmp_path: Path, keys: KeyStore) -> None:
    import tracemalloc

    from agentmesh_ledger import verify_ledger, verify_transcript

    path, peaks = tmp_path / "big.db", []
    with Ledger.open(path, origin="o", keys=keys, create=True) as ledger:
        draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d", facts={"text": "x" * 300})
        for total in (400, 1600):
            while ledger.size < total:
                ledger.append([draft] * 200)
            with (tmp_path / "t").open("wb") as out:
                ledger.export(out)
            tracemalloc.start()
            verify_transcript(tmp_path / "t")
            verify_ledger(path)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks
