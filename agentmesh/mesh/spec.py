"""A mesh as values: who speaks, with which model, which tools, in which pattern and within which limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from agentmesh.locations import LogPlace, log_place, place
from agentmesh_ledger.source import is_database
from agentmesh_models import MOST_THREADS, ModelError, Sampling
from agentmesh_models.memory import MOST_PARALLEL, PARALLEL, parse_size

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
Penalty: TypeAlias = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
# No vocabulary and no context has more: a larger number is a slip of the pen.
MOST_IDS: Final = 1_000_000


def _size(written: object) -> int:
    try:
        return parse_size(written if isinstance(written, str) else str(written))
    except ModelError as error:
        raise PydanticCustomError("size", "{told}", {"told": str(error)}) from None


Size: TypeAlias = Annotated[int, BeforeValidator(_size)]
"""A number of bytes, written as people do: "6 GB"."""


def _decimal(written: object) -> object:
    # Through its text, as it stands in the file: 0.1 is a tenth.
    return Decimal(str(written)) if type(written) in (int, float) else written


Gwei: TypeAlias = Annotated[
    Decimal, BeforeValidator(_decimal), Field(gt=0, le=1_000_000, allow_inf_nan=False)
]
"""Billionths of a chain's own coin, as fees are written."""
Address: TypeAlias = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
"""An address on an EVM chain."""

PatternName: TypeAlias = Literal["chain", "round_robin", "orchestrator"]
Layout: TypeAlias = Literal["shared", "agent"]
Overflow: TypeAlias = Literal["drop", "summarise", "stop"]
SigningMode: TypeAlias = Literal["require", "prefer", "off"]
"""Whether MCP messages must, may or do not carry signed statements."""
AgentKeyId: TypeAlias = Annotated[str, Field(pattern=r"^did:key:z[1-9A-HJ-NP-Za-km-z]{40,60}$")]
Variable: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
"""The name of an environment variable."""

Micro: TypeAlias = Annotated[int, Field(ge=0, le=10**12)]
"""Micro-units of what [accounts] counts in: whole ones, so that everybody comes to the same sum."""
Unit: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,31}$")]

_USUAL = Sampling()


