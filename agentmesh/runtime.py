"""A mesh brought to life: models loaded, servers started, the ledger open; then dialogues run in it.

`run_dialogue` is all a command line needs. `open_mesh` keeps a mesh alive for several dialogues, as serving does.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType

import anyio
import anyio.to_thread

from agentmesh.accounts.till import Till
from agentmesh.cast import Member, cast_of
from agentmesh.dialogue import PATTERNS, Stage
from agentmesh.errors import AgentMeshError, RunError, ToolboxError
from agentmesh.events import Ended, EndReason, Event, Listener, MessageAdded, Notice, Opened
from agentmesh.floor import Floor
from agentmesh.inside import on_stage, open_peers
from agentmesh.keys import open_keys
from agentmesh.limits import Budget, LimitReached
from agentmesh.locations import LogPlace, log_place
from agentmesh.mesh import Mesh
from agentmesh.mesh.peers import remote_peers
from agentmesh.outside import Outside, pin_file
from agentmesh.prompt import Said
from agentmesh.publication import Publication, open_publication, published, told_of_chain
from agentmesh.recorder import APPROVALS, HOST, Recorder
from agentmesh.toolbox import Servers, ToolsChanged, open_servers, recheck
from agentmesh_ledger import JsonValue, KeyStore
from agentmesh_ledger.log import Ledger
from agentmesh_models import Engine, ModelError
from agentmesh_models.pool import Pool


async def run_dialogue(
    mesh: Mesh,
    task: str,
    *,
    listen: Listener,
    ledger: Path | str | None = None,
    keys: KeyStore | None = None,
) -> Ended:
    """Run one dialogue of `mesh` on `task` and close it in the ledger, whatever happens.

    `listen` hears every event, the last of which is `Ended`; `ledger`, a path or a database's URL, overrides the
    mesh file's place for the record; `keys` are those that stand with it, unlocked by the caller where that takes a person.

    Raises:
        AgentMeshError, ModelError, LedgerError: the mesh could not be brought up, or failed in the middle; what the
            ledger had acknowledged stays there, and the dialogue is closed with the reason "failed" where that can
            still be written. Cancellation closes it with "cancelled" and goes on.
    """
    async with open_mesh(mesh, listen=listen, ledger=ledger, keys=keys) as live:
        return await live.run(task, Start(settle=live.settle))


@asynccontextmanager
async def open_mesh(
    mesh: Mesh, *, listen: Listener, ledger: Path | str | None = None, keys: KeyStore | None = None
) -> AsyncIterator[LiveMesh]:
    """Load the models, start the servers, open the ledger; close them all on the way out."""
    where = mesh.log_place
    if ledger is not None:
        where = log_place(ledger, origin=mesh.origin, folder=mesh.folder)
    store = open_keys(where.keys) if keys is None else keys
    async with AsyncExitStack() as stack:
        engines = await _open_engines(mesh, stack)
        open_log = partial(_open_log, stack, where, mesh, store, listen)
        outside = Outside(mesh)
        # Signed connections record what passes; without any, a server that does not start leaves no ledger behind.
        opened = await open_log() if outside.is_signed else None
        with _told_at_its_line(mesh):
            servers = await stack.enter_async_context(
                open_servers(
                    outside.sources(),
                    base=mesh.folder,
                    notice=lambda text: listen(Notice(text=text)),
                    pins=pin_file(mesh),
                    wraps=outside.wraps(store, opened and opened[0]),
                )
            )
        for name in mesh.agents:
            # A tool that nobody serves is found before anything is recorded.
            with _told_at_its_line(mesh, name):
                outside.toolbox(name, servers)
        inside = await stack.enter_async_context(open_peers(mesh))
        log, publication = opened or await open_log()
        yield LiveMesh(
            mesh=mesh,
            engines=engines,
            servers=servers,
            inside=inside,
            log=log,
            keys=store,
            where=str(where),
            listen=listen,
            publication=publication,
        )


def new_dialogue_id() -> str:
    """A dialogue's id: the day for people, randomness against clashes between nodes."""
    return f"{time.strftime('%Y%m%d', time.gmtime())}-{secrets.token_hex(6)}"


def _unheard(event: Event) -> None:
    """For a dialogue that nobody listens to by itself."""


async def _unsettled(reason: EndReason) -> None:
    """For a dialogue that is not the mesh's last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a dialogue begins: its id, who hears its events beside whoever hears all of the mesh's, and who asked for it.

    `facts` stand in its `open`: who asked, or which approval let it begin. `settle` is what is done once it is closed in
    the ledger, before its end is told: `LiveMesh.settle` for the last of a mesh.
    """

    dialogue: str = field(default_factory=new_dialogue_id)
    listen: Listener = _unheard
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    settle: Callable[[EndReason], Awaitable[None]] = _unsettled


