"""The one door through which web3 and what it brings are imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from agentmesh_ledger.errors import LedgerError


@contextmanager
def chain_extra() -> Iterator[None]:
    """For imports from web3, eth_account and eth_keyfile.

    py_ecc, which they import, sets the interpreter's recursion limit to 100,000. Deeply nested JSON from anybody then overflows
    the stack and ends the process, where it would have been a RecursionError: the limit is put back.
    Raises: LedgerError(no_extra) where they are not installed.
    """
    limit = sys.getrecursionlimit()
    try:
        yield
    except ModuleNotFoundError as error:
        raise LedgerError(
            "no_extra",
            "speaking to an EVM chain, and signing for it, needs web3",
            hint="pip install 'agentmesh-runtime[chain]'",
        ) from error
    finally:
        sys.setrecursionlimit(limit)
