"""Who signs what an operator appends to a log, and the log opened for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.locations import LogPlace
    from agentmesh_ledger import AgentId, AgentKey, KeyStore
    from agentmesh_ledger.log import Ledger

ByOption: TypeAlias = Annotated[
    str, typer.Option("--by", metavar="AGENT", help="The agent whose key signs this.")
]
ReasonOption: TypeAlias = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why, for every reader of the log.")
]


def open_writer(place: LogPlace, keys: KeyStore) -> Ledger:
    """The log at this place, to append to. Raises: LedgerError."""
    from agentmesh_ledger.log import Ledger

    return Ledger.open(place.ledger, origin=place.origin, keys=keys)


def signer(keys: KeyStore, name: str) -> AgentKey:
    """The key of an agent that must have one.

    Raises: AgentMeshError; LedgerError where the key cannot be opened.
    """
    if name not in keys.names():
        raise _no_agent(keys, name)
    return keys.agent(name, create=False)


def agent_meant(keys: KeyStore, log: Ledger, agent: str) -> AgentId:
    """The id of the agent meant by a did:key, by the name of its key here, or by a name that but one has in the log.

    Raises: AgentMeshError.
    """
    from agentmesh_ledger import AgentId, LedgerError
    from agentmesh_ledger.identity import public_key

    if agent.startswith("did:"):
        try:
            public_key(agent)
        except LedgerError as error:  # of a command line it is no finding about a log
            raise AgentMeshError("usage", error.message) from error
        return AgentId(agent)
    if agent in keys.names():
        return keys.agent_id(agent)
    found = [each for each, name in log.names().items() if name == agent]
    if len(found) == 1:
        return found[0]
    if found:
        raise AgentMeshError("usage", f"{agent!r} may be any of {', '.join(found)}", hint="give the did:key")
    raise _no_agent(keys, agent)


def _no_agent(keys: KeyStore, name: str) -> AgentMeshError:
    known = keys.names()
    there = f"there are: {', '.join(known)}" if known else "there is none"
    return AgentMeshError("no_such_agent", f"{keys.directory}: no key of an agent {name!r}", hint=there)