class LiveMesh:
    """A mesh that is up. Dialogues in it may follow one another or run side by side.

    `inside` is where its agents reach their peers in it, as `open_peers` opens it.
    """

    def __init__(
        self,
        *,
        mesh: Mesh,
        engines: Mapping[str, Engine],
        servers: Servers,
        inside: Mapping[str, Servers],
        log: Ledger,
        keys: KeyStore,
        where: str,
        listen: Listener,
        publication: Publication | None = None,
    ) -> None:
        self.mesh = mesh
        self._engines = engines
        self._servers = servers
        self._inside = inside
        self._outside = Outside(mesh)
        self._log = log
        self._keys = keys
        self._where = where
        self._listen = listen
        self._publication = publication

    @property
    def ledger(self) -> Ledger:
        """The record; it is open as long as the mesh is up."""
        return self._log

    @property
    def servers(self) -> Servers:
        """The mesh's MCP servers."""
        return self._servers

    def till(self) -> Till | None:
        """What bills those who ask from elsewhere; None where nothing is accounted for.

        Raises: LedgerError where the host's key cannot be read.
        """
        if self.mesh.accounts is None:
            return None
        return Till(mesh=self.mesh, ledger=self._log, key=self._keys.agent(HOST))

    async def settle(self, reason: EndReason) -> None:
        """Have what was recorded anchored and cosigned, as the mesh file has it; once, at the end of the mesh's work.

        Leaving the mesh does the same. Raises: LedgerError(rollback, forked).
        """
        if self._publication is not None:
            await self._publication.finish(hurry=reason == "cancelled")

    async def decide(self, tool: str, allowed: bool, arguments: Mapping[str, JsonValue]) -> int:
        """Record what a person decided of a call that a host wants to make. Returns the entry's place."""
        recorder = Recorder(ledger=self._log, keys=self._keys, dialogue=APPROVALS)
        return (await recorder.decision(tool, allowed, arguments)).index

    async def run(self, task: str, start: Start | None = None) -> Ended:
        """Run the mesh file's pattern on `task`, as one dialogue."""
        pattern = PATTERNS[self.mesh.dialogue.pattern]
        return await self._dialogue(task, self._speakers(), lambda stage: pattern(stage, task), start)

    async def ask(self, agent: str, question: str, start: Start | None = None) -> Ended:
        """Put one question to one agent, as a dialogue of its own; a limit is an end like any other.

        Raises:
            RunError: no such agent.
        """
        if agent not in self.mesh.agents:
            raise RunError(
                "no_such_agent", f"no agent {agent!r}", hint=f"there are: {', '.join(self.mesh.agents)}"
            )

        async def turn(stage: Stage) -> str:
            return (await stage.speak(agent, task=question, previous=None, to=stage.everyone)).text

        return await self._dialogue(question, (agent,), turn, start)

    def _speakers(self) -> tuple[str, ...]:
        dialogue = self.mesh.dialogue
        if dialogue.pattern == "orchestrator" and dialogue.lead:
            return (dialogue.lead,)
        return dialogue.order or tuple(self.mesh.agents)

    async def _dialogue(
        self,
        task: str,
        to: tuple[str, ...],
        play: Callable[[Stage], Awaitable[str]],
        start: Start | None,
    ) -> Ended:
        start = start or Start()
        listen = _both(self._listen, start.listen)
        recorder = Recorder(ledger=self._log, keys=self._keys, dialogue=start.dialogue)
        budget = Budget(limits=self.mesh.dialogue.limits)
        floor = Floor(recorder=recorder, budget=budget, listen=listen, overflow=self.mesh.dialogue.overflow)
        run = _Run(
            recorder=recorder,
            budget=budget,
            listen=listen,
            where=self._where,
            origin=self.mesh.origin,
            settle=start.settle,
        )
        opened = await recorder.open(self.mesh, participants=tuple(self.mesh.agents), more=start.facts)
        try:
            listen(Opened(dialogue=recorder.dialogue, mesh=self.mesh.name, task=task, ledger=self._where))
            with anyio.move_on_after(self.mesh.dialogue.limits.seconds) as clock:
                asked = await recorder.task(task, to=to, reply_to=opened.index)
                said = Said(index=asked.index, leaf_hash=asked.leaf_hash, agent=HOST, text=task)
                listen(MessageAdded(index=asked.index, kind="task", agent=HOST, to=to, text=task))
                stage = Stage(mesh=self.mesh, cast={}, floor=floor, task=task, task_said=said)
                await recheck(self._servers)
                self._cast(stage)
                run.said = stage.said
                with on_stage(stage):
                    run.answer = await play(stage)
        except BaseException as error:  # noqa: BLE001 - whatever happens, the dialogue is closed in the ledger
            return await run.end_after(error)
        if clock.cancelled_caught:
            limit = self.mesh.dialogue.limits.seconds
            return await run.end("limit_seconds", f"the dialogue's {limit:g} seconds are used up")
        return await run.end("done", "")

    def _cast(self, stage: Stage) -> None:
        """Give every agent its toolbox for this dialogue, its peers' server in it."""
        members = {
            name: Member(
                spec=spec,
                layout=self.mesh.layout(name),
                engine=self._engines[name],
                toolbox=partial(
                    self._outside.toolbox,
                    name,
                    self._servers,
                    self._inside.get(name, {}),
                    stage.floor.recorder.dialogue,
                ),
            )
            for name, spec in self.mesh.agents.items()
        }
        stage.cast = cast_of(members)


