"""`agentmesh models`: which models there are, what one is, and how files get a name or lose it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from agentmesh.cli import models_bench, models_pull
from agentmesh.cli.options import DESCRIBED, JsonOption, example

if TYPE_CHECKING:
    from agentmesh.cli.models_facts import Row

app = typer.Typer(
    help="List the models, pull more, add files, say what one is, and measure it.",
    epilog=example("agentmesh models list --all"),
    invoke_without_command=True,
    rich_markup_mode=DESCRIBED,
)

AllOption: TypeAlias = Annotated[
    bool, typer.Option("--all", "-a", help="Also the models of the catalogue that are not here yet.")
]


@app.callback()
def models(context: typer.Context, all_: AllOption = False, json: JsonOption = False) -> None:
    """List the models, pull more, add files, say what one is, and measure it."""
    if context.invoked_subcommand is None:
        list_(all_=all_, json=json)


@app.command("list", epilog=example("agentmesh models list --all"))
def list_(all_: AllOption = False, json: JsonOption = False) -> None:
    """List the models that open by a name, and with --all those that can be pulled."""
    from agentmesh.cli.models_facts import rows
    from agentmesh.view.text import json_line

    found = rows(with_catalogue=all_)
    if json:
        for each in found:
            print(json_line(each.to_json()))
        return
    width = max(12, *(len(each.name) for each in found))
    print(f"{'name':<{width}} {'size':>10}  {'context':>7}  {'tools':<8} {'state':<9} digest")
    for each in found:
        print(_line(each, width))


def _line(row: Row, width: int) -> str:
    from agentmesh.view.text import clean

    context = "-" if row.n_ctx is None else str(row.n_ctx)
    digest = row.digest[:16] if row.digest else "-"
    line = f"{row.name:<{width}} {_size(row.size):>10}  {context:>7}  {row.tool_format or '-':<8} {row.state:<9} {digest}"
    return clean(line)


def _size(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:,.1f} MB"


@app.command("info", epilog=example("agentmesh models info nano"))
def info(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name from the list, or the path of a .gguf file.")
    ],
    n_ctx: Annotated[
        int | None, typer.Option("--n-ctx", min=1, help="The context that memory is estimated for.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say what a model is: its shape, size, digest, licence, tool format and memory."""
    from agentmesh.cli.models_facts import facts_of, told
    from agentmesh.view.text import clean, json_line

    found = facts_of(name, n_ctx)
    if json:
        print(json_line(found))
        return
    for key, value in found.items():
        print(f"{key.replace('_', ' '):<18} {clean(told(key, value))}")


@app.command("add", epilog=example("agentmesh models add ./qwen.gguf --name qwen"))
def add(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A GGUF file.")],
    name: Annotated[str | None, typer.Option("--name", help="Its name. Default: made of the file's.")] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy it into the models' folder; else it is used where it is.")
    ] = False,
    repin: Annotated[
        bool, typer.Option("--repin", help="Take the place of the model that has the name.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Give a GGUF file that is here a name, and pin its digest."""
    from agentmesh.view.text import clean, json_line
    from agentmesh_models.store.local import Store
    from agentmesh_models.store.names import name_from

    store = Store()
    stored = store.add(path.expanduser(), name or name_from(path.name), copy=copy, repin=repin)
    if json:
        print(json_line(models_pull.stored_json(stored, store.path(stored))))
        return
    print(clean(f"{stored.name}: {store.path(stored)}"))
    print(f"sha256 {stored.digest}, pinned")


@app.command("rm", epilog=example("agentmesh models rm qwen3-0.6b"))
def rm(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A model that was pulled or added, or whose pull was broken off."
        ),
    ],
    json: JsonOption = False,
) -> None:
    """Remove a model, or what came so far of one; a file added without a copy stays."""
    from agentmesh.errors import AgentMeshError
    from agentmesh.view.text import clean, json_line
    from agentmesh_models.store.local import Store
    from agentmesh_models.store.pull import source_of

    store = Store()
    stored, source = store.find(name), source_of(name)
    if stored is None and source is not None and (freed := store.drop_part(source.key)):
        if json:
            print(json_line({"name": source.key, "freed": freed, "kept": None}))
        else:
            print(clean(f"what came so far of {source.shown} removed; {freed / 1e6:,.1f} MB freed"))
        return
    if stored is None and name in ("nano", "scripted"):
        raise AgentMeshError("usage", f"{name} comes with the package and cannot be removed")
    if stored is None and Path(name).expanduser().exists():
        raise AgentMeshError(
            "usage", f"{name} was not stored by agentmesh, which deletes only what it stored itself"
        )
    done = store.remove(name if stored is None else stored.name)
    if json:
        kept = None if done.kept is None else str(done.kept)
        print(json_line({"name": done.name, "freed": done.freed, "kept": kept}))
        return
    after = f"{done.freed / 1e6:,.1f} MB freed" if done.kept is None else f"the file stays: {done.kept}"
    print(clean(f"{done.name} removed; {after}"))


app.command("pull", epilog=example("agentmesh models pull qwen3-0.6b"))(models_pull.pull)
app.command("bench", epilog=example("agentmesh models bench nano"))(models_bench.bench)
