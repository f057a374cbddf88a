"""Dialogue events become ledger messages here, and nowhere else in the trunk.

Every method returns once the ledger has acknowledged the message: signed, chained, durable and under a signed
checkpoint. Agents sign what they say, call and infer; the host (the runtime on this machine) signs what it saw: that
a dialogue opened and closed, the task a person gave, and what a tool answered.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import anyio

from agentmesh.accounts.price import Used
from agentmesh.events import EndReason
from agentmesh.limits import Budget
from agentmesh.mesh import Mesh
from agentmesh.toolbox import ToolResult
from agentmesh_ledger import AgentId, AgentKey, Draft, DraftPart, JsonValue, KeyStore, Receipt
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.usage.receipt import USAGE, SignedReceipt, UsageReceipt
from agentmesh_models import Reply

HOST = "host"
APPROVALS = "approvals"
"""The dialogue in which people's decisions stand: there is no other yet when one is asked for."""
_KEY_SECONDS = 1.0  # a short dialogue looks each key up once, not for each message
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Which server a tool came from: its name here, its own word on its version, the digest of its tool set."""

    server: str
    version: str
    tools_digest: str
    tool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """Where an inference's seed comes from: the message answered and who answers, so that nobody can choose a lucky one."""

    message: int
    leaf_hash: bytes
    author: AgentId

    RULE: ClassVar[str] = "agentmesh/seed/v1"

    @property
    def value(self) -> int:
        """The first eight bytes of SHA-256 over rule, leaf hash and author, as a number."""
        data = self.RULE.encode() + self.leaf_hash + self.author.encode()
        return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")

    def to_json(self) -> dict[str, JsonValue]:
        """What an auditor derives the seed from; the leaf hash follows from the message."""
        return {"rule": self.RULE, "message": self.message, "author": self.author}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What stands for dropped messages, and the ledger place of the inference that made it."""

    text: str
    inference: int


class Recorder:
    """Writes one dialogue. Appends follow one another and are never abandoned half-way; dialogues share commits."""

    def __init__(self, *, ledger: Ledger, keys: KeyStore, dialogue: str) -> None:
        self.dialogue = dialogue
        self.messages = 0
        self._ledger = ledger
        self._keys = keys
        self._order = anyio.Lock(fast_acquire=True)
        self._known: dict[str, tuple[float, AgentKey]] = {}

    def agent_id(self, name: str) -> AgentId:
        """The did:key of an agent of this mesh; its key is made on first use."""
        return self._key(name).id

    async def open(
        self, mesh: Mesh, *, participants: Sequence[str], more: Mapping[str, JsonValue] | None = None
    ) -> Receipt:
        """The dialogue begins: which mesh, who takes part; `more` are facts of who asked for it."""
        facts: dict[str, JsonValue] = {
            "mesh": mesh.name,
            "mesh_digest": mesh.digest,
            "pattern": mesh.dialogue.pattern,
            "participants": [self.agent_id(name) for name in participants],
            **(more or {}),
        }
        return await self._append("open", HOST, to=participants, facts=facts)

    async def task(self, text: str, *, to: Sequence[str], reply_to: int) -> Receipt:
        """What a person asked, as the host received it."""
        return await self._append("task", HOST, to=to, reply_to=reply_to, parts=(_text("text", text),))

    async def inference(self, agent: str, reply: Reply, *, seed: Seed) -> Receipt:
        """How the next message of `agent` was made: enough for an auditor to run it again.

        What the model thought first is a part of its own, `reasoning`: it can be withheld or erased by itself, and
        stands in no message that another agent reads.
        """
        profile, usage = reply.profile, reply.usage
        facts: dict[str, JsonValue] = {
            "model": profile.model_digest,
            # An endpoint tells how many tokens there were, not which: its profile lists none.
            "prompt_tokens": usage.prompt_tokens,
            "reused_tokens": usage.reused_tokens,
            "output_tokens": usage.output_tokens,
            "finish": profile.finish,
        }
        # The order of a tool's properties is part of its grammar: it must come back as it was.
        parts = [_json("profile", profile.to_json() | {"seed_from": seed.to_json()}, ordered=True)]
        if reply.reasoning:
            parts.append(_text("reasoning", reply.reasoning))
        return await self._append("inference", agent, reply_to=seed.message, parts=tuple(parts), facts=facts)

    async def compaction(
        self,
        rule: str,
        dropped: Sequence[int],
        *,
        model: str,
        needed: int | None,
        available: int | None,
        reply_to: int,
        summary: Summary | None = None,
        failed: str = "",
    ) -> Receipt:
        """What a model is no longer shown of the transcript, and why, before it replies without it.

        `dropped` are ledger places, `needed` and `available` tokens where the engine told them, `failed` the
        model's reason for no summary although the rule asks for one.
        """
        facts: dict[str, JsonValue] = {
            "rule": rule,
            "dropped": list(dropped),
            "model": model,
            "tokens_needed": needed,
            "tokens_available": available,
        }
        parts: tuple[DraftPart, ...] = ()
        if summary is not None:
            facts["inference"] = summary.inference
            parts = (_text("summary", summary.text),)
        if failed:
            facts["failed"] = failed
        return await self._append("compaction", HOST, reply_to=reply_to, parts=parts, facts=facts)

    async def say(
        self, agent: str, text: str, *, to: Sequence[str], reply_to: int, facts: Mapping[str, JsonValue]
    ) -> Receipt:
        """What an agent said."""
        parts = (_text("text", text),)
        return await self._append("say", agent, to=to, reply_to=reply_to, parts=parts, facts=facts)

    async def call(
        self,
        agent: str,
        origin: Origin,
        arguments: Mapping[str, JsonValue],
        *,
        to: Sequence[str],
        reply_to: int,
    ) -> Receipt:
        """A tool call, recorded before it goes out."""
        parts = (_json("arguments", arguments),)
        return await self._append(
            "call", agent, to=to, reply_to=reply_to, parts=parts, facts=_tool_facts(origin)
        )

    async def result(self, agent: str, origin: Origin, result: ToolResult, *, reply_to: int) -> Receipt:
        """What the tool answered, as the host saw it, before the agent reads it."""
        parts = [_text("text", result.text)]
        if result.structured is not None:
            parts.append(_json("structured", result.structured))
        facts = _tool_facts(origin) | {"error": result.is_error, "milliseconds": round(result.seconds * 1000)}
        return await self._append(
            "result", HOST, to=(agent,), reply_to=reply_to, parts=tuple(parts), facts=facts
        )

    async def usage(self, asker: str, provider: str, used: Used, *, asked: Receipt) -> Receipt:
        """What an answer between two agents of this mesh cost, signed by both, whose keys are both at hand."""
        asking, answering = self._key(asker), self._key(provider)
        receipt = UsageReceipt(
            asker=asking.id,
            asker_log=self._ledger.origin,
            provider=answering.id,
            provider_log=self._ledger.origin,
            dialogue=self.dialogue,
            request=asked.leaf_hash.hex(),
            tokens=used.tokens,
            milliseconds=used.milliseconds,
            price=used.price,
            unit=used.unit,
        )
        signed = SignedReceipt(receipt=receipt).signed_by(asking).signed_by(answering)
        facts = signed.to_json()
        return await self._append(USAGE, HOST, to=(asker, provider), reply_to=asked.index, facts=facts)

    async def decision(self, tool: str, allowed: bool, arguments: Mapping[str, JsonValue]) -> Receipt:
        """What a person decided of a call, before anything is done."""
        kind = "approve" if allowed else "deny"
        return await self._append(kind, HOST, parts=(_json("arguments", arguments),), facts={"tool": tool})

    async def close(self, reason: EndReason, detail: str, *, budget: Budget) -> Receipt:
        """The dialogue ends, with the reason; safe to call while the task is being cancelled."""
        facts: dict[str, JsonValue] = {
            "reason": reason,
            "tokens": budget.tokens,
            "evaluated_tokens": budget.evaluated,
            "reused_tokens": budget.reused,
            "tool_calls": budget.tool_calls,
        }
        parts = (_text("detail", detail),)
        with anyio.CancelScope(shield=True):
            receipt = await self._append("close", HOST, parts=parts, facts=facts)
        return receipt

    async def _append(
        self,
        kind: str,
        author: str,
        *,
        to: Sequence[str] = (),
        reply_to: int | None = None,
        parts: tuple[DraftPart, ...] = (),
        facts: Mapping[str, JsonValue] | None = None,
    ) -> Receipt:
        draft = Draft(
            author=self._key(author),
            kind=kind,
            dialogue=self.dialogue,
            to=tuple(self.agent_id(name) for name in to),
            reply_to=reply_to,
            parts=parts,
            facts=dict(facts or {}),
        )
        async with self._order:
            # Not abandoned on cancellation: an append either happened, and was counted, or did not.
            with anyio.CancelScope(shield=True):
                (receipt,) = await self._ledger.append_async([draft])
                self.messages += 1
        return receipt

    def _key(self, name: str) -> AgentKey:
        """The key of that name; one that is rotated meanwhile is noticed within a second."""
        now = time.monotonic()
        known = self._known.get(name)
        if known is None or now - known[0] > _KEY_SECONDS:
            known = self._known[name] = (now, self._keys.agent(name))
        return known[1]


def _text(name: str, text: str) -> DraftPart:
    # A model can emit lone surrogates through JSON escapes; they have no UTF-8 form.
    return DraftPart(name=name, type=_TEXT, data=text.encode("utf-8", "replace"))


def _json(name: str, value: object, *, ordered: bool = False) -> DraftPart:
    """A part of JSON, its keys sorted unless their order says something."""
    return DraftPart(
        name=name, type=_JSON, data=json.dumps(value, ensure_ascii=True, sort_keys=not ordered).encode()
    )


def _tool_facts(origin: Origin) -> dict[str, JsonValue]:
    return {
        "server": origin.server,
        "server_version": origin.version,
        "tool": origin.tool,
        "tools_digest": origin.tools_digest,
    }
