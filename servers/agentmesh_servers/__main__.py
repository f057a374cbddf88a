"""`agentmesh-server NAME`: one server over standard input and output, for any MCP host to start."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from agentmesh_servers.errors import ServersError
from agentmesh_servers.registry import build, names

_EXAMPLE = """\
example, as an MCP host starts it:
  agentmesh-server notes --folder ~/notes
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until standard input ends. Exit status 0 then, 2 for a wrong command line or install, 1 otherwise.

    Ctrl-C ends the process with status 130.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(names()))
        return 0
    if given.name is None:
        parser.error(f"name a server: {', '.join(names())}")
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    options = {} if given.folder is None else {"folder": given.folder}
    try:
        server = build(given.name, **options)
    except ServersError as error:
        if error.reason in ("unknown_server", "bad_option"):
            parser.error(error.message)
        print(f"agentmesh-server: {error.message}", file=sys.stderr)
        return 2 if error.reason == "missing_extra" else 1
    # The SDK waits for the host's next line before it can be stopped; nothing here needs a goodbye.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    server.run()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentmesh-server",
        description="Serve one tool server over MCP on standard input and output.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(names())}")
    parser.add_argument(
        "--folder", metavar="DIR", help="notes: the folder of Markdown files (or set AGENTMESH_NOTES)"
    )
    parser.add_argument("--list", action="store_true", help="list the servers and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