class _Part(BaseModel):
    """A part of a mesh: unchangeable, strict about types, and with no room for a key nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class MeshSection(_Part):
    """The table `[mesh]`."""

    name: Name
    origin: Origin | None = None
    ledger: Text = ".agentmesh/ledger.db"
    memory: Size | None = None


class Limits(_Part):
    """What a dialogue may use. Every limit is on by default and ends the dialogue with a reason."""

    turns: Count = 24
    tokens: Count = 16000
    seconds: Seconds = 600.0
    tool_calls: Count = 32
    identical_calls: Count = 3


class DialogueSpec(_Part):
    """Who speaks when, and how what was said is laid out for a model.

    `order` is empty where the file gives none: then the agents' order in the file holds. `rules` unset are those of
    `agentmesh.prompt`.
    """

    pattern: PatternName = "chain"
    lead: str | None = None
    order: Texts = ()
    rounds: Count = 1
    plan: Literal["none", "sentences"] = "none"
    task: str | None = None
    layout: Layout = "shared"
    rules: Text | None = None
    overflow: Overflow = "drop"
    limits: Limits = Limits()


class ModelSpec(_Part):
    """A model under a name of its own, with how to run it. `threads` unset means its share of the cores that are idle.

    `exact` (no reply depends on what else runs) and `parallel` (requests at once) are explained at `open_llama`.
    `api_key_env` (the environment variable that holds the key) and `timeout` (seconds without a word) are an endpoint's.
    """

    path: Text
    n_ctx: Annotated[int, Field(ge=64)] | None = None
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = None
    gpu_layers: Annotated[int, Field(ge=-1)] = 0
    exact: bool = True
    parallel: Annotated[int, Field(ge=1, le=MOST_PARALLEL)] = PARALLEL
    api_key_env: Variable | None = None
    timeout: Seconds | None = None


class AccountsSpec(_Part):
    """That answers are accounted for: each between agents leaves a receipt that both sides sign, in this unit."""

    unit: Unit = "credit"


class PriceSpec(_Part):
    """What an answer costs, in micro-units: the call, each thousand tokens made for it, each second it took."""

    call: Micro = 0
    thousand_tokens: Micro = 0
    second: Micro = 0


class AgreedSpec(PriceSpec):
    """The most that is paid for an answer of a peer: at these rates, and never more than `answer`.

    The peer counts the tokens: without `answer` it could name any number of them.
    """

    answer: Micro | None = None


class AgentSpec(_Part):
    """One agent. `about` is what peers and hosts read of it; unset, it is the first sentence of `role`.

    `layout` unset is the dialogue's. What follows `temperature` is explained at `agentmesh_models.Sampling`.
    """

    model: Text
    role: Text
    about: str = ""
    tools: Texts = ()
    peers: Texts = ()
    prompt: Text = "{task}"
    context: Literal["dialogue", "task"] = "dialogue"
    checks: Texts = ()
    layout: Layout | None = None
    parallel_calls: bool = True
    max_tokens: Count = 256
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0
    top_k: Annotated[int, Field(ge=0, le=MOST_IDS)] = _USUAL.top_k
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = _USUAL.top_p
    min_p: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = _USUAL.min_p
    repeat_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = _USUAL.repeat_penalty
    frequency_penalty: Penalty = _USUAL.frequency_penalty
    presence_penalty: Penalty = _USUAL.presence_penalty
    penalty_window: Annotated[int, Field(ge=0, le=MOST_IDS)] = _USUAL.penalty_window
    price: PriceSpec = PriceSpec()

    @model_validator(mode="after")
    def _default_about(self) -> AgentSpec:
        if not self.about:
            # The model is frozen for everyone else; this is still its making.
            object.__setattr__(self, "about", first_sentence(self.role))
        return self

    def sampling(self, seed: int) -> Sampling:
        """How this agent's tokens are chosen."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            penalty_window=self.penalty_window,
            seed=seed,
        )


class ServerSpec(_Part):
    """One MCP server: exactly one of `builtin`, `command` and `url` is set. `timeout` is seconds for a call.

    `token_env` names the environment variable with the bearer token of a `url`.
    """

    builtin: str | None = None
    command: Texts | None = None
    url: Plain | None = None
    env: Mapping[str, Plain] = Field(default_factory=dict)
    cwd: Text = "."
    options: Mapping[str, Plain] = Field(default_factory=dict)
    timeout: Seconds = 30.0
    signing: SigningMode = "off"
    token_env: Variable | None = None


class PeerSpec(_Part):
    """A mesh elsewhere whose agents ours may ask. `key` pins its key; unset, the first one it shows is pinned.

    `agents` are those of its agents that are asked, all where empty; `timeout` is seconds for an answer. `price` is the
    most that is paid for one, nothing where none is agreed.
    """

    url: Plain
    key: AgentKeyId | None = None
    agents: Texts = ()
    signing: SigningMode = "require"
    token_env: Variable | None = None
    timeout: Seconds = 120.0
    price: AgreedSpec = AgreedSpec()


class PromptSpec(_Part):
    """A prompt that hosts are offered; `{name}` in its text is an argument."""

    text: Text
    title: str = ""
    about: str = ""


class ServeSpec(_Part):
    """What `agentmesh serve` shows of the mesh: `agents` (all where none are named), and prompts for its usual tasks.

    A person is asked before a tool named in `approve` does anything. `keys` are the callers' keys that are known; where
    empty, each caller's first one is.
    """

    # Not empty where it is written: whoever means nobody by that must not get everybody.
    agents: Annotated[Texts, Field(min_length=1)] = ()
    approve: Texts = ()
    prompts: Mapping[str, PromptSpec] = Field(default_factory=dict)
    signing: SigningMode = "prefer"
    keys: tuple[AgentKeyId, ...] = Field(default=(), strict=False)


