"""`agentmesh-server NAME`: one server over standard input and output, for any MCP host to start."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from agentmesh_servers.errors import ServersError
from agentmesh_servers.options import OPTIONS
from agentmesh_servers.registry import build, names

_EXAMPLE = """\
examples, as an MCP host starts them:
  agentmesh-server notes --folder ~/notes
  agentmesh-server files --folder ~/letters --write
  agentmesh-server sql --database library.db
"""
_METAVARS = {
    "folder": "DIR",
    "roots": "NAME=DIR,...",
    "database": "FILE",
    "url_env": "NAME",
    "timeout": "SECONDS",
}
_SWITCHES = {option.name for options in OPTIONS.values() for option in options if option.kind == "flag"}


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
    try:
        server = build(given.name, **_options(given))
    except ServersError as error:
        if error.reason in ("unknown_server", "bad_option"):
            parser.error(error.message)
        print(f"agentmesh-server: {error.message}", file=sys.stderr)
        return 2 if error.reason == "missing_extra" else 1
    # The SDK waits for the host's next line before it can be stopped; nothing here needs a goodbye.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    server.run()
    return 0


def _flags() -> dict[str, list[str]]:
    """Every option with what it means to each server that has it."""
    told: dict[str, dict[str, list[str]]] = {}
    for server, options in OPTIONS.items():
        for option in options:
            stands_in = option.variable and option.kind != "word"
            about = option.about + (f" (or set {option.variable})" if stands_in else "")
            told.setdefault(option.name, {}).setdefault(about, []).append(server)
    return {
        name: [f"{', '.join(servers)}: {about}" for about, servers in meanings.items()]
        for name, meanings in told.items()
    }


def _options(given: argparse.Namespace) -> dict[str, str]:
    values = {name: getattr(given, name) for name in _flags()}
    return {name: value for name, value in values.items() if value is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agentmesh-server",
        description="Serve one tool server over MCP on standard input and output.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(names())}")
    for name, told in _flags().items():
        flag, text = f"--{name.replace('_', '-')}", "; ".join(told)
        if name in _SWITCHES:
            parser.add_argument(flag, action="store_const", const="true", help=text)
        else:
            parser.add_argument(flag, metavar=_METAVARS.get(name, "N"), help=text)
    parser.add_argument("--list", action="store_true", help="list the servers and exit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
