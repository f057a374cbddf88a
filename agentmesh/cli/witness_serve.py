"""`agentmesh witness serve`, `trust` and `key`: a witness that cosigns others' checkpoints over HTTP."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias
from urllib.parse import urlsplit

import typer

from agentmesh.cli.exits import CANCELLED
from agentmesh.cli.options import JsonOption
from agentmesh.cli.passphrase import passphrase_in
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh_ledger.witness.folder import WitnessFolder

_LOOPBACK: Final = "127.0.0.1"
_DEFAULT: Final = f"{_LOOPBACK}:8780"

FolderArgument: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The witness's folder; made if need be.")
]
NameOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="NAME",
        help="What a new witness is called, such as example.org/w1. Default: the folder's.",
    ),
]
KeysOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--keys", metavar="DIR", help="The folder of its key and memory. Default: FOLDER/keys."),
]


def serve(
    folder: FolderArgument,
    name: NameOption = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="[HOST:]PORT", help="Where to listen; port 0 is a free one.")
    ] = _DEFAULT,
    log: Annotated[
        list[str] | None,
        typer.Option("--log", metavar="VKEY", help="Trust this log's key, from now on. May be repeated."),
    ] = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Cosign the checkpoints of trusted logs over HTTP (C2SP tlog-witness)."""
    from agentmesh.view.text import clean, json_line
    from agentmesh_ledger.witness.server import WitnessServer
    from agentmesh_ledger.witness.server import listen as listener

    host, port = _address(listen)
    place = _folder(folder, keys)
    _trust(place, log or [])
    key = place.key(_named(name), passphrase_in(place.keys))

    def told(message: str) -> None:
        # A full disk under the operator's log, or its reader gone, must not become the answer to a client.
        with suppress(OSError, ValueError):
            print(f"agentmesh: {clean(message)}", file=sys.stderr, flush=True)

    with place.opened(key, told=told) as (witness, trusted), listener(host, port) as socket:
        url = _url(*socket.getsockname()[:2])

        def ready() -> None:
            if json:
                print(json_line({"name": key.name, "vkey": key.vkey, "url": url}), flush=True)
            else:
                print(f"{url}\n{key.vkey}", flush=True)
            if not trusted.origins():
                told(f"no log is trusted yet: agentmesh witness trust {place.path} VKEY")

        signalled = WitnessServer(witness, trusted, ready=ready).answer(socket)
    if signalled:
        raise typer.Exit(CANCELLED)


def trust(
    folder: FolderArgument,
    vkeys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VKEY]...", help="Keys of logs, as `agentmesh keys` shows them. None: list them."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Choose the logs that a witness cosigns for; a running one follows."""
    from agentmesh.view.text import json_line
    from agentmesh_ledger.witness.trusted import read_logs

    place = _folder(folder, None)
    if vkeys:
        print(f"{place.logs}: {_trust(place, vkeys)} added", file=sys.stderr)
    for origin, known in sorted(read_logs(place.logs).items()):
        for each in known:
            print(json_line({"origin": origin, "vkey": str(each)}) if json else str(each))


def key(
    folder: FolderArgument, name: NameOption = None, keys: KeysOption = None, json: JsonOption = False
) -> None:
    """Print a witness's public key, for policies; made on first use."""
    from agentmesh.view.text import json_line

    place = _folder(folder, keys)
    found = place.key(_named(name), passphrase_in(place.keys))
    print(json_line({"name": found.name, "vkey": found.vkey}) if json else found.vkey)


def _folder(folder: Path, keys: Path | None) -> WitnessFolder:
    from agentmesh_ledger.witness.folder import WitnessFolder

    return WitnessFolder.at(folder, keys)


def _named(name: str | None) -> str | None:
    from agentmesh_ledger.text import is_origin

    if name is None or is_origin(name):
        return name
    hint = "give it a name such as example.org/w1: printable ASCII without spaces and '+', at most 200"
    raise AgentMeshError("usage", f"--name: {name!r} cannot name a witness", hint=hint)


def _trust(place: WitnessFolder, vkeys: list[str]) -> int:
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.witness.trusted import trust_logs

    try:
        return trust_logs(place.logs, vkeys)
    except LedgerError as error:
        if not error.is_check:
            raise
        hint = "`agentmesh keys` prints a log's; quote it for your shell"
        raise AgentMeshError("usage", f"this is no key of a log: {error.message}", hint=hint) from error


def _address(text: str) -> tuple[str, int]:
    """The host and port meant by `PORT`, `HOST:PORT` or `[IPv6]:PORT`."""
    try:
        parts = urlsplit(f"//{text if ':' in text else f'{_LOOPBACK}:{text}'}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None or parts.netloc != parts.geturl()[2:] or "@" in text:
        raise AgentMeshError(
            "usage",
            f"--listen: {text!r} is not an address",
            hint="write PORT, HOST:PORT or [::1]:PORT; port 0 is a free one",
        )
    return host, port


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
