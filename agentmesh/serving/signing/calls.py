"""The requests under way on one connection of the calling side: signed, waited for, and their answers judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.jsonrpc_dispatcher import cancelled_request_id_from_params
from mcp.shared.message import SessionMessage
from mcp.types import (
    UNSUPPORTED_PROTOCOL_VERSION,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from agentmesh.serving.signing.failures import CODES, REASON, SigningError, SigningReason
from agentmesh.serving.signing.identity import KEY, USAGE_KEY, Signing
from agentmesh.serving.signing.record import RECORDED, Entry, Journal, Written, exchange_draft, wire_dialogue
from agentmesh.serving.signing.statements import (
    BARE,
    HANDSHAKE,
    Asked,
    canonical_content,
    covered_error,
    name_of,
    new_nonce,
    opened,
    plain_content,
    require_fresh,
    seal,
    without_meta,
)
from agentmesh_ledger import AgentId, AgentKey, Draft, JsonValue, LedgerError, shown
from agentmesh_ledger.identity import public_key
from agentmesh_ledger.statement import SealedStatement, StatementType, content_digest
from agentmesh_ledger.text import is_dialogue

MAX_UNDER_WAY: Final = 4_096
_DID: Final = "did:key:"
_BILLED: Final = "tools/call"
_NEGOTIATION: Final = frozenset({"initialize", "server/discover"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What is let in, once what was handed in to the ledger is durable."""

    item: SessionMessage | Exception
    written: tuple[Written, ...] = ()

    def refused(self, error: SigningError) -> SessionMessage:
        """The error in the place of the answer."""
        assert isinstance(self.item, SessionMessage) and not isinstance(
            self.item.message, JSONRPCNotification
        )
        return SessionMessage(JSONRPCError(jsonrpc="2.0", id=self.item.message.id, error=error.to_data()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A request under way, who signed it here, and where that is recorded."""

    asked: Asked
    key: AgentKey
    dialogue: str
    entry: Entry | None


class Calls:
    """One connection's requests under way, at most 4,096.

    The server's key is the one given, the one pinned, or learnt from its first signed answer; it stays the same for
    the whole connection.
    """

    def __init__(self, signing: Signing, *, peer: str, audience: str | None) -> None:
        """Raises: LedgerError(identity) where the audience looks like a key and is none."""
        self._signing = signing
        self._policy = signing.policy
        self._peer = peer
        self._audience = audience
        self._server: AgentId | None = None
        if audience is not None and audience.startswith(_DID):
            public_key(audience)
            self._server = AgentId(audience)
        self._refused: SigningError | None = None
        self._under_way: dict[RequestId, _Call] = {}
        self._keys: dict[str, AgentKey] = {}
        self._journal = None if signing.ledger is None else Journal(signing.ledger, signing.lag)

    def sign(self, request: JSONRPCRequest) -> JSONRPCRequest:
        """The request with a statement in the place of what it claims, from now on under way.

        Raises: SigningError(not_canonical, unknown_key, too_many), and nothing is under way.
        """
        params: dict[str, JsonValue] = dict(request.params or {})
        given = params.get("_meta")
        meta = dict(given) if isinstance(given, Mapping) else {}
        claim = meta.pop(KEY, None)
        if self._policy.mode == "off":
            return _with_meta(request, params, meta) if claim is not None else request
        if self._refused is not None and request.method in _NEGOTIATION:
            # The SDK takes a refusal for a server of the older era, asks again, and would tell what comes of that.
            raise self._refused
        if len(self._under_way) >= MAX_UNDER_WAY:
            raise SigningError("too_many", f"{MAX_UNDER_WAY} requests are under way on one connection")
        agent, dialogue = self._claimed(claim)
        key = self._signing.key if agent is None else self._key_of(agent)
        asked = self._asked(request.method, params, key, agent, dialogue)
        if asked.sealed is not None:
            meta[KEY] = asked.sealed.wire
            if self._signing.usage is not None and request.method == _BILLED:
                given_back = self._signing.usage.sent(asked, key)
                if given_back is not None:
                    meta[USAGE_KEY] = given_back
        self._under_way[coerce_request_id(request.id)] = self._call(asked, key)
        return _with_meta(request, params, meta)

    def _asked(
        self, method: str, params: Mapping[str, JsonValue], key: AgentKey, agent: str | None, dialogue: str
    ) -> Asked:
        """The request, signed where there is somebody to sign it for.

        Raises: SigningError(not_canonical, unknown_key).
        """
        name, covered = name_of(method, params), without_meta(params)
        audience = self._audience_for(method)
        sealed: SealedStatement | None = None
        if audience is None:
            content = plain_content(covered)
        else:
            content = canonical_content(covered)
            sealed = seal(
                key,
                self._policy,
                type="request",
                method=method,
                name=name,
                content=content,
                subject=self._signing.subject if agent is None else self._signing.subject_of(agent),
                audience=audience,
                dialogue=dialogue,
            )
        return Asked(
            method=method,
            name=name,
            content=content if method in RECORDED else b"",
            exchange=content_digest(new_nonce(), content) if sealed is None else sealed.digest,
            dialogue=dialogue,
            sealed=sealed,
        )

    def unsent(self, request: RequestId) -> None:
        """Forgets a request that did not leave."""
        call = self._under_way.pop(coerce_request_id(request), None)
        if call is not None and call.entry is not None:
            call.entry.drop()

    def note(self, notification: JSONRPCNotification) -> None:
        """Sees what we notify: a request that we cancel, or that timed out, gets no answer any more."""
        if notification.method != "notifications/cancelled":
            return
        request = cancelled_request_id_from_params(notification.params)
        call = None if request is None else self._under_way.pop(coerce_request_id(request), None)
        if call is not None and call.entry is not None:
            call.entry.write()

    def close(self) -> None:
        """The connection is gone: what was asked and not answered is recorded as such."""
        for call in self._under_way.values():
            if call.entry is not None:
                call.entry.write()
        self._under_way.clear()

    def settle(self, item: SessionMessage, answer: JSONRPCResponse | JSONRPCError) -> Settled | None:
        """What becomes of an answer: let in, or an error in its place; None where nobody waits for it."""
        if self._policy.mode == "off" or answer.id is None:
            return Settled(item=item)  # an error without an id answers no request
        call = self._under_way.pop(coerce_request_id(answer.id), None)
        if call is None:
            return None
        settled, sealed, refused = Settled(item=item), None, None
        try:
            sealed = self._judged(call.asked, answer)
        except _Refused as refusal:
            error, sealed, refused = refusal.error, refusal.sealed, refusal.error.why
            settled = Settled(item=settled.refused(error))
            if call.asked.method in _NEGOTIATION:
                self._refused = error
        if isinstance(answer, JSONRPCError) and refused is None:
            if call.asked.method in _NEGOTIATION:
                self._refused = _told(answer.error)
            if sealed is None and self._policy.mode == "require":
                settled = Settled(item=SessionMessage(_unsigned_error(answer)))
        if call.entry is None:
            return settled
        received = self._received(call, answer, sealed, refused)
        books = () if refused is not None else self._books(call.asked, sealed, answer)
        return replace(settled, written=call.entry.answer(received, *books))

    def _books(
        self, asked: Asked, sealed: SealedStatement | None, answer: JSONRPCResponse | JSONRPCError
    ) -> Sequence[Draft]:
        """What is recorded of the receipt that came with an answer that is let in, if any."""
        usage = self._signing.usage
        if usage is None or asked.method != _BILLED or isinstance(answer, JSONRPCError):
            return ()
        statement = None if sealed is None else sealed.statement
        return usage.received(asked, statement, answer.result)

    def _judged(self, asked: Asked, answer: JSONRPCResponse | JSONRPCError) -> SealedStatement | None:
        """The answer's statement, found good; None where it may have none.

        Raises: _Refused.
        """
        kind: StatementType = "result" if isinstance(answer, JSONRPCResponse) else "error"
        value = _carrier(answer)
        if KEY not in value:
            if self._policy.mode == "require" and kind == "result" and asked.method not in BARE:
                raise _Refused(SigningError("unsigned", "the server did not sign its answer"))
            return None
        sealed: SealedStatement | None = None
        try:
            sealed = opened(value[KEY])
            self._require_good(asked, answer, kind, sealed)
        except SigningError as error:
            raise _Refused(error, sealed) from error
        return sealed

    def _require_good(
        self,
        asked: Asked,
        answer: JSONRPCResponse | JSONRPCError,
        kind: StatementType,
        sealed: SealedStatement,
    ) -> None:
        statement = sealed.statement
        self._require_server(statement.author)
        if statement.audience != (asked.author or ""):
            raise SigningError("wrong_audience", "the answer was signed for another caller")
        until = require_fresh(statement, self._policy)
        covered = (
            without_meta(answer.result)
            if isinstance(answer, JSONRPCResponse)
            else covered_error(answer.error)
        )
        if statement.digest != content_digest(statement.nonce, canonical_content(covered)):
            raise SigningError("altered_result", "the answer is not the one that was signed")
        if (statement.type, statement.method, statement.name) != (kind, asked.method, asked.name) or (
            statement.request != asked.digest
        ):
            raise SigningError("swapped_result", "the answer was signed for another request")
        if asked.sealed is not None and statement.dialogue != asked.dialogue:
            raise SigningError("swapped_result", "the answer was signed for another dialogue")
        if asked.sealed is None:
            # A signed request has one nonce and so one answer; of an unsigned one any answer could come again.
            self._policy.nonces.remember(statement.author, statement.nonce, until)
        self._policy.known.pin("server", self._peer, statement.author)
        self._server = statement.author

    def _require_server(self, author: AgentId) -> None:
        self._policy.known.require("server", self._peer, author)
        if self._server is not None and author != self._server:
            reason: SigningReason = "unknown_key" if self._server == self._audience else "changed_key"
            raise SigningError(reason, f"the server signs with {author}, and should with {self._server}")

    def _received(
        self,
        call: _Call,
        answer: JSONRPCResponse | JSONRPCError,
        sealed: SealedStatement | None,
        refused: SigningReason | None,
    ) -> Draft:
        covered = (
            without_meta(answer.result)
            if isinstance(answer, JSONRPCResponse)
            else covered_error(answer.error)
        )
        return exchange_draft(
            "received",
            call.asked,
            by=call.key,
            dialogue=call.dialogue,
            peer=self._server if sealed is None or refused is not None else sealed.statement.author,
            type="result" if isinstance(answer, JSONRPCResponse) else "error",
            sealed=sealed,
            content=plain_content(covered),
            refused=refused,
            called=self._peer,
        )

    def _call(self, asked: Asked, key: AgentKey) -> _Call:
        peer, entry = self._server, None
        if peer is None and asked.sealed is not None and asked.sealed.statement.audience.startswith(_DID):
            peer = AgentId(asked.sealed.statement.audience)
        dialogue = asked.dialogue or wire_dialogue(peer, "")
        if self._journal is not None and asked.method in RECORDED:
            sent = exchange_draft(
                "sent",
                asked,
                by=key,
                dialogue=dialogue,
                peer=peer,
                sealed=asked.sealed,
                content=asked.content,
                called=self._peer,
            )
            entry = Entry(self._journal, sent)
        return _Call(asked=asked, key=key, dialogue=dialogue, entry=entry)

    def _audience_for(self, method: str) -> str | None:
        """To whom a request is signed; None where it goes unsigned.

        Raises: SigningError(unknown_key).
        """
        found = self._audience or self._server or self._policy.known.pin_of("server", self._peer)
        if found is not None:
            return found
        if method in HANDSHAKE:
            return ""
        if self._policy.mode == "prefer":
            return None  # the server did not sign its first answer, or was not asked; its next one may tell its key
        raise SigningError(
            "unknown_key",
            f"the key of {self._peer} is not known yet, so nothing can be signed for it",
            hint="Let the client ask first (mode 'auto' or 'legacy'), or say its key: audience='did:key:...'",
        )

    def _claimed(self, claim: JsonValue) -> tuple[str | None, str]:
        """Agent and dialogue of a call.

        Raises: SigningError(malformed): the caller's own mistake.
        """
        agent: JsonValue = None
        dialogue: JsonValue = self._signing.dialogue or ""
        if claim is not None:
            if not isinstance(claim, Mapping) or set(claim) != {"agent", "dialogue"}:
                raise SigningError("malformed", f"what stands under {KEY} was not made by `claims`")
            agent, dialogue = claim["agent"], claim["dialogue"]
        if not isinstance(dialogue, str) or not (agent is None or isinstance(agent, str)):
            raise SigningError("malformed", f"what stands under {KEY} was not made by `claims`")
        if dialogue and not is_dialogue(dialogue):
            raise SigningError("malformed", f"{shown(dialogue)!r} is not a dialogue id")
        return agent, dialogue

    def _key_of(self, agent: str) -> AgentKey:
        found = self._keys.get(agent)
        if found is None:
            try:
                found = self._keys[agent] = self._signing.key_of(agent)
            except LedgerError as error:
                raise SigningError(
                    "unknown_key", f"the key of {agent} cannot be had: {error.message}"
                ) from error
        return found


class _Refused(Exception):
    """An answer that is refused, with its statement where that could be read."""

    def __init__(self, error: SigningError, sealed: SealedStatement | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.sealed = sealed


def _carrier(answer: JSONRPCResponse | JSONRPCError) -> Mapping[str, object]:
    """The object in which an answer has its statement; an empty one where it cannot have any."""
    found: object = answer.result.get("_meta") if isinstance(answer, JSONRPCResponse) else answer.error.data
    return found if isinstance(found, Mapping) else {}


def _with_meta(
    request: JSONRPCRequest, params: dict[str, JsonValue], meta: Mapping[str, JsonValue]
) -> JSONRPCRequest:
    if meta:
        params["_meta"] = meta
    else:
        params.pop("_meta", None)
    if not params:  # an explicit null is none of JSON-RPC's params
        return JSONRPCRequest(jsonrpc="2.0", id=request.id, method=request.method)
    return JSONRPCRequest(jsonrpc="2.0", id=request.id, method=request.method, params=params)


def _unsigned_error(answer: JSONRPCError) -> JSONRPCError:
    """An unsigned error without its text, which anybody on the way can have written, and a model would read.

    A transport's own errors (closed, timed out) are of this kind: codes of the standard stay. So does our own reason
    for a refusal, of which there are few.
    """
    error = _told(answer.error)
    if error is not None:
        return JSONRPCError(jsonrpc="2.0", id=answer.id, error=error.to_data())
    code = answer.error.code
    error = SigningError("unsigned", f"the request failed with an unsigned error (code {code})")
    data = error.to_data()
    if -32768 <= code <= -32000:
        data = ErrorData(code=code, message=data.message, data={**data.data, **_versions(answer.error)})
    return JSONRPCError(jsonrpc="2.0", id=answer.id, error=data)


def _versions(error: ErrorData) -> dict[str, JsonValue]:
    """The versions of the protocol that a server says it speaks, as the SDK wants them; nothing else that stands there."""
    data = error.data
    if error.code != UNSUPPORTED_PROTOCOL_VERSION or not isinstance(data, Mapping):
        return {}
    supported = data.get("supported")
    if not isinstance(supported, list):
        return {}
    known = [each for each in supported if each in HANDSHAKE_PROTOCOL_VERSIONS + MODERN_PROTOCOL_VERSIONS]
    return {"supported": known, "requested": ""}


def _told(error: ErrorData) -> SigningError | None:
    """The reason for which a server says that it refuses, in our own words: anybody may have written its own."""
    told = error.data.get(REASON) if isinstance(error.data, Mapping) else None
    for reason, code in CODES.items():
        if told == reason and error.code == code:
            return SigningError(reason, f"the server refused this request: {reason}")
    return None
