"""`pip install .` without an extra is the auditor's install: the verifier runs, and a run says what it wants."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The `bin` folder of a new environment that holds this project and nothing an extra brings."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=True)
    bin_ = folder / "venv" / "bin"
    done = subprocess.run(
        [bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", str(root)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0 and "No matching distribution" in done.stderr:
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    return bin_


@pytest.fixture(scope="module")
def transcript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real transcript, made with the store here and read without it there."""
    from agentmesh_ledger import Draft, DraftPart, KeyStore
    from agentmesh_ledger.log import Ledger

    folder = tmp_path_factory.mktemp("transcript")
    keys = KeyStore(folder / "keys")
    path = folder / "t.transcript.jsonl"
    with Ledger.open(folder / "ledger.db", origin="agentmesh.local/bare", keys=keys, create=True) as log:
        part = DraftPart(name="text", type="text/plain; charset=utf-8", data=b"391")
        log.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d1", parts=(part,))])
        with path.open("wb") as out:
            log.export(out)
    return path


def test_the_bare_install_holds_no_heavy_package(bare: Path) -> None:
    listed = subprocess.run([bare / "pip", "list"], capture_output=True, text=True, timeout=60, check=True)
    names = {line.split()[0].casefold() for line in listed.stdout.splitlines()[2:] if line.strip()}
    assert {"agentmesh-runtime", "pynacl", "rfc8785"} <= names
    assert not names & {"sqlalchemy", "mcp", "typer", "rich", "pydantic", "llama-cpp-python"}


def test_the_bare_verifier_verifies_and_finds_a_changed_byte(
    bare: Path, transcript: Path, tmp_path: Path
) -> None:
    done = subprocess.run([bare / "agentmesh-verify", transcript], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    changed = tmp_path / "changed.jsonl"
    good = transcript.read_bytes()
    changed.write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    done = subprocess.run([bare / "agentmesh-verify", changed], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_a_run_says_which_extra_it_wants(bare: Path, root: Path) -> None:
    done = subprocess.run(
        [bare / "agentmesh", "run", str(root / "examples" / "desk")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "agentmesh-runtime[run" in done.stderr and len(done.stderr.splitlines()) <= 3
    assert done.stdout == ""


def test_a_server_says_which_extra_it_wants(bare: Path) -> None:
    done = subprocess.run(
        [bare / "agentmesh-server", "calculator"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "agentmesh-runtime[mcp]" in done.stderr and "Traceback" not in done.stderr


def test_the_contract_comes_with_it_source_and_all(bare: Path, root: Path) -> None:
    folder = root / "ledger" / "agentmesh_ledger" / "anchor" / "contract"
    program = (
        "from importlib.resources import files\n"
        "from agentmesh_ledger.anchor.contract import contract\n"
        "print(contract().runtime.hex(), len(contract().bytecode), len(contract().abi))\n"
        "print(files('agentmesh_ledger.anchor.contract').joinpath('checkpoints.vy').read_text(), end='')\n"
    )
    done = subprocess.run([bare / "python", "-I", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, source = done.stdout.split("\n", 1)
    assert first.startswith((folder / "runtime.hex").read_text().strip().removeprefix("0x") + " ")
    assert source == (folder / "checkpoints.vy").read_text()
