"""The hosts: where each keeps its servers on three systems, and what each reads of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.connection import config_path
from agentmesh.hosts.server import Launch, Remote, is_ours
from agentmesh.hosts.table import HOSTS, Machine, System, entry_for, find_host, places

LAUNCH = Launch(command="/py", args=("-P", "-m", "agentmesh", "serve", "/m"), env={"A": "b"}, about="A mesh.")
SECRET = Launch(command="/py", args=("-m", "agentmesh"), env={}, secrets=("TOKEN",))
REMOTE = Remote(url="http://127.0.0.1:8765/mcp", token_env="TOKEN", about="Far.")
OPEN = Remote(url="http://127.0.0.1:8765/mcp")


def machine(system: System, **env: str) -> Machine:
    home = "C:/Users/Zoë" if system == "windows" else "/home/zoë"
    return Machine(
        system=system, home=home, env=env, folder="D:/project" if system == "windows" else "/project"
    )


LINUX = {
    "claude-desktop": "/home/zoë/.config/Claude/claude_desktop_config.json",
    "claude-code": "/home/zoë/.claude.json",
    "cursor": "/home/zoë/.cursor/mcp.json",
    "vscode": "/home/zoë/.config/Code/User/mcp.json",
    "lm-studio": "/home/zoë/.lmstudio/mcp.json",
    "goose": "/home/zoë/.config/goose/config.yaml",
    "codex": "/home/zoë/.codex/config.toml",
    "gemini": "/home/zoë/.gemini/settings.json",
}
MACOS = LINUX | {
    "claude-desktop": "/home/zoë/Library/Application Support/Claude/claude_desktop_config.json",
    "vscode": "/home/zoë/Library/Application Support/Code/User/mcp.json",
}
WINDOWS = {
    "claude-desktop": "C:/Users/Zoë/AppData/Roaming/Claude/claude_desktop_config.json",
    "claude-code": "C:/Users/Zoë/.claude.json",
    "cursor": "C:/Users/Zoë/.cursor/mcp.json",
    "vscode": "C:/Users/Zoë/AppData/Roaming/Code/User/mcp.json",
    "lm-studio": "C:/Users/Zoë/.lmstudio/mcp.json",
    "goose": "C:/Users/Zoë/AppData/Roaming/Block/goose/config/config.yaml",
    "codex": "C:/Users/Zoë/.codex/config.toml",
    "gemini": "C:/Users/Zoë/.gemini/settings.json",
}


@pytest.mark.parametrize(("system", "known"), [("linux", LINUX), ("macos", MACOS), ("windows", WINDOWS)])
def test_every_host_has_its_file_on_every_system(system: System, known: dict[str, str]) -> None:
    assert {host.id: config_path(host, "user", machine(system)).as_posix() for host in HOSTS} == known


@pytest.mark.parametrize(
    ("host", "system", "env", "path"),
    [
        ("claude-code", "linux", {"CLAUDE_CONFIG_DIR": "/c"}, "/c/.claude.json"),
        ("codex", "macos", {"CODEX_HOME": "/c"}, "/c/config.toml"),
        ("gemini", "linux", {"GEMINI_CLI_HOME": "/g"}, "/g/.gemini/settings.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "relative"}, "/home/zoë/.config/Code/User/mcp.json"),
        ("claude-desktop", "macos", {"XDG_CONFIG_HOME": "/x"}, MACOS["claude-desktop"]),
        ("vscode", "windows", {"APPDATA": "E:/Roam"}, "E:/Roam/Code/User/mcp.json"),
        ("goose", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/goose/config.yaml"),
    ],
)
def test_what_a_host_takes_from_its_environment_counts(
    host: str, system: System, env: dict[str, str], path: str
) -> None:
    assert config_path(find_host(host), "user", machine(system, **env)).as_posix() == path


def test_a_packaged_claude_desktop_on_windows_has_a_file_of_its_own(tmp_path: Path) -> None:
    here = Machine(
        system="windows", home=str(tmp_path), env={"LOCALAPPDATA": str(tmp_path / "Local")}, folder="/"
    )
    host = find_host("claude-desktop")
    usual = tmp_path / "AppData" / "Roaming" / "Claude" / "claude_desktop_config.json"
    assert config_path(host, "user", here) == usual
    package = tmp_path / "Local" / "Packages" / "Claude_pzs8sxrjxfjjc" / "LocalCache" / "Roaming" / "Claude"
    package.mkdir(parents=True)
    assert config_path(host, "user", here) == package / usual.name


def test_the_file_that_is_there_counts_before_the_one_that_would_be(tmp_path: Path) -> None:
    here = Machine(system="linux", home=str(tmp_path), env={}, folder="/")
    older = tmp_path / ".cache" / "lm-studio" / "mcp.json"
    older.parent.mkdir(parents=True)
    older.write_text("{}")
    assert config_path(find_host("lm-studio"), "user", here) == older
    (tmp_path / ".lmstudio").mkdir()
    (tmp_path / ".lmstudio" / "mcp.json").write_text("{}")
    assert config_path(find_host("lm-studio"), "user", here) == tmp_path / ".lmstudio" / "mcp.json"


def test_a_project_has_files_of_its_own_where_the_host_knows_them() -> None:
    here = machine("linux")
    found = {host.id: places(host, "project", here)[0].as_posix() for host in HOSTS if host.project}
    assert found == {
        "claude-code": "/project/.mcp.json",
        "cursor": "/project/.cursor/mcp.json",
        "vscode": "/project/.vscode/mcp.json",
        "codex": "/project/.codex/config.toml",
        "gemini": "/project/.gemini/settings.json",
    }
    with pytest.raises(AgentMeshError, match="Goose has no file of its own for a project"):
        places(find_host("goose"), "project", here)


STARTED = {"command": "/py", "args": ["-P", "-m", "agentmesh", "serve", "/m"], "env": {"A": "b"}}


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("claude-desktop", STARTED),
        ("claude-code", {"type": "stdio"} | STARTED),
        ("cursor", STARTED),
        ("vscode", {"type": "stdio"} | STARTED),
        ("lm-studio", STARTED),
        ("gemini", STARTED),
        ("codex", STARTED | {"startup_timeout_sec": 60}),
        (
            "goose",
            {"enabled": True, "type": "stdio", "name": "my desk", "description": "A mesh.", "cmd": "/py"}
            | {"args": STARTED["args"], "envs": {"A": "b"}, "env_keys": [], "timeout": 300},
        ),
    ],
)
def test_each_host_is_told_in_its_own_words_how_to_start_a_server(
    host: str, entry: dict[str, object]
) -> None:
    name = "my-desk" if host == "codex" else "my desk"
    assert entry_for(find_host(host), name, LAUNCH) == entry
    assert is_ours(entry) and is_ours(entry, LAUNCH)


@pytest.mark.parametrize(
    ("host", "entry"),
    [
        ("claude-code", {"type": "http", "url": REMOTE.url, "headers": {"Authorization": "Bearer ${TOKEN}"}}),
        ("cursor", {"url": REMOTE.url, "headers": {"Authorization": "Bearer ${env:TOKEN}"}}),
        ("vscode", {"type": "http", "url": REMOTE.url, "headers": {"Authorization": "Bearer ${env:TOKEN}"}}),
        ("gemini", {"httpUrl": REMOTE.url, "headers": {"Authorization": "Bearer ${TOKEN}"}}),
        ("codex", {"url": REMOTE.url, "bearer_token_env_var": "TOKEN"}),
        (
            "goose",
            {
                "enabled": True,
                "type": "streamable_http",
                "name": "x",
                "description": "Far.",
                "uri": REMOTE.url,
            }
            | {
                "envs": {},
                "env_keys": ["TOKEN"],
                "headers": {"Authorization": "Bearer ${TOKEN}"},
                "timeout": 300,
            },
        ),
    ],
)
def test_each_host_is_told_the_tokens_variable_and_never_the_token(
    host: str, entry: dict[str, object]
) -> None:
    found = entry_for(find_host(host), "x", REMOTE)
    assert found == entry
    assert is_ours(found, REMOTE) and not is_ours(found) and not is_ours(found, Remote(url="http://else"))
    assert "TOKEN" not in str(entry_for(find_host(host), "x", OPEN))


@pytest.mark.parametrize(
    ("host", "part"),
    [
        ("claude-code", {"env": {"TOKEN": "${TOKEN}"}}),
        ("cursor", {"env": {"TOKEN": "${env:TOKEN}"}}),
        ("vscode", {"env": {"TOKEN": "${env:TOKEN}"}}),
        ("gemini", {"env": {"TOKEN": "${TOKEN}"}}),
        ("codex", {"env_vars": ["TOKEN"]}),
        ("goose", {"env_keys": ["TOKEN"]}),
    ],
)
def test_a_secret_is_named_where_the_host_can_fill_it_in(host: str, part: dict[str, object]) -> None:
    found = entry_for(find_host(host), "x", SECRET)
    assert {key: found[key] for key in part} == part


@pytest.mark.parametrize(
    ("host", "name", "server", "said"),
    [
        ("claude-desktop", "x", OPEN, "only servers that it starts"),
        ("claude-desktop", "x", SECRET, "cannot be told to take TOKEN"),
        ("lm-studio", "x", REMOTE, "not known to read a variable"),
        ("lm-studio", "x", SECRET, "cannot be told to take TOKEN"),
        ("codex", "my desk", OPEN, "takes no server called 'my desk'"),
        ("goose", "x", Launch(command="/py", args=(), env={"PYTHONPATH": "/x"}), "hands on no PYTHONPATH"),
        ("gemini", "x", Launch(command="/py", args=(), env={"PYTHONPATH": "/x"}), "hands on no PYTHONPATH"),
        ("vscode", "x", Launch(command="/py", args=("/a/${b}/m",)), "would take the $"),
        ("gemini", "x", Launch(command="/py", args=("/a/$b/m",)), "would take the $"),
        ("cursor", "x", Launch(command="/py", args=("/a/\udcff",)), "no file in UTF-8"),
    ],
)
def test_what_a_host_would_not_understand_is_refused(
    host: str, name: str, server: Launch | Remote, said: str
) -> None:
    with pytest.raises(AgentMeshError) as caught:
        entry_for(find_host(host), name, server)
    assert said in str(caught.value) and caught.value.reason == "usage" and caught.value.hint


def test_goose_finds_an_extension_by_its_own_form_of_the_name() -> None:
    key = find_host("goose").key
    assert [key("My Desk"), key("a.b"), key("é-1_x")] == ["mydesk", "a_b", "_-1_x"]


def test_a_host_that_is_misspelt_is_told_the_nearest() -> None:
    with pytest.raises(AgentMeshError) as caught:
        find_host("claude-desctop")
    assert "did you mean claude-desktop?" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("entry", "ours"),
    [
        ({"command": "/x/agentmesh-server", "args": ["clock"]}, True),
        ({"cmd": "C:\\v\\Scripts\\agentmesh.exe", "args": ["serve"]}, True),
        ({"command": "/py", "args": ["-m", "agentmesh_servers", "clock"]}, True),
        ({"command": "/py", "args": ["-m", "agentmesher"]}, False),
        ({"command": "/py", "args": "agentmesh"}, False),
        ({"url": "http://127.0.0.1/agentmesh"}, False),
        ("agentmesh", False),
    ],
)
def test_an_entry_is_ours_where_it_starts_agentmesh(entry: object, ours: bool) -> None:
    assert is_ours(entry) is ours