class _Run:
    """How one dialogue ends: closed in the ledger first, then shown outside, then told to whoever listens."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        budget: Budget,
        listen: Listener,
        where: str,
        origin: str,
        settle: Callable[[EndReason], Awaitable[None]],
    ) -> None:
        self.answer = ""
        self.said: list[Said] = []
        self._recorder = recorder
        self._budget = budget
        self._listen = listen
        self._where = where
        self._origin = origin
        self._settle = settle
        self._started = time.monotonic()

    async def end(self, reason: EndReason, detail: str) -> Ended:
        await self._recorder.close(reason, detail, budget=self._budget)
        # A dialogue cut short still has what was said last: a partial result, told as such by the reason.
        answer = self.answer or (self.said[-1].text if self.said else "")
        seconds = time.monotonic() - self._started
        try:
            await self._settle(reason)
        finally:
            # Whatever came of that: the dialogue has ended, and is in the ledger.
            ended = self._ended(reason, detail, answer, seconds)
            self._listen(ended)
        return ended

    def _ended(self, reason: EndReason, detail: str, answer: str, seconds: float) -> Ended:
        budget = self._budget
        return Ended(
            dialogue=self._recorder.dialogue,
            ledger=self._where,
            origin=self._origin,
            reason=reason,
            detail=detail,
            answer=answer,
            messages=self._recorder.messages,
            tool_calls=budget.tool_calls,
            tokens=budget.tokens,
            seconds=seconds,
            evaluated_tokens=budget.evaluated,
            reused_tokens=budget.reused,
            decode_seconds=budget.decode_seconds,
        )

    async def end_after(self, error: BaseException) -> Ended:
        """Close with the reason that `error` gives; a limit is an end, everything else goes on to the caller."""
        if self._budget.reached is not None:
            return await self.end(self._budget.reached.limit, str(self._budget.reached))
        if isinstance(error, LimitReached):
            return await self.end(error.limit, str(error))
        if isinstance(error, anyio.get_cancelled_exc_class()):
            await self.end("cancelled", "stopped by the person who ran it")
        elif isinstance(error, Exception):
            kind = error.reason if isinstance(error, AgentMeshError) else type(error).__name__
            await self.end("failed", f"{kind}: {error}")
        raise error


async def _open_engines(mesh: Mesh, stack: AsyncExitStack) -> dict[str, Engine]:
    """An engine for each agent, of one pool; agents that name the same model share it, and its weights come with its first use.

    A model that is missing, damaged, unreachable or too large is found here, before anything is recorded.
    """
    pool = Pool(memory=mesh.memory)
    stack.push_async_exit(partial(_close_pool, pool))
    engines: dict[str, Engine] = {}
    for name in mesh.agents:
        model = mesh.model_spec(name)
        open_one = partial(
            pool.engine,
            model.path,
            n_ctx=model.n_ctx,
            threads=model.threads,
            gpu_layers=model.gpu_layers,
            exact=model.exact,
            parallel=model.parallel,
            base=mesh.folder,
            api_key_env=model.api_key_env,
            timeout=model.timeout,
        )
        engines[name] = await anyio.to_thread.run_sync(open_one)
    return engines


async def _close_pool(
    pool: Pool, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> None:
    """Close, and where something has failed already let that be told rather than what closing adds to it."""
    try:
        await pool.aclose()
    except ModelError:
        if error is None:
            raise


@contextmanager
def _told_at_its_line(mesh: Mesh, agent: str | None = None) -> Iterator[None]:
    """Tells what only starting shows as loading tells its mistakes: with the line of the server, or of the agent's key."""
    try:
        yield
    except ToolsChanged:
        raise  # no mistake in the file
    except ToolboxError as error:
        kind = "peers" if error.server in remote_peers(mesh) else "servers"
        key = f"{kind}.{error.server}"
        if agent is not None:
            key = f"agents.{agent}.{'peers' if kind == 'peers' else 'tools'}"
        line = mesh.lines.get(key)
        if line is None:
            raise
        message = f"{mesh.path}:{line}: {error.message}"
        raise ToolboxError(error.reason, message, server=error.server, hint=error.hint) from error


async def _open_log(
    stack: AsyncExitStack, where: LogPlace, mesh: Mesh, keys: KeyStore, listen: Listener
) -> tuple[Ledger, Publication | None]:
    """The log, and what shows it outside; refused where it is not what witnesses and chain hold of it."""
    log = await anyio.to_thread.run_sync(
        partial(Ledger.open, where.ledger, origin=mesh.origin, keys=keys, create=True)
    )
    stack.callback(log.close)
    publication = await open_publication(mesh, log, keys, listen)
    if publication is not None:
        with told_of_chain(mesh):
            await stack.enter_async_context(published(publication))
    return log, publication


def _both(first: Listener, second: Listener) -> Listener:
    def listen(event: Event) -> None:
        first(event)
        second(event)

    return listen
