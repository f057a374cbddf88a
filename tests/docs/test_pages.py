"""What the pages claim is so: the mesh file shown loads, every key is listed, the README's commands exist."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from agentmesh.mesh import (
    AgentSpec,
    AnchorSpec,
    DialogueSpec,
    Limits,
    ModelSpec,
    ServerSpec,
    WitnessSpec,
    load_mesh,
)
from agentmesh.mesh.spec import MeshSection
from agentmesh_ledger import Verified


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "mesh-file.md").read_text()


def shown_file(page: str) -> str:
    found = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_mesh_file_shown_in_the_page_loads(page: str, tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text(shown_file(page))
    mesh = load_mesh(tmp_path)
    assert (mesh.name, mesh.dialogue.lead, list(mesh.agents)) == ("desk", "front", ["front", "math"])


def test_the_limits_shown_are_the_defaults(page: str) -> None:
    assert tomllib.loads(shown_file(page))["dialogue"]["limits"] == Limits().model_dump()


@pytest.mark.parametrize(
    "part", [MeshSection, DialogueSpec, Limits, AgentSpec, ModelSpec, ServerSpec, WitnessSpec, AnchorSpec]
)
def test_every_key_is_on_the_page(page: str, part: type[AgentSpec]) -> None:
    words = set(re.findall(r"[a-z_]+", page))
    assert [key for key in part.model_fields if key not in words] == []


def test_the_readme_opens_with_the_two_commands_of_one_line_each(root: Path) -> None:
    lines = (root / "README.md").read_text().splitlines()
    start = lines.index("```")
    block = lines[start + 1 : lines.index("```", start + 1)]
    assert start <= 3 and len(block) == 2
    assert all(line.startswith("python3 -m venv .venv && ") for line in block)
    assert block[0].endswith("agentmesh run examples/desk") and block[1].endswith("pytest")


def test_every_link_of_the_pages_leads_to_a_file(root: Path) -> None:
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md")), *sorted(root.glob("*/README.md"))]
    broken = [
        f"{page.relative_to(root)} -> {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert broken == []


def python_of(page: Path) -> str:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    return "\n".join(blocks)


@pytest.mark.parametrize("room", ["ledger", "servers"])
def test_the_code_in_a_rooms_readme_runs(
    root: Path, room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(python_of(root / room / "README.md"), f"{room}/README.md", "exec"), names)
    if room == "ledger":
        evidence = names["evidence"]
        assert isinstance(evidence, Verified) and evidence.selection == "dialogue d1"


def test_the_code_in_the_models_readme_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")
    code = "async def page():\n" + textwrap.indent(python_of(root / "models" / "README.md"), "    ")
    names: dict[str, Callable[[], Awaitable[None]]] = {}
    exec(compile(code, "models/README.md", "exec"), names)
    anyio.run(names["page"])
    assert "TextDelta(" in capsys.readouterr().out
