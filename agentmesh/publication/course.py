"""The course of a publication: asked before anything is signed, kept up in the background, brought to an end at the end.

Witnesses and a chain that are down hold nothing up: they are told, and tried again. What a call was cut short in is not
lost either: the ledger keeps beside its key what was sent and what was cosigned, and the next run goes on with it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

from agentmesh.events import Anchored, Listener, Notice, Witnessed
from agentmesh.publication.ports import Anchors, Witnesses
from agentmesh_ledger import LedgerError

_LOOK: Final = 1.0  # seconds between two looks at whether an anchor is due, or how deep one is
_HURRY: Final = (
    5.0  # what is left of an end that somebody waits for: a transaction goes out, its blocks do not come
)
_NOTHING: Final = -1  # no size of a log
_NUMBER: Final = re.compile(r"[0-9][0-9.,]*")
_BRANCHED: Final = frozenset({"rollback", "forked"})
_REFUSED: Final = (
    "Nothing was recorded. Put the newest copy of the database and of its keys back; "
    "where there is none, go on with a new ledger under another origin"
)

Result = TypeVar("Result")


class Publication:
    """One log's eyes outside, for as long as its mesh is up. Made by `published`.

    `every` is the seconds between two gatherings, `within` those that the end waits for the last anchor; `size` is the
    number of entries that the log has by now.
    """

    def __init__(
        self,
        *,
        witnesses: Witnesses | None,
        anchors: Anchors | None,
        size: Callable[[], int],
        listen: Listener,
        every: float = 30.0,
        within: float = 60.0,
    ) -> None:
        self._witnesses = witnesses
        self._anchors = anchors
        self._size = size
        self._listen = listen
        self._every = every
        self._within = within
        self._began = self._gathered = 0
        self._finished = False
        self._is_under_way = False
        self._told: dict[str, object] = {}
        self._branched: LedgerError | None = None
        # One call at a time on each: what is under way is never begun a second time.
        self._gathering = anyio.Lock()
        self._anchoring = anyio.Lock()

    async def begin(self) -> None:
        """Ask both, before anything new is signed, whether the log continues what they hold.

        Witnesses have their own time; a chain is waited for as at the end, and each later step asks it again.
        Raises: LedgerError(rollback, forked) where it does not.
        """
        silent = self._witnesses is not None and await self._require_continued(self._witnesses)
        if self._anchors is not None:
            with anyio.move_on_after(self._within) as waiting:
                await self._require_continued(self._anchors)
            if waiting.cancelled_caught:
                told = f"the chain cannot be asked: its node was not done within {self._within:g} seconds"
                self._listen(Notice(text=told))
        self._began = self._size()
        self._gathered = _NOTHING if silent else self._began

    async def _require_continued(self, eyes: Witnesses | Anchors) -> bool:
        """Whether one of them could not be asked, which is told."""
        try:
            silent = await _in_thread(eyes.require_continued)
        except LedgerError as error:
            if error.reason in _BRANCHED:
                error.hint = f"{error.hint}. {_REFUSED}" if error.hint else _REFUSED
            raise
        for each in silent:
            self._listen(Notice(text=each))
        return bool(silent)

    async def work(self) -> None:
        """Gather and anchor in the background, until cancelled."""
        async with anyio.create_task_group() as group:
            if self._witnesses is not None:
                group.start_soon(self._gather_often, name="gather cosignatures")
            if self._anchors is not None:
                group.start_soon(self._anchor_often, name="anchor checkpoints")

    async def finish(self, *, hurry: bool = False) -> None:
        """Anchor what is new, then have the last checkpoint cosigned, the anchor's own entry under it; within bounds.

        Once: what comes after it is the next mesh's. `hurry` where somebody has asked for the end already; who does so
        meanwhile cuts the wait for the chain, and nothing else.

        Raises: LedgerError(rollback, forked) where the log has meanwhile been found to have a second branch.
        """
        if self._finished:
            return
        self._finished = True
        with anyio.CancelScope(shield=True):
            if await self._tried(self._size) == self._began and not self._is_under_way:
                return  # nothing was recorded, and nothing is to be waited for
        try:
            if self._anchors is not None:
                with anyio.CancelScope(shield=hurry):
                    await self._anchor_last(
                        self._anchors, min(self._within, _HURRY) if hurry else self._within
                    )
        finally:
            if self._witnesses is not None:
                await self._gather_last(hurry=hurry)
        if self._branched is not None:
            raise self._branched

    def close(self) -> None:
        """Let the way to the chain go."""
        if self._anchors is not None:
            self._anchors.close()

    async def _gather_often(self) -> None:
        while not self._finished:
            await anyio.sleep(self._every)
            async with self._gathering:
                if await self._tried(self._size) not in (None, self._gathered):
                    await self._gather()

    async def _anchor_often(self) -> None:
        while not self._finished:
            async with self._anchoring:
                if self._anchors is not None:
                    await self._step(self._anchors.tend)
            await anyio.sleep(_LOOK)

    async def _anchor_last(self, anchors: Anchors, within: float) -> None:
        step: Anchored | None = None
        is_late = True
        try:
            with anyio.move_on_after(within):
                async with self._anchoring:
                    size = await self._tried(self._size) or 0
                    while (step := await self._step(anchors.step)) is not None:
                        # What was under way may have been an earlier size; another process may go on writing meanwhile.
                        if step.state == "blocked" or (step.state == "recorded" and (step.size or 0) >= size):
                            break
                        await anyio.sleep(0 if step.state == "recorded" else _LOOK)
                    is_late = False
        finally:
            if is_late:
                what = (
                    "the anchor is not deep enough yet"
                    if step and step.tx
                    else "the last anchor is not sent yet"
                )
                told = f"{what}: the next run goes on with it; `agentmesh anchor status` shows it"
                self._listen(Notice(text=told, unseen=True))

    async def _gather_last(self, *, hurry: bool) -> None:
        """Whoever is cancelled meanwhile still has it done, within what a hurry leaves of the witnesses' own time."""
        over = anyio.Event()
        kept = anyio.CancelScope(shield=True)

        async def gather() -> None:
            try:
                with kept:
                    async with self._gathering:
                        await self._gather(last=True)
                if kept.cancelled_caught:
                    told = "the last checkpoint was not cosigned in time: the next run asks for it, and so does `agentmesh witness gather`"
                    self._listen(Notice(text=told, unseen=True))
            finally:
                over.set()

        async with anyio.create_task_group() as group:
            group.start_soon(gather, name="gather the last cosignatures")
            try:
                if hurry:
                    kept.deadline = anyio.current_time() + _HURRY
                await over.wait()
            except anyio.get_cancelled_exc_class():
                kept.deadline = anyio.current_time() + _HURRY
                raise

    async def _step(self, call: Callable[[], Anchored | None]) -> Anchored | None:
        step = await self._tried(call)
        self._is_under_way = step is not None and step.tx is not None and step.state in ("pending", "waiting")
        if step is not None:
            # Each block has another fee: while one is too high, a mesh that is served would say so a line a block.
            why = _NUMBER.sub("", step.message) if step.state in ("waiting", "blocked") else ""
            self._tell("anchor", step, (step.state, step.size, step.tx, step.block, why))
        return step

    async def _gather(self, *, last: bool = False) -> None:
        if self._witnesses is None:
            return
        found = await self._tried(self._witnesses.gather)
        if found is not None:
            # What too few have cosigned is asked for again, though nothing more is recorded: they may be back.
            self._gathered = found.size if found.met else _NOTHING
            self._tell("witness", found, (last, found.met, found.names, tuple(found.missing)))

    async def _tried(self, call: Callable[[], Result]) -> Result | None:
        """What the call gives; None where it fails, which is told and kept from nobody."""
        if self._branched is not None:
            return None
        try:
            return await _in_thread(call)
        except LedgerError as error:
            if error.reason in _BRANCHED:
                self._branched = error
            self._tell("failure", Notice(text=str(error), unseen=True), str(error))
            return None

    def _tell(self, kind: str, event: Anchored | Witnessed | Notice, said: object) -> None:
        """Tell it unless it is what was told last."""
        if self._told.get(kind) != said:
            self._told[kind] = said
            self._listen(event)


