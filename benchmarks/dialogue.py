"""What a dialogue costs over the model's own time, and how our decode compares with the library's own.

    python benchmarks/dialogue.py [--runs 5] [--json]

Four figures, each a ratio against its limit or peer in the same run; medians, since machines are noisy.
- dialogue_per_model: wall time of a desk dialogue / time its model spent evaluating and decoding (limit: 1.0).
- append_per_commit: one ledger append / one bare SQLite FULL commit of a row (limit: 1.0).
- help_per_python: `agentmesh --help` / `python -c pass`, whole processes.
- decode_per_completion: our streamed greedy decode, tokens/s / llama-cpp-python's create_completion, same prompt.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from statistics import median

import anyio

from agentmesh import runtime
from agentmesh.mesh import load_mesh
from agentmesh_ledger import Draft, DraftPart, KeyStore
from agentmesh_ledger.log import Ledger
from agentmesh_models import Engine, Message, Reply, Request, TextDelta, open_model

ROOT = Path(__file__).resolve().parent.parent


class Timed:
    """An engine that adds up the time its model took."""

    seconds = 0.0

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.info = engine.info

    async def generate(self, request: Request) -> AsyncGenerator[TextDelta | Reply, None]:
        async for piece in self._engine.generate(request):
            if isinstance(piece, Reply):
                Timed.seconds += piece.usage.prefill_seconds + piece.usage.decode_seconds
            yield piece

    async def aclose(self) -> None:
        await self._engine.aclose()


async def dialogue_ratio(runs: int, work: Path) -> list[float]:
    """Wall time over model time of the desk's default task, warm: the mesh stays up, each run is a new dialogue."""
    shutil.copytree(ROOT / "examples" / "desk", work / "desk", ignore=shutil.ignore_patterns(".agentmesh"))
    mesh = load_mesh(work / "desk")
    assert mesh.dialogue.task is not None
    plain = runtime.open_model
    runtime.open_model = lambda *args, **kwargs: Timed(plain(*args, **kwargs))  # type: ignore[assignment]
    ratios: list[float] = []
    async with runtime.open_mesh(mesh, listen=lambda event: None) as live:
        await live.run(mesh.dialogue.task)
        for _ in range(runs):
            Timed.seconds, started = 0.0, time.perf_counter()
            await live.run(mesh.dialogue.task)
            ratios.append((time.perf_counter() - started) / Timed.seconds)
    return ratios


def append_times(count: int, work: Path) -> tuple[list[float], list[float]]:
    """Seconds of one append, and of one bare commit, taken in turn."""
    keys = KeyStore(work / "keys")
    author, text = keys.agent("ada"), b"x" * 300
    bare = sqlite3.connect(work / "bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode=WAL")
    bare.execute("PRAGMA synchronous=FULL")
    bare.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)")
    ours: list[float] = []
    theirs: list[float] = []
    with Ledger.open(work / "ledger.db", origin="agentmesh.local/bench", keys=keys, create=True) as log:
        for _ in range(count):
            draft = Draft(
                author=author,
                kind="say",
                dialogue="d",
                parts=(DraftPart(name="text", type="text/plain", data=text),),
            )
            started = time.perf_counter()
            log.append([draft])
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT INTO t (data) VALUES (?)", (text * 3,))
            bare.execute("COMMIT")
            theirs.append(time.perf_counter() - started)
    bare.close()
    return ours[1:], theirs[1:]


def start_times(runs: int) -> tuple[list[float], list[float]]:
    """Seconds of `agentmesh --help`, and of an interpreter that does nothing, taken in turn."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(runs + 1):
        for taken, words in ((ours, ["-m", "agentmesh", "--help"]), (theirs, ["-c", "pass"])):
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, check=True)
            taken.append(time.perf_counter() - started)
    return ours[1:], theirs[1:]


async def decode_rates(runs: int) -> tuple[list[float], list[float]]:
    """Tokens per second of our decode and of create_completion, on the same prompt and tokens, taken in turn."""
    from llama_cpp import Llama

    engine = open_model("nano", threads=1)
    assert engine.info.path is not None
    peer = Llama(str(engine.info.path), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
    note = "The garden party is on 12 June at 15:00. We need 24 chairs at 17.50 each and 3 pounds of lemons."
    request = Request(messages=(Message(role="user", content=note),), max_tokens=64)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(runs + 1):
        reply = [piece async for piece in engine.generate(request)][-1]
        assert isinstance(reply, Reply)
        ours.append(reply.usage.output_tokens / reply.usage.decode_seconds)
        first, last, count = 0.0, 0.0, 0
        prompt = list(reply.profile.prompt_tokens)
        for _piece in peer.create_completion(
            prompt, max_tokens=reply.usage.output_tokens, temperature=0.0, stream=True
        ):
            last, count = time.perf_counter(), count + 1
            first = first or last
        theirs.append((count - 1) / (last - first) if count > 1 else 0.0)
    await engine.aclose()
    peer.close()
    return ours[1:], theirs[1:]


def main() -> int:
    """Measure, print a table, and with --json one object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ratios = anyio.run(dialogue_ratio, args.runs, Path(folder))
        ours, bare = append_times(300, Path(folder))
    decode, completion = anyio.run(decode_rates, args.runs)
    helped, bare_python = start_times(args.runs)
    figures = {
        "dialogue_per_model": round(median(ratios), 2),
        "append_per_commit": round(median(ours) / median(bare), 2),
        "append_ms": round(median(ours) * 1000, 3),
        "commit_ms": round(median(bare) * 1000, 3),
        "help_per_python": round(median(helped) / median(bare_python), 1),
        "help_s": round(median(helped), 3),
        "decode_per_completion": round(median(decode) / median(completion), 2),
        "decode_tokens_per_s": round(median(decode), 1),
        "completion_tokens_per_s": round(median(completion), 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    for name, value in figures.items():
        print(f"{name:26} {value}")
    if args.json:
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
