from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.main import get_command

from agentmesh.__main__ import main
from agentmesh.cli.app import app

VERBS = {
    "init", "run", "show", "log", "export", "replay", "verify", "keys", "pins", "models", "ledger", "serve", "doctor",
    "connect", "witness", "anchor", "accounts",
}  # fmt: skip


def commands() -> Iterator[tuple[str, ...]]:
    """Every command there is, as one types it."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), get_command(app))]
    while waiting:
        path, command = waiting.pop()
        yield path
        for name, below in getattr(command, "commands", {}).items():
            waiting.append(((*path, name), below))


@pytest.mark.parametrize("path", sorted(commands()), ids=" ".join)
def test_help_says_what_a_command_does_in_a_line_and_shows_an_example(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    # The variable TERMINAL_WIDTH is read once a process, by whichever test comes first.
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 200)
    assert main([*path, "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].startswith("Usage: agentmesh")
    assert re.fullmatch(r"[A-Z].{10,100}\.", lines[1]), lines[1]
    example = lines[-1]
    assert example.startswith(f"Example: agentmesh {' '.join(path)}".strip()), example


def test_every_promised_verb_is_there() -> None:
    assert {path[0] for path in commands() if path} == VERBS


def test_the_examples_in_the_help_are_command_lines_that_parse() -> None:
    for path in commands():
        command = get_command(app)
        for name in path:
            command = getattr(command, "commands")[name]  # noqa: B009  # typer's own class is no public type
        words = (command.epilog or "").removeprefix("Example: agentmesh").replace('"', "").split()
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options | {"--ledger", "-o", "-n"}


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from agentmesh.__main__ import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'llama_cpp', 'mcp', 'sqlalchemy', 'pydantic', 'anyio', 'nacl', 'numpy', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_to_the_shell(shell: str) -> None:
    script = "import sys; from agentmesh.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"_AGENTMESH_COMPLETE": f"complete_{shell}", "COMP_WORDS": "agentmesh ex", "COMP_CWORD": "1"}
        | {"_TYPER_COMPLETE_ARGS": "agentmesh ex", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "export" in done.stdout


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"agentmesh-runtime \S+\n", capsys.readouterr().out)


def test_a_wrong_command_line_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rum"]) == 2
    assert main(["run"]) == 2
    assert main(["run", "x", "--max-turns", "0"]) == 2
    assert capsys.readouterr().out == ""


def test_without_the_extra_one_line_says_which_one() -> None:
    script = (
        "import sys\n"
        "for name in ('typer', 'rich', 'pydantic', 'sqlalchemy', 'mcp', 'anyio', 'llama_cpp'):\n"
        "    sys.modules[name] = None\n"
        "from agentmesh.__main__ import main\n"
        "sys.exit(main(['run', 'x']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "agentmesh needs the extra 'run': pip install 'agentmesh-runtime[run]'\n"
