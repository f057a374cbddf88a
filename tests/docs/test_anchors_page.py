"""What docs/anchors.md shows runs before a real node, and what it says of options and states is so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from agentmesh.cli.app import app
from agentmesh_ledger import Draft, KeyStore, verify_ledger
from agentmesh_ledger.anchor.progress import Stage
from agentmesh_ledger.log import Ledger

# The first account of every development chain; its key is known to everybody.
KEY = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
SHELL = 'agentmesh() { "$PYTHON" -m agentmesh "$@"; }\nset -eu\n'


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "anchors.md").read_text()


@pytest.fixture
def rpc(anvil: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    pytest.importorskip("eth_account", reason="the extra chain is not installed")
    with anvil("--block-time", "1", "--base-fee", "1000000") as url:
        yield url


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def desk(folder: Path, origin: str = "agentmesh.local/desk") -> Path:
    """A mesh that has said something."""
    folder.mkdir()
    (folder / "mesh.toml").write_text(
        '[mesh]\nname = "desk"\n[dialogue]\ntask = "?"\n[agents.front]\nmodel = "nano"\nrole = "You talk."\n'
    )
    keys = KeyStore(folder / ".agentmesh" / "keys")
    with Ledger.open(folder / ".agentmesh" / "ledger.db", origin=origin, keys=keys, create=True) as log:
        log.append([Draft(author=keys.agent("host"), kind="say", dialogue="d1")])
    return folder


def test_the_pages_commands_and_its_program_run_in_order(
    page: str, rpc: str, tmp_path: Path, python_environment: dict[str, str]
) -> None:
    desk(tmp_path / "desk")
    environment = python_environment | {
        "PYTHON": sys.executable,
        "RPC": rpc,
        "ANCHOR_KEY": KEY,
        "NO_COLOR": "1",
    }
    (commands,) = blocks(page, "sh")
    done = subprocess.run(
        ["bash", "-c", f"{SHELL}{commands}\necho \"$contract\" > contract"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recorded: size 2" in done.stdout and "the contract holds 2 of the log's 3 entries" in done.stdout
    environment["CONTRACT"] = (tmp_path / "contract").read_text().strip()
    (program,) = blocks(page, "python")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"recorded 2 \d+ 2\n", done.stdout)
    # Two registrations, what ada said, and the anchor.
    assert verify_ledger(tmp_path / "notes" / "ledger.db").entries == 4
    shutil.rmtree(tmp_path / "notes")


def test_an_anchor_costs_what_the_page_says(
    rpc: str, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentmesh.__main__ import main

    monkeypatch.setenv("ANCHOR_KEY", KEY)
    folder = desk(tmp_path / "desk")
    given = ["--rpc", rpc, "--key-env", "ANCHOR_KEY"]
    address = subprocess.run(
        [sys.executable, "-m", "agentmesh", "anchor", "deploy", *given],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout.strip()  # fmt: skip
    keys = KeyStore(folder / ".agentmesh" / "keys")
    for _ in range(2):
        with Ledger.open(folder / ".agentmesh" / "ledger.db", keys=keys) as log:
            log.append([Draft(author=keys.agent("host"), kind="say", dialogue="d1")])
        options = [*given, "--contract", address, "--confirmations", "1"]
        assert main(["anchor", "push", str(folder), *options]) == 0
    with Ledger.open(folder / ".agentmesh" / "ledger.db", read_only=True) as log:
        last = [each.message.facts["tx"] for each in log.read() if each.message.kind == "anchor"][-1]
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionReceipt", "params": [last]}
    request = urllib.request.Request(rpc, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        gas = int(json.load(answer)["result"]["gasUsed"], 16)
    (said,) = re.findall(r"About ([\d,]+) gas an anchor after the first", page)
    assert 0.9 < gas / int(said.replace(",", "")) < 1.1


def test_every_option_and_state_that_the_page_names_is_there_and_its_defaults_are_so(page: str) -> None:
    anchor = get_command(app).commands["anchor"]  # type: ignore[attr-defined]
    options = {
        option: parameter.default
        for verb in ("deploy", "push", "status", "watch")
        for parameter in anchor.commands[verb].params
        for option in parameter.opts
    }
    named = set(re.findall(r"[` ](--[a-z][a-z-]+)", page))
    assert len(named) > 10
    verify = get_command(app).commands["verify"].params  # type: ignore[attr-defined]
    told = named - {option for parameter in verify for option in parameter.opts}
    assert told <= set(options), told - set(options)
    assert options["--within"] == 300.0
    stages = set(re.findall(r"`(\w+)`", page.split("States:")[1].split("Only")[0]))
    assert stages == set(get_args(Stage))
