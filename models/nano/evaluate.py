"""Measures nano the way the product runs it: greedy, through `agentmesh_models`, on phrasings held out of training.

Four suites: calls of each bundled tool, offered with its server's tools and with all of them; questions for peers;
requests that no tool fits; answers to a tool's result. A file of hand-written prompts is measured beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generate
import phrases_peers
from schemas import PRODUCT, Schema, ask_tool
from words import Source

from agentmesh_models import Engine, Message, Reply, Request, ToolCall, ToolSpec, open_model

PER_TOOL = 34
SYSTEM = "You are desk. You answer questions with tools."


@dataclass(frozen=True, kw_only=True)
class Case:
    """One prompt: what is offered, what is said, and what nano should do."""

    suite: str
    messages: tuple[Message, ...]
    tools: tuple[Schema, ...]
    call: tuple[str, dict[str, Any]] | None = None
    text: str | None = None


def spec(schema: Schema) -> ToolSpec:
    """A schema of this recipe as the product's `ToolSpec`."""
    function = schema["function"]
    return ToolSpec(
        name=function["name"], description=function["description"], parameters=function["parameters"]
    )


def asked(question: str, system: str = SYSTEM) -> tuple[Message, ...]:
    """A conversation of one question."""
    return (Message(role="system", content=system), Message(role="user", content=question))


def tool_cases(s: Source) -> Iterable[Case]:
    """Every bundled tool, half of the time among its server's tools and half among all."""
    for name in PRODUCT:
        for index in range(PER_TOOL):
            question, arguments = generate.ASK[name](s)
            own = generate.TOOLS_OF[generate.DOMAIN_OF[name]]
            offered = [PRODUCT[tool] for tool in (own if index % 2 else PRODUCT)]
            yield Case(suite=name, messages=asked(question), tools=tuple(offered), call=(name, arguments))


def peer_cases(s: Source) -> Iterable[Case]:
    """Questions for one of two peers, told apart by what they say about themselves."""
    system = "You are front. You pass each question on to the peer who can answer it."
    for index in range(60):
        first, second = s.sample(["calc", "units", "clock", "notes"], 2)
        peers = {"math": ["calc", "units", "clock"], "notes": ["notes"]} if index % 3 == 0 else {}
        while len(peers) < 2:
            peers = {phrases_peers.agent_name(s, domain): [domain] for domain in (first, second)}
        tools = [ask_tool(name, phrases_peers.about(s, name, domains)) for name, domains in peers.items()]
        if index % 3 == 0:
            tools = [
                ask_tool("math", "Calculates, converts units and tells the time."),
                ask_tool("notes", "Searches and reads the notes."),
            ]
        name = s.any(list(peers))
        question = generate.peer_question(s, s.any(peers[name]))
        yield Case(
            suite="ask",
            messages=asked(question, system),
            tools=tuple(tools),
            call=(f"ask_{name}", {"question": question}),
        )


def refusal_cases(s: Source) -> Iterable[Case]:
    """Requests that none of the bundled tools fits, and questions for tools that are not offered."""
    for index in range(40):
        if index % 2:
            yield Case(
                suite="refuse",
                messages=asked(phrases_peers.hopeless(s)),
                tools=tuple(PRODUCT.values()),
                text=generate.NO_TOOL,
            )
            continue
        name, other = s.sample(["evaluate", "convert", "now", "read_note"], 2)
        offered = tuple(PRODUCT[tool] for tool in generate.TOOLS_OF[generate.DOMAIN_OF[other]])
        yield Case(
            suite="refuse", messages=asked(generate.ASK[name](s)[0]), tools=offered, text=generate.NO_TOOL
        )


