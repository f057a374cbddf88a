"""The benchmark of MCP runs, and says what it says it says: its figures are taken on a quiet machine, not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_each_figure_of_the_benchmark_is_measured(
    root: Path, tmp_path: Path, python_environment: dict[str, str]
) -> None:
    little = ["--calls", "3", "--rounds", "1", "--seconds", "0.2", "--parts", "--dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(root / "benchmarks" / "mcp.py"), "--quick", *little, "--json"],
        capture_output=True,
        text=True,
        timeout=240,
        env=python_environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    found = json.loads(lines[-1])
    ours = [
        f"{kind}_{transport}_per_plain" for transport in ("stdio", "http") for kind in ("signed", "waiting")
    ]
    names = [*ours, "mesh64_per_plain"]
    assert [line.split()[0] for line in lines[1:6]] == names
    assert all(found[name] > 0 and found["said"][name] for name in names)
    # Their statements are demanded, and counted in both ledgers, by the benchmark itself.
    assert list(tmp_path.iterdir()) == []
