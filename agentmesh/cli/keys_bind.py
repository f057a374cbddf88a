"""`agentmesh keys bind` and `unbind`: an agent's key and an EVM account, each signing for the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from agentmesh.cli.anchor_options import AnchorOptions, KeyEnvOption, KeystoreOption, PassphraseEnvOption
from agentmesh.cli.options import JsonOption, KeysOption, LedgerOption, OriginOption
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.signing import open_writer, signer
from agentmesh.cli.where import find_place
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.account import Account

AgentArgument: TypeAlias = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.")]


def bind(
    agent: AgentArgument,
    key_env: KeyEnvOption = None,
    keystore: KeystoreOption = None,
    passphrase_env: PassphraseEnvOption = None,
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Bind an agent's key to an EVM account; each signs for the other, in the log."""
    from agentmesh.view.text import json_line
    from agentmesh_ledger import Draft
    from agentmesh_ledger.usage.binding import BIND, Binding, binding_facts

    account = _account(ledger, key_env, keystore, passphrase_env)
    place = find_place(ledger, origin, keys)
    store = keys_in(place.keys)
    key = signer(store, agent)
    with open_writer(place, store) as log:
        binding = Binding(agent=key.id, address=account.address, log=log.origin)
        facts = binding_facts(binding, key, account.sign_typed(binding.typed_data()))
        (receipt,) = log.append([Draft(author=key, kind=BIND, dialogue="log", facts=facts)])
    if json:
        print(json_line({"agent": key.id, "address": binding.address, "index": receipt.index}))
    else:
        print(f"{agent}  {key.id}  is bound to {binding.address}; entry {receipt.index} says so")


def unbind(
    agent: AgentArgument,
    ledger: LedgerOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """End an agent's binding to its account, in the log."""
    from agentmesh.view.text import json_line
    from agentmesh_ledger import Draft
    from agentmesh_ledger.usage.balances import accounts_of
    from agentmesh_ledger.usage.binding import UNBIND

    place = find_place(ledger, origin, keys)
    store = keys_in(place.keys)
    key = signer(store, agent)
    with open_writer(place, store) as log:
        affairs = accounts_of(log.origin, log.read(dialogue="log"))
        bound = {binding.agent: binding for binding, _ in affairs.bindings}
        if key.id not in bound:
            raise AgentMeshError("usage", f"{agent} is bound to no account in this log")
        (receipt,) = log.append([Draft(author=key, kind=UNBIND, dialogue="log", facts={"agent": key.id})])
    address = bound[key.id].address
    if json:
        print(json_line({"agent": key.id, "address": address, "index": receipt.index}))
    else:
        print(f"{agent}  {key.id}  is bound to {address} no more; entry {receipt.index} says so")


def _account(
    ledger: str | None, key_env: str | None, keystore: Path | None, passphrase_env: str | None
) -> Account:
    """The account meant. That which pays for anchors is not taken for an agent's own by default."""
    if key_env is None and keystore is None:
        raise AgentMeshError(
            "usage", "whose account? Give one of --key-env and --keystore", hint="a key is never an argument"
        )
    options = AnchorOptions(where=ledger, key_env=key_env, keystore=keystore, passphrase_env=passphrase_env)
    return options.account()
