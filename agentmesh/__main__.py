"""The command `agentmesh`; also `python -m agentmesh`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line. Returns its exit code; no expected error leaves a traceback."""
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

    try:
        get_command(app).main(args=arguments, prog_name="agentmesh")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except BrokenPipeError:
        # Whoever read our output has gone; writing more, or flushing at exit, would only complain again.
        sys.stdout = None
        return 1
    except BaseException as error:  # noqa: BLE001  # the one place where errors become exit codes
        return report(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
