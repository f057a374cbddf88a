"""What docs/connect.md claims is so: its hosts, files and sections are the code's, and its commands are understood."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
from typer.main import get_command

from agentmesh.cli.app import app
from agentmesh.hosts.connection import config_path
from agentmesh.hosts.server import CARRIED, Launch, Remote
from agentmesh.hosts.table import HOSTS, Machine, entry_for, find_host, places

REMOTE = Remote(url="http://x/mcp", token_env="NAME")
SECRET = Launch(command="/py", args=(), secrets=("NAME",))


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "connect.md").read_text()


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table under this heading row."""
    lines = page.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading)) + 2
    found: list[list[str]] = []
    for line in lines[start:]:
        if not line.startswith("|"):
            return found
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_table_of_hosts_is_the_codes(page: str) -> None:
    told = rows(page, "| host | file |")
    assert [row[0] for row in told] == [f"`{host.id}`" for host in HOSTS]
    here = Machine(system="linux", home="~", env={}, folder="")
    for host, row in zip(HOSTS, told, strict=True):
        assert row[2:] == [f"`{host.section}`", host.kind.name]
        assert f"`{host.places(here)[0]}`" in row[1]
        if host.project is not None:
            assert f"a project's `{places(host, 'project', here)[0]}`" in row[1]
        mac = host.places(Machine(system="macos", home="~", env={}, folder=""))[0]
        assert mac == host.places(here)[0] or str(mac.parent) in row[1]
        windows = host.places(Machine(system="windows", home="~", env={"APPDATA": "C:/R"}, folder=""))[-1]
        shown = windows.as_posix().replace("C:/R", "%APPDATA%").replace("/", "\\")
        assert "%APPDATA%" not in shown or shown.rpartition("\\")[0] in row[1]


def test_each_hosts_way_to_name_a_variable_is_the_codes(page: str) -> None:
    for ids, remote, started in rows(page, "| host | a running server's token |"):
        for name in re.findall(r"`([a-z-]+)`", ids):
            host = find_host(name)
            for server, cell in ((REMOTE, remote), (SECRET, started)):
                if "refused" in cell or "no running servers" in cell:
                    with pytest.raises(Exception, match="servers that it starts|not known|cannot be told"):
                        entry_for(host, "x", server)
                    continue
                held = json.dumps(entry_for(host, "x", server))
                for word in re.findall(
                    r"Bearer \$\{[^`]*|bearer_token_env_var|env_vars|env_keys|\$\{[^\"`]*", cell
                ):
                    assert word.rstrip("}") in held, (name, word)


def test_the_variables_and_figures_are_the_codes(page: str, root: Path) -> None:
    source = (root / "agentmesh" / "hosts" / "table.py").read_text()
    for variable in ("XDG_CONFIG_HOME", "APPDATA", "CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME"):
        assert f"`{variable}`" in page and f'"{variable}"' in source
    assert all(f"`{name}`" in page for name in CARRIED)
    packaged = find_host("claude-desktop").places(
        Machine(system="windows", home="C:/U", env={"LOCALAPPDATA": "C:/L"}, folder="")
    )[0]
    shown = packaged.as_posix().replace("C:/L", "%LOCALAPPDATA%").replace("/", "\\").rpartition("\\")[0]
    assert shown in page


def test_every_command_on_the_page_is_understood(page: str) -> None:
    group = get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    connect = group.commands["connect"]  # type: ignore[attr-defined]
    known = {option for parameter in connect.params for option in parameter.opts}
    lines = re.findall(r"agentmesh (connect [^`\n]*)", page)
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(re.split(r"\s{3,}", line)[0])
        assert [word for word in words if word.startswith("-") and word not in known] == []
        if (
            len(words) > 1
            and not words[1].startswith("-")
            and words[1] not in ("HOST", "at", "mcpb", "registry")
        ):
            assert find_host(words[1]).id == words[1]
    options = set(re.findall(r"`(--[a-z-]+)", page)) - {"--http`)"}
    assert options <= known | {"--http"}


def test_a_machine_without_anything_has_the_files_of_the_page(tmp_path: Path) -> None:
    here = Machine(system="linux", home=str(tmp_path), env={}, folder=str(tmp_path))
    assert all(config_path(host, "user", here).is_relative_to(tmp_path) for host in HOSTS)
