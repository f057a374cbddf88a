"""A process that anchors and is killed at a point: `LEDGER NODE CONTRACT POINT PATIENCE`; KEY stands in its environment.

It steps until the anchor is recorded, and kills itself when it comes by the point; PATIENCE is in blocks. It is no test: tests start it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from agentmesh_ledger import KeyStore, Ledger
from agentmesh_ledger.anchor.account import account_from_environment
from agentmesh_ledger.anchor.anchorer import Anchorer
from agentmesh_ledger.anchor.chain import Chain
from agentmesh_ledger.anchor.journal import Journal, journal_path


def main(ledger: str, node: str, contract: str, point: str, patience: str) -> None:
    def at(reached: str) -> None:
        print(reached, flush=True)
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    keys = KeyStore(Path(ledger).with_name("keys"))
    with Ledger.open(ledger, keys=keys) as log, Chain.connect(node) as chain:
        anchorer = Anchorer(
            log,
            keys.agent("host"),
            chain,
            account_from_environment("KEY"),
            contract,
            Journal(journal_path(keys, log.origin)),
            poll=0.01,
            patience_blocks=int(patience),
            at=at,
        )
        print(anchorer.push(within=60).state, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
