"""`agentmesh anchor deploy` and `status`: the contract on its chain, and what stands there of a log."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from agentmesh.cli.anchor_options import (
    AnchorOptions,
    ChainOption,
    ContractOption,
    KeyEnvOption,
    KeystoreOption,
    MaxFeeOption,
    PassphraseEnvOption,
    RpcEnvOption,
    RpcOption,
    WhereArgument,
    answering,
)
from agentmesh.cli.exits import FAILED
from agentmesh.cli.options import JsonOption, KeysOption, OriginOption
from agentmesh.cli.where import find_place


def deploy(
    where: WhereArgument = None,
    rpc: RpcOption = None,
    rpc_env: RpcEnvOption = None,
    keystore: KeystoreOption = None,
    passphrase_env: PassphraseEnvOption = None,
    key_env: KeyEnvOption = None,
    chain: ChainOption = None,
    max_fee: MaxFeeOption = None,
    within: Annotated[
        float, typer.Option("--within", metavar="SECONDS", min=0.1, help="How long to wait for its block.")
    ] = 300.0,
    json: JsonOption = False,
) -> None:
    """Put the contract on a chain, and look at its code; one serves all logs."""
    from agentmesh.view.text import clean, json_line
    from agentmesh_ledger.anchor import deploy as deployment
    from agentmesh_ledger.anchor.account import checksummed

    options = AnchorOptions(
        where=where, rpc=rpc, rpc_env=rpc_env, keystore=keystore, passphrase_env=passphrase_env, key_env=key_env,
        chain=chain, max_fee=max_fee,
    )  # fmt: skip

    def told(message: str) -> None:
        print(f"agentmesh: {clean(message)}", file=sys.stderr, flush=True)

    fee = options.fee()
    with options.connected() as node, answering():
        account = options.account()
        done = deployment.deploy(node, account, max_fee_gwei=fee, within=within, told=told)
        number = node.expected
    if json:
        print(
            json_line(
                {
                    "contract": done.address,
                    "chain": number,
                    "tx": done.tx,
                    "block": done.block,
                    "gas": done.gas,
                }
            )
        )
    else:
        print(checksummed(done.address))
        told(f"deployed on chain {number} in block {done.block}, for {done.gas:,} gas; its code is ours")


def status(
    where: WhereArgument = None,
    rpc: RpcOption = None,
    rpc_env: RpcEnvOption = None,
    contract: ContractOption = None,
    chain: ChainOption = None,
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Say how the log's anchors stand on the chain; needs no key."""
    from agentmesh.view.anchors import survey_lines
    from agentmesh.view.text import json_line
    from agentmesh_ledger import KeyStore
    from agentmesh_ledger.anchor.journal import Journal, journal_path
    from agentmesh_ledger.anchor.survey import survey
    from agentmesh_ledger.log import Ledger

    options = AnchorOptions(where=where, rpc=rpc, rpc_env=rpc_env, contract=contract, chain=chain)
    address = None if contract is None else options.address()
    place = find_place(where, origin, keys)
    store = KeyStore(place.keys)
    with (
        options.connected() as node,
        answering(),
        Ledger.open(place.ledger, origin=place.origin, keys=store, read_only=True) as log,
    ):
        size, sound = log.size, list[bool]()
        for each in survey(log, node, Journal(journal_path(store, log.origin)), contract=address):
            sound.append(each.sound)
            if json:
                print(json_line({**asdict(each), "size": size, "sound": each.sound}))
            else:
                print("\n".join(survey_lines(each, size)))
    if not sound:
        print("nothing was anchored on this chain yet", file=sys.stderr)
    if not all(sound):
        raise typer.Exit(FAILED)
