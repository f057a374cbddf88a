"""The layouts and the overflow on a real model with a real template: the embedded one. What it says is not the point."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentmesh.events import Compacted, Event
from agentmesh.mesh import load_mesh
from agentmesh.runtime import run_dialogue
from agentmesh_ledger import Record
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.store import verify_ledger

pytestmark = pytest.mark.anyio

# In tokens, with the template's own end.
OWN_PART = 50

TABLE = """
[mesh]
name = "table"
[dialogue]
pattern = "round_robin"
rounds = {rounds}
layout = "{layout}"
overflow = "{overflow}"
rules = "Be brief."
[models.small]
path = "nano"
n_ctx = {n_ctx}
[agents.ada]
model = "small"
role = "You add."
max_tokens = 24
[agents.ben]
model = "small"
role = "You check."
max_tokens = 24
[agents.eve]
model = "small"
role = "You listen."
max_tokens = 24
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _needs_llama() -> None:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")


async def talk(folder: Path, *, rounds: int, layout: str, n_ctx: int, overflow: str = "drop") -> list[Record]:
    text = TABLE.format(rounds=rounds, layout=layout, n_ctx=n_ctx, overflow=overflow)
    (folder / "mesh.toml").write_text(text)
    mesh = load_mesh(folder)
    events: list[Event] = []
    task = "Tell what time it is in Paris, and how many miles 3.5 kilometers are."
    ended = await run_dialogue(mesh, task, listen=events.append)
    assert ended.reason == "done", ended.detail
    verify_ledger(mesh.log_place.ledger)
    with Ledger.open(mesh.log_place.ledger, read_only=True) as log:
        records = list(log.read(dialogue=ended.dialogue))
    recorded = [r.index for r in records if r.message.kind == "compaction"]
    assert [event.index for event in events if isinstance(event, Compacted)] == recorded
    return records


def sizes(records: list[Record]) -> list[tuple[int, int]]:
    """Of each inference the tokens of its prompt, and how many of them were still in memory."""
    facts = [r.message.facts for r in records if r.message.kind == "inference"]
    return [(int(str(f["prompt_tokens"])), int(str(f["reused_tokens"]))) for f in facts]


async def test_the_shared_layout_lets_the_engine_reuse_what_the_agent_layout_does_not(tmp_path: Path) -> None:
    for layout in ("shared", "agent"):
        (tmp_path / layout).mkdir()
    shared = sizes(await talk(tmp_path / "shared", rounds=2, layout="shared", n_ctx=2048))
    single = sizes(await talk(tmp_path / "agent", rounds=2, layout="agent", n_ctx=2048))
    assert len(shared) == len(single) == 6
    for (before, _), (_, reused) in zip(shared, shared[1:], strict=False):
        assert reused > before - OWN_PART, "all of the prompt before, but for its agent's own part"
    assert sum(reused for _, reused in shared) > sum(reused for _, reused in single)


@pytest.mark.parametrize("overflow", ["drop", "summarise"])
async def test_a_dialogue_goes_on_in_a_context_that_is_too_small_for_it(
    tmp_path: Path, overflow: str
) -> None:
    records = await talk(tmp_path, rounds=8, layout="shared", n_ctx=240, overflow=overflow)
    kinds = [record.message.kind for record in records]
    assert kinds.count("say") == 24 and kinds.count("compaction") >= 1
    facts = [record.message.facts for record in records if record.message.kind == "compaction"]
    assert {each["tokens_available"] for each in facts} == {240}
    assert any("inference" in each for each in facts) == (overflow == "summarise")
    assert all(("inference" in each) != ("failed" in each) for each in facts) == (overflow == "summarise")
