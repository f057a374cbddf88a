"""Every block of docs/ledger.md runs, in order, in one folder; those that speak to a server, with a real one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

URL = "postgresql+psycopg://me@localhost/agents"
SHELL = 'agentmesh-verify() { "$PYTHON" -m agentmesh_ledger "$@"; }\nset -eu\n'


@pytest.fixture
def blocks(root: Path) -> list[tuple[str, str]]:
    """The page's blocks: their language, and the code at its line of the page, so that a failure names it."""
    text = (root / "docs" / "ledger.md").read_text()
    found = [
        (each[1], "\n" * text.count("\n", 0, each.start(2)) + each[2])
        for each in re.finditer(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    ]
    assert {language for language, _ in found} == {"python", "sh"}
    return found


def shell(code: str) -> None:
    done = subprocess.run(
        ["bash", "-c", SHELL + code],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("with_server", [False, True], ids=["alone", "with a server"])
def test_the_page_runs_from_top_to_bottom(
    request: pytest.FixtureRequest,
    blocks: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_server: bool,
) -> None:
    url = request.getfixturevalue("database") if with_server else None
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    run = 0
    for language, code in blocks:
        if URL in code and url is None:
            continue
        if language == "sh":
            (tmp_path / "desk.vkey").write_text(str(names["vkey"]))
            shell(code)
        else:
            exec(compile(code.replace(URL, url or URL), "docs/ledger.md", "exec"), names)
        run += 1
    assert run == len(blocks) - (0 if with_server else 1)
