"""What a process does that helps to verify: it judges chunks as they come, and tells what it found, until there are no more.

It imports little: a process is started for each core, and each start delays the first verdict.
"""

from __future__ import annotations

import gc
import marshal
import os
import signal
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.judge import Chunk, Terms, judge_chunk, told


def work() -> None:
    """Judges the chunks that come through standard input, until they end or nobody wants to know."""
    gc.freeze()  # what was imported stays; no collection need walk it again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells all of us; whoever started us ends us
    source, out = sys.stdin.buffer, sys.stdout.buffer
    first = read_frame(source)
    if first is None:
        return
    kind, origin, size, root, proof, swift = marshal.loads(first)  # from our own process
    terms = Terms(checkpoint=Checkpoint(origin=origin, size=size, root=root), proof=proof, swift=swift)
    waiting: SimpleQueue[bytes | None] = SimpleQueue()
    Thread(target=_read_ahead, args=(source, waiting.put), daemon=True).start()
    try:
        while (data := waiting.get()) is not None:
            chunk: Chunk = data if kind == "lines" else marshal.loads(data)
            found = told(judge_chunk(chunk, terms), terms)
            answer = marshal.dumps(found if isinstance(found, list) else tuple(found))
            out.write(len(answer).to_bytes(4, "big"))
            out.write(answer)
            out.flush()
    except BrokenPipeError:
        pass  # nobody listens any more
    # At once: the thread may still wait in a read, and nothing is left that an orderly end would save.
    os._exit(0)


def read_frame(source: BinaryIO) -> bytes | None:
    """The next frame; None at the end, also where it is cut: a worker that was killed answers nothing."""
    size = source.read(4)
    if len(size) < 4:
        return None
    length = int.from_bytes(size, "big")
    data = source.read(length)
    return data if len(data) == length else None


def _read_ahead(source: BinaryIO, give: Callable[[bytes | None], None]) -> None:
    data: bytes | None = b""
    while data is not None:
        data = read_frame(source)
        give(data)
