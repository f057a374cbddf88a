"""Mistakes in what a mesh file's parts say of one another: tools of no server, peers that are not there, cycles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from agentmesh.errors import Mistake
from agentmesh.locations import is_address, is_program, place
from agentmesh.mesh.lines import KeyPath, Places
from agentmesh.mesh.peers import is_url
from agentmesh.mesh.published import anchor_mistakes
from agentmesh.mesh.shape import did_you_mean, dotted
from agentmesh.mesh.spec import AgentSpec, Mesh, ServerSpec
from agentmesh_ledger.source import is_database
from agentmesh_models import ModelError
from agentmesh_models.catalogue import ENDPOINT, SCRIPTED, require_model
from agentmesh_models.endpoint import parse_address
from agentmesh_models.store.names import is_source
from agentmesh_servers import registry
from agentmesh_servers.options import mistakes

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_PLACEHOLDERS = ("task", "previous")
# What somebody meant as an argument of a prompt; anything else in braces is text, such as JSON.
_ALMOST = re.compile(r"\{([\w. -]+)\}")
SERVED_TOOLS = ("start_dialogue", "wait_dialogue", "stop_dialogue", "verify_record")
"""The tools that `agentmesh serve` offers beside `ask_<agent>`."""
# The host speaks under its own name in the ledger, and an agent's peers are mounted as a server of that name.
_RESERVED_AGENTS = frozenset({"host", "log"})
_RESERVED_SERVERS = frozenset({"peers"})
_OF_FILES = ("threads", "gpu_layers", "exact", "parallel")
_OF_ENDPOINTS = ("api_key_env", "timeout")


def link_mistakes(mesh: Mesh, places: Places) -> tuple[Mistake, ...]:
    """Every mistake in `mesh` that its shape alone did not show, in the order of the file's tables."""
    check = _Links(mesh, places)
    found = [
        *check.mesh_table(),
        *check.dialogue(),
        *check.models(),
        *check.agents(),
        *check.servers(),
        *check.serve(),
        *check.peers(),
        *check.prices(),
        *([] if mesh.anchor is None else anchor_mistakes(mesh.anchor, places)),
    ]
    return tuple(sorted(found, key=lambda mistake: mistake.line or 0))


