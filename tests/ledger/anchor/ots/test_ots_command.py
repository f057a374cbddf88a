"""`agentmesh anchor stamp` and `upgrade`, as one types them."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest

from agentmesh.__main__ import main
from agentmesh_ledger import verify_ledger
from agentmesh_ledger.anchor.recorded import EVIDENCE_TYPE
from agentmesh_ledger.anchor.stamps import stamps

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command line in this process: its exit code, and what it wrote where."""
    monkeypatch.setenv("TERMINAL_WIDTH", "200")  # typer reads it once

    def call(*arguments: object) -> tuple[int, str, str]:
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            code = main(["anchor", *map(str, arguments)])
        return code, out.getvalue(), err.getvalue()

    return call


@pytest.fixture
def place(spoken, keys):
    """The path of a log whose host has a key."""
    keys.agent("host")
    spoken.close()
    return spoken.path


def where(place):
    return (place, "--keys", place.parent / "keys")


def test_from_the_stamp_to_the_block(run, place, calendar, node) -> None:
    code, out, err = run("stamp", *where(place), "--calendar", calendar.url)
    assert (code, out) == (0, "7 entries stamped; entry 8 says so\n"), err
    again = shlex.split(err.removeprefix("  in some hours: agentmesh anchor "))
    assert again == ["upgrade", *map(str, where(place)), "--calendar", calendar.url]
    code, out, err = run("stamp", *where(place), "--calendar", calendar.url)
    assert (code, out) == (0, "nothing is new since entry 8 stamped 7 entries\n")
    code, out, err = run("upgrade", *where(place), "--calendar", calendar.url, "--node", node.url)
    assert (code, out, err) == (4, "7 entries: pending\n", f"  {calendar.url}: in no block yet\n")
    header = calendar.confirm()
    code, out, err = run("upgrade", *where(place), "--calendar", calendar.url)
    root = header[36:68][::-1].hex()
    assert (code, out) == (
        4,
        f"7 entries: said to be in Bitcoin block 900000, whose merkle root must be {root}\n",
    )
    code, out, err = run("upgrade", *where(place), "--calendar", calendar.url, "--node", node.url)
    assert (
        code == 0
        and out.startswith("7 entries: in Bitcoin block 900000 (")
        and out.endswith("); entry 9 says so\n")
    )
    assert "hashes of work" in err
    assert run("upgrade", *where(place), "--calendar", calendar.url) == (0, "no stamp is pending\n", "")
    code, out, err = run("stamp", *where(place), "--calendar", calendar.url)  # nothing is to come any more
    assert (code, out, err) == (0, "nothing is new since entry 9 stamped 7 entries\n", "")
    assert verify_ledger(place).entries == 10


def test_for_programs(run, place, calendar, block_hash, tmp_path) -> None:
    code, out, _ = run("stamp", *where(place), "--calendar", calendar.url, "--json")
    told = json.loads(out)
    assert (code, told["size"], told["new"], told["calendars"]) == (0, 7, True, [calendar.url])
    header = calendar.confirm()
    file = tmp_path / "headers"
    file.write_text(header.hex())
    code, out, _ = run("upgrade", *where(place), "--calendar", calendar.url, "--header-file", file, "--json")
    told = json.loads(out)
    assert (code, told["state"], told["block"], told["index"]) == (0, "complete", 900_000, 9)
    assert told["block_hash"] == block_hash(header)
    assert run("upgrade", *where(place), "--json") == (0, "", "")


def test_what_goes_wrong_has_its_own_exit_code(run, place, calendar, web, tmp_path) -> None:
    code, _, err = run("stamp", *where(place), "--calendar", "file:///etc/passwd")
    assert code == 2 and "is not the http or https URL of a server" in err
    code, _, err = run("upgrade", *where(place), "--node", "http://user:secret@h/x?key=secret")
    assert code == 2 and "is not the http or https URL of a server" in err and "secret" not in err
    code, _, err = run("upgrade", *where(place), "--node", web.url, "--header-file", tmp_path / "none")
    assert code == 2 and "not both" in err
    code, _, err = run("upgrade", *where(place), "--header-file", tmp_path / "none")
    assert code == 3, err
    (tmp_path / "bad").write_text("cafe\n")
    code, _, err = run("upgrade", *where(place), "--header-file", tmp_path / "bad")
    assert code == 3 and "a Bitcoin block header has 80 bytes, not 2" in err
    code, out, err = run("stamp", *where(place), "--calendar", web.url)
    assert (code, out) == (1, "") and "no calendar took the checkpoint" in err and "NOT VERIFIED" not in err
    code, _, err = run("stamp", *where(place), "--calendar", calendar.url, "--by", "nobody")
    assert code == 2 and "no key of an agent 'nobody'" in err
    for time in ("inf", "1e10", "nan"):  # what no clock can wait for
        code, _, err = run("stamp", *where(place), "--calendar", calendar.url, "--within", time)
        assert code == 2 and "--within" in err
    code, _, err = run("stamp", *where(place))
    assert code == 2 and "--calendar" in err


def test_what_a_server_says_cannot_drive_the_terminal(run, place, calendar, web, serialised) -> None:
    from opentimestamps.core.notary import PendingAttestation
    from opentimestamps.core.timestamp import Timestamp

    def lie(method, path, body):
        said = Timestamp(body)
        said.attestations.add(PendingAttestation("x" * 900))
        return 200, serialised(said)

    web.answer = lie
    code, out, err = run("stamp", *where(place), "--calendar", web.url)
    assert code == 0 and "x" * 300 not in err
    assert all(letter.isprintable() or letter == "\n" for letter in out + err)


def test_a_stamp_that_does_not_hold_is_told(run, place, keys) -> None:
    from agentmesh_ledger import Draft, DraftPart
    from agentmesh_ledger.log import Ledger

    part = DraftPart(
        name="evidence", type=EVIDENCE_TYPE, data=b'{"header":null,"proof":"","type":"opentimestamps"}'
    )
    facts = {"type": "opentimestamps", "size": 1, "root": "00" * 32, "status": "pending"}
    with Ledger.open(place, keys=keys) as log:
        log.append(
            [Draft(author=keys.agent("host"), kind="anchor", dialogue="log", facts=facts, parts=(part,))]
        )
        assert len(stamps(log)) == 1
    code, out, err = run("upgrade", *where(place))
    assert (code, out) == (1, "1 entry: broken\n") and "the timestamp cannot be read" in err
