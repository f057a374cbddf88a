"""What docs/prompt.md claims is so; how an agent behaves beyond that is proved in tests/agentmesh."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentmesh.events import Ended
from agentmesh.prompt import Page, Said, lay_out, own_part
from agentmesh.view.ending import ending_text


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "prompt.md").read_text()


def blocks(page: str) -> list[str]:
    return re.findall(r"```text\n(.*?)\n```", page, re.DOTALL)


def test_the_prompt_shown_is_the_prompt_laid_out(page: str) -> None:
    speeches = [
        ("ada", "Twenty-four guests, on 12 June."),
        ("ben", "Then we need 24 chairs.\nAt 17.50 each."),
    ]
    heard = tuple(
        Said(index=at, leaf_hash=bytes(32), agent=name, text=text) for at, (name, text) in enumerate(speeches)
    )
    own = own_part(
        name="eve",
        role="You check figures.",
        asked="Say what you have to say on the task.",
        tools=["evaluate"],
        shown=["evaluate", "now"],
    )
    laid = lay_out(
        Page(layout="shared", name="eve", rules="", task="Plan the garden party.", own=own, heard=heard)
    )
    assert laid[-1].content == blocks(page)[0]


def test_the_summary_line_shown_is_the_line_printed(page: str) -> None:
    ended = Ended(
        dialogue="d",
        ledger="l",
        origin="o",
        reason="done",
        detail="",
        answer="",
        messages=36,
        tool_calls=7,
        tokens=279,
        seconds=1.7,
        evaluated_tokens=1119,
        reused_tokens=492,
        decode_seconds=279 / 395.7,
    )
    assert ending_text(ended, Path()).splitlines()[0] == blocks(page)[1]


def test_the_facts_of_a_compaction_are_named(page: str, root: Path) -> None:
    source = (root / "agentmesh" / "recorder.py").read_text()
    body = source[source.index("async def compaction") : source.index("async def say")]
    named = re.findall(r'"(\w+)":|facts\["(\w+)"\]', body)
    facts = {one or other for one, other in named} - {"rule", "model"}
    assert facts == {"dropped", "tokens_needed", "tokens_available", "inference", "failed"}
    assert all(f"`{fact}`" in page for fact in facts)