class _Links:
    def __init__(self, mesh: Mesh, places: Places) -> None:
        self.mesh = mesh
        self.places = places

    def _at(self, path: KeyPath, reason: str, text: str) -> Mistake:
        return Mistake(reason=reason, key=dotted(path), line=self.places.line(path), text=text)

    def mesh_table(self) -> Iterator[Mistake]:
        scheme, mark, _ = self.mesh.ledger.partition("://")
        if mark and not is_database(self.mesh.ledger):
            text = f"no ledger is kept at {scheme}:// addresses; give a path, or postgresql+psycopg://USER@HOST/DATABASE"
            yield self._at(("mesh", "ledger"), "bad_value", text)

    def dialogue(self) -> Iterator[Mistake]:
        spec, agents = self.mesh.dialogue, self.mesh.agents
        if spec.pattern == "orchestrator":
            path: KeyPath = ("dialogue", "lead")
            if spec.lead is None:
                yield self._at(
                    path, "missing", "is missing: the pattern 'orchestrator' needs the agent that leads"
                )
            elif spec.lead not in agents:
                yield self._at(
                    path, "unknown_agent", f"no agent {spec.lead!r}{did_you_mean(spec.lead, agents)}"
                )
            if spec.order:
                yield self._at(
                    ("dialogue", "order"), "unused_key", "has no meaning with the pattern 'orchestrator'"
                )
        else:
            for key in ("lead", "plan"):
                if key in spec.model_fields_set:
                    text = f"has a meaning with the pattern 'orchestrator' only, and this is {spec.pattern!r}"
                    yield self._at(("dialogue", key), "unused_key", text)
        yield from self._named(("dialogue", "order"), spec.order)

    def models(self) -> Iterator[Mistake]:
        for name, spec in self.mesh.models.items():
            yield from self._model(("models", name, "path"), spec.path)
            served, scripted = spec.path.startswith(ENDPOINT), spec.path.startswith(SCRIPTED)
            unused = [*(() if served else _OF_ENDPOINTS), *(_OF_FILES if served or scripted else ())]
            for key in unused:
                if key in spec.model_fields_set:
                    wanted = "a model file" if key in _OF_FILES else "an endpoint (openai:...)"
                    yield self._at(("models", name, key), "unused_key", f"has a meaning for {wanted} only")

    def agents(self) -> Iterator[Mistake]:
        agents = self.mesh.agents
        if not agents:
            yield self._at(
                ("agents",), "missing", "is missing: a mesh needs at least one agent, [agents.NAME]"
            )
        folded: dict[str, str] = {}
        for name, spec in agents.items():
            path: KeyPath = ("agents", name)
            yield from self._name(path, name, "agent", _RESERVED_AGENTS)
            other = folded.setdefault(name.lower(), name)
            if other != name:
                # Key files are named after agents, and not every file system tells the two apart.
                yield self._at(
                    path, "bad_name", f"differs from the agent {other!r} in upper and lower case only"
                )
            yield from self._agent(path, name, spec)
        yield from self._cycles()

    def servers(self) -> Iterator[Mistake]:
        for name, spec in self.mesh.servers.items():
            path: KeyPath = ("servers", name)
            yield from self._name(path, name, "server", _RESERVED_SERVERS)
            yield from self._server(path, spec)

    def serve(self) -> Iterator[Mistake]:
        spec, agents = self.mesh.serve, self.mesh.agents
        yield from self._named(("serve", "agents"), spec.agents)
        tools = [*(f"ask_{name}" for name in spec.agents or agents), *SERVED_TOOLS]
        for number, tool in enumerate(spec.approve):
            if tool not in tools:
                text = f"{tool!r} is no tool that is served{did_you_mean(tool, tools)}"
                yield self._at(("serve", "approve", number), "unknown_tool", text)
        for name, prompt in spec.prompts.items():
            path: KeyPath = ("serve", "prompts", name)
            yield from self._name(path, name, "prompt", frozenset())
            for wrong in _ALMOST.findall(prompt.text):
                if not wrong.isidentifier():
                    text = f"{{{wrong}}} is no argument: its name begins with a letter and holds letters, digits and _"
                    yield self._at((*path, "text"), "unknown_placeholder", text)

    def peers(self) -> Iterator[Mistake]:
        for name, spec in self.mesh.peers.items():
            path: KeyPath = ("peers", name)
            yield from self._name(path, name, "peer", _RESERVED_SERVERS)
            for others, what in ((self.mesh.agents, "an agent"), (self.mesh.servers, "a server")):
                if name in others:
                    text = f"{what} is called {name!r} too: the ledger names by it who was asked"
                    yield self._at(path, "bad_name", text)
            yield from self._address((*path, "url"), spec.url)
            for number, agent in enumerate(spec.agents):
                if not _NAME.fullmatch(agent):
                    yield self._at((*path, "agents", number), "bad_value", f"{agent!r} is no agent's name")
            if spec.key is not None and spec.signing == "off":
                text = "has a meaning with signing = 'require' or 'prefer' only: nothing is signed otherwise"
                yield self._at((*path, "key"), "unused_key", text)

    def prices(self) -> Iterator[Mistake]:
        """Prices that nobody would account for, and one that a peer could raise as it likes."""
        priced: list[KeyPath] = [
            (kind, name, "price")
            for kind, specs in (("agents", self.mesh.agents), ("peers", self.mesh.peers))
            for name, spec in specs.items()
            if "price" in spec.model_fields_set
        ]
        if self.mesh.accounts is None:
            for path in priced:
                yield self._at(path, "unused_key", "has a meaning beside a table [accounts] only")
            return
        for name, peer in self.mesh.peers.items():
            path = ("peers", name, "price")
            if peer.price.thousand_tokens and peer.price.answer is None:
                text = "names no `answer`, the most for one answer: the peer itself counts the tokens"
                yield self._at(path, "missing", text)
            if peer.signing == "off" and path in priced:
                yield self._at(path, "unused_key", "has a meaning with signing only: receipts are signed")

    def _address(self, path: KeyPath, url: str) -> Iterator[Mistake]:
        if not is_address(url):
            text = "must begin with http:// or https:// and name a host, such as http://127.0.0.1:8000/mcp"
            yield self._at(path, "bad_value", text)

    def _name(self, path: KeyPath, name: str, what: str, reserved: frozenset[str]) -> Iterator[Mistake]:
        if name.lower() in reserved:
            yield self._at(
                path, "reserved_name", f"the name {name!r} is taken by AgentMesh itself; choose another"
            )
        elif not _NAME.fullmatch(name):
            text = f"the name of {'an' if what == 'agent' else 'a'} {what} begins with a letter and holds letters,"
            yield self._at(path, "bad_name", f"{text} digits, - and _ only (at most 40)")

    def _agent(self, path: KeyPath, name: str, spec: AgentSpec) -> Iterator[Mistake]:
        if spec.model not in self.mesh.models:
            yield from self._model((*path, "model"), spec.model)
        for number, entry in enumerate(spec.tools):
            server, dot, tool = entry.partition(".")
            if server not in self.mesh.servers:
                text = f"no server {server!r}{did_you_mean(server, self.mesh.servers)}"
                yield self._at((*path, "tools", number), "unknown_server", text)
            elif dot and not tool:
                text = f"{entry!r} names no tool: write {server!r} for all its tools, or {server + '.TOOL'!r}"
                yield self._at((*path, "tools", number), "unknown_tool", text)
        yield from self._peers_of((*path, "peers"), name, spec.peers)
        yield from self._named((*path, "checks"), spec.checks, but=name)
        if spec.checks and not spec.tools:
            text = "an agent that checks others does so with a tool; give it one under `tools`"
            yield self._at((*path, "checks"), "missing", text)
        for wrong in _PLACEHOLDER.findall(spec.prompt):
            if wrong not in _PLACEHOLDERS:
                text = f"no placeholder {{{wrong}}}{did_you_mean(wrong, _PLACEHOLDERS)}"
                yield self._at((*path, "prompt"), "unknown_placeholder", text)

    def _peers_of(self, path: KeyPath, agent: str, entries: tuple[str, ...]) -> Iterator[Mistake]:
        """Mistakes in whom an agent may ask: agents here, meshes elsewhere, one agent of such a mesh, an address."""
        near = [*(name for name in self.mesh.agents if name != agent), *self.mesh.peers]
        for number, entry in enumerate(entries):
            at: KeyPath = (*path, number)
            name, dot, there = entry.partition(".")
            peer = self.mesh.peers.get(name)
            if entry in entries[:number]:
                yield self._at(at, "repeated", f"{entry!r} is given twice")
            elif entry == agent:
                yield self._at(at, "names_itself", f"{entry!r} names itself")
            elif is_url(entry):
                yield from self._address(at, entry)
            elif entry in self.mesh.agents:
                continue
            elif peer is None:
                what = f"no peer {name!r}" if dot else f"no agent or peer {entry!r}"
                yield self._at(at, "unknown_agent", f"{what}{did_you_mean(name if dot else entry, near)}")
            elif dot and not _NAME.fullmatch(there):
                text = f"{entry!r} names no agent: write {name!r} for all its agents, or {name + '.AGENT'!r}"
                yield self._at(at, "unknown_agent", text)
            elif dot and peer.agents and there not in peer.agents:
                text = f"{there!r} is not among peers.{name}.agents{did_you_mean(there, peer.agents)}"
                yield self._at(at, "unknown_agent", text)

    def _named(self, path: KeyPath, names: tuple[str, ...], *, but: str | None = None) -> Iterator[Mistake]:
        """Mistakes in a list of agents: one that is not there, the agent itself, one given twice."""
        known = [name for name in self.mesh.agents if name != but]
        for number, name in enumerate(names):
            if name == but:
                yield self._at((*path, number), "names_itself", f"{name!r} names itself")
            elif name not in self.mesh.agents:
                yield self._at(
                    (*path, number), "unknown_agent", f"no agent {name!r}{did_you_mean(name, known)}"
                )
            elif name in names[:number]:
                yield self._at((*path, number), "repeated", f"{name!r} is given twice")

    def _model(self, path: KeyPath, spec: str) -> Iterator[Mistake]:
        if spec == "nano":
            return
        if spec.startswith(ENDPOINT):
            try:
                parse_address(spec)
            except ModelError as error:
                yield self._at(path, "bad_value", str(error))
            return
        script = spec.removeprefix(SCRIPTED)
        if script == spec and (is_source(spec) or not spec.endswith(".gguf")):
            try:
                require_model(spec, base=self.mesh.folder)
            except ModelError as error:
                known = [] if path[0] == "models" else list(self.mesh.models)
                near = did_you_mean(spec, known)
                told = f"no model {spec!r}{near}" if near.startswith("; did") else str(error)
                yield self._at(path, "unknown_model", told)
            return
        file = place(self.mesh.folder, script)
        if not file.is_file():
            what = "is a folder, not a file" if file.is_dir() else "no such file"
            yield self._at(path, "model_not_found", f"{what}: {file}")

    def _server(self, path: KeyPath, spec: ServerSpec) -> Iterator[Mistake]:
        given = [key for key in ("builtin", "command", "url") if getattr(spec, key) is not None]
        if len(given) != 1:
            what = "has " + " and ".join(given) if given else "has none of builtin, command and url"
            yield self._at(path, "bad_server", f"{what}; a server has exactly one of the three")
            return
        kind = given[0]
        for key, wanted in (
            ("env", "command"),
            ("cwd", "command"),
            ("options", "builtin"),
            ("token_env", "url"),
        ):
            if key in spec.model_fields_set and kind != wanted:
                yield self._at((*path, key), "unused_key", f"has a meaning beside {wanted!r} only")
        if kind == "builtin" and spec.signing != "off":
            text = "has a meaning beside 'command' and 'url' only: a built-in server runs in this process"
            yield self._at((*path, "signing"), "unused_key", text)
        if spec.command is not None:
            yield from self._command(path, spec.command, spec)
        if spec.url is not None:
            yield from self._address((*path, "url"), spec.url)
        if spec.builtin is not None:
            yield from self._builtin(path, spec.builtin, spec)

    def _command(self, path: KeyPath, command: tuple[str, ...], spec: ServerSpec) -> Iterator[Mistake]:
        folder = place(self.mesh.folder, spec.cwd)
        for name in spec.env:
            if not name or "=" in name:
                yield self._at((*path, "env", name), "bad_value", "is no name of an environment variable")
        if not folder.is_dir():
            yield self._at((*path, "cwd"), "folder_not_found", f"no such folder: {folder}")
        elif not command:
            yield self._at(
                (*path, "command"), "bad_value", 'must name a program, for example ["npx", "-y", "..."]'
            )
        elif not is_program(command[0], folder, spec.env):
            text = f"the program {command[0]!r} is not found: install it, or give its path"
            yield self._at((*path, "command"), "program_not_found", text)

    def _builtin(self, path: KeyPath, name: str, spec: ServerSpec) -> Iterator[Mistake]:
        if name not in registry.names():
            text = f"no built-in server {name!r}{did_you_mean(name, registry.names())}"
            yield self._at((*path, "builtin"), "unknown_builtin", text)
            return
        known = registry.options(name)
        for option in spec.options:
            if option not in known:
                text = f"the server {name!r} has no such option{did_you_mean(option, sorted(known))}"
                yield self._at((*path, "options", option), "unknown_option", text)
        for wrong in mistakes(name, spec.options, partial(place, self.mesh.folder)):
            at = () if wrong.option is None else (wrong.option,)
            yield self._at((*path, "options", *at), wrong.reason, wrong.text)

    def _cycles(self) -> Iterator[Mistake]:
        """Peers that would ask one another in a circle, each circle once."""
        done: set[str] = set()
        for name in self.mesh.agents:
            cycle = self._cycle_from(name, done)
            if cycle:
                path: KeyPath = ("agents", cycle[0], "peers")
                yield self._at(path, "peer_cycle", f"peers ask one another in a circle: {' -> '.join(cycle)}")

    def _cycle_from(self, name: str, done: set[str]) -> tuple[str, ...] | None:
        """The first circle met from `name` on; no recursion, which a long row of peers would exhaust."""
        above, waiting = [name], [self._peers(name, done)]
        while waiting:
            peer = next(waiting[-1], None)
            if peer is None:
                waiting.pop()
                above.pop()
            elif peer in above:
                return (*above[above.index(peer) :], peer)
            else:
                above.append(peer)
                waiting.append(self._peers(peer, done))
        return None

    def _peers(self, name: str, done: set[str]) -> Iterator[str]:
        """The peers of an agent not looked at yet; one that names itself is told on its own."""
        if name in done or name not in self.mesh.agents:
            return iter(())
        done.add(name)
        return iter([peer for peer in self.mesh.agents[name].peers if peer != name])
