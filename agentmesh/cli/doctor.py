"""`agentmesh doctor`: whether this installation is whole, and whose `agentmesh` answers here."""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import typer

from agentmesh.cli.exits import FAILED
from agentmesh.cli.version import DISTRIBUTION, own_version

_EXTRAS: Final = {
    "store": ("sqlalchemy",),
    "postgres": ("psycopg",),
    "keyring": ("keyring",),
    "cli": ("typer", "rich", "pydantic"),
    "mcp": ("mcp", "anyio", "pydantic"),
    "llama": ("llama_cpp", "jinja2"),
    "witness": ("uvicorn", "httptools"),
    "chain": ("web3",),
    "ots": ("opentimestamps",),
}
# Installs an import and a command of the same name.
_OTHER: Final = "agentmesh-platform"


def doctor() -> None:
    """Say what is installed here, and whose the name agentmesh is."""
    from agentmesh_models.threads import available_cores, thread_count

    print(f"version   {DISTRIBUTION} {own_version()}")
    print(f"python    {platform.python_version()} ({sys.executable})")
    for extra, modules in _EXTRAS.items():
        lacking = [module for module in modules if find_spec(module) is None]
        state = f"lacks {', '.join(lacking)}: pip install '{DISTRIBUTION}[{extra}]'" if lacking else "present"
        print(f"extra     {extra:<8} {state}")
    print(f"threads   a model takes {thread_count()} now, of {available_cores()} cores")
    problems = name_problems(
        packages_distributions().get("agentmesh", []), _command(), Path(sys.executable).parent
    )
    for problem in problems:
        print(f"problem   {problem}")
    if problems:
        raise typer.Exit(FAILED)
    print("names     nobody else's import or command agentmesh is in the way")


def name_problems(owners: list[str], command: Path | None, scripts: Path) -> list[str]:
    """What is wrong with the name `agentmesh` here: `owners` are the distributions that install the import."""
    found: list[str] = []
    others = sorted({owner for owner in owners if owner != DISTRIBUTION})
    for owner in others:
        whose = "Microsoft's agentmesh-platform" if owner == _OTHER else f"the distribution {owner}"
        found.append(f"{whose} installs an import of the same name: keep the two in separate environments")
    if command is not None and command.parent != scripts:
        found.append(f"the command agentmesh on your PATH is {command}, not this environment's ({scripts})")
    return found


def _command() -> Path | None:
    found = shutil.which("agentmesh")
    return None if found is None else Path(found)
