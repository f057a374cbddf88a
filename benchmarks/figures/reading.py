"""Verification in a process of its own, its time and the most memory that it and its children had together.

python benchmarks/figures/reading.py FILE [JOBS]
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agentmesh_ledger import Verified, verify_ledger, verify_transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One verification: entries, seconds without the start of Python, peak of resident bytes (0: not known)."""

    entries: int
    seconds: float
    peak: int

    @property
    def rate(self) -> float:
        """Entries a second."""
        return self.entries / self.seconds


def verifier(path: Path) -> Callable[..., Verified]:
    """What verifies a file of this name."""
    return verify_ledger if path.suffix == ".db" else verify_transcript


def has_jobs(path: Path) -> bool:
    """Whether the verifier can be told how many cores to use."""
    return "jobs" in inspect.signature(verifier(path)).parameters


def read(path: Path, jobs: int | None = None) -> Reading:
    """Verifies the file in a fresh process; with `jobs` None as it does by itself."""
    words = [sys.executable, __file__, str(path), *([] if jobs is None else [str(jobs)])]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(0.05)
    assert process.stdout is not None
    with process.stdout as out:
        said = out.read()
    if process.returncode:
        raise RuntimeError(f"{path} does not verify")
    found = json.loads(said)
    return Reading(entries=found["entries"], seconds=found["seconds"], peak=peak)


def _resident(root: int) -> int:
    """Resident bytes of a process and all below it; a page that two of them share counts twice."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = each.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents[int(each.parent.name)], pages[int(each.parent.name)] = int(fields[1]), int(fields[21])
    family, size = {root}, 0
    while len(family) > size:
        size = len(family)
        family |= {pid for pid, parent in parents.items() if parent in family}
    return sum(pages.get(pid, 0) for pid in family) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Verifies once and says how long it took."""
    path = Path(sys.argv[1])
    options = {"jobs": int(sys.argv[2])} if len(sys.argv) > 2 else {}
    started = time.perf_counter()
    found = verifier(path)(path, **options)
    print(json.dumps({"entries": found.entries, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