def answer_cases(s: Source) -> Iterable[Case]:
    """nano's sentence after a result, for every tool and for a peer."""
    for name in [*PRODUCT, "ask"]:
        for _ in range(10):
            if name == "ask":
                peer = phrases_peers.agent_name(s, "calc")
                tool, question = ask_tool(peer, "Calculates."), generate.peer_question(s, "calc")
                arguments: dict[str, Any] = {"question": question}
                result, _ = generate.peer_reply(s, "calc")
                text = f"{generate.capital(peer)} says: {result}"
                if result.startswith("Error"):
                    continue
            else:
                tool = PRODUCT[name]
                question, arguments = generate.ASK[name](s)
                result, text = generate.answer(s, name, arguments)
            called = tool["function"]["name"]
            messages = (
                *asked(question),
                Message(role="assistant", calls=(ToolCall(name=called, arguments=arguments),)),
                Message(role="tool", content=result, name=called),
            )
            yield Case(suite=f"answer {name}", messages=messages, tools=(tool,), text=text)


def handwritten_cases(path: Path) -> Iterable[Case]:
    """The prompts of a JSON file: `{"prompt", "tools": [names] or "all", "call": [name, arguments] or null}`."""
    peers = [
        ask_tool("math", "Calculates, converts units and tells the time."),
        ask_tool("notes", "Searches and reads the notes."),
    ]
    sets = {"all": list(PRODUCT.values()), "peers": peers}
    for item in json.loads(path.read_text(encoding="utf-8")):
        offered = item["tools"]
        tools = sets[offered] if isinstance(offered, str) else [PRODUCT[name] for name in offered]
        call = None if item["call"] is None else (item["call"][0], item["call"][1])
        text = generate.NO_TOOL if call is None else None
        yield Case(
            suite="handwritten", messages=asked(item["prompt"]), tools=tuple(tools), call=call, text=text
        )


def same_call(got: ToolCall, wanted: tuple[str, dict[str, Any]]) -> bool:
    """Whether a call is exactly the wanted one; in an expression, spaces do not count."""
    if got.name != wanted[0] or set(got.arguments) != set(wanted[1]):
        return False
    for key, value in wanted[1].items():
        found = got.arguments[key]
        if key == "expression" and str(found).replace(" ", "") == str(value).replace(" ", ""):
            continue
        if found != value:
            return False
    return True


async def run(engine: Engine, case: Case) -> Reply:
    """nano's reply to a case."""
    request = Request(
        messages=case.messages, tools=tuple(spec(schema) for schema in case.tools), max_tokens=200
    )
    last: Reply | None = None
    async for event in engine.generate(request):
        if isinstance(event, Reply):
            last = event
    assert last is not None
    return last


async def measure(engine: Engine, cases: Iterable[Case], show: int) -> dict[str, Counter[str]]:
    """Counts for each suite: cases, right tool (or right to write text), exact call (or exact text)."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        reply = await run(engine, case)
        row = table[case.suite]
        row["cases"] += 1
        if case.call is not None:
            right = bool(reply.calls) and reply.calls[0].name == case.call[0]
            exact = right and same_call(reply.calls[0], case.call)
        else:
            right = not reply.calls
            exact = right and reply.text.strip() == case.text
        row["right"] += right
        row["exact"] += exact
        if not exact and row["shown"] < show:
            row["shown"] += 1
            got = [(call.name, dict(call.arguments)) for call in reply.calls] or reply.text
            print(f"  {case.suite}: {case.messages[1].content!r} -> {got}; wanted {case.call or case.text!r}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--show", type=int, default=0, help="mistakes to print for each suite")
    parser.add_argument("--handwritten", type=Path, default=Path(__file__).parent / "handwritten.json")
    options = parser.parse_args()
    s = Source(options.seed, held=True)
    cases = [*tool_cases(s), *peer_cases(s), *refusal_cases(s), *answer_cases(s)]
    if options.handwritten.exists():
        cases += handwritten_cases(options.handwritten)
    engine = open_model(options.model, n_ctx=2048, threads=1)
    table = asyncio.run(measure(engine, cases, options.show))
    tools: Counter[str] = sum((table[name] for name in PRODUCT), Counter())
    print(f"{'suite':24} {'cases':>5} {'right tool':>10} {'exact':>7}")
    for name, row in [*table.items(), ("the six tools together", tools)]:
        print(
            f"{name:24} {row['cases']:5} {row['right'] / row['cases']:10.1%} {row['exact'] / row['cases']:7.1%}"
        )


if __name__ == "__main__":
    main()
