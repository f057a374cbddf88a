"""`agentmesh anchor push` and `watch`: the log's checkpoints go onto a chain, once or whenever that is due."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentmesh.cli.anchor_options import (
    AnchorOptions,
    ChainOption,
    ConfirmationsOption,
    ContractOption,
    EveryOption,
    KeyEnvOption,
    KeystoreOption,
    MaxFeeOption,
    PassphraseEnvOption,
    RpcEnvOption,
    RpcOption,
    SettleOption,
    WhereArgument,
    answering,
    as_usage,
)
from agentmesh.cli.exits import CANCELLED, FAILED, LIMIT
from agentmesh.cli.options import JsonOption, KeysOption, OriginOption
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.signals import watch_signals
from agentmesh.cli.signing import ByOption, open_writer, signer
from agentmesh.cli.where import find_place

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.anchorer import Anchorer, Settlement
    from agentmesh_ledger.anchor.progress import Progress
    from agentmesh_ledger.log import Ledger


def push(
    where: WhereArgument = None,
    rpc: RpcOption = None,
    rpc_env: RpcEnvOption = None,
    contract: ContractOption = None,
    keystore: KeystoreOption = None,
    passphrase_env: PassphraseEnvOption = None,
    key_env: KeyEnvOption = None,
    chain: ChainOption = None,
    confirmations: ConfirmationsOption = None,
    max_fee: MaxFeeOption = None,
    settle: SettleOption = False,
    within: Annotated[
        float,
        typer.Option("--within", metavar="SECONDS", min=0.1, help="How long to wait until it is recorded."),
    ] = 300.0,
    by: ByOption = "host",
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Anchor the log as it is now, and record that once it is deep enough."""
    from agentmesh.view.anchors import progress_line
    from agentmesh.view.text import json_line

    options = AnchorOptions(
        where=where, rpc=rpc, rpc_env=rpc_env, contract=contract, keystore=keystore, passphrase_env=passphrase_env,
        key_env=key_env, chain=chain, confirmations=confirmations, max_fee=max_fee,
    )  # fmt: skip
    with _opened(options, by, origin, keys) as (log, anchorer), answering():
        say = _changes(lambda progress: print(f"  {progress_line(progress)}", file=sys.stderr, flush=True))
        done = anchorer.push(within=within, settlement=_settlement(log, settle), told=say)
    print(json_line(asdict(done)) if json else progress_line(done))
    if done.state == "blocked":
        raise typer.Exit(FAILED)
    if done.state in ("pending", "waiting"):
        print("agentmesh: the time is over; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(LIMIT)


def watch(
    where: WhereArgument = None,
    rpc: RpcOption = None,
    rpc_env: RpcEnvOption = None,
    contract: ContractOption = None,
    keystore: KeystoreOption = None,
    passphrase_env: PassphraseEnvOption = None,
    key_env: KeyEnvOption = None,
    chain: ChainOption = None,
    confirmations: ConfirmationsOption = None,
    max_fee: MaxFeeOption = None,
    every: EveryOption = None,
    settle: SettleOption = False,
    poll: Annotated[
        float, typer.Option("--poll", metavar="SECONDS", min=0.05, help="How often the chain is looked at.")
    ] = 4.0,
    by: ByOption = "host",
    origin: OriginOption = None,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Anchor the log whenever that is due, until stopped; says what changes."""
    from agentmesh.view.anchors import progress_line
    from agentmesh.view.text import json_line
    from agentmesh_ledger.anchor.progress import parse_every

    options = AnchorOptions(
        where=where, rpc=rpc, rpc_env=rpc_env, contract=contract, keystore=keystore, passphrase_env=passphrase_env,
        key_env=key_env, chain=chain, confirmations=confirmations, max_fee=max_fee, every=every,
    )  # fmt: skip
    with as_usage():
        often = parse_every(options.often)
    with _opened(options, by, origin, keys) as (log, anchorer), answering():
        settlement = _settlement(log, settle)
        say = _changes(
            lambda progress: print(
                json_line(asdict(progress)) if json else progress_line(progress), flush=True
            )
        )
        _repeat(lambda: say(anchorer.step(settlement, start=anchorer.due(often))), poll)
    raise typer.Exit(CANCELLED)


@contextmanager
def _opened(
    options: AnchorOptions, by: str, origin: str | None, keys: Path | None
) -> Iterator[tuple[Ledger, Anchorer]]:
    """The log to append to, and what anchors it. What may be wrong with the options is found first."""
    from agentmesh_ledger.anchor.anchorer import Anchorer
    from agentmesh_ledger.anchor.journal import Journal, journal_path

    address, fee, confirmations = options.address(), options.fee(), options.depth
    place = find_place(options.where, origin, keys)
    store = keys_in(place.keys)
    author = signer(store, by)
    with (
        options.connected() as chain,
        open_writer(place, store) as log,
    ):
        anchorer = Anchorer(
            log,
            author,
            chain,
            options.account(),
            address,
            Journal(journal_path(store, log.origin)),
            confirmations=confirmations,
            max_fee_gwei=fee,
        )
        yield log, anchorer


def _settlement(log: Ledger, settle: bool) -> Settlement:
    if not settle:
        return None
    from agentmesh_ledger.usage.settlement import settlement_root

    return lambda size: settlement_root(log, size)


def _changes(tell: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Tells each progress that says something else than the last one."""
    last: list[Progress] = []

    def told(progress: Progress) -> None:
        # Each block makes what was recorded one deeper, which is no news.
        said = replace(progress, depth=None) if progress.state == "idle" else progress
        if last != [said]:
            last[:] = [said]
            tell(progress)

    return told


def _repeat(step: Callable[[], None], poll: float) -> None:
    """Takes steps until the first signal; a second one leaves at once, which no step minds."""
    import anyio

    async def steps() -> None:
        while True:
            await anyio.to_thread.run_sync(step)
            await anyio.sleep(poll)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_signals, tasks.cancel_scope.cancel)
            await steps()

    anyio.run(main)
