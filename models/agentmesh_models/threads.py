"""How many threads a model may take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agentmesh_models.errors import ModelError

MOST_THREADS: Final = 512
"""llama.cpp ends the whole process where the system has no room for all the threads it was asked for."""


def thread_count(asked: int | None = None) -> int:
    """`asked`, else `AGENTMESH_THREADS`, else the physical cores that are idle now; at least 1.

    More threads than idle cores make llama.cpp slower by a factor of ten and more: its threads wait for one
    another.

    Raises:
        ModelError: reason "bad_request" when the number asked for, or the variable, is not from 1 to 512.
    """
    if asked is not None:
        if not 1 <= asked <= MOST_THREADS:
            raise ModelError("bad_request", f"threads must be 1 to {MOST_THREADS}, not {asked}")
        return asked
    text = os.environ.get("AGENTMESH_THREADS", "").strip()
    if text:
        if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MOST_THREADS):
            raise ModelError(
                "bad_request", f"AGENTMESH_THREADS must be a number from 1 to {MOST_THREADS}, not {text!r}"
            )
        return int(text)
    try:
        busy = os.getloadavg()[0]
    except (AttributeError, OSError):
        busy = 0.0
    return max(1, available_cores() - round(busy))


def available_cores(system: Path = Path("/sys")) -> int:
    """The physical cores that this process may run on, at least 1: its affinity, less what its container is denied.

    Two threads of one core share its arithmetic: a second one adds nothing to a model's speed but waiting.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = {_siblings(system, each) for each in allowed}
    return max(1, min(len(cores), _quota(system)))


def _siblings(system: Path, number: int) -> str:
    """The logical processors that make one core with this one, as Linux lists them; itself where nobody tells."""
    try:
        text = (system / f"devices/system/cpu/cpu{number}/topology/thread_siblings_list").read_text("ascii")
    except (OSError, ValueError):
        return str(number)
    return text.strip() or str(number)


def _quota(system: Path) -> int:
    """The cores' worth of time that the control group (version 2) may use, rounded down."""
    try:
        most, period = (system / "fs/cgroup/cpu.max").read_text("ascii").split()
        return max(1, int(most) // int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max": no limit
        return MOST_THREADS
