"""Answers to HTTP requests that are not served."""

from __future__ import annotations

import json
from typing import Final

from mcp.types import INTERNAL_ERROR, INVALID_REQUEST
from starlette.responses import Response

RETRY_SECONDS: Final = 1


def refusal(
    status: int,
    message: str,
    *,
    code: int | None = None,
    shut: bool = False,
    headers: dict[str, str] | None = None,
) -> Response:
    """An HTTP error whose body is a JSON-RPC error without an id, as MCP clients read them.

    `shut` closes the connection after it. A 503 says when to come again.
    """
    usual = INTERNAL_ERROR if status >= 500 else INVALID_REQUEST
    body = {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": usual if code is None else code, "message": message},
    }
    sent = dict(headers or {})
    if status == 503:
        sent["retry-after"] = str(RETRY_SECONDS)
    if shut:
        sent["connection"] = "close"
    return Response(json.dumps(body), status_code=status, headers=sent, media_type="application/json")
