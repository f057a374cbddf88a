"""examples/witnessed: the commands of its page, as they stand there, with real witnesses and a real chain."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

# The first account of every anvil: published with it, and worth nothing anywhere.
ANVIL_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


class Reader:
    """Somebody who follows the page, in a folder with the example in it."""

    def __init__(self, folder: Path, places: dict[str, str], environment: dict[str, str]) -> None:
        self.folder = folder
        self.places = places
        self.vkey = "VKEY"
        self.said: dict[str, str] = {}
        self._environment = environment

    def command(self, words: list[str]) -> list[str]:
        programs = {"agentmesh": "agentmesh", "agentmesh-verify": "agentmesh_ledger"}
        return [sys.executable, "-m", programs[words[0]], *map(self._here, words[1:])]

    def _here(self, word: str) -> str:
        for there, here in self.places.items():
            word = word.replace(there, here)
        return word.replace("VKEY", self.vkey)

    def start(self, words: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(words),
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        assert "http://127.0.0.1" in process.stdout.readline()
        return process

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(words),
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=240,
        )


@pytest.fixture
def reader(
    root: Path,
    tmp_path: Path,
    anvil: Callable[..., AbstractContextManager[str]],
    python_environment: dict[str, str],
) -> Iterator[Reader]:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")
    pytest.importorskip("web3", reason="needs the extra 'chain'")
    example = tmp_path / "examples" / "witnessed"
    shutil.copytree(root / "examples" / "witnessed", example, ignore=shutil.ignore_patterns(".agentmesh"))
    with ExitStack() as stack:
        node = stack.enter_context(anvil("--block-time", "1"))
        places = {"http://127.0.0.1:8545": node}
        places |= {f"127.0.0.1:878{number}": f"127.0.0.1:{free_port()}" for number in (1, 2, 3)}
        mesh = example / "mesh.toml"
        mesh.write_text(mesh.read_text().replace("http://127.0.0.1:8545", node))
        environment = python_environment | {"WITNESSED_CHAIN_KEY": ANVIL_KEY, "NO_COLOR": "1"}
        reader = Reader(tmp_path, places, environment)
        for words in commands((example / "README.md").read_text()):
            if words[:3] == ["agentmesh", "witness", "serve"]:
                process = reader.start(words)
                stack.callback(process.communicate)
                stack.callback(process.kill)
        yield reader


def test_the_page_leads_to_a_transcript_that_witnesses_and_a_chain_stand_behind(
    reader: Reader, root: Path
) -> None:
    told: list[str] = []
    for words in commands((root / "examples" / "witnessed" / "README.md").read_text()):
        if words[:3] == ["agentmesh", "witness", "serve"] or words[0] == "npx":
            continue
        done = reader.run(words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        if words[:3] == ["agentmesh", "anchor", "deploy"]:
            mesh = (reader.folder / "examples" / "witnessed" / "mesh.toml").read_text()
            contract = re.search(r'contract = "(0x\w+)"', mesh)
            assert contract is not None and contract[1].lower() in done.stdout.lower()
        if words[:2] == ["agentmesh", "keys"]:
            found = re.search(r"^log +(\S+)$", done.stdout, re.MULTILINE)
            assert found is not None, done.stdout
            reader.vkey = found[1]
        if words[:2] == ["agentmesh", "run"]:
            assert "391" in done.stdout
            told.append(done.stderr)
    before, after = told
    assert "policy not met (2 of 2 needed)" in before and "anchored: " in before
    assert "policy not met" not in after and "anchored: " in after
    assert re.search(r"witnessed: \d+ entries cosigned by w\d, w\d", after)
    assert "met: quorum" in done.stdout and "block" in done.stdout and "self-asserted" not in done.stdout
