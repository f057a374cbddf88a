"""A mesh as values: who speaks, with which model, which tools, in which pattern and within which limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agentmesh.locations import LogPlace, log_place, place
from agentmesh_ledger.source import is_database
from agentmesh_models import MOST_THREADS

Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Origin: TypeAlias = Annotated[str, Field(pattern=r"^[!-*,-~]{1,200}$")]
"""A C2SP key name: visible ASCII without `+` or spaces."""
# No file, program or address can have a NUL in its name; the operating system's answer to one names no line.
Plain: TypeAlias = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Text: TypeAlias = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]
# A TOML array arrives as a list: the tuple itself is converted, what stands in it stays strict.
Texts: TypeAlias = Annotated[tuple[Text, ...], Field(strict=False)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PatternName: TypeAlias = Literal["chain", "round_robin", "orchestrator"]


class _Part(BaseModel):
    """A part of a mesh: unchangeable, strict about types, and with no room for a key nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class MeshSection(_Part):
    """The table `[mesh]`."""

    name: Name
    origin: Origin | None = None
    ledger: Text = ".agentmesh/ledger.db"


class Limits(_Part):
    """What a dialogue may use. Every limit is on by default and ends the dialogue with a reason."""

    turns: Count = 24
    tokens: Count = 16000
    seconds: Seconds = 600.0
    tool_calls: Count = 32
    identical_calls: Count = 3


class DialogueSpec(_Part):
    """Who speaks when. `order` is empty where the file gives none: then the agents' order in the file holds."""

    pattern: PatternName = "chain"
    lead: str | None = None
    order: Texts = ()
    rounds: Count = 1
    plan: Literal["none", "sentences"] = "none"
    task: str | None = None
    limits: Limits = Limits()


class ModelSpec(_Part):
    """A model under a name of its own, with how to run it. `threads` unset means the cores that are idle."""

    path: Text
    n_ctx: Annotated[int, Field(ge=64)] | None = None
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = None
    gpu_layers: Annotated[int, Field(ge=-1)] = 0


class AgentSpec(_Part):
    """One agent. `about` is what peers and hosts read of it; unset, it is the first sentence of `role`."""

    model: Text
    role: Text
    about: str = ""
    tools: Texts = ()
    peers: Texts = ()
    prompt: Text = "{task}"
    context: Literal["dialogue", "task"] = "dialogue"
    checks: Texts = ()
    max_tokens: Count = 256
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0

    @model_validator(mode="after")
    def _default_about(self) -> AgentSpec:
        if not self.about:
            # The model is frozen for everyone else; this is still its making.
            object.__setattr__(self, "about", first_sentence(self.role))
        return self


class ServerSpec(_Part):
    """One MCP server: exactly one of `builtin`, `command` and `url` is set. `timeout` is seconds for a call."""

    builtin: str | None = None
    command: Texts | None = None
    url: Plain | None = None
    env: Mapping[str, Plain] = Field(default_factory=dict)
    cwd: Text = "."
    options: Mapping[str, Plain] = Field(default_factory=dict)
    timeout: Seconds = 30.0


class MeshDocument(_Part):
    """The mesh file as it is written."""

    mesh: MeshSection
    dialogue: DialogueSpec = DialogueSpec()
    models: Mapping[str, ModelSpec] = Field(default_factory=dict)
    agents: Mapping[str, AgentSpec] = Field(default_factory=dict)
    servers: Mapping[str, ServerSpec] = Field(default_factory=dict)


class Mesh(_Part):
    """A checked mesh. `path` is the file, absolute; `digest` the hex SHA-256 of its bytes."""

    name: Name
    origin: Origin
    ledger: str
    dialogue: DialogueSpec
    models: Mapping[str, ModelSpec]
    agents: Mapping[str, AgentSpec]
    servers: Mapping[str, ServerSpec]
    path: Path
    digest: str
    lines: Mapping[str, int] = Field(default_factory=dict)
    """The line of each server and each agent's tools in the file, for mistakes that only running shows."""

    @property
    def folder(self) -> Path:
        """The mesh file's folder: every relative path in the file starts here."""
        return self.path.parent

    @property
    def log_place(self) -> LogPlace:
        """Where the dialogues are recorded, and the agents' and the log's secret keys kept."""
        return section_place(self.ledger, origin=self.origin, folder=self.folder)

    def model_spec(self, agent: str) -> tuple[str, int | None, int | None, int]:
        """What opens the model of `agent`: the model's spec, context length, threads, layers on a GPU."""
        wanted = self.agents[agent].model
        named = self.models.get(wanted)
        if named is None:
            return (wanted, None, None, 0)
        return (named.path, named.n_ctx, named.threads, named.gpu_layers)


def section_place(written: str, *, origin: str, folder: Path) -> LogPlace:
    """The log meant by `ledger` in a mesh file in `folder`: a database's URL as it is, anything else a path from there."""
    ledger = written if is_database(written) else place(folder, written)
    return log_place(ledger, origin=origin, folder=folder)


def default_origin(name: str) -> str:
    """The log's name, where the mesh file gives none."""
    return f"agentmesh.local/{name}"


_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def first_sentence(text: str) -> str:
    """The first sentence of a text, whole."""
    return _SENTENCE_END.split(text.strip(), maxsplit=1)[0]