class WitnessSpec(_Part):
    """Who cosigns the log's checkpoints: the witnesses of the C2SP policy in the file `policy`.

    They are asked in the background each `every` seconds in which something was recorded, and at the end of a run, for at
    most `within` seconds.
    """

    policy: Text
    within: Seconds = 5.0
    every: Seconds = 30.0


class AnchorSpec(_Part):
    """Where the log's checkpoints are anchored: a contract on an EVM chain, through the node at `rpc`.

    Exactly one of `rpc` and `rpc_env`, the environment variable that holds it, is set, and exactly one of `key_env`, the
    variable that holds the key, and `keystore`, a file whose passphrase `passphrase_env` holds. `chain` is what the node
    must call its chain; a checkpoint is anchored once its block has `confirmations` and no fee goes above
    `max_fee_gwei`. The next one is due after `every`: so many messages (`"100"`) or seconds (`"60s"`). A run waits
    `within` seconds for its last anchor.
    """

    contract: Address
    rpc: Plain | None = None
    rpc_env: Variable | None = None
    key_env: Variable | None = None
    keystore: Text | None = None
    passphrase_env: Variable | None = None
    chain: Count | None = None
    confirmations: Annotated[int, Field(ge=1, le=10_000)] = 3
    max_fee_gwei: Gwei = Decimal(50)
    every: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}s?$")] = "100"
    within: Seconds = 60.0


class MeshDocument(_Part):
    """The mesh file as it is written."""

    mesh: MeshSection
    dialogue: DialogueSpec = DialogueSpec()
    models: Mapping[str, ModelSpec] = Field(default_factory=dict)
    agents: Mapping[str, AgentSpec] = Field(default_factory=dict)
    servers: Mapping[str, ServerSpec] = Field(default_factory=dict)
    peers: Mapping[str, PeerSpec] = Field(default_factory=dict)
    serve: ServeSpec = ServeSpec()
    witness: WitnessSpec | None = None
    anchor: AnchorSpec | None = None
    accounts: AccountsSpec | None = None


class Mesh(_Part):
    """A checked mesh. `path` is the file, absolute; `digest` the hex SHA-256 of its bytes."""

    name: Name
    origin: Origin
    ledger: str
    memory: int | None = None
    dialogue: DialogueSpec
    models: Mapping[str, ModelSpec]
    agents: Mapping[str, AgentSpec]
    servers: Mapping[str, ServerSpec]
    peers: Mapping[str, PeerSpec] = Field(default_factory=dict)
    serve: ServeSpec = ServeSpec()
    witness: WitnessSpec | None = None
    anchor: AnchorSpec | None = None
    accounts: AccountsSpec | None = None
    path: Path
    digest: str
    lines: Mapping[str, int] = Field(default_factory=dict)
    """The line of each server and peer, each agent's tools and peers, and each key of [witness] and [anchor], for mistakes
    that only running shows."""

    @property
    def folder(self) -> Path:
        """The mesh file's folder: every relative path in the file starts here."""
        return self.path.parent

    @property
    def log_place(self) -> LogPlace:
        """Where the dialogues are recorded, and the agents' and the log's secret keys kept."""
        return section_place(self.ledger, origin=self.origin, folder=self.folder)

    def layout(self, agent: str) -> Layout:
        """How the prompts of `agent` are laid out."""
        return self.agents[agent].layout or self.dialogue.layout

    def model_spec(self, agent: str) -> ModelSpec:
        """The model of `agent` and how to run it: from [models], or all defaults where the agent names it itself."""
        wanted = self.agents[agent].model
        return self.models.get(wanted) or ModelSpec(path=wanted)


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
