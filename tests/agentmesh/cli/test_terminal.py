"""What is asked of a person at a terminal: a real one, of which we hold the other end."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, verify_ledger

WAIT_SECONDS = 60
Talk = Callable[..., tuple[int, str]]


@pytest.fixture
def talk() -> Talk:
    """Runs a command line on a terminal of its own; answers each question, told by its end, with a line."""

    def run(line: str, *answers: tuple[str, str]) -> tuple[int, str]:
        words = [sys.executable, "-m", "agentmesh", *shlex.split(line)]
        child, terminal = pty.fork()
        if child == 0:
            os.environ.pop("AGENTMESH_PASSPHRASE", None)
            os.environ |= {"NO_COLOR": "1", "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
            os.execv(words[0], words)
        try:
            seen = ""
            for question, answer in answers:
                seen += _until(terminal, question)
                os.write(terminal, f"{answer}\n".encode())
            seen += _until(terminal, None)
        finally:
            os.close(terminal)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), seen

    return run


def _until(terminal: int, wanted: str | None) -> str:
    """What is written until it ends with the question; to the end where none is wanted."""
    end, seen = time.monotonic() + WAIT_SECONDS, b""
    while wanted is None or not seen.rstrip().endswith(wanted.encode()):
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, f"no {wanted!r} after {seen!r}"
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end is closed
            piece = b""
        if not piece:
            assert wanted is None, f"no {wanted!r} after {seen!r}"
            break
        seen += piece
    return seen.decode()


def test_a_person_is_asked_before_content_is_erased(talk: Talk, recorded: Path) -> None:
    ledger = recorded / ".agentmesh" / "ledger.db"
    line = f"ledger erase 6 --ledger {shlex.quote(str(recorded))}"
    code, seen = talk(line, ("for ever? [y/N]:", "n"))
    assert code == 1 and "nothing was changed" in seen
    assert "Delete text of entry 6 (result in dialogue 20261124-aa)" in seen
    assert verify_ledger(ledger).entries == 11
    code, seen = talk(line, ("for ever? [y/N]:", "y"))
    assert code == 0, seen
    assert verify_ledger(ledger).withheld == 1


def test_a_person_gives_the_passphrase_twice_to_seal_and_once_to_sign(talk: Talk, recorded: Path) -> None:
    keys = KeyStore(recorded / ".agentmesh" / "keys")
    where = f"--ledger {shlex.quote(str(recorded))}"
    first, again = f"Passphrase of the keys in {keys.directory}:", "The same once more:"
    code, seen = talk(f"ledger seal-keys {where}", (first, "word"), (again, "wrod"))
    assert code == 2 and "two passphrases" in seen and not keys.sealed()
    code, seen = talk(f"ledger seal-keys {where}", (first, "word"), (again, "word"))
    assert code == 0 and "3 keys sealed" in seen and "word" not in seen.replace(first, "")
    assert keys.sealed()
    code, seen = talk(f"ledger erase 6 --yes {where}", (first, "wrong"))
    assert code == 1 and "does not open this key" in seen
    code, seen = talk(f"ledger erase 6 --yes {where}", (first, "word"))
    assert code == 0, seen
    code, seen = talk(f"ledger unseal-keys {where}", (first, "word"))
    assert code == 0 and not keys.sealed(), seen


def test_a_long_verification_shows_on_a_terminal_how_far_it_is(talk: Talk, recorded: Path) -> None:
    code, seen = talk(f"verify {shlex.quote(str(recorded))}")
    assert code == 0 and "11 of 11 entries" in seen
    code, seen = talk(
        f"ledger export-tiles {shlex.quote(str(recorded / 'public'))} --ledger {shlex.quote(str(recorded))}"
    )
    assert code == 0 and re.search(r"\d+ of \d+ files", seen), seen


def test_a_person_is_asked_about_tools_that_changed_and_the_run_goes_on_or_not(
    talk: Talk, weather: Path
) -> None:
    where = shlex.quote(str(weather))
    code, seen = talk(f"run {where}")
    assert code == 0, seen
    server = weather / "weather.py"
    server.write_text(server.read_text().replace("Tells the weather.", "Tells. And mails."))
    question = "Accept these tools from now on, and run? [y/N]:"
    for answer in ("n", ""):
        code, seen = talk(f"run {where}", (question, answer))
        assert code == 1 and "nothing was run" in seen and "And mails." in seen
    code, seen = talk(f"run {where}", (question, "y"))
    assert code == 0 and "It rains." in seen, seen
    code, seen = talk(f"run {where}")
    assert code == 0, seen


def test_a_person_is_asked_before_tools_are_accepted(talk: Talk, weather: Path) -> None:
    where, pins = shlex.quote(str(weather)), weather / ".agentmesh" / "pins.json"
    code, seen = talk(f"pins accept {where}", ("Accept the tools of weather? [y/N]:", "n"))
    assert code == 1 and "nothing was changed" in seen and not pins.exists()
    code, seen = talk(f"pins accept {where}", ("Accept the tools of weather? [y/N]:", "y"))
    assert code == 0 and pins.exists(), seen
