"""`agentmesh run`: a dialogue, watched as it happens."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.exits import CANCELLED, code_after
from agentmesh.cli.options import MeshArgument
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.signals import watch_signals
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.events import Ended, Event, Listener
    from agentmesh.locations import LogPlace
    from agentmesh.mesh import Mesh
    from agentmesh_ledger import KeyStore


def run(
    mesh: MeshArgument,
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="What the agents are asked; - reads it from standard input."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one event a line as JSON; the last is the end.")
    ] = False,
    ledger: Annotated[
        str | None,
        typer.Option(
            "--ledger",
            metavar="WHERE",
            help="Record in this file, or at this PostgreSQL URL, instead of where the mesh file says.",
        ),
    ] = None,
    max_turns: Annotated[
        int | None, typer.Option("--max-turns", min=1, help="End after so many turns.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.001, help="End after so many seconds.")
    ] = None,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Also print what each agent reads before it replies.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the answer, and else only what went wrong.")
    ] = False,
) -> None:
    """Run a dialogue of a mesh and record every message, signed and chained."""
    from agentmesh.mesh import load_mesh

    plan = _limited(load_mesh(mesh), max_turns, timeout)
    asked = _task(plan, task)
    place = _place(plan, ledger)
    keys = keys_in(place.keys)  # before anything is on the screen: a person may be asked for the passphrase
    ends: list[Ended] = []
    shown = partial(_view, plan, json=json, quiet=quiet, prompts=show_prompt)
    try:
        _play_accepted(plan, asked, shown, ends, place, keys)
    finally:
        # A dialogue that failed is in the ledger too: say where, before the error says why.
        if ends and not json:
            _say(ends[-1], place, quiet=quiet)
    if not ends:
        typer.echo("agentmesh: stopped before anything was recorded", err=True)
        raise typer.Exit(CANCELLED)
    raise typer.Exit(code_after(ends[-1].reason))


def _limited(mesh: Mesh, max_turns: int | None, timeout: float | None) -> Mesh:
    given: dict[str, float] = {}
    if max_turns is not None:
        given["turns"] = max_turns
    if timeout is not None:
        given["seconds"] = timeout
    limits = mesh.dialogue.limits.model_copy(update=given)
    return mesh.model_copy(update={"dialogue": mesh.dialogue.model_copy(update={"limits": limits})})


def _task(mesh: Mesh, task: str | None) -> str:
    given = sys.stdin.read() if task == "-" else task
    asked = (mesh.dialogue.task or "") if given is None else given
    if not asked.strip():
        hint = f'give it: agentmesh run {shlex.quote(str(mesh.folder))} "What is 17 * 23?", or set dialogue.task in the mesh file'
        raise AgentMeshError("usage", "there is no task", hint=hint)
    return asked.strip()


def _view(mesh: Mesh, *, json: bool, quiet: bool, prompts: bool) -> AbstractContextManager[Listener]:
    """How the run is shown: events for programs, a live screen on a terminal, else lines. Prompts are lines anywhere."""
    from agentmesh.view.events_json import JsonEvents
    from agentmesh.view.plain import PlainLines, QuietLines

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if json:
        return nullcontext(
            JsonEvents(
                out=lambda line: print(line, flush=True),
                notice=lambda text: say(f"note: {text}"),
                prompts=prompts,
            )
        )
    if quiet:
        return QuietLines(say)
    if not prompts and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console

        from agentmesh.view.live import LiveDialogue

        return LiveDialogue(Console(stderr=True, highlight=False), mesh.dialogue.limits)
    return nullcontext(PlainLines(say, prompts=prompts))


def _place(mesh: Mesh, ledger: str | None) -> LogPlace:
    """Where the dialogue is to be recorded."""
    from agentmesh.locations import log_place
    from agentmesh_ledger.source import is_database

    if ledger is None:
        return mesh.log_place
    given = ledger if is_database(ledger) else Path(ledger).absolute()
    return log_place(given, origin=mesh.origin, folder=mesh.folder)


def _play_accepted(
    mesh: Mesh,
    task: str,
    shown: Callable[[], AbstractContextManager[Listener]],
    ends: list[Ended],
    place: LogPlace,
    keys: KeyStore,
) -> None:
    """Run the dialogue; where changed tools stopped it before it began, as often as a person accepts them."""
    from agentmesh.cli.pins import ask_to_accept
    from agentmesh.outside import pin_file

    while True:
        try:
            with shown() as view:
                return _play(mesh, task, view, ends, place, keys)
        except Exception as error:  # raised again, whatever it is, unless a person says otherwise
            if ends or not ask_to_accept(error, pin_file(mesh)):
                raise


def _play(mesh: Mesh, task: str, view: Listener, ends: list[Ended], place: LogPlace, keys: KeyStore) -> None:
    """Run the dialogue to its end, or to the person's Ctrl-C. `ends` gets its end, where it ever began."""
    import anyio

    from agentmesh.events import Ended, Notice
    from agentmesh.runtime import run_dialogue

    def listen(event: Event) -> None:
        if isinstance(event, Ended):
            ends.append(event)
        view(event)

    async def main() -> None:
        playing = anyio.CancelScope()

        def stop() -> None:
            view(Notice(text="stopping; Ctrl-C again leaves at once"))
            playing.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch_signals, stop)
            with playing:
                await run_dialogue(mesh, task, listen=listen, ledger=place.ledger, keys=keys)
            group.cancel_scope.cancel()

    anyio.run(main)


def _say(ended: Ended, place: LogPlace, *, quiet: bool) -> None:
    """The answer where results go, and how to check it where people look."""
    from agentmesh.view.ending import ending_text
    from agentmesh.view.text import clean

    if ended.answer and ended.reason not in ("cancelled", "failed"):
        print(clean(ended.answer), flush=True)
    if not quiet or ended.reason != "done":
        print(ending_text(ended, place.keys), file=sys.stderr)
