"""Servers that answer anything at all: no exception comes out of a call, and none but ToolboxError out of a start."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from agentmesh.errors import ToolboxError
from agentmesh.toolbox import Toolbox, open_servers

pytestmark = pytest.mark.anyio

Make = Callable[..., object]

_WORDS = [
    "content",
    "text",
    "type",
    "isError",
    "structuredContent",
    "_meta",
    "resource",
    "uri",
    "image",
    "x\x1b[2J",
]


def _anything(dice: random.Random, depth: int = 0) -> object:
    kind = dice.randrange(9 if depth < 4 else 6)
    match kind:
        case 0:
            return None
        case 1:
            return dice.choice([True, False])
        case 2:
            return dice.choice([0, -1, 2**53 + 1, 10**30, 0.5, 1e308])
        case 3 | 4 | 5:
            return dice.choice(_WORDS)
        case 6:
            return [_anything(dice, depth + 1) for _ in range(dice.randrange(4))]
        case _:
            return {dice.choice(_WORDS): _anything(dice, depth + 1) for _ in range(dice.randrange(5))}


def _results(count: int) -> list[dict[str, object]]:
    """Results that look more and less like tool results."""
    dice = random.Random(2026)
    results: list[dict[str, object]] = []
    for _ in range(count):
        thing = _anything(dice)
        result = thing if isinstance(thing, dict) else {"content": thing}
        if dice.random() < 0.6:
            blocks = [
                {"type": dice.choice(["text", "image", "resource", "oops"]), "text": "t"},
                _anything(dice),
            ]
            result = {"content": dice.sample(blocks, dice.randrange(3)), **result}
        results.append(result)
    return results


async def test_whatever_a_server_answers_is_a_result(small: Make, tmp_path: Path) -> None:
    with anyio.fail_after(60):
        async with open_servers({"s": small("return json.loads(text)", timeout=2)}, base=tmp_path) as servers:
            errors = 0
            for answer in _results(300):
                result = await servers["s"].call("echo", {"text": json.dumps(answer)})
                result.text.encode()
                assert "\x1b" not in result.text
                assert not result.is_error or result.text.startswith("Error")
                errors += result.is_error
            assert 0 < errors < 300
            assert (await servers["s"].call("echo", {"text": '{"content": []}'})).is_error is False


@pytest.mark.parametrize(
    "tools",
    [
        None,
        "echo",
        [],
        [{}],
        [{"name": 7, "inputSchema": {}}],
        [{"name": "t"}],
        [{"name": "t", "inputSchema": []}],
        [{"name": "t", "inputSchema": {"type": "string"}}],
        [{"name": "t", "inputSchema": {"maximum": 2**60}}],
        [{"name": "t", "inputSchema": {"properties": 7, "required": "x"}}],
        [{"name": "", "inputSchema": {"type": "object"}}],
        [{"name": "a b/c\x1b[2J", "description": "\x1b[2J" * 9, "inputSchema": {"type": "object"}}],
        [{"name": "t", "inputSchema": {"type": "object", "properties": {"p": {"$ref": "#/nowhere"}}}}],
        [{"name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": 5}}],
        [{"name": f"t{n}", "inputSchema": {"type": "object"}} for n in range(1_500)],
    ],
    ids=lambda tools: json.dumps(tools)[:50],
)
async def test_whatever_tools_a_server_lists_it_starts_or_is_refused(
    small: Make, tmp_path: Path, tools: object
) -> None:
    server = small()
    path = Path(server.command[-1])  # type: ignore[attr-defined]  # a Source
    listed = f"json.loads({json.dumps(tools)!r})"
    path.write_text(path.read_text().replace('{"tools": TOOLS}', f'{{"tools": {listed}}}'))
    with anyio.fail_after(20):
        try:
            async with open_servers({"s": server}, base=tmp_path) as servers:
                for spec in Toolbox(servers, allow=("s",)).specs:
                    assert spec.name.replace("_", "").replace("-", "").isalnum()
                    assert "\x1b" not in spec.description
                    assert (await servers["s"].call(servers["s"].tools[0].name, {"text": "x"})).text
        except ToolboxError as error:
            assert error.server == "s" and "\n" not in error.message
