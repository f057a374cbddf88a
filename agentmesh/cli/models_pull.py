"""`agentmesh models pull`: a model brought here, with how far it is on standard error."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agentmesh.cli.exits import CANCELLED
from agentmesh.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from agentmesh_models.store.lock import Stored

_LINE_EVERY: Final = 15.0
_LINE_SHARE: Final = 0.1


def pull(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A name of the catalogue, hf:owner/repo/file.gguf, hf:owner/repo, or an https:// address.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", help="What to call it. Default: the catalogue's name or the file's."),
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--sha256", metavar="HEX", help="Refuse any other file.")
    ] = None,
    repin: Annotated[
        bool, typer.Option("--repin", help="Take what the source has now, and pin that.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Bring a model here; a pull that was interrupted goes on where it broke."""
    from agentmesh.view.text import clean, json_line
    from agentmesh_models.store.pull import Pull
    from agentmesh_models.store.pull import pull as bring

    try:
        with Meter() as meter:
            how = Pull(name=name, digest=digest, repin=repin, progress=meter.show, say=meter.say)
            done = bring(spec, how)
    except KeyboardInterrupt:
        print(
            "agentmesh: stopped; what came is kept, and the same command goes on from there", file=sys.stderr
        )
        raise typer.Exit(CANCELLED) from None
    if json:
        print(json_line(stored_json(done.stored, done.path) | {"how": done.how}))
        return
    came = {"downloaded": "pulled", "here": "was here already", "cached": "taken from the hub client's cache"}
    stored = done.stored
    print(clean(f"{stored.name}: {came[done.how]}, {stored.size / 1e6:,.1f} MB, {done.path}"))
    print(f"sha256 {stored.digest}, pinned")


def stored_json(stored: Stored, path: Path) -> dict[str, object]:
    """A stored model as plain JSON values."""
    return {
        "name": stored.name,
        "kind": stored.kind,
        "path": str(path),
        "bytes": stored.size,
        "digest": stored.digest,
        "source": stored.source,
        "revision": stored.revision,
    }


class Meter:
    """How far a download is, on standard error: a bar on a terminal, a line now and then anywhere else."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._at = -1.0
        self._when = 0.0

    def __enter__(self) -> Meter:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(self, *of_error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, here: int, total: int | None) -> None:
        """So many bytes are here, of so many."""
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("pull", total=total, completed=here)
            self._bar.update(self._task, completed=here, total=total)
            return
        now, share = time.monotonic(), here / total if total else 0.0
        is_first = self._at < 0
        if (
            not is_first
            and share - self._at < _LINE_SHARE
            and now - self._when < _LINE_EVERY
            and here != total
        ):
            return
        self._at, self._when = share, now
        of = f" of {total / 1e6:,.1f} MB ({share:.0%})" if total else ""
        print(f"{here / 1e6:,.1f} MB{of}", file=sys.stderr)

    def say(self, text: str) -> None:
        """Something that people should know about the pull."""
        from agentmesh.view.text import clean

        line = clean(text)
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
