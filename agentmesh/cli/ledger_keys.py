"""`agentmesh ledger rotate-key`, `revoke-key`, `seal-keys` and `unseal-keys`: the keys that sign in a log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from agentmesh.cli.options import JsonOption, KeysOption, LedgerOption, OriginOption
from agentmesh.cli.passphrase import keys_in, passphrase_for
from agentmesh.cli.signing import ByOption, ReasonOption, agent_meant, open_writer, signer
from agentmesh.cli.where import find_place
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh_ledger import AgentId, AgentKey, KeyStore
    from agentmesh_ledger.log import Ledger

PassphraseFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Its first line is the passphrase. Default: AGENTMESH_PASSPHRASE, the keyring, or a question.",
    ),
]


def rotate_key(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")],
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Put a new key in the place of an agent's old one, signed by both."""
    from agentmesh.view.text import json_line

    place = find_place(ledger, origin, keys)
    store = keys_in(place.keys)
    old = signer(store, agent)
    with open_writer(place, store) as log:
        waiting = _waiting(store, agent)
        index = None if waiting is None else _rotation(log, old.id, waiting.id)
        if waiting is None or index is None:
            waiting = store.next_agent(agent)
            index = log.rotate(old, waiting).index
    # Last: after a crash before this, the log tells that this is all that is missing.
    store.promote(agent)
    if json:
        print(json_line({"agent": agent, "old": old.id, "new": waiting.id, "index": index}))
    else:
        print(f"{agent}  {waiting.id}  since entry {index}")
        print("  a program that runs with the old key must be started anew", file=sys.stderr)


def revoke_key(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name, or a did:key.")],
    after: Annotated[
        int,
        typer.Option(
            "--after", metavar="N", min=0, help="The last entry that counts; later ones are disowned."
        ),
    ],
    by: ByOption = "host",
    reason: ReasonOption = None,
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """End what an agent's key may do, and disown what it wrote after an entry."""
    from agentmesh.view.text import json_line

    place = find_place(ledger, origin, keys)
    store = keys_in(place.keys)
    with open_writer(place, store) as log:
        revoked = agent_meant(store, log, agent)
        receipt = log.revoke(revoked, after=after, by=signer(store, by), reason=reason)
    if json:
        print(json_line({"id": revoked, "after": after, "index": receipt.index}))
    else:
        print(f"{revoked} is revoked as of entry {after}; entry {receipt.index} says so")


def seal_keys(
    passphrase_file: PassphraseFile = None,
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Also keep the passphrase in the system's keyring.")
    ] = False,
    ledger: LedgerOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Put the secret keys under a passphrase."""
    from agentmesh_ledger import KeyStore
    from agentmesh_ledger.passphrase import to_keyring

    folder = _folder(ledger, keys)
    source = passphrase_for(folder, passphrase_file, new=not KeyStore(folder).sealed())
    passphrase = source()
    done = KeyStore(folder, lambda: passphrase).seal()
    if keyring:
        to_keyring(folder, passphrase)
    _say(folder, "sealed", done, json=json)


def unseal_keys(
    passphrase_file: PassphraseFile = None,
    ledger: LedgerOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Take the secret keys out from under their passphrase."""
    from agentmesh_ledger import KeyStore

    folder = _folder(ledger, keys)
    done = KeyStore(folder, passphrase_for(folder, passphrase_file, new=False)).unseal()
    _say(folder, "unsealed", done, json=json)


def _waiting(keys: KeyStore, agent: str) -> AgentKey | None:
    """The key that an earlier call has made and not put in place."""
    from agentmesh_ledger import LedgerError

    try:
        return keys.next_agent(agent, create=False)
    except LedgerError as error:
        if error.reason != "not_found":
            raise
        return None


def _rotation(log: Ledger, old: AgentId, new: AgentId) -> int | None:
    """Where the log says that `new` took the place of `old`."""
    if not log.size:
        return None
    for record in log.read(dialogue="log"):
        message = record.message
        if message.kind == "key.rotate" and (message.author, message.facts["new"]) == (old, new):
            return record.index
    return None


def _folder(ledger: str | None, keys: Path | None) -> Path:
    from agentmesh_ledger import KeyStore

    folder = keys if keys is not None else find_place(ledger).keys
    store = KeyStore(folder)
    if not store.names() and not store.origins():
        hint = "keys are made by the first `agentmesh run`"
        raise AgentMeshError("no_ledger", f"{folder}: there are no keys", hint=hint)
    return folder


def _say(folder: Path, what: str, number: int, *, json: bool) -> None:
    from agentmesh.view.text import count, json_line

    if json:
        print(json_line({"keys": str(folder), what: number}))
    else:
        print(f"{folder}: {count(number, 'key')} {what}")
