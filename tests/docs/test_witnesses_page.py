"""What docs/witnesses.md shows runs, and its figures are the code's."""

from __future__ import annotations

import http.server
import re
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from nacl.signing import SigningKey
from typer.main import get_command

from agentmesh.cli.app import app
from agentmesh.witness_policy import FILE_NAME
from agentmesh_ledger import Draft, KeyStore, Ledger, parse_policy
from agentmesh_ledger.commands import fork_parser
from agentmesh_ledger.cosignature import CosignerKey, cosign
from agentmesh_ledger.errors import CHECKS
from agentmesh_ledger.fork import MOST_KEPT
from agentmesh_ledger.gather import GRACE, Gathered
from agentmesh_ledger.keys import LogKey
from agentmesh_ledger.note import MAX_SIGNATURES
from agentmesh_ledger.visit import MAX_ANSWER
from agentmesh_ledger.witness.request import parse_submission

ORIGIN = "agentmesh.local/desk"


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "witnesses.md").read_text()


@pytest.fixture
def witness() -> Iterator[str]:
    """A witness that believes everything; its line of a policy."""
    secret = SigningKey(b"w" * 32)
    key = LogKey(name="w.example", public=bytes(secret.verify_key), _key=secret)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            note = parse_submission(self.rfile.read(int(self.headers["Content-Length"]))).note
            body = cosign(note, key, int(time.time()))[len(note) :].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        vkey = CosignerKey(name=key.name, public=key.public)
        yield f"witness w1 {vkey} http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join(20)


def test_the_example_in_python_runs(
    page: str, witness: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    keys = KeyStore(Path("keys"))
    with Ledger.open("ledger.db", origin=ORIGIN, keys=keys, create=True) as ledger:
        ledger.append([Draft(author=keys.agent("ada"), kind="open", dialogue="d1")])
        Path("witnesses.policy").write_text(f"log {ledger.vkey()}\n{witness}\nquorum w1\n")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "witnesses.md", "exec"), names)
    gathered = cast(Gathered, names["gathered"])
    assert gathered.evidence is not None and gathered.size == 2
    assert names["note"] == gathered.note == Path("keys/logs/agentmesh.local%2Fdesk.cosigned").read_text()


def test_the_policy_shown_is_one_that_add_writes(page: str) -> None:
    (text,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    policy = parse_policy(text.encode())
    (group,) = policy.groups
    assert (group.name, group.needed, policy.quorum) == ("witnesses", 2, "witnesses")
    assert all(each.url for each in policy.witnesses) and group.needed == len(policy.witnesses) // 2 + 1
    assert f"`{FILE_NAME}`" in page and f"desk/{FILE_NAME}" in page


def test_the_commands_shown_are_there(page: str) -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 6
    for line in lines:
        program, *words = shlex.split(line, comments=True)
        if program == "agentmesh-verify":
            assert words[0] == "fork"
            fork_parser().parse_args(words[1:])
            continue
        command = get_command(app)
        while words and hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context("x", words, resilient_parsing=False)


def test_the_figures_and_reasons_are_those_of_the_code(page: str) -> None:
    assert f"{MAX_ANSWER:,} bytes" in page.replace("\n", " ")
    assert f"the others have {GRACE:.0f} second more" in page
    assert f"of one log {MOST_KEPT} are kept" in page and MAX_SIGNATURES > 32
    assert "rollback" in CHECKS and "fork" in CHECKS
    for reason in ("rollback", "forked"):
        assert f"| `{reason}` |" in page


def test_the_section_of_the_specification_is_the_one_named(page: str, root: Path) -> None:
    number = re.search(r"format is section (\d+) of", page)
    assert number is not None
    assert f"## {number[1]}. Forks\n" in (root / "ledger" / "SPEC.md").read_text()
