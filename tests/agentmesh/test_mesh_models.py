"""The models of a mesh: found wanting before anything is recorded, and several of them in the memory of one."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from agentmesh.events import Event, MessageAdded
from agentmesh.mesh import load_mesh
from agentmesh.runtime import run_dialogue
from agentmesh_ledger.store import verify_ledger
from agentmesh_models import ModelError
from agentmesh_models.catalogue import nano_path
from agentmesh_models.facts import read_facts
from agentmesh_models.gguf import read_gguf

pytestmark = pytest.mark.anyio

MESH = """
[mesh]
name = "two"
memory = "{memory} B"
[models.short]
path = "nano"
n_ctx = 512
[models.long]
path = "{path}"
n_ctx = 1024
[agents.ada]
model = "short"
role = "You help."
[agents.ben]
model = "long"
role = "You help."
prompt = "Hello!"
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _llama(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python runs the models")
    monkeypatch.setenv("AGENTMESH_CACHE", str(tmp_path / "cache"))


def need() -> int:
    return read_facts(read_gguf(nano_path())).need(1024)


async def test_two_models_speak_in_turn_in_the_memory_of_one(tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text(MESH.format(memory=need() + 1, path=nano_path()))
    mesh = load_mesh(tmp_path)
    events: list[Event] = []
    with anyio.fail_after(120):
        ended = await run_dialogue(mesh, "Hello!", listen=events.append)
    assert ended.reason == "done"
    assert [event.agent for event in events if isinstance(event, MessageAdded)] == ["host", "ada", "ben"]
    assert verify_ledger(mesh.log_place.ledger).entries >= 7


async def test_a_model_too_large_for_the_budget_is_told_before_anything_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "mesh.toml").write_text(MESH.format(memory=need() - 1, path=nano_path()))
    mesh = load_mesh(tmp_path)
    with pytest.raises(ModelError, match="needs about .* of memory and the budget is") as caught:
        await run_dialogue(mesh, "Hello!", listen=lambda event: None)
    assert caught.value.reason == "no_memory"
    assert not Path(mesh.log_place.ledger).exists()


async def test_a_damaged_model_is_told_before_anything_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(nano_path().read_bytes()[:-1])
    (tmp_path / "mesh.toml").write_text(MESH.format(memory=1 << 40, path="cut.gguf"))
    mesh = load_mesh(tmp_path)
    with pytest.raises(ModelError) as caught:
        await run_dialogue(mesh, "Hello!", listen=lambda event: None)
    assert caught.value.reason == "truncated"
    assert not Path(mesh.log_place.ledger).exists()