@asynccontextmanager
async def published(publication: Publication) -> AsyncIterator[Publication]:
    """Keeps the publication up until the context is left, and brings it to its end there.

    Raises: LedgerError(rollback, forked), at the beginning or the end. What the body raises comes out as it is.
    """
    failed: Exception | None = None
    try:
        await publication.begin()
        async with anyio.create_task_group() as group:
            group.start_soon(publication.work)
            hurry = True
            try:
                yield publication
                hurry = False
            except Exception as error:  # noqa: BLE001  # raised below, where no task group wraps it in another
                failed = error
            finally:
                try:
                    await publication.finish(hurry=hurry)
                except LedgerError as error:
                    failed = failed or error
                finally:
                    group.cancel_scope.cancel()
    finally:
        publication.close()
    if failed is not None:
        raise failed


async def _in_thread(call: Callable[[], Result]) -> Result:
    """What the call gives. Whoever is cancelled does not wait: the ledger's own calls may be cut at any point, as by a crash.

    A daemon's thread, unlike those that anyio keeps: Python's end would wait for a witness or a node that hangs.
    """
    done = anyio.Event()
    token = anyio.lowlevel.current_token()
    given: Future[Result] = Future()

    def work() -> None:
        try:
            given.set_result(call())
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            given.set_exception(error)
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            anyio.from_thread.run_sync(done.set, token=token)

    threading.Thread(target=work, name="eyes outside", daemon=True).start()
    await done.wait()
    return given.result()
