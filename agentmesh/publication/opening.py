"""From the mesh file's tables [witness] and [anchor] to a publication; what is wrong with them is told at their lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio.to_thread

from agentmesh.errors import MeshFileError, Mistake
from agentmesh.events import Listener
from agentmesh.locations import is_address, place
from agentmesh.mesh import AnchorSpec, Mesh, WitnessSpec
from agentmesh.publication.course import Publication
from agentmesh.publication.ports import Anchors, Witnesses
from agentmesh.publication.witnesses import LogWitnesses, witness_policy
from agentmesh.recorder import HOST
from agentmesh_ledger import KeyStore, LedgerError
from agentmesh_ledger.log import Ledger

_ANSWER: Final = 10.0  # seconds that a node has for an answer
# What only the mesh file's author can mend; anything else is told as it is.
_OF_THE_FILE: Final = frozenset({"policy", "not_found", "unreadable", "refused", "key"})


async def open_publication(
    mesh: Mesh, ledger: Ledger, keys: KeyStore, listen: Listener
) -> Publication | None:
    """What the mesh file says of witnesses and a chain, ready to begin; None where it says nothing.

    Raises:
        MeshFileError: a policy, a key or an address that is missing or none, with its line.
        LedgerError: `no_extra`.
    """
    if mesh.witness is None and mesh.anchor is None:
        return None
    # A policy is read from a disk, and a keystore is made to be slow.
    return await anyio.to_thread.run_sync(_opened, mesh, ledger, keys, listen)


def _opened(mesh: Mesh, ledger: Ledger, keys: KeyStore, listen: Listener) -> Publication:
    witnesses: Witnesses | None = None
    anchors: Anchors | None = None
    if mesh.witness is not None:
        witnesses = _witnesses(mesh, mesh.witness, ledger)
    if mesh.anchor is not None:
        anchors = _anchors(mesh, mesh.anchor, ledger, keys)
    return Publication(
        witnesses=witnesses,
        anchors=anchors,
        size=lambda: ledger.size,
        listen=listen,
        every=mesh.witness.every if mesh.witness else 0.0,
        within=mesh.anchor.within if mesh.anchor else 0.0,
    )


def _witnesses(mesh: Mesh, spec: WitnessSpec, ledger: Ledger) -> LogWitnesses:
    with _told_at(mesh, "witness.policy"):
        policy = witness_policy(place(mesh.folder, spec.policy), ledger.vkey())
    return LogWitnesses(ledger, policy, within=spec.within)


def _anchors(mesh: Mesh, spec: AnchorSpec, ledger: Ledger, keys: KeyStore) -> Anchors:
    from agentmesh.publication.anchors import LogAnchors
    from agentmesh_ledger.anchor.account import account_from_environment, account_from_keystore
    from agentmesh_ledger.anchor.anchorer import Anchorer
    from agentmesh_ledger.anchor.chain import Chain
    from agentmesh_ledger.anchor.journal import Journal, journal_path
    from agentmesh_ledger.anchor.progress import parse_every

    if spec.keystore is not None:
        with _told_at(mesh, "anchor.keystore"):
            passphrase = _passphrase(mesh, spec)
            account = account_from_keystore(place(mesh.folder, spec.keystore), passphrase)
    else:
        with _told_at(mesh, "anchor.key_env"):
            account = account_from_environment(spec.key_env or "")
    with _told_at(mesh, "anchor.rpc" if spec.rpc else "anchor.rpc_env"):
        chain = Chain.connect(_address(spec), timeout=min(_ANSWER, spec.within), chain_id=spec.chain)
    anchorer = Anchorer(
        ledger,
        keys.agent(HOST),
        chain,
        account,
        spec.contract,
        Journal(journal_path(keys, ledger.origin)),
        confirmations=spec.confirmations,
        max_fee_gwei=spec.max_fee_gwei,
    )
    return LogAnchors(anchorer, chain, parse_every(spec.every))


def _address(spec: AnchorSpec) -> str:
    if spec.rpc is not None:
        return spec.rpc
    url = os.environ.get(spec.rpc_env or "", "")
    if not is_address(url):
        # The address may hold a secret, and is not repeated.
        raise LedgerError(
            "refused", f"the environment variable {spec.rpc_env} holds no http:// or https:// address"
        )
    return url


def _passphrase(mesh: Mesh, spec: AnchorSpec) -> Callable[[], bytes]:
    name = spec.passphrase_env
    if name is None:
        raise LedgerError("key", "needs passphrase_env: nobody is asked for a passphrase while a mesh runs")
    found = os.environb.get(name.encode()) if os.supports_bytes_environ else os.environ.get(name, "").encode()
    if not found:
        raise LedgerError("key", f"the environment variable {name} holds no passphrase")
    return lambda: found


@contextmanager
def _told_at(mesh: Mesh, key: str) -> Iterator[None]:
    """Tells what only running shows of a key as loading tells its mistakes: with file and line."""
    try:
        yield
    except LedgerError as error:
        if error.reason not in _OF_THE_FILE:
            raise
        raise _mistake(mesh, key, error) from error


@contextmanager
def told_of_chain(mesh: Mesh) -> Iterator[None]:
    """Tells at its line that the node is of another chain, or has no contract of ours where the file says."""
    try:
        yield
    except LedgerError as error:
        if error.reason != "refused":
            raise
        # Two numbers are those of two chains.
        key = "anchor.contract" if error.expected is None else "anchor.chain"
        raise _mistake(mesh, key, error) from error


def _mistake(mesh: Mesh, key: str, error: LedgerError) -> MeshFileError:
    mistake = Mistake(reason=error.reason, key=key, line=mesh.lines.get(key), text=str(error))
    return MeshFileError(mesh.path, (mistake,))
