"""`make verifier`: the verifier as one file, which runs with nothing installed, workers and all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_ledger import Draft, KeyStore, Ledger

Run = Callable[..., subprocess.CompletedProcess[str]]
BEHIND = 2600  # entries: more than are verified in one process

COUNTED = """
import sys
from agentmesh_ledger import crew, verify_transcript

started = []
begin = crew._Worker.__init__
crew._Worker.__init__ = lambda worker, *rest: (started.append(worker), begin(worker, *rest))[1]
found = verify_transcript({path!r}, jobs=2)
print(found.entries, len(started), sys.modules["agentmesh_ledger"].__file__)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The file, made by the recipe of the Makefile with this Python."""
    programs = Path(sys.executable).parent
    if shutil.which("make") is None or not (programs / "shiv").exists():
        pytest.skip("make or shiv is not installed")
    folder = tmp_path_factory.mktemp("verifier")
    file = folder / "agentmesh-verify.pyz"
    done = subprocess.run(
        ["make", f"BIN={programs}", f"VERIFIER={file}", f"BUILD={folder / 'build'}", str(file)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0 and "No matching distribution" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(folder / "build")
    return file


@pytest.fixture
def alone(built: Path, tmp_path: Path) -> Run:
    """Runs it where nothing of ours can be imported but what it brings."""

    def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys._base_executable, "-S", built, *map(str, arguments)],  # type: ignore[attr-defined]
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "SHIV_ROOT": str(tmp_path / "unpacked"), **env},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_it_verifies_a_golden_transcript_and_refuses_a_changed_one(
    alone: Run, root: Path, tmp_path: Path
) -> None:
    golden = root / "tests" / "ledger" / "golden" / "v1-keys-log.transcript.jsonl"
    done = alone(golden)
    assert (done.returncode, done.stderr) == (0, "") and "log: 12 entries of 12" in done.stdout
    changed = tmp_path / "changed"
    changed.write_bytes(golden.read_bytes().replace(b'"index":3', b'"index":4', 1))
    done = alone(changed)
    assert done.returncode == 1 and "check " in done.stderr and "Traceback" not in done.stderr
    assert "agentmesh-verify 0" in alone("--version").stdout


def test_it_holds_the_verifier_and_no_more(alone: Run, tmp_path: Path) -> None:
    alone("--version")
    (unpacked,) = (tmp_path / "unpacked").glob("*/site-packages")
    names = {path.name for path in unpacked.iterdir()}
    assert {"agentmesh_ledger", "nacl", "rfc8785"} <= names
    assert not names & {"agentmesh", "agentmesh_models", "agentmesh_servers", "sqlalchemy", "bin"}


def test_its_workers_are_it_too(alone: Run, tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys")
    path = tmp_path / "long.transcript.jsonl"
    with (
        Ledger.open(tmp_path / "ledger.db", origin="agentmesh.local/long", keys=keys, create=True) as log,
        path.open("wb") as out,
    ):
        draft = Draft(author=keys.agent("ada"), kind="say", dialogue="d")
        while log.size < BEHIND:
            log.append([draft] * min(500, BEHIND - log.size))
        log.export(out)
    assert alone(path).returncode == 0
    done = alone("-c", COUNTED.format(path=str(path)), SHIV_INTERPRETER="1")
    assert (done.returncode, done.stderr) == (0, "")
    entries, workers, where = done.stdout.split()
    assert (entries, workers) == (str(BEHIND), "2") and where.startswith(str(tmp_path / "unpacked"))
