"""`agentmesh models`: which models there are, and what one is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.options import DESCRIBED, JsonOption, example

if TYPE_CHECKING:
    from agentmesh_models import ModelInfo

app = typer.Typer(
    help="List the models that need no path, or say what one is.",
    epilog=example("agentmesh models info nano"),
    invoke_without_command=True,
    rich_markup_mode=DESCRIBED,
)


@app.callback()
def models(context: typer.Context, json: JsonOption = False) -> None:
    """List the models that need no path, or say what one is."""
    if context.invoked_subcommand is not None:
        return
    from agentmesh.view.text import json_line
    from agentmesh_models import list_models

    infos = list_models()
    if json:
        for each in infos:
            print(json_line(_json(each)))
        return
    print(f"{'name':<12} {'size':>9}  {'context':>7}  {'tools':<10} digest")
    for each in infos:
        print(f"{each.name:<12} {_size(each):>9}  {each.n_ctx:>7}  {each.tool_format:<10} {each.digest[:16]}")


@app.command("info", epilog=example("agentmesh models info nano"))
def info(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A name from the list, or the path of a .gguf file.")
    ],
    json: JsonOption = False,
) -> None:
    """Say what a model is: its file, size, digest, context and tool format."""
    from agentmesh.view.text import clean, json_line

    found = _json(_find(name))
    if json:
        print(json_line(found))
        return
    for key, value in found.items():
        print(f"{key.replace('_', ' '):<16} {'-' if value is None else clean(str(value))}")


def _find(name: str) -> ModelInfo:
    from agentmesh_models import list_models
    from agentmesh_models.catalogue import model_path

    for each in list_models():
        if each.name == name:
            return each
    path = model_path(name)
    from agentmesh_models.inspection import inspect

    return inspect(path, name=path.stem).info


def _json(info: ModelInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "path": None if info.path is None else str(info.path),
        "bytes": _bytes(info),
        "digest": info.digest,
        "n_ctx": info.n_ctx,
        "tool_format": info.tool_format,
        "template_digest": info.template_digest,
    }


def _bytes(info: ModelInfo) -> int | None:
    return info.path.stat().st_size if info.path is not None and info.path.is_file() else None


def _size(info: ModelInfo) -> str:
    size = _bytes(info)
    return "-" if size is None else f"{size / 1e6:,.1f} MB"
