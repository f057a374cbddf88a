"""The bare install is the auditor's: transcripts verify where nothing heavy can be imported."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from agentmesh_ledger import Draft, DraftPart, KeyStore, Ledger

BARE = """
import sys
from importlib.abc import MetaPathFinder

BLOCKED = {"sqlalchemy", "mcp", "typer", "rich", "llama_cpp", "pydantic", "anyio", "click", "agentmesh", "greenlet"}


class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
        return None


sys.meta_path.insert(0, Blocker())
"""

COMMAND = BARE + "from agentmesh_ledger.__main__ import main\nsys.exit(main(sys.argv[1:]))\n"
LEDGER = (
    BARE
    + "from agentmesh_ledger import LedgerError\ntry:\n    from agentmesh_ledger import Ledger\nexcept LedgerError as error:\n    print(error.reason, error)\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger and its transcript, made while everything can still be imported."""
    root = tmp_path_factory.mktemp("alone")
    keys = KeyStore(root / "keys")
    part = DraftPart(name="text", type="text/plain", data=b"391")
    with Ledger.open(root / "ledger.db", origin="agentmesh.local/desk", keys=keys, create=True) as ledger:
        ledger.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d1", parts=(part,))])
        out = io.BytesIO()
        ledger.export(out)
    (root / "t.jsonl").write_bytes(out.getvalue())
    (root / "bad.jsonl").write_bytes(
        out.getvalue().replace(b"MzkxXX", b"").replace(b'"data":"Mzkx"', b'"data":"Mzky"')
    )
    return root


def bare(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120
    )


def test_a_transcript_verifies_with_every_extra_blocked(folder: Path) -> None:
    done = bare(COMMAND, str(folder / "t.jsonl"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "verified" in done.stdout and "ada" in done.stdout


def test_a_damaged_one_is_refused_with_every_extra_blocked(folder: Path) -> None:
    done = bare(COMMAND, str(folder / "bad.jsonl"))
    assert done.returncode == 1 and "check part: line 3, entry 1" in done.stderr


def test_a_ledger_then_names_the_extra_it_wants(folder: Path) -> None:
    done = bare(COMMAND, str(folder / "ledger.db"))
    assert done.returncode == 3
    assert "agentmesh-runtime[store]" in done.stderr and "Traceback" not in done.stderr


def test_the_package_imports_and_ledger_names_the_extra_it_wants() -> None:
    done = bare(LEDGER)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("no_store ") and "agentmesh-runtime[store]" in done.stdout
