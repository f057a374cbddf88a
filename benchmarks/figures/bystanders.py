"""How busy others kept the machine while something was measured: figures of a busy machine mean little."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds of processor time until now: of all, with what the host took away, and of our own processes."""

    at: float
    all: float
    own: float


def moment(pids: Iterable[int]) -> Moment | None:
    """Now; None where the system does not tell (it has no /proc)."""
    tick = os.sysconf("SC_CLK_TCK")
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        own = sum(_spent(pid) for pid in pids)
    except (OSError, ValueError, IndexError):
        return None
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = fields
    busy = user + nice + system + interrupts + soft + stolen
    return Moment(time.perf_counter(), busy / tick, own / tick)


def others(before: Moment | None, after: Moment | None) -> float | None:
    """The cores that others kept busy between the two."""
    if before is None or after is None or after.at <= before.at:
        return None
    spent = (after.all - before.all) - (after.own - before.own)
    return max(0.0, spent / (after.at - before.at))


def _spent(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
