"""The answering side: a middleware that verifies what comes in and signs what goes out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, ErrorData
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError

from agentmesh.serving.signing.failures import SigningError
from agentmesh.serving.signing.identity import KEY, Signing
from agentmesh.serving.signing.record import RECORDED, Entry, Journal, durable, exchange_draft, wire_dialogue
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
from agentmesh_ledger import AgentId, Draft, JsonValue
from agentmesh_ledger.statement import SealedStatement, Statement, StatementType, content_digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Who called. `author` is None for a host that does not sign; `digest` is that of the request's envelope, else empty.

    `subject` is the caller's own name for itself, nobody's word but his.
    """

    author: AgentId | None
    subject: str
    dialogue: str
    digest: str
    _entry: Entry | None = field(default=None, repr=False)

    async def recorded(self) -> int | None:
        """The index of the `received` request in the ledger, where it is durable by then; None without a ledger.

        Raises: SigningError(unrecorded).
        """
        return None if self._entry is None else await self._entry.index()


_CURRENT: Final[ContextVar[Exchange | None]] = ContextVar("agentmesh_exchange", default=None)


def current_exchange() -> Exchange | None:
    """The exchange whose handler this is; None outside of one, and where nothing is signed (`off`)."""
    return _CURRENT.get()


def sign_server(server: MCPServer | Server[Any], signing: Signing) -> None:
    """Lets the server verify every request and sign every result, outside of all its other middleware."""
    server.middleware.insert(0, _SigningMiddleware(signing))


