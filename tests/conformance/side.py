"""One side of signed exchanges, with its keys, its known keys and its ledger in a folder: what an owner would set up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentmesh.serving.signing import KnownKeys, NonceStore, Policy, Signing
from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger


@contextmanager
def signing_side(folder: Path, name: str) -> Iterator[Signing]:
    """It signs, checks and records all that it says and hears; those who do not sign are let through."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = KeyStore(folder / "keys")
    origin = f"agentmesh.local/{name}"
    with Ledger.open(folder / "ledger.db", origin=origin, keys=keys, create=True) as ledger:
        policy = Policy(
            mode="prefer",
            known=KnownKeys(path=folder / "known-keys.json"),
            nonces=NonceStore(folder / "nonces"),
        )
        # No lag: a test looks at the record while the server is still up.
        yield Signing(
            key=keys.agent("host"),
            subject=f"host@{origin}",
            policy=policy,
            ledger=ledger,
            keys=keys,
            lag=0.0,
        )
