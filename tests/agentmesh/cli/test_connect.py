"""`agentmesh connect`: what is written lets a real client start the mesh, and what is taken out leaves no trace."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from mcp import StdioServerParameters
from mcp.client import Client

Agentmesh = Callable[..., Any]

CLAUDE = '{\n    "globalShortcut": "Cmd+K",\n    "mcpServers": {\n        "other": {"command": "npx", "args": ["-y", "x"]}\n    }\n}\n'
VSCODE = '// mine\n{\n\t"inputs": [],\n\t"servers": {\n\t\t"other": { "command": "x" }, // keep\n\t},\n}\n'
CODEX = '# mine\nmodel = "gpt"   # why\n\n[mcp_servers.other]\ncommand = "x"\n# the end\n'
GOOSE = "# mine\nGOOSE_MODEL: 'gpt'   # why\nextensions:\n    other:\n        type: stdio\n        cmd: \"x\"\n\n# the end\n"
PLACES = {
    "claude-desktop": (".config/Claude/claude_desktop_config.json", CLAUDE),
    "claude-code": (".claude.json", CLAUDE),
    "cursor": (".cursor/mcp.json", CLAUDE),
    "vscode": (".config/Code/User/mcp.json", VSCODE),
    "lm-studio": (".lmstudio/mcp.json", CLAUDE),
    "goose": (".config/goose/config.yaml", GOOSE),
    "codex": (".codex/config.toml", CODEX),
    "gemini": (".gemini/settings.json", CLAUDE),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's empty home folder."""
    folder = tmp_path / "home of zoë"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in (
        "XDG_CONFIG_HOME",
        "CLAUDE_CONFIG_DIR",
        "CODEX_HOME",
        "GEMINI_CLI_HOME",
        "AGENTMESH_PASSPHRASE",
    ):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where AgentMesh is installed, and not found through PYTHONPATH."""
    for name in ("PYTHONPATH", "AGENTMESH_THREADS", "AGENTMESH_MODELS", "AGENTMESH_CACHE"):
        monkeypatch.delenv(name, raising=False)


def existing(home: Path, host: str) -> tuple[Path, str]:
    name, text = PLACES[host]
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path, text


def started(entry: dict[str, Any], cwd: Path) -> StdioServerParameters:
    """What a host makes of an entry: its command, its arguments and its environment, in a folder of the host's choice."""
    return StdioServerParameters(command=entry["command"], args=entry["args"], env=entry["env"], cwd=str(cwd))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that is open in a host, whose files have names that Python would import from there."""
    folder = tmp_path / "project"
    (folder / "agentmesh").mkdir(parents=True)
    (folder / "agentmesh" / "__init__.py").write_text("raise SystemExit('the project was run')\n")
    for name in ("mcp", "anyio", "agentmesh_servers"):
        (folder / f"{name}.py").write_text("raise SystemExit('the project was run')\n")
    return folder


@pytest.mark.anyio
async def test_a_client_starts_the_mesh_from_what_was_written_and_gets_a_right_answer(
    agentmesh: Agentmesh, home: Path, root: Path, tmp_path: Path, project: Path
) -> None:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")
    desk = tmp_path / "my desk (é)"
    shutil.copytree(root / "examples" / "desk", desk)
    path, before = existing(home, "claude-desktop")
    done = await anyio.to_thread.run_sync(lambda: agentmesh("connect", "claude-desktop", desk))
    assert done.code == 0, done.err
    written = json.loads(path.read_text())
    assert written["mcpServers"]["other"] == {"command": "npx", "args": ["-y", "x"]}
    with anyio.fail_after(180):
        async with Client(started(written["mcpServers"]["desk"], project)) as client:
            tools = {tool.name for tool in (await client.list_tools()).tools}
            assert {"ask_front", "ask_math", "ask_notes"} <= tools
            answer = await client.call_tool("ask_math", {"question": "What is 17 * 23?"})
    assert "391" in str(answer.content) and not answer.is_error
    assert (desk / ".agentmesh" / "ledger.db").is_file()
    assert agentmesh("verify", desk).code == 0
    assert agentmesh("connect", "claude-desktop", desk, "--remove").code == 0
    assert path.read_text() == before


@pytest.mark.anyio
async def test_a_client_starts_a_tool_server_from_what_was_written(
    agentmesh: Agentmesh, home: Path, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "my notes"
    notes.mkdir()
    (notes / "tea.md").write_text("# Tea\n\nGreen tea is in the tin.\n")
    monkeypatch.chdir(tmp_path)
    path, before = existing(home, "cursor")
    assert agentmesh("connect", "cursor", "--server", "calculator").code == 0
    assert (
        agentmesh(
            "connect", "cursor", "--server", "notes", "--option", "folder=my notes", "--name", "n. o"
        ).code
        == 0
    )
    writing = ["--option", "folder=my notes", "--option", "write=true"]
    assert agentmesh("connect", "cursor", "--server", "files", *writing).code == 0
    servers = json.loads(path.read_text())["mcpServers"]
    assert list(servers) == ["other", "calculator", "n. o", "files"]
    with anyio.fail_after(120):
        async with Client(started(servers["calculator"], project)) as client:
            found = await client.call_tool("evaluate", {"expression": "17 * 23"})
            assert "391" in str(found.content)
        async with Client(started(servers["n. o"], project)) as client:
            assert "in the tin" in str((await client.call_tool("read_note", {"title": "Tea"})).content)
        async with Client(started(servers["files"], project)) as client:
            assert "write_file" in {tool.name for tool in (await client.list_tools()).tools}
            assert "in the tin" in str((await client.call_tool("read_file", {"path": "tea.md"})).content)
    assert agentmesh("connect", "cursor", "--server", "calculator", "--remove").code == 0
    for name in ("n. o", "files"):
        assert agentmesh("connect", "cursor", "--name", name, "--remove").code == 0
    assert path.read_text() == before


@pytest.mark.parametrize("host", PLACES)
def test_an_entry_comes_and_goes_in_every_hosts_file(
    agentmesh: Agentmesh, home: Path, mesh: Path, host: str, installed: None
) -> None:
    path, before = existing(home, host)
    path.chmod(0o640)
    added = agentmesh("connect", host, mesh)
    assert (added.code, added.out) == (0, f"desk added to {path}\n")
    assert f"kept as {path}.bak" in added.err and "next: " in added.err
    assert Path(f"{path}.bak").read_text() == before
    after = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "python" in after and str(mesh / "mesh.toml") in after and "other" in after
    again = agentmesh("connect", host, mesh)
    assert (again.code, again.out) == (0, f"desk is as it should be in {path}\n")
    assert path.read_text() == after and not again.err
    gone = agentmesh("connect", host, mesh, "--remove")
    assert (gone.code, gone.out) == (0, f"desk taken out of {path}\n")
    assert path.read_text() == before
    assert agentmesh("connect", host, mesh, "--remove").out == f"desk is not in {path}\n"
    assert [each.name for each in path.parent.iterdir() if each.is_file() and each != path] == [
        f"{path.name}.bak"
    ]


@pytest.mark.parametrize("host", PLACES)
def test_entries_that_come_and_go_leave_one_copy_and_the_file_as_it_was(
    agentmesh: Agentmesh, home: Path, mesh: Path, host: str, installed: None
) -> None:
    path, before = existing(home, host)
    words = [[mesh], ["--server", "clock"], ["--server", "units", "--name", "u"]]
    for each in words:
        assert agentmesh("connect", host, *each).code == 0
    # As where a person put back a copy in which ours was.
    path.with_name(f"{path.name}.mine.bak").write_text(path.read_text())
    for each in words:
        gone = agentmesh("connect", host, *each, "--remove")
        assert gone.code == 0 and " taken out of " in gone.out
    assert path.read_text() == before
    copies = [each.name for each in path.parent.iterdir() if each.name.endswith(".bak")]
    assert sorted(copies) == sorted([f"{path.name}.bak", f"{path.name}.mine.bak"])


@pytest.mark.parametrize("host", PLACES)
@pytest.mark.parametrize("text", ["", "{}", "mine: 1\n", "a = 1"])
def test_a_file_without_a_section_comes_back_as_it_was(
    agentmesh: Agentmesh, home: Path, mesh: Path, host: str, text: str, installed: None
) -> None:
    path, _ = existing(home, host)
    path.write_text(text)
    if agentmesh("connect", host, mesh).code:
        assert path.read_text() == text  # it is no text of that host's format
        return
    assert path.read_text() != text
    assert agentmesh("connect", host, mesh, "--remove").code == 0
    if text:
        assert path.read_text() == text


@pytest.mark.parametrize("host", PLACES)
def test_a_host_without_a_file_gets_one_that_is_nobody_elses_to_read(
    agentmesh: Agentmesh, home: Path, mesh: Path, host: str, installed: None
) -> None:
    path = home / PLACES[host][0]
    assert agentmesh("connect", host, mesh, "--remove").code == 0
    assert not path.parent.exists() or path.parent == home
    assert agentmesh("connect", host, mesh).code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    read: Callable[[str], Any] = {".toml": tomllib.loads, ".yaml": yaml.safe_load}.get(
        path.suffix, json.loads
    )
    (section,) = read(path.read_text()).values()
    assert list(section) == ["desk"]


def test_what_is_written_names_no_program_that_a_shell_would_have_to_find(
    agentmesh: Agentmesh, home: Path, mesh: Path, monkeypatch: pytest.MonkeyPatch, installed: None
) -> None:
    monkeypatch.setenv("AGENTMESH_MODELS", "/models of mine")
    monkeypatch.chdir(mesh.parent)
    told = json.loads(agentmesh("connect", "claude-desktop", mesh.name, "--json", "--env", "A=b=c").out)
    assert told["entry"] == {
        "command": sys.executable,
        "args": ["-P", "-m", "agentmesh", "serve", str(mesh / "mesh.toml")],
        "env": {"AGENTMESH_MODELS": "/models of mine", "A": "b=c"},
    }
    assert (told["host"], told["name"], told["done"], told["backup"]) == (
        "claude-desktop",
        "desk",
        "added",
        None,
    )
    assert told["file"] == str(home / PLACES["claude-desktop"][0])


def test_an_older_entry_of_ours_is_replaced_and_one_of_anothers_is_not(
    agentmesh: Agentmesh, home: Path, mesh: Path, installed: None
) -> None:
    path, _ = existing(home, "cursor")
    assert agentmesh("connect", "cursor", "--server", "clock", "--name", "desk").code == 0
    replaced = agentmesh("connect", "cursor", mesh)
    assert replaced.out == f"desk replaced in {path}\n"
    assert "serve" in json.loads(path.read_text())["mcpServers"]["desk"]["args"]
    before = path.read_text()
    for words in (["--name", "other"], ["--name", "other", "--remove"]):
        refused = agentmesh("connect", "cursor", mesh, *words)
        assert refused.code == 2 and "'other' is there already, and it is not AgentMesh's" in refused.err
        assert path.read_text() == before
    path.write_text(before.replace('{"command": "npx", "args": ["-y", "x"]}', "null"))
    assert agentmesh("connect", "cursor", mesh, "--name", "other").code == 2
    assert agentmesh("connect", "cursor", "--name", "other", "--remove").code == 2
    path.write_text(before)
    assert agentmesh("connect", "cursor", mesh, "--name", "other", "--force").code == 0
    assert "npx" not in path.read_text()


@pytest.mark.parametrize("host", PLACES)
def test_what_a_person_has_added_to_our_entry_stays_when_it_is_replaced(
    agentmesh: Agentmesh, home: Path, mesh: Path, host: str, installed: None
) -> None:
    path, _ = existing(home, host)
    assert agentmesh("connect", host, mesh, "--env", "MINE=1").code == 0
    lines = path.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if line.strip().startswith(("args", '"args"')))
    mine = {"goose": "bundled: false\n", "codex": "enabled = false\n"}.get(host, '"trust": true,\n')
    lines.insert(last, lines[last][: len(lines[last]) - len(lines[last].lstrip())] + mine)
    path.write_text("".join(lines))
    assert agentmesh("connect", host, mesh).out == f"desk is as it should be in {path}\n"
    (mesh / "mesh.toml").rename(mesh / "other.toml")
    assert agentmesh("connect", host, mesh / "other.toml").out == f"desk replaced in {path}\n"
    held = path.read_text()
    assert mine.strip("\n,") in held and "MINE" in held and "other.toml" in held and "/mesh.toml" not in held


@pytest.mark.parametrize("host", [host for host in PLACES if host != "claude-desktop"])
def test_a_server_that_runs_elsewhere_keeps_no_variables_of_one_that_was_started(
    agentmesh: Agentmesh, home: Path, mesh: Path, host: str, installed: None
) -> None:
    """Codex reads nothing of a file in which an address has an `env` beside it."""
    existing(home, host)
    assert agentmesh("connect", host, mesh, "--env", "MINE=1").code == 0
    assert agentmesh("connect", host, mesh, "--http", "http://127.0.0.1:8765/mcp").code == 0
    held = (home / PLACES[host][0]).read_text()
    assert "127.0.0.1:8765" in held and "MINE" not in held


def test_what_cannot_be_written_again_is_not_lost_unasked(
    agentmesh: Agentmesh, home: Path, mesh: Path, installed: None
) -> None:
    path, _ = existing(home, "codex")
    assert agentmesh("connect", "codex", mesh).code == 0
    more = (
        path.read_text()
        + '[mcp_servers.desk.tools.ask_front]\napproval_mode = "approve"\n[mcp_servers.desk.tools.x]\na = 1\n'
    )
    path.write_text(more)
    assert agentmesh("connect", "codex", mesh).code == 2
    refused = agentmesh("connect", "codex", mesh, "--env", "A=1")
    assert refused.code == 2 and "would be lost: tools" in refused.err and path.read_text() == more
    assert agentmesh("connect", "codex", mesh, "--force").code == 0
    assert "approval_mode" not in path.read_text()


def test_goose_without_its_extra_says_which_one(
    agentmesh: Agentmesh, home: Path, mesh: Path, monkeypatch: pytest.MonkeyPatch, installed: None
) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    refused = agentmesh("connect", "goose", mesh)
    assert refused.code == 2 and "agentmesh-runtime[hosts]" in refused.err
    assert agentmesh("connect", "codex", mesh).code == 0


def test_print_shows_the_entry_and_writes_nothing(
    agentmesh: Agentmesh, home: Path, mesh: Path, installed: None
) -> None:
    shown = agentmesh("connect", "codex", mesh, "--print")
    assert tomllib.loads(shown.out)["mcp_servers"]["desk"]["command"] == sys.executable
    assert str(home / ".codex" / "config.toml") in shown.err
    assert list(home.iterdir()) == []
    path, before = existing(home, "codex")
    would = agentmesh("connect", "codex", "--name", "other", "--remove", "--print")
    assert json.loads(would.out) == {"command": "x"} and "this would go" in would.err
    assert path.read_text() == before


def test_a_server_that_runs_is_told_with_the_tokens_variable(agentmesh: Agentmesh, home: Path) -> None:
    words = ["connect", "vscode", "--http", "http://127.0.0.1:8765/mcp", "--name", "far. off"]
    path, before = existing(home, "vscode")
    assert agentmesh(*words, "--token-env", "DESK_TOKEN").code == 0
    assert '"Authorization": "Bearer ${env:DESK_TOKEN}"' in path.read_text()
    assert "// keep" in path.read_text() and "// mine" in path.read_text()
    assert agentmesh("connect", "vscode", "--name", "far. off", "--remove").code == 2
    assert agentmesh(*words, "--remove").code == 0
    assert path.read_text() == before


def test_a_projects_file_is_written_in_its_folder(
    agentmesh: Agentmesh, home: Path, mesh: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert agentmesh("connect", "claude-code", mesh, "--scope", "project").code == 0
    assert json.loads((project / ".mcp.json").read_text())["mcpServers"]["desk"]["type"] == "stdio"
    assert stat.S_IMODE((project / ".mcp.json").stat().st_mode) == 0o644
    assert list(home.iterdir()) == []
    assert agentmesh("connect", "goose", mesh, "--scope", "project").code == 2


def test_the_list_tells_each_hosts_file_and_our_entries_in_it(
    agentmesh: Agentmesh, home: Path, mesh: Path, installed: None
) -> None:
    existing(home, "cursor")
    (home / ".codex").mkdir()
    assert agentmesh("connect", "cursor", mesh).code == 0
    listed = {line["host"]: line for line in agentmesh("connect", "--list", "--json").lines}
    assert list(listed) == list(PLACES)
    assert {host: line["file"] for host, line in listed.items()} == {
        host: str(home / place) for host, (place, _) in PLACES.items()
    }
    assert (listed["cursor"]["present"], listed["cursor"]["entries"]) == (True, ["desk"])
    assert (listed["codex"]["present"], listed["codex"]["installed"]) == (False, True)
    assert (listed["goose"]["present"], listed["goose"]["installed"]) == (False, False)
    told = agentmesh("connect", "--list")
    assert f"cursor          {home / '.cursor/mcp.json'}: there, with desk" in told.out.splitlines()
    (home / ".cursor" / "mcp.json").write_text("{")
    broken = agentmesh("connect", "--list")
    assert broken.code == 3 and "cannot be read: " in broken.out
    (home / ".cursor" / "mcp.json").unlink()
    (home / ".cursor" / "mcp.json").mkdir()
    broken = agentmesh("connect", "--list")
    assert f"{home / '.cursor/mcp.json'}: cannot be read: Is a directory" in broken.out


@pytest.mark.parametrize(
    ("host", "data", "said"),
    [
        ("cursor", b'{\n  "mcpServers": {\n', ":3: the JSON ends too early"),
        ("cursor", b"[]", ":1: holds no JSON object"),
        ("cursor", b'{"mcpServers": [1]}', ": 'mcpServers' holds something else"),
        ("cursor", b'\xef\xbb\xbf{"a": 1}', ":1: begins with a byte order mark"),
        ("cursor", b'{\n"a": "\xe9"}', ":2: is not text in UTF-8"),
        ("claude-desktop", b'{\n  "a": 1, // why\n}', ":2: is not plain JSON"),
        ("codex", b"a = 1\na = 2\n", ":2: is not TOML"),
        ("codex", b"mcp_servers = 1\n", ": 'mcp_servers' holds something else"),
        ("goose", b"a: [1\n", ":2: is not YAML"),
        ("goose", b"- a\n", ":1: holds no mapping"),
    ],
)
@pytest.mark.parametrize("words", [[], ["--remove"]])
def test_a_file_that_cannot_be_read_is_left_alone_with_its_place_and_what_to_do(
    agentmesh: Agentmesh,
    home: Path,
    mesh: Path,
    installed: None,
    host: str,
    data: bytes,
    said: str,
    words: list[str],
) -> None:
    path, _ = existing(home, host)
    path.write_bytes(data)
    refused = agentmesh("connect", host, mesh, *words)
    assert refused.code == 3
    told, advice = refused.err.splitlines()
    assert told.startswith(f"agentmesh: {path}{said}") and advice
    assert path.read_bytes() == data
    assert [each for each in path.parent.iterdir() if each.is_file()] == [path]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "which host?"),
        (["claude-desctop", "."], "did you mean claude-desktop?"),
        (["cursor"], "which mesh?"),
        (["cursor", "."], "there is no such mesh file"),
        (["cursor", ".", "--remove"], "--remove --name NAME"),
        (["cursor", "--server", "files"], "--option folder=VALUE"),
        (["cursor", "--server", "calc"], "no server is called 'calc'"),
        (["cursor", "--server", "clock", "--option", "folder=x"], "has no option 'folder'"),
        (["cursor", "--server", "notes", "--option", "folder"], "NAME=VALUE was expected"),
        (["cursor", "--option", "folder=x"], "--option goes with --server"),
        (["cursor", "--server", "clock", "--http", "http://x/"], "needs no mesh and no address"),
        (["cursor", "--http", "ftp://x", "--name", "x"], "this is no address"),
        (["cursor", "--http", "http://me:pw@x/mcp", "--name", "x"], "this is no address"),
        (["cursor", "--http", "http://x/mcp"], "needs a name"),
        (
            ["cursor", "--http", "http://x/mcp", "--name", "x", "--token-env", "sk-1"],
            "no name of an environment",
        ),
        (["claude-desktop", "--http", "http://x/mcp", "--name", "x"], "only servers that it starts"),
        (["cursor", ".", "-o", "x"], "--output is not for cursor"),
        (["mcpb", "-o", "x"], "give a mesh, or --server"),
        (["mcpb", "--server", "clock"], "-o FILE is missing"),
        (["mcpb", "--server", "calc", "-o", "x"], "no server is called 'calc'"),
        (["mcpb", "--server", "clock", "-o", "x", "--http", "http://x/"], "--http is not for mcpb"),
        (["registry", "--server", "clock", "-o", "x", "--env", "A=b"], "--env is not for registry"),
        (["registry", "--server", "clock", "-o", "x"], "--id"),
        (
            ["registry", "--server", "clock", "-o", "x", "--id", "io.github.a/b"],
            "where the server is to be had",
        ),
    ],
)
def test_a_command_line_that_makes_no_sense_is_told_what_would(
    agentmesh: Agentmesh,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = agentmesh("connect", *words)
    assert (refused.code, refused.out) == (2, "") and said in refused.err
    assert list(home.iterdir()) == []


def test_tokens_that_the_mesh_needs_are_named_and_never_written(
    agentmesh: Agentmesh, home: Path, mesh: Path, monkeypatch: pytest.MonkeyPatch, installed: None
) -> None:
    monkeypatch.setenv("GPU_KEY", "secret-value")
    text = (mesh / "mesh.toml").read_text().replace('model = "nano"', 'model = "far"')
    far = '\n[models.far]\npath = "openai:http://127.0.0.1:9/v1#m"\napi_key_env = "GPU_KEY"\n'
    (mesh / "mesh.toml").write_text(text + far)
    for host in PLACES:
        done = agentmesh("connect", host, mesh)
        if host in ("claude-desktop", "lm-studio"):
            assert done.code == 2 and "--env GPU_KEY=VALUE" in done.err
            continue
        assert done.code == 0, done.err
        held = (home / PLACES[host][0]).read_text()
        assert "GPU_KEY" in held and "secret-value" not in held


def test_two_commands_at_once_lose_neither_entry(home: Path, mesh: Path) -> None:
    path, _ = existing(home, "claude-code")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", "agentmesh", "connect", "claude-code"]
    servers = ["calculator", "clock", "units"]
    running = [
        subprocess.Popen([*words, "--server", each], env=env, stderr=subprocess.DEVNULL) for each in servers
    ]
    assert [each.wait(timeout=120) for each in running] == [0, 0, 0]
    assert set(json.loads(path.read_text())["mcpServers"]) == {"other", *servers}


def test_a_bundle_and_its_listing_are_made(agentmesh: Agentmesh, mesh: Path, tmp_path: Path) -> None:
    bundle, listing = tmp_path / "desk.mcpb", tmp_path / "server.json"
    made = agentmesh("connect", "mcpb", mesh, "-o", bundle, "--version", "1.0.0")
    assert made.code == 0 and bundle.read_bytes().startswith(b"PK") and "sha256" in made.err
    where = ["--bundle", bundle, "--bundle-url", "https://example.org/desk.mcpb"]
    words = ["connect", "registry", mesh, "-o", listing, "--id", "io.github.owner/desk", "--version", "1.0.0"]
    assert agentmesh(*words, *where).code == 0
    document = json.loads(listing.read_text())
    assert document["name"] == "io.github.owner/desk"
    assert document["packages"][0]["fileSha256"] in made.err
    assert agentmesh("connect", "mcpb", "--server", "clock", "-o", tmp_path / "clock.mcpb").code == 0
    assert agentmesh(*words, "--http", "https://example.org/mcp").code == 0
    assert json.loads(listing.read_text())["remotes"] == [
        {"type": "streamable-http", "url": "https://example.org/mcp"}
    ]