class _SigningMiddleware:
    """Verifies, lets the handler work, signs; see `sign_server`."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing
        self._policy = signing.policy
        self._journal = None if signing.ledger is None else Journal(signing.ledger, signing.lag)

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        if ctx.request_id is None or self._policy.mode == "off" or _is_own_listing(ctx):
            return await call_next(ctx)
        asked = self._admitted(ctx.method, ctx.params or {})
        entry = self._entry(asked)
        token = _CURRENT.set(_exchange(asked, entry))
        try:
            result = _as_wire(await call_next(ctx))
        except Exception as error:  # whatever went wrong is an answer too, and goes out signed
            failed = await self._failed(asked, error, entry)
            if failed is error:
                raise
            raise failed from error
        except BaseException:  # cancelled: what was asked is written, nobody can wait for it any more
            if entry is not None:
                entry.write()
            raise
        finally:
            _CURRENT.reset(token)
        return await self._answered(asked, result, entry)

    def _admitted(self, method: str, params: Mapping[str, JsonValue]) -> Asked:
        """The request, as the policy wants it.

        Raises: MCPError.
        """
        meta = params.get("_meta")
        if not isinstance(meta, Mapping) or KEY not in meta:
            if self._policy.mode == "require" and method != "ping":
                raise SigningError(
                    "unsigned", "this server answers only signed requests", hint="See docs/signing.md"
                ).to_mcp()
            return self._unsigned(method, params)
        try:
            sealed = opened(meta[KEY])
        except SigningError as error:
            raise error.to_mcp() from error
        asked = Asked(
            method=method,
            name=name_of(method, params),
            content=b"",
            exchange=sealed.digest,
            dialogue=sealed.statement.dialogue,
            sealed=sealed,
        )
        try:
            return self._good(asked, sealed.statement, params)
        except SigningError as error:
            # It was signed, so the refusal is too: nobody else can have made it up.
            raise self._signed_error(asked, error.to_data())[0] from error

    def _good(self, asked: Asked, statement: Statement, params: Mapping[str, JsonValue]) -> Asked:
        """The request with its content, where the statement holds for it.

        Raises: SigningError.
        """
        policy = self._policy
        if statement.type != "request":
            raise SigningError("malformed", "the statement is that of an answer")
        policy.known.require("client", statement.subject, statement.author)
        if statement.audience != self._signing.key.id and statement.audience not in policy.audiences:
            if statement.audience or asked.method not in HANDSHAKE:
                raise SigningError("wrong_audience", "the request was signed for another server")
        until = require_fresh(statement, policy)
        content = canonical_content(without_meta(params))
        if (statement.method, statement.name) != (asked.method, asked.name) or (
            statement.digest != content_digest(statement.nonce, content)
        ):
            raise SigningError("altered_arguments", "the request is not the one that was signed")
        policy.nonces.remember(statement.author, statement.nonce, until)
        policy.known.pin("client", statement.subject, statement.author)
        return replace(asked, content=content)

    def _unsigned(self, method: str, params: Mapping[str, JsonValue]) -> Asked:
        content = plain_content(without_meta(params)) if self._records(method, signed=False) else b""
        return Asked(
            method=method,
            name=name_of(method, params),
            content=content,
            exchange=content_digest(new_nonce(), content),
            dialogue="",
            sealed=None,
        )

    def _records(self, method: str, *, signed: bool) -> bool:
        return method in RECORDED and (signed or self._signing.record_unsigned)

    def _entry(self, asked: Asked) -> Entry | None:
        journal = self._journal
        if journal is None or not self._records(asked.method, signed=asked.sealed is not None):
            return None
        received = self._draft("received", asked, type="request", sealed=asked.sealed, content=asked.content)
        return Entry(journal, received)

    def _draft(
        self,
        kind: Literal["sent", "received"],
        asked: Asked,
        *,
        type: StatementType,
        sealed: SealedStatement | None,
        content: bytes,
    ) -> Draft:
        return exchange_draft(
            kind,
            asked,
            by=self._signing.key,
            dialogue=wire_dialogue(asked.author, asked.dialogue),
            peer=asked.author,
            type=type,
            sealed=sealed,
            content=content,
        )

    async def _answered(
        self, asked: Asked, result: dict[str, JsonValue], entry: Entry | None
    ) -> dict[str, JsonValue]:
        """The result under our statement, recorded.

        Raises: MCPError.
        """
        if asked.method in BARE:
            return result
        covered = without_meta(result)
        try:
            content = canonical_content(covered)
            sealed = self._seal(asked, "result", content)
        except SigningError as error:
            if asked.sealed is not None:
                raise await self._failed(asked, error.to_mcp(), entry) from error
            content, sealed = plain_content(covered), None  # a host that does not sign need not suffer for it
        if entry is not None:
            sent = self._draft("sent", asked, type="result", sealed=sealed, content=content)
            try:
                await durable(*entry.answer(sent))
            except SigningError as error:
                raise self._signed_error(asked, error.to_data())[0] from error
        if sealed is None:
            return result
        meta = result.get("_meta")
        return {**result, "_meta": {**(meta if isinstance(meta, Mapping) else {}), KEY: sealed.wire}}

    async def _failed(self, asked: Asked, error: Exception, entry: Entry | None) -> Exception:
        """The error as it goes out: signed where the request was, and recorded."""
        told, failed, sealed = _error_data(error), error, None
        if told is None and asked.sealed is None and entry is None:
            return error
        if told is None:
            # The SDK would tell it in words of its own, which nobody would have signed or recorded.
            logger.error("the handler of %s failed", asked.method, exc_info=error)
            told = ErrorData(code=INTERNAL_ERROR, message="Internal server error")
            failed = MCPError.from_error_data(told)
        if asked.sealed is not None:
            failed, sealed = self._signed_error(asked, told)
        if entry is not None:
            content = plain_content(covered_error(told))
            sent = self._draft("sent", asked, type="error", sealed=sealed, content=content)
            try:
                await durable(*entry.answer(sent))
            except SigningError as unrecorded:
                return self._signed_error(asked, unrecorded.to_data())[0]
        return failed

    def _signed_error(self, asked: Asked, error: ErrorData) -> tuple[MCPError, SealedStatement | None]:
        """The error with our statement in its data, where there is room for it: its data must be an object or none."""
        plain = MCPError.from_error_data(error)
        if asked.sealed is None or not (error.data is None or isinstance(error.data, Mapping)):
            return plain, None
        try:
            sealed = self._seal(asked, "error", canonical_content(covered_error(error)))
        except SigningError:  # data that has no canonical form: the error itself is worth more
            return plain, None
        return MCPError(error.code, error.message, {**(error.data or {}), KEY: sealed.wire}), sealed

    def _seal(self, asked: Asked, type: StatementType, content: bytes) -> SealedStatement:
        return seal(
            self._signing.key,
            self._policy,
            type=type,
            method=asked.method,
            name=asked.name,
            content=content,
            subject=self._signing.subject,
            audience=asked.author or "",
            dialogue=asked.dialogue,
            request=asked.digest,
        )


def _exchange(asked: Asked, entry: Entry | None) -> Exchange:
    return Exchange(
        author=asked.author,
        subject="" if asked.sealed is None else asked.sealed.statement.subject,
        dialogue=asked.dialogue,
        digest=asked.digest,
        _entry=entry,
    )


def _as_wire(result: HandlerResult) -> dict[str, JsonValue]:
    """The result as the SDK would send it.

    Raises: MCPError where another middleware returned an error.
    """
    if isinstance(result, ErrorData):
        raise MCPError.from_error_data(result)
    if isinstance(result, BaseModel):
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {} if result is None else result


def _error_data(error: Exception) -> ErrorData | None:
    """The error as the SDK would send it; None where it would make up one."""
    if isinstance(error, MCPError):
        return error.error
    if isinstance(error, ValidationError):
        return ErrorData(code=INVALID_PARAMS, message="Invalid request parameters")
    return None


def _is_own_listing(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the SDK itself lists the tools, to hold the headers of a call against their schemas.

    A request from outside cannot look so: in the newer era its header must name its own method.
    """
    headers = getattr(ctx.request, "headers", None)
    return (
        ctx.method == "tools/list"
        and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
        and isinstance(headers, Mapping)
        and headers.get("mcp-method") == "tools/call"
    )
