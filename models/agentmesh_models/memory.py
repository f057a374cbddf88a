"""How much memory a model needs, how much there is, and sizes as people write them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from agentmesh_models.cells import SAVED_BYTES
from agentmesh_models.errors import ModelError
from agentmesh_models.schedule import N_BATCH

_UNITS: Final = {
    "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_SIZE: Final = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]+)\s*", re.ASCII)
_MOST_BYTES: Final = 1 << 60

PARALLEL: Final = 16
"""How many requests an engine runs at once, unless told otherwise; more wait."""
MOST_PARALLEL: Final = 64
_LEAST_CELLS: Final = 8192
_F32: Final = 4
_MARGIN_BYTES: Final = 32 << 20
_SHARE: Final = 0.8
"""Of the memory that is free now; the rest is for the tools, the ledger and whoever else works here."""


def parse_size(text: str) -> int:
    """The bytes meant by a size such as `6 GB` (10^9 bytes each) or `1.5 GiB` (2^30 each).

    Raises:
        ModelError: reason "bad_request"; not a size, or less than a byte.
    """
    found = _SIZE.fullmatch(text)
    unit = _UNITS.get(found[2].lower()) if found else None
    if found is None or unit is None:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise ModelError("bad_request", f'must be a size such as "6 GB" or "512 MiB", not {shown!r}')
    count = int(float(found[1]) * unit)
    if not 1 <= count <= _MOST_BYTES:
        raise ModelError("bad_request", f"must be from 1 B to {size_text(_MOST_BYTES)}, not {text.strip()}")
    return count


def size_text(count: int) -> str:
    """A number of bytes for people: three digits that matter, powers of ten."""
    for unit, power in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= power:
            return f"{count / power:,.3g} {unit}" if count < 1000 * power else f"{count / power:,.0f} {unit}"
    return f"{count} B"


def check_parallel(parallel: int) -> None:
    """Raises `ModelError` "bad_request" for a number of requests at once that no engine runs."""
    if not 1 <= parallel <= MOST_PARALLEL:
        raise ModelError(
            "bad_request", f"parallel must be from 1 to {MOST_PARALLEL} requests, not {parallel}"
        )


def cell_count(n_ctx: int, parallel: int = PARALLEL) -> int:
    """How many tokens an engine keeps in its cache: a small context has room for several requests, a large one for
    them anyway. Never fewer than a step has: llama.cpp ends the whole process where a context has fewer cells than
    sequences, or is given more tokens than it has cells."""
    return max(n_ctx, N_BATCH, min(_LEAST_CELLS, n_ctx * parallel))


def saved_limit(kv_bytes: int | None, cells: int) -> int:
    """How many bytes of prefixes that nobody runs on an engine keeps outside its cache: as many as the cache has."""
    return SAVED_BYTES if kv_bytes is None else min(SAVED_BYTES, kv_bytes * cells)


def memory_needed(
    *,
    weights: int,
    kv_bytes: int | None,
    vocabulary: int,
    n_ctx: int,
    layers: int | None = None,
    parallel: int = PARALLEL,
    gpu_layers: int = 0,
) -> int:
    """The bytes of main memory that an engine takes: never exact, meant to be above.

    Weights; keys and values of every cell (`kv_bytes` each, in 16 bits) and of the prefixes that may be kept outside; a
    step's scores twice, as llama.cpp works them out and as it hands them over; a twentieth and a margin on top. Layers
    on a graphics card are left out, except on macOS, where both share one memory.
    """
    cells = cell_count(n_ctx, parallel)
    cache = (kv_bytes or 0) * cells
    here = (weights + cache) * _left_here(gpu_layers, layers or 0)
    counted = int(here) + saved_limit(kv_bytes or 0, cells) + 2 * vocabulary * N_BATCH * _F32
    return counted + counted // 20 + _MARGIN_BYTES


def memory_budget() -> int | None:
    """Four fifths of the memory that is free now, in bytes; None where the system does not tell."""
    free = available_memory()
    return None if free is None else int(free * _SHARE)


def available_memory() -> int | None:
    """The bytes that this process could still take: of the machine, or of its container where that is less."""
    found = [each for each in (_machine_memory(), _container_memory()) if each is not None]
    return min(found) if found else None


def _left_here(gpu_layers: int, layers: int) -> float:
    if gpu_layers == 0 or sys.platform == "darwin":
        return 1.0
    # llama.cpp counts the output as one more layer.
    there = layers + 1 if gpu_layers < 0 else min(gpu_layers, layers + 1)
    return 1.0 - there / (layers + 1)


def _machine_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text("ascii", "replace").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # not Linux: what is free cannot be had without a library, what there is can
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _container_memory() -> int | None:
    """What a control group (version 2, then 1) leaves, seen from inside its container."""
    for folder, limit, used in (
        (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            most = int((folder / limit).read_text("ascii"))
            taken = int((folder / used).read_text("ascii"))
            return max(0, most - max(0, taken - _cached(folder)))
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
    return None


def _cached(folder: Path) -> int:
    """The bytes of files in memory, which a group counts as used and gives up when they are wanted."""
    kept = 0
    for line in (folder / "memory.stat").read_text("ascii").splitlines():
        name, _, count = line.partition(" ")
        if name in ("active_file", "inactive_file"):
            kept += int(count)
    return kept
