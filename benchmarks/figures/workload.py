"""The messages that are appended, and who appends them: threads, tasks, or a few in bulk."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

from agentmesh_ledger import AgentKey, Draft, DraftPart, KeyStore, Ledger

ORIGIN: Final = "agentmesh.local/bench"
TEXT: Final = 600  # bytes of the text part
WRITERS: Final = 64
_BULK: Final = 1000


class Desk:
    """A ledger in a folder, and 64 agents who write into it, each in dialogues of 100 messages of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"
        keys = KeyStore(folder / "keys")
        self.log = Ledger.open(self.path, origin=ORIGIN, keys=keys, create=True)
        self._authors = [keys.agent(f"agent{number}") for number in range(WRITERS)]
        self._counts = [count() for _ in range(WRITERS)]
        # Cut from one random block, so that making a text costs the benchmark nothing.
        self._noise = os.urandom(TEXT * 64)

    def draft(self, writer: int) -> Draft:
        """The writer's next message."""
        number = next(self._counts[writer])
        author: AgentKey = self._authors[writer]
        start = number * 37 % (len(self._noise) - TEXT)
        part = DraftPart(name="text", type="text/plain", data=self._noise[start : start + TEXT])
        return Draft(author=author, kind="say", dialogue=f"d{writer}.{number // 100}", parts=(part,))

    def by_threads(self, seconds: float, writers: int = WRITERS) -> float:
        """Messages a second that threads get acknowledged, each waiting for its last before the next."""
        done, stop = [0] * writers, time.perf_counter() + seconds

        def write(number: int) -> None:
            while time.perf_counter() < stop:
                self.log.append([self.draft(number)])
                done[number] += 1

        threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(done) / (time.perf_counter() - started)

    def by_tasks(self, seconds: float) -> float:
        """The same by tasks of one event loop."""
        done = [0] * WRITERS

        async def write(number: int, stop: float) -> None:
            while time.perf_counter() < stop:
                await self.log.append_async([self.draft(number)])
                done[number] += 1

        async def all_write() -> float:
            started = time.perf_counter()
            await asyncio.gather(*(write(number, started + seconds) for number in range(WRITERS)))
            return time.perf_counter() - started

        taken = asyncio.run(all_write())
        return sum(done) / taken

    def fill(self, size: int, progress: Callable[[int], None] = lambda size: None) -> None:
        """Messages in bulk, a thousand a transaction, until the log has at least this many entries."""
        writer = 0
        while (missing := size - self.log.size) > 0:
            # The first transaction registers every writer; after it a draft is an entry.
            bulk = _BULK if self.log.size else WRITERS
            drafts = [self.draft((writer + each) % WRITERS) for each in range(min(bulk, missing))]
            self.log.append(drafts)
            writer += len(drafts)
            progress(self.log.size)

    def close(self) -> None:
        """Gives the ledger back."""
        self.log.close()
