"""`agentmesh witness add`, `gather` and `status`: a log's side of being witnessed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from agentmesh.cli.exits import LIMIT
from agentmesh.cli.options import JsonOption, KeysOption, LedgerOption, OriginOption
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.locations import LogPlace
    from agentmesh_ledger import Policy

PolicyOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--policy", metavar="FILE", help="The C2SP tlog-policy. Default: the mesh's, else witnesses.policy."
    ),
]
LogArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="LOG", help="A mesh file or its folder, a ledger file, or a PostgreSQL URL.")
]


def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the policy calls the witness.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where it takes checkpoints.")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="VKEY", help="Its public key. Default: what it says itself at URL."),
    ] = None,
    policy: PolicyOption = None,
    need: Annotated[
        int | None,
        typer.Option(
            "--need", metavar="K", help="How many of all must cosign. Default: more than half of them."
        ),
    ] = None,
    ledger: LedgerOption = None,
    json: JsonOption = False,
) -> None:
    """Put a witness into a policy, made if need be, with the key it then must have."""
    from agentmesh.cli.output import output_file
    from agentmesh.locations import is_address
    from agentmesh.view.text import clean, json_line
    from agentmesh.witness_policy import with_witness
    from agentmesh_ledger.web import is_prefix

    if "@" in url.partition("//")[2].partition("/")[0]:
        # Nobody could be asked there, and the policy is for everyone to read.
        raise AgentMeshError("usage", "a name or password cannot stand in a witness's address")
    if not is_address(url) or not is_prefix(url):
        raise AgentMeshError("usage", f"{url!r} is no http or https address without a query")
    found = _found(ledger or ".", policy, lenient=ledger is None)
    vkey = _asked_key(url) if key is None else _checked_key(key)
    log = None if found.log is None else _log_vkey(found.log)
    data = _read(found.policy)
    done = with_witness(data, name=name, vkey=vkey, url=url, need=need, log=log)
    with output_file(str(found.policy)) as out:
        out.write(done.text)
    if json:
        told = {"policy": str(found.policy), "witness": name, "vkey": vkey, "url": url}
        print(json_line({**told, "log": log, "need": done.needed, "witnesses": done.witnesses}))
        return
    print(f"{found.policy}: {done.needed} of {done.witnesses} must cosign")
    if key is None:
        print(f"  pinned, as it says itself: {clean(vkey)}", file=sys.stderr)
        print("  compare that with what its operator says", file=sys.stderr)
    if log is not None:
        print(f"  its operator has to trust the log: agentmesh witness trust FOLDER {log}", file=sys.stderr)
    if not found.is_named:
        print(f'  in the mesh file: [witness] policy = "{found.policy.name}"', file=sys.stderr)


def gather(
    where: LogArgument = ".",
    policy: PolicyOption = None,
    within: Annotated[
        float | None,
        typer.Option(
            "--within", min=0.1, max=600, metavar="S", help="Seconds to wait. Default: the mesh's, else 5."
        ),
    ] = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Have the newest checkpoint cosigned by the witnesses; code 4 where too few do."""
    from agentmesh.cli.where import find_place
    from agentmesh.view.text import clean, json_line
    from agentmesh.view.witnesses import gathered_json, gathered_text
    from agentmesh_ledger import KeyStore
    from agentmesh_ledger.log import Ledger

    found = _found(where, policy)
    trusted = _policy(found.policy)
    place = find_place(where, origin, keys)
    with Ledger.open(place.ledger, origin=place.origin, keys=KeyStore(place.keys), read_only=True) as log:
        done = log.gather(trusted, within=found.within if within is None else within)
    if json:
        print(json_line(gathered_json(done)))
    else:
        print(clean(gathered_text(done)))
        for each in done.failures:
            print(clean(f"  {each.name}: {each.message}"), file=sys.stderr)
    if done.evidence is None:
        raise typer.Exit(LIMIT)


