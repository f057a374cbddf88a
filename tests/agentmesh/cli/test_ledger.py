"""`agentmesh ledger`: erasing, proving, publishing, and going on after a rollback."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import KeyStore, verify_ledger, verify_tiles, verify_transcript
from agentmesh_ledger.__main__ import main as verifier
from agentmesh_ledger.checkpoint import open_checkpoint
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.note import parse_vkey

Agentmesh = Callable[..., Any]
ORIGIN = "agentmesh.local/desk"
RESULT, SAID = 6, 7  # entries: the calculator says 391, and the agent that the result is 391


@pytest.fixture
def ledger(recorded: Path) -> Path:
    return recorded / ".agentmesh" / "ledger.db"


def copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def vkey(recorded: Path) -> str:
    return KeyStore(recorded / ".agentmesh" / "keys").vkey(ORIGIN)


def test_content_is_erased_for_ever_and_the_log_says_so(
    agentmesh: Agentmesh, recorded: Path, ledger: Path, tmp_path: Path
) -> None:
    assert b"The result is" in ledger.read_bytes()
    done = agentmesh("ledger", "erase", SAID, "--ledger", recorded, "--yes", "--reason", "asked to")
    assert (done.code, done.out) == (0, "entry 7: text erased; entry 11 says so\n"), done.err
    assert [path for path in ledger.parent.glob("ledger.db*") if b"The result is" in path.read_bytes()] == []
    evidence = verify_ledger(ledger)
    assert (evidence.entries, evidence.withheld, evidence.erased) == (12, 1, 1)
    with Ledger.open(ledger, read_only=True) as log:
        (tombstone,) = log.read(11)
        assert (tombstone.message.kind, tombstone.message.facts["reason"]) == ("erase", "asked to")
        assert tombstone.message.author == KeyStore(ledger.parent / "keys").agent_id("host")
    assert "withheld" in agentmesh("replay", recorded, "20261124").out
    agentmesh("export", "20261124", "--ledger", recorded, "-o", tmp_path / "t")
    assert verify_transcript(tmp_path / "t").withheld == 1


def test_one_part_is_erased_by_the_agent_that_is_named(agentmesh: Agentmesh, recorded: Path) -> None:
    done = agentmesh(
        "ledger", "erase", 2, "--part", "text", "--by", "front", "--yes", "--json", "--ledger", recorded
    )
    assert done.lines == [{"entry": 2, "parts": ["text"], "tombstone": 11, "size": 12}]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((99,), "the log has no entry 99\nit has the entries 0 to 10"),
        ((0,), "entry 0 has no content to erase"),
        ((2, "--part", "voice"), "entry 2 has no part 'voice'\nit has: text"),
        ((2, "--by", "nobody"), "no key of an agent 'nobody'\nthere are: front, host"),
    ],
)
def test_what_cannot_be_erased_is_usage(
    agentmesh: Agentmesh, recorded: Path, ledger: Path, arguments: tuple[object, ...], says: str
) -> None:
    done = agentmesh("ledger", "erase", *arguments, "--yes", "--ledger", recorded)
    assert done.code == 2 and says in done.err
    assert verify_ledger(ledger).entries == 11


def test_nothing_is_erased_without_a_word_where_nobody_can_be_asked(
    agentmesh: Agentmesh, recorded: Path, ledger: Path
) -> None:
    done = agentmesh("ledger", "erase", RESULT, "--ledger", recorded)
    assert done.code == 2 and "--yes" in done.err
    assert verify_ledger(ledger).withheld == 0


def test_a_proof_is_made_that_anyone_verifies(agentmesh: Agentmesh, recorded: Path, tmp_path: Path) -> None:
    file = tmp_path / "6.tlog-proof"
    done = agentmesh("ledger", "prove", RESULT, "-o", file, "--ledger", recorded)
    assert done.code == 0 and f"agentmesh-verify proof {file}" in done.err
    assert verifier(["proof", str(file), "--key", vkey(recorded)]) == 0
    assert agentmesh("ledger", "prove", RESULT, "--ledger", recorded).out.endswith("\n" + file.read_text())
    done = agentmesh("ledger", "prove", 11, "--ledger", recorded)
    assert done.code == 2 and "the log has no entry 11" in done.err
    ledger = recorded / ".agentmesh" / "ledger.db"
    for target in (ledger, tmp_path):
        assert agentmesh("ledger", "prove", RESULT, "-o", target, "--ledger", recorded).code == 2


def test_the_log_is_published_and_brought_up_to_date(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "public"
    done = agentmesh("ledger", "export-tiles", folder, "--ledger", recorded)
    assert (done.code, done.out) == (0, f"{folder}: 11 entries, 11 of them new\n")
    assert verify_tiles(folder, keys=[vkey(recorded)]).log.entries == 11
    agentmesh("ledger", "erase", RESULT, "--yes", "--ledger", recorded)
    (told,) = agentmesh("ledger", "export-tiles", folder, "--json", "--ledger", recorded).lines
    assert (told["before"], told["size"], told["origin"]) == (11, 12, ORIGIN)
    assert verify_tiles(folder, keys=[vkey(recorded)]).log.entries == 12


def test_the_checkpoint_that_is_printed_is_what_expect_wants(
    agentmesh: Agentmesh, recorded: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    done = agentmesh("ledger", "checkpoint", "-o", kept, "--ledger", recorded)
    assert done.code == 0 and "the checkpoint of 11 entries" in done.err
    assert agentmesh("ledger", "checkpoint", "--ledger", recorded).out == kept.read_text()
    agentmesh("ledger", "erase", RESULT, "--yes", "--ledger", recorded)
    done = agentmesh("verify", recorded, "--expect", kept)
    assert done.code == 0 and "still holds all 11 entries of your checkpoint" in done.out


def test_an_older_copy_is_gone_on_with_only_when_told_and_the_log_says_what_was_lost(
    agentmesh: Agentmesh, recorded: Path, ledger: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old.db"
    copy(ledger, old)
    agentmesh("ledger", "erase", RESULT, "--yes", "--ledger", recorded)
    lost = KeyStore(ledger.parent / "keys").last_checkpoint(ORIGIN).read()
    assert lost is not None
    ledger.unlink()
    copy(old, ledger)

    done = agentmesh("ledger", "erase", RESULT, "--yes", "--ledger", recorded)
    assert done.code == 1 and "agentmesh ledger accept-rollback" in done.err
    done = agentmesh("ledger", "accept-rollback", "--ledger", recorded)
    assert done.code == 2 and "entries 11 to 11" in done.err and "--yes" in done.err
    assert agentmesh("ledger", "erase", RESULT, "--yes", "--ledger", recorded).code == 1

    (told,) = agentmesh("ledger", "accept-rollback", "--yes", "--json", "--ledger", recorded).lines
    assert told == {"size": 11, "restored": 11}
    with Ledger.open(ledger, read_only=True) as log:
        (entry,) = log.read(11)
        assert (entry.message.kind, entry.message.dialogue) == ("log.restored", "log")
        assert entry.message.facts == {"size": 11, "lost": lost}
        size = open_checkpoint(lost, [parse_vkey(log.vkey())]).checkpoint.size
        assert size == 12
    assert verify_ledger(ledger).entries == 12
    assert agentmesh("ledger", "erase", RESULT, "--yes", "--ledger", recorded).code == 0


def test_a_ledger_that_was_deleted_is_begun_anew_only_when_told(
    agentmesh: Agentmesh, recorded: Path, ledger: Path
) -> None:
    (recorded / "steps.json").write_text('[{"say": "It is 391."}]')
    text = (recorded / "mesh.toml").read_text().replace('"nano"', '"scripted:steps.json"')
    (recorded / "mesh.toml").write_text(text)
    for path in ledger.parent.glob("ledger.db*"):
        path.unlink()
    done = agentmesh("run", recorded)
    assert done.code == 1 and "accept-rollback" in done.err
    done = agentmesh("ledger", "accept-rollback", "--yes", "--ledger", recorded)
    assert done.code == 0 and "goes on with 0 entries; entry 1 says what was lost" in done.out
    assert agentmesh("run", recorded).code == 0
    assert verify_ledger(ledger).entries == 8


def test_a_rollback_is_accepted_only_once_the_log_tells_of_it(
    recorded: Path, ledger: Path, tmp_path: Path, agentmesh: Agentmesh
) -> None:
    copy(ledger, tmp_path / "old.db")
    agentmesh("ledger", "erase", RESULT, "--yes", "--ledger", recorded)
    ledger.unlink()
    copy(tmp_path / "old.db", ledger)
    keys = KeyStore(ledger.parent / "keys")
    lost = keys.last_checkpoint(ORIGIN).read()
    Ledger.open(ledger, keys=keys, accept_rollback=True).close()  # and then the program dies
    assert keys.last_checkpoint(ORIGIN).read() == lost
    assert agentmesh("ledger", "accept-rollback", "--yes", "--ledger", recorded).code == 0
    assert agentmesh("ledger", "accept-rollback", "--yes", "--ledger", recorded).code == 2


def test_each_command_needs_a_ledger(agentmesh: Agentmesh, mesh: Path) -> None:
    for words in (
        ("erase", 1, "--yes"),
        ("prove", 1),
        ("checkpoint",),
        ("export-tiles", mesh / "tiles"),
        ("accept-rollback",),
        ("rotate-key", "front"),
        ("revoke-key", "front", "--after", 1),
        ("seal-keys",),
        ("unseal-keys",),
    ):
        done = agentmesh("ledger", *words, "--ledger", mesh)
        assert done.code == 3 and "nothing is recorded there yet" in done.err, words


def test_a_command_that_signs_needs_the_keys(agentmesh: Agentmesh, recorded: Path, tmp_path: Path) -> None:
    done = agentmesh(
        "ledger", "erase", RESULT, "--yes", "--ledger", recorded, "--keys", tmp_path / "elsewhere"
    )
    assert done.code == 1 and "is not in the key store" in done.err
    keys = recorded / ".agentmesh" / "keys"
    keys.rename(tmp_path / "elsewhere")
    done = agentmesh(
        "ledger", "erase", RESULT, "--yes", "--ledger", recorded, "--keys", tmp_path / "elsewhere", "--json"
    )
    assert done.code == 0 and json.loads(done.out)["tombstone"] == 11
