"""`agentmesh verify MESH --with URL`: the other side's record, as the mesh itself hands it out."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]


def _port(mesh: Path) -> int:
    found = re.search(r"127\.0\.0\.1:(\d+)/mcp", (mesh / "mesh.toml").read_text())
    assert found is not None
    return int(found[1])


def test_a_served_mesh_hands_out_its_record_of_our_dialogues(
    command: Command, held: Any, serve: Command
) -> None:
    with serve(held.lab, port=_port(held.desk)) as url:
        for _ in range(2):  # what is read to verify leaves no trace that would differ
            checked = command("verify", held.desk, "--with", url)
            assert checked.code == 0, checked.out + checked.err
            assert "with       lab.example/critics" in checked.out and "matching   4 messages" in checked.out
        by_ledger = command("verify", held.desk / ".agentmesh" / "ledger.db", "--with", url)
        assert by_ledger.code == 2 and "no key is known here" in by_ledger.err, by_ledger.err


def test_a_forged_record_is_found_where_its_owner_serves_it(
    command: Command, held: Any, forge: Any, serve: Command
) -> None:
    forged = forge.sign_anew(held.lab, forge.answers_instead(b"It is bad.", held.lab))
    with serve(forged, port=_port(held.desk)) as url:
        checked = command("verify", held.desk, "--with", url, "--json")
    found = checked.json["crosscheck"]
    assert checked.code == 1 and (found["matching"], found["differs"]) == (3, 1), found
    assert "two statements about it, both signed by" in found["findings"][0]["why"]


def test_a_dialogue_that_the_other_side_has_forgotten_is_lacking(
    command: Command, held: Any, serve: Command
) -> None:
    for ledger in (held.lab / ".agentmesh").glob("ledger.db*"):
        ledger.unlink()
    for last in (held.lab / ".agentmesh" / "keys" / "logs").glob("*.checkpoint"):
        last.unlink()
    with serve(held.lab, port=_port(held.desk)) as url:
        checked = command("verify", held.desk, "--with", url, "--json")
    found = checked.json["crosscheck"]
    assert checked.code == 1 and (found["matching"], found["lacking"]) == (0, 4), found


def test_another_key_at_the_address_is_not_believed(command: Command, held: Any, serve: Command) -> None:
    shutil.rmtree(held.lab / ".agentmesh" / "keys")
    for ledger in (held.lab / ".agentmesh").glob("ledger.db*"):
        ledger.unlink()
    with serve(held.lab, port=_port(held.desk)) as url:
        checked = command("verify", held.desk, "--with", url)
    assert checked.code == 1 and "agree" not in checked.out, checked.out
    assert url in checked.err, checked.err


def test_nobody_there_and_nobody_known_are_told(command: Command, held: Any, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{_port(held.desk)}/mcp"
    checked = command("verify", held.desk, "--with", away)
    assert checked.code == 1 and "nothing answers at its address" in checked.err
    checked = command("verify", held.desk, "--with", "http://127.0.0.1:9/mcp")
    assert checked.code == 2 and "no key is known here" in checked.err
    transcript = tmp_path / "desk.jsonl"
    assert command("export", "all", "--ledger", held.desk, "-o", transcript).code == 0
    checked = command("verify", transcript, "--with", away)
    assert checked.code == 2 and "is a file alone" in checked.err


def test_what_was_said_under_a_key_that_was_changed_since_counts(
    command: Command, held: Any, serve: Command, forge: Any
) -> None:
    assert command("ledger", "rotate-key", "host", "--ledger", held.lab).code == 0
    assert command("pins", "forget", held.desk, "lab").code == 0
    (held.lab / "steps.json").write_text('[{"say": "It is best."}, {"say": "It is well."}]')
    with serve(held.lab, port=_port(held.desk)) as url:
        assert command("run", held.desk).code == 0
        checked = command("verify", held.desk, "--with", url)
        assert checked.code == 0 and "matching   8 messages" in checked.out, checked.out
    for one, other in ((held.desk, held.lab), (held.lab, held.desk)):
        assert "matching   8 messages" in command("verify", one, "--with", other).out

    old: list[str] = []

    def forgotten(record: Any, copy: Any) -> Any:
        """The owner keeps nothing of what the old key signed."""
        if not record.message.kind.startswith("key.") and not old:
            old.append(record.message.author)
        is_old = record.message.author in old or record.message.kind.startswith("key.")
        return None if is_old or b"It is good." in b"".join(copy.parts.values()) else copy

    forged = forge.sign_anew(held.lab, forgotten)
    for one, other in ((held.desk, forged), (forged, held.desk)):
        checked = command("verify", one, "--with", other, "--json")
        found = checked.json["crosscheck"]
        assert checked.code == 1 and (found["matching"], found["lacking"]) == (4, 4), found
