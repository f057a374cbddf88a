"""The provider's side: a receipt goes with each answer to another owner, and comes back with the asker's signature."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import anyio
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CallToolResult

from agentmesh.accounts.book import MAX_GIVEN_BACK, RECEIPTS, log_named
from agentmesh.accounts.price import used_at
from agentmesh.accounts.tail import recent_receipts
from agentmesh.mesh import Mesh
from agentmesh.serving.signing import USAGE_KEY, Exchange
from agentmesh.serving.signing.record import wire_dialogue
from agentmesh_ledger import AgentKey, Draft, JsonValue, LedgerError
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.usage.receipt import USAGE, SignedReceipt, UsageReceipt, read_signed

MAX_OUT: Final = 4_096
"""So many receipts are remembered that have not come back; of older ones the ledger keeps our signature alone."""

logger = logging.getLogger(__name__)


class Till:
    """Bills the callers of a served mesh under the host's key, which signs its answers."""

    def __init__(self, *, mesh: Mesh, ledger: Ledger, key: AgentKey) -> None:
        self._mesh = mesh
        self._ledger = ledger
        self._key = key
        self._billing = anyio.Lock()
        self._bills: OrderedDict[str, SignedReceipt] = OrderedDict()
        self._out = self._not_back()

    async def bill(
        self, exchange: Exchange, agent: str, *, tokens: int, seconds: float
    ) -> SignedReceipt | None:
        """The receipt for an answer of one of our agents, recorded under our signature; the same one each time.

        None for a caller that did not sign, or that names no log of its own: nobody could be held to it.
        """
        accounts = self._mesh.accounts
        if accounts is None or exchange.author is None:
            return None
        async with self._billing:
            known = self._bills.get(exchange.digest)
            if known is not None:
                return known
            used = used_at(self._mesh.agents[agent].price, tokens=tokens, seconds=seconds, unit=accounts.unit)
            wire = wire_dialogue(exchange.author, exchange.dialogue)
            try:
                receipt = UsageReceipt(
                    asker=exchange.author,
                    asker_log=log_named(exchange.subject),
                    provider=self._key.id,
                    provider_log=self._ledger.origin,
                    dialogue=exchange.dialogue,
                    request=exchange.digest,
                    tokens=used.tokens,
                    milliseconds=used.milliseconds,
                    price=used.price,
                    unit=used.unit,
                )
                signed = SignedReceipt(receipt=receipt).signed_by(self._key)
                await self._record(signed, wire)
            except LedgerError as error:
                # What is not in our own record is not asked for.
                logger.error("an answer was not billed: %s", error)
                return None
            self._bills[exchange.digest] = signed
            self._out[exchange.digest] = signed, wire
            for kept in (self._bills, self._out):
                while len(kept) > MAX_OUT:
                    kept.popitem(last=False)
            return signed

    async def take(self, value: object) -> None:
        """Records those of the receipts given back that we have issued, each once; the rest is nobody's."""
        listed = value.get(RECEIPTS) if isinstance(value, Mapping) else None
        for each in listed[:MAX_GIVEN_BACK] if isinstance(listed, list) else ():
            try:
                signed = read_signed(each)
            except LedgerError:
                continue
            issued, wire = self._out.get(signed.receipt.request, (None, ""))
            if issued is None or issued.receipt != signed.receipt or signed.asker_signature is None:
                continue
            del self._out[signed.receipt.request]
            try:
                await self._record(signed.signed_by(self._key), wire)
            except LedgerError as error:
                self._out[signed.receipt.request] = issued, wire  # it may come again
                logger.error("a receipt that came back was not recorded: %s", error)

    async def middleware(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Takes what comes back with a request; inside of the signing, which has refused strangers by then."""
        meta = (ctx.params or {}).get("_meta")
        if isinstance(meta, Mapping) and USAGE_KEY in meta:
            await self.take(meta[USAGE_KEY])
        return await call_next(ctx)

    def _not_back(self) -> OrderedDict[str, tuple[SignedReceipt, str]]:
        """What we issued before we were started anew, and nobody has signed yet."""
        out: OrderedDict[str, tuple[SignedReceipt, str]] = OrderedDict()
        for signed, dialogue in recent_receipts(self._ledger):
            if signed.receipt.provider != self._key.id:
                continue
            if signed.asker_signature is None:
                out[signed.receipt.request] = signed, dialogue
            else:
                out.pop(signed.receipt.request, None)
        return out

    async def _record(self, signed: SignedReceipt, dialogue: str) -> None:
        draft = Draft(author=self._key, kind=USAGE, dialogue=dialogue, facts=signed.to_json())
        with anyio.CancelScope(shield=True):  # an append either happened, and was counted, or did not
            await self._ledger.append_async([draft])


def with_receipt(result: CallToolResult, signed: SignedReceipt) -> CallToolResult:
    """The result with the receipt beside it."""
    meta: dict[str, JsonValue] = {**(result.meta or {}), USAGE_KEY: signed.to_json()}
    return result.model_copy(update={"meta": meta})
