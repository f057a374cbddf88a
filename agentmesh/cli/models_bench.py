"""`agentmesh models bench`: how fast a model is on this machine, and how fast it could be."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.options import JsonOption

if TYPE_CHECKING:
    from agentmesh_models.rates import Rates


def bench(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name from the list, or the path of a .gguf file.")
    ],
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Default: the cores that are idle.")
    ] = None,
    prompt: Annotated[int, typer.Option("--prompt", min=16, help="Tokens of the prompt, about.")] = 512,
    generate: Annotated[int, typer.Option("--generate", min=2, help="Tokens to generate.")] = 64,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Repetitions; the median counts.")] = 3,
    json: JsonOption = False,
) -> None:
    """Measure prefill and decode rates at 1, 2, 4 and 8 sequences, and the bound memory sets."""
    import anyio

    from agentmesh.view.text import json_line
    from agentmesh_models.rates import Workload, measure

    course = Workload(prompt_tokens=prompt, new_tokens=generate, repetitions=repeat)

    async def run() -> Rates:
        return await measure(name, course, threads=threads, say=lambda text: print(text, file=sys.stderr))

    rates = anyio.run(run)
    if json:
        print(json_line(rates.to_json()))
        return
    print(_table(rates))


def _table(rates: Rates) -> str:
    lines = [
        f"{rates.model}  sha256 {rates.digest[:16]}  {rates.threads} threads  {rates.library.partition(';')[0]}",
        f"{'sequences':>9}  {'prompt':>6}  {'prefill t/s':>11}  {'new':>5}  {'decode t/s':>10}  {'bound t/s':>9}  {'share':>5}",
    ]
    for each in rates.points:
        lines.append(
            f"{each.sequences:>9}  {each.prompt_tokens:>6}  {each.prefill:>11,.1f}  {each.new_tokens:>5}  "
            f"{each.decode:>10,.1f}  {each.bound:>9,.1f}  {each.decode / each.bound:>5.0%}"
        )
    lines.append(
        f"bound: {rates.bandwidth / 1e9:,.1f} GB/s of reading, as measured, by what a step reads: the weights once "
        "and every sequence's cache; all rates are of all sequences together"
    )
    return "\n".join(lines)