def status(
    where: LogArgument = ".",
    policy: PolicyOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Show who has cosigned how much of a log, without asking anyone."""
    from agentmesh.cli.where import find_place
    from agentmesh.view.text import clean, json_line
    from agentmesh.view.witnesses import standing, standing_json, standing_text
    from agentmesh_ledger import KeyStore
    from agentmesh_ledger.log import Ledger

    trusted = _policy(_found(where, policy).policy)
    place = find_place(where, origin, keys)
    with Ledger.open(place.ledger, origin=place.origin, keys=KeyStore(place.keys), read_only=True) as log:
        found = standing(log.origin, log.size, log.vkey(), log.cosigned(strict=True), trusted)
    print(json_line(standing_json(found)) if json else clean(standing_text(found)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The policy meant, the log it is for where one is known, and whether the mesh file names the policy."""

    policy: Path
    log: LogPlace | None
    within: float
    is_named: bool


def _found(where: str, policy: Path | None, *, lenient: bool = False) -> _Found:
    """`lenient` is for a place where there need not be any log.

    Raises: MeshFileError, AgentMeshError(no_ledger).
    """
    from agentmesh.cli.where import find_place
    from agentmesh.mesh import FILE_NAME, find_outside
    from agentmesh.witness_policy import FILE_NAME as POLICY
    from agentmesh_ledger.source import is_database

    path = Path(where)
    if not is_database(where) and (path.suffix == ".toml" or (path / FILE_NAME).is_file()):
        eyes = find_outside(path)
        own = eyes.policy
        return _Found(
            policy=policy or own or eyes.path.parent / POLICY,
            log=eyes.log,
            within=5.0 if eyes.witness is None else eyes.witness.within,
            is_named=policy is not None or own is not None,
        )
    log = None
    try:
        log = find_place(where)
    except AgentMeshError:
        if not lenient:
            raise
    folder = Path() if is_database(where) else path if path.is_dir() else path.parent
    return _Found(policy=policy or folder / POLICY, log=log, within=5.0, is_named=True)


def _policy(path: Path) -> Policy:
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.source import read_policy

    try:
        return read_policy(path)
    except LedgerError as error:
        if error.reason == "not_found":
            hint = "`agentmesh witness add NAME URL` makes one; --policy names another"
            raise AgentMeshError("usage", f"{path}: there is no policy", hint=hint) from error
        if not error.is_check:
            raise
        raise AgentMeshError("usage", f"{path}: {error}") from error


def _read(path: Path) -> bytes | None:
    from agentmesh_ledger.policy import MAX_POLICY

    try:
        with path.open("rb") as file:
            return file.read(MAX_POLICY + 1)
    except FileNotFoundError:
        return None


def _log_vkey(log: LogPlace) -> str | None:
    """The log's public key, where its keys are there; no passphrase is needed."""
    from agentmesh_ledger import KeyStore

    store = KeyStore(log.keys)
    origins = store.origins()
    if log.origin in origins:
        return store.vkey(log.origin)
    return store.vkey(origins[0]) if log.origin is None and len(origins) == 1 else None


def _checked_key(text: str) -> str:
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.cosignature import parse_cosigner

    try:
        return str(parse_cosigner(text))
    except LedgerError as error:
        hint = "`agentmesh witness key` prints it; quote it for your shell"
        raise AgentMeshError("usage", f"--key: {error.message}", hint=hint) from error


def _asked_key(url: str) -> str:
    """The key that a witness names as its own."""
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.cosignature import parse_cosigner
    from agentmesh_ledger.web import WebFiles

    hint = "ask its operator for the key, and give it with --key"
    try:
        told = WebFiles(url).fetch("", 4096).decode("utf-8")
    except (LedgerError, UnicodeDecodeError) as error:
        why = error.message if isinstance(error, LedgerError) else "its answer is not UTF-8"
        raise AgentMeshError("no_key", f"{url} does not say its key: {why}", hint=hint) from error
    found: set[str] = set()
    for word in told.split():
        try:
            found.add(str(parse_cosigner(word)))
        except LedgerError:
            continue
    if len(found) != 1:
        raise AgentMeshError("no_key", f"{url} does not name one key of a witness", hint=hint)
    return found.pop()
