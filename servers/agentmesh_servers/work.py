"""Work that blocks, done in a thread that a cancelled call stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio import lowlevel, to_thread

from agentmesh_servers.errors import ServersError

T = TypeVar("T")


async def in_thread(
    work: Callable[[], T], abort: Callable[[], None], limiter: anyio.CapacityLimiter | None = None
) -> T:
    """What `work` returns, from a thread of its own; `limiter` says how many there may be.

    When the call is cancelled `abort` is called, which must let `work` end soon; the call ends after it, so no thread
    outlives the call that started it. `abort` is called once more after the end, where it must do no harm.
    """

    async def stand_by() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            abort()

    failure: ServersError | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(stand_by)
        try:
            result = await to_thread.run_sync(work, limiter=limiter)
        except ServersError as error:  # out of the group as itself, not in a group of exceptions
            failure = error
        group.cancel_scope.cancel()
    # The thread was waited for in spite of a cancellation, and what it made of it is nobody's answer.
    await lowlevel.checkpoint_if_cancelled()
    if failure is not None:
        raise failure
    return result
