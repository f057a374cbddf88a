"""The command `agentmesh`; also `python -m agentmesh`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Returns its exit code; no expected error leaves a traceback."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        # Ctrl-C while the program was still being loaded.
        return 130


def _run(arguments: Sequence[str] | None) -> int:
    try:
        from agentmesh.cli.app import app
        from agentmesh.cli.exits import report
    except ModuleNotFoundError as error:
        # Only what the extra brings: a module of our own that is missing is a fault to be seen.
        if (error.name or "").partition(".")[0] not in {"typer", "rich", "pydantic", "pydantic_core"}:
            raise
        print("agentmesh needs the extra 'run': pip install 'agentmesh-runtime[run]'", file=sys.stderr)
        return 2
    from typer.main import get_command

    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        # What agents say may have letters that the terminal's encoding has not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        get_command(app).main(args=arguments, prog_name="agentmesh", standalone_mode=True)
    except SystemExit as done:
        return _flushed(done.code if isinstance(done.code, int) else 0 if done.code is None else 1)
    except BaseException as error:  # noqa: BLE001  # the one place where errors become exit codes
        return _flushed(report(error))
    return _flushed(0)


def _open_what_is_closed() -> None:
    """Python has None for a stream that was closed before it began (`2>&-`); writing there should go nowhere."""
    # The streams stay open for as long as the process lives.
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _flushed(code: int) -> int:
    """The exit code, once everything is written; 1 where whoever read our output has gone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # At exit Python flushes once more, and would complain about what cannot be helped.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or 1
    return code


if __name__ == "__main__":
    sys.exit(main())
