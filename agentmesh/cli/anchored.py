"""What `agentmesh verify` is told of blocks and of a chain, and the chain asked."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from agentmesh.cli.anchor_options import held_in
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.locations import LogPlace
    from agentmesh_ledger import Verified

BlockOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--block",
        metavar="HASH",
        help="A block you know to be on the chain: an anchor must stand in it. May be repeated.",
    ),
]
ChainOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--chain",
        metavar="RPC",
        help="The URL of a node: the anchors' blocks must be on its chain, and nothing larger there.",
    ),
]
ChainEnvOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--chain-env",
        metavar="NAME",
        help="As --chain: the environment variable with the node's URL, where a secret is in it.",
    ),
]
ContractOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--contract", metavar="0x..", help="With --chain: the only contract that counts."),
]
SenderOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--sender", metavar="0x..", help="With --chain: the only account that counts."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedNode:
    """A node of a chain, and whose word counts on it."""

    rpc: str
    contract: str | None
    sender: str | None

    def ask(self, found: Verified, place: LogPlace | None) -> Verified:
        """The evidence with what the chain says of it; `place` is that of the ledger, which may have grown meanwhile.

        Raises: LedgerError, as `ask_chain`; (unreadable) where the node cannot tell.
        """
        from agentmesh.audit.on_chain import ask_chain
        from agentmesh_ledger import Ledger, LedgerError
        from agentmesh_ledger.anchor.chain import Chain

        with Chain.connect(self.rpc) as chain, ExitStack() as opened:
            ledger = None
            if place is not None:
                ledger = opened.enter_context(Ledger.open(place.ledger, origin=found.origin, read_only=True))
            try:
                return ask_chain(found, chain, contract=self.contract, sender=self.sender, ledger=ledger)
            except LedgerError as error:
                if error.reason != "node":
                    raise
                # The check of that name is about the links between entries; of the record nothing is said here.
                raise LedgerError("unreadable", error.message) from error


def asked_node(
    rpc: str | None, variable: str | None, contract: str | None, sender: str | None
) -> AskedNode | None:
    """What --chain or --chain-env, --contract and --sender say together.

    Raises: AgentMeshError(usage).
    """
    if variable is not None:
        if rpc is not None:
            raise AgentMeshError("usage", "give --chain or --chain-env, not both")
        rpc = held_in(variable)
    if rpc is None:
        if contract is not None or sender is not None:
            raise AgentMeshError("usage", "--contract and --sender go with --chain")
        return None
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.anchor.account import parse_address
    from agentmesh_ledger.anchor.chain import Chain

    for name, address in (("--contract", contract), ("--sender", sender)):
        try:
            if address is not None:
                parse_address(address)
        except LedgerError as error:
            raise AgentMeshError("usage", f"{name}: {error}") from error
    try:
        Chain.connect(rpc).close()  # which asks nothing yet; a long record need not be read for nothing
    except LedgerError as error:
        if error.reason != "refused":
            raise
        name = "--chain" if variable is None else f"--chain-env {variable}"
        raise AgentMeshError("usage", f"{name}: {error}") from error
    return AskedNode(rpc=rpc, contract=contract, sender=sender)


def named_blocks(named: list[str]) -> list[str]:
    """The hashes that --block gives.

    Raises: AgentMeshError(usage).
    """
    if not named:
        return []
    from agentmesh_ledger import LedgerError
    from agentmesh_ledger.anchor.shown import block_hash

    try:
        return [block_hash(each) for each in named]
    except LedgerError as error:
        raise AgentMeshError("usage", f"--block: {error.message}") from error
