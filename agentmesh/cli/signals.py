"""Signals that ask a command to stop: the first closes what is open, the second leaves at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from agentmesh.cli.exits import CANCELLED

# Ctrl-C, an orderly end, and a terminal that was closed (which Windows does not tell).
_STOPPING: Final = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


async def watch_signals(stop: Callable[[], None]) -> None:
    """Wait for the first signal and call `stop`; from then on the next one ends the process."""
    import anyio

    with anyio.open_signal_receiver(*_STOPPING) as signals:
        async for _ in signals:
            break
    for number in _STOPPING:
        signal.signal(number, _leave)
    stop()


def _leave(number: int, frame: object) -> None:
    # No unwinding: whoever presses twice wants out, and the ledger needs no goodbye to be sound.
    if sys.stderr.isatty():
        os.write(2, b"\x1b[?25h\n")  # the live view had hidden the cursor
    os._exit(CANCELLED)
