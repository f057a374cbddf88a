"""What docs/models.md claims is so: the catalogue is the catalogue, the blocks run, the numbers are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from agentmesh.__main__ import main
from agentmesh_models.catalogue import nano_path
from agentmesh_models.store.download import Patience
from agentmesh_models.store.local import MARGIN
from agentmesh_models.store.names import HubFile, parse_source
from agentmesh_models.store.offers import offers


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "models.md").read_text()


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTMESH_MODELS", str(tmp_path / "stored"))
    monkeypatch.setenv("AGENTMESH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.gguf").write_bytes(nano_path().read_bytes())


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_table_is_the_catalogue(page: str) -> None:
    shown = [line for line in page.splitlines() if re.match(r"\| [a-z0-9.-]+ \| [0-9.]+[BM] \|", line)]
    assert shown == [
        f"| {each.name} | {each.parameters} | {each.size / 1e9:.1f} GB | {each.context} | {each.tool_format} "
        f"| {each.licence} |"
        for each in offers().values()
    ]


def test_the_commands_shown_run(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "agentmesh" and main(arguments) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "mine removed; the file stays" in out and "bound: " in out


def test_the_program_shown_runs(page: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")
    import anyio

    (code,) = blocks(page, "python")
    names: dict[str, object] = {"path": tmp_path / "mine.gguf"}
    exec(compile(code, "docs/models.md", "exec"), names)
    anyio.run(getattr(names["engine"], "aclose"))  # noqa: B009  # what a block left is an object to the checker


def test_the_forms_of_names_are_understood(page: str) -> None:
    forms = re.findall(r"`(hf:[^`]+|https://host[^`]*)`", page)
    assert len(forms) >= 4
    for each in forms:
        source = parse_source(each)
        assert isinstance(source, HubFile) == each.startswith("hf:")


def test_the_limits_told_are_the_codes(page: str) -> None:
    assert f"less than {MARGIN / 1e9:.2f} GB" in page
    assert f"more than {Patience().most_bytes / 1e12:.2f} TB" in page
