"""One node of an EVM chain, asked by JSON-RPC over HTTP: bounded in time and size, and never believed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from agentmesh_ledger.anchor.extra import chain_extra
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.text import shown

if TYPE_CHECKING:
    from requests import Response
    from web3.types import RPCEndpoint

MAX_BODY: Final = 64 * 1024 * 1024  # all receipts of a full block are some ten MB
_CHUNK: Final = 65_536
_MAX_DEPTH: Final = 100  # a receipt's topics stand five deep
_NO_BRACKETS: Final = bytes(each for each in range(256) if each not in b"[]{}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a node said: a result, or (then `error` is set) why there is none, made safe to show."""

    result: JsonValue = None
    error: str | None = None


class Rpc:
    """A node. `place` is its address without what may be secret in it: paths and queries of hosted nodes hold API keys."""

    def __init__(self, url: str, *, timeout: float) -> None:
        """Raises: LedgerError(refused) for what is no http or https address; LedgerError(no_extra) without web3."""
        self.place = _place(url)
        self._timeout = timeout
        self._is_closed = False
        with chain_extra():
            import requests
            from web3.providers.rpc import HTTPProvider

            from agentmesh_ledger.anchor.adapter import TimedAdapter
        self._failures = requests.exceptions
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, TimedAdapter())
        self._session.hooks["response"].append(self._bound)
        # No retries in there: whoever asks decides, and a step must stay short.
        self._node = HTTPProvider(
            url,
            request_kwargs={"timeout": timeout, "allow_redirects": False},
            session=self._session,
            exception_retry_configuration=None,
        )

    def close(self) -> None:
        """Lets the connections go, and asks nothing more: a thread that nobody waits for may be in a row of questions.

        Closing twice is fine.
        """
        self._is_closed = True
        self._session.close()

    def ask(self, method: str, *params: JsonValue) -> JsonValue:
        """The result. Raises: LedgerError(node), also where the node answers with an error."""
        answer = self.answer(method, *params)
        if answer.error is not None:
            raise self.fault(f"refuses {method}: {answer.error}")
        return answer.result

    def answer(self, method: str, *params: JsonValue) -> Answer:
        """What the node says, be it an error. Raises: LedgerError(node) where it says nothing that can be read."""
        if self._is_closed:
            raise self.fault("is not asked any more")
        failures = self._failures
        response: object
        began = time.monotonic()
        try:
            response = self._node.make_request(cast("RPCEndpoint", method), list(params))
        # Never the library's own words, nor it as the cause: they hold the whole URL, with the API key in it.
        except failures.HTTPError as error:
            response = self._refusal(error.response)
        except failures.Timeout:
            raise self._late(method) from None
        except failures.ConnectionError:
            if time.monotonic() - began >= self._timeout:  # what requests makes of a body that comes too late
                raise self._late(method) from None
            raise self.fault("cannot be reached") from None
        except failures.RequestException as error:
            raise self.fault(f"cannot be asked ({type(error).__name__})") from None
        except (ValueError, RecursionError):
            raise self.fault(f"answers {method} with what is no JSON") from None
        if not isinstance(response, dict) or ("result" not in response and not response.get("error")):
            raise self.fault(f"answers {method} with what is no JSON-RPC")
        if response.get("error"):
            return Answer(error=_told(response["error"]))
        return Answer(result=cast(JsonValue, response["result"]))

    def fault(self, what: str) -> LedgerError:
        """The error that says this of the node."""
        return LedgerError("node", f"the node at {self.place} {what}")

    def _late(self, method: str) -> LedgerError:
        return self.fault(f"did not answer {method} within {self._timeout:g} seconds")

    def _refusal(self, response: Response | None) -> object:
        """The error of JSON-RPC that some nodes send with another status than 200.

        Raises: LedgerError(node) where it is none.
        """
        status = 0 if response is None else response.status_code
        if status == 429:
            raise self.fault("says that it is asked too often (HTTP 429)") from None
        if status in (401, 403):
            raise self.fault(f"lets us not in (HTTP {status})") from None
        if response is not None and 400 <= status <= 500:
            try:
                told: object = json.loads(response.content)
            except (ValueError, RecursionError):
                told = None
            if isinstance(told, dict) and isinstance(told.get("error"), dict) and "result" not in told:
                return told
        raise self.fault(f"answers HTTP {status}") from None

    def _bound(self, response: Response, *_: object, **__: object) -> Response:
        response.raw = _Body(response.raw)  # before it is read
        return response


class _Body:
    """The body of a response, read up to a size, and no deeper nested than an answer can be."""

    def __init__(self, raw: Any) -> None:  # urllib3 types less than it has
        self._raw = raw
        self._total = self._depth = 0

    def stream(self, amount: int, decode_content: bool) -> Iterator[bytes]:
        """As urllib3's, in pieces as they come."""
        try:
            while piece := self._raw.read1(_CHUNK, decode_content=decode_content):
                self._require(piece)
                yield piece
        except BaseException:  # what is left of the body must not be taken for the next answer
            self._raw.close()
            raise

    def _require(self, piece: bytes) -> None:
        self._total += len(piece)
        if self._total > MAX_BODY:
            raise ValueError("the answer is too long")
        # A reader of JSON calls itself for each level, and where something has raised the interpreter's limit a deep answer
        # ends the process. Brackets in texts count as well, which is no matter: there are hardly any.
        for bracket in piece.translate(None, _NO_BRACKETS):
            self._depth += 1 if bracket in b"[{" else -1
            if self._depth > _MAX_DEPTH:
                raise ValueError("the answer is nested too deep")

    def close(self) -> None:
        """Lets the connection go."""
        self._raw.close()

    def release_conn(self) -> None:
        """Gives the connection back, to be used again."""
        self._raw.release_conn()


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = None, None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        # The address is not shown: the wrong one may be the API key itself.
        raise LedgerError("refused", "the address of a node is an http:// or https:// URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{shown(host)}" + ("" if port is None else f":{port}")


def _told(error: object) -> str:
    """A node's error as one short line."""
    if isinstance(error, dict):
        code, message = error.get("code"), error.get("message")
        text = message if isinstance(message, str) and message else f"error {code}"
        return shown(" ".join(text.split()))
    return shown(" ".join(str(error).split()))
