"""HTTP to one endpoint through the `openai` package: retries before the first byte, bounds, and nothing in a cache.

Every request has a connection of its own: closing it is how a server learns that nobody listens any more, and a
kept one may have been closed by the server just when it is used again.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import parsedate_to_datetime
from functools import cache, partial
from time import time
from typing import Final, TypeVar

import anyio
import httpx2
import openai

from agentmesh_models.endpoint.address import Address, Key
from agentmesh_models.endpoint.asking import Asking
from agentmesh_models.endpoint.failures import Failures, message
from agentmesh_models.errors import ModelError

T = TypeVar("T")

MOST_BYTES: Final = 32 << 20
"""Of one answer. A token takes about 300 bytes in a stream."""
PAUSES: Final = [0.25, 1.0]
"""Seconds before the second and the third attempt."""
LONGEST_PAUSE: Final = 30.0
"""Of what an endpoint may ask for with Retry-After; where it asks for more, that is an error."""
_CONNECT_SECONDS: Final = 10.0
AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})


class Connection:
    """Asks one endpoint. `timeout` is how many seconds it may be silent."""

    def __init__(self, address: Address, *, key: Key | None, timeout: float, failures: Failures) -> None:
        self._failures = failures
        self._timeout = timeout
        http = httpx2.AsyncClient(
            verify=_tls(),
            # A redirect could lead the key and the conversation to another host.
            follow_redirects=False,
            # No proxy of a company knows a way back to this machine.
            trust_env=not address.is_local,
            limits=httpx2.Limits(max_keepalive_connections=0),
            event_hooks={"response": [self._bound]},
        )
        self._client = openai.AsyncOpenAI(
            api_key=key.text if key else "none",
            base_url=address.url,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            max_retries=0,
            http_client=http,
        )
        # What the package would take out of the environment is for another service.
        omitted = ["OpenAI-Organization", "OpenAI-Project", *([] if key else ["Authorization"])]
        self._headers: dict[str, str | openai.Omit] = {name: openai.Omit() for name in omitted}
        self._headers["Accept-Encoding"] = "identity"

    async def models(self) -> object:
        """What the endpoint lists as its models; None where it has no such list.

        Raises:
            ModelError: "offline" or "endpoint".
        """
        try:
            return await self._retried(
                partial(self._client.get, "/models", cast_to=object, options={"headers": self._headers})
            )
        except openai.NotFoundError:
            return None
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise self.error(error) from None

    async def stream(self, asking: Asking) -> tuple[Stream, Asking]:
        """Begin a reply; returns it with what was sent at last: without options that the endpoint refused.

        Raises:
            ModelError: "offline", "endpoint", "context_full".
        """
        while True:
            try:
                events = await self._retried(
                    partial(
                        self._client.post,
                        "/chat/completions",
                        body=asking.body,
                        cast_to=object,
                        stream=True,
                        stream_cls=openai.AsyncStream[object],
                        options={"headers": self._headers},
                    )
                )
                return Stream(events, self), asking
            except openai.OpenAIError as error:
                option = None
                if isinstance(error, openai.APIStatusError) and error.status_code in (400, 422):
                    option = asking.refused(message(error.body))
                if option is None:
                    # Without its cause: whoever echoes a key in an error must not get it into our traceback.
                    raise self.error(error) from None
                asking = asking.without(option)

    async def whole(self, asking: Asking) -> object:
        """A reply in one piece, asked for once.

        Raises:
            ModelError: as `stream`.
        """
        try:
            return await self._client.post(
                "/chat/completions",
                body=asking.whole().body,
                cast_to=object,
                options={"headers": self._headers},
            )
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise self.error(error) from None

    async def close(self) -> None:
        """Close what is open."""
        await self._client.close()

    def error(self, error: Exception) -> ModelError:
        """What went wrong, as this package tells it."""
        if isinstance(error, openai.APITimeoutError):
            return self._failures.silent(self._timeout)
        if isinstance(error, openai.APIConnectionError):
            return self._failures.offline(error)
        if isinstance(error, openai.APIStatusError):
            return self._failures.status(error.status_code, error.body)
        if isinstance(error, openai.APIError):
            return self._failures.told(error.body or error.message)
        return self._failures.odd(f"sends what is not JSON ({error})")

    async def _retried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try again after a failure that may pass; not after silence, which would have the work done twice."""
        for pause in PAUSES:
            try:
                return await attempt()
            except openai.APITimeoutError:
                raise
            except openai.APIConnectionError:
                pass
            except openai.APIStatusError as error:
                if error.status_code not in AGAIN:
                    raise
                asked = _retry_after(error.response.headers)
                if asked is not None and asked > LONGEST_PAUSE:
                    raise self._failures.odd(
                        f"answers {error.status_code} and asks for a pause of {asked:,.0f} seconds; try again then"
                    ) from None
                pause = pause if asked is None else asked
            await anyio.sleep(pause)
        return await attempt()

    async def _bound(self, response: httpx2.Response) -> None:
        """Let no answer exceed its limit, packed or not."""
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise self._failures.odd("packs its answer, which it was asked not to do")
        response.stream = _Bounded(response.stream, self._failures)


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates of all authorities takes longer than a local server takes to answer."""
    return httpx2.create_ssl_context()


class Stream:
    """The events of a reply that has begun."""

    def __init__(self, events: openai.AsyncStream[object], connection: Connection) -> None:
        self._events = events
        self._connection = connection
        self.request_id = events.response.headers.get("x-request-id", "")[:200]

    async def next(self) -> object:
        """The next event; None at the end.

        Raises:
            ModelError: "offline", "endpoint", "context_full".
        """
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            return None
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise self._connection.error(error) from None

    async def close(self) -> None:
        """Close the connection, whatever is still under way on it."""
        await self._events.close()


class _Bounded(httpx2.AsyncByteStream):
    """An answer's bytes, up to the limit."""

    def __init__(self, stream: object, failures: Failures) -> None:
        assert isinstance(stream, httpx2.AsyncByteStream)
        self._stream = stream
        self._failures = failures

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_BYTES
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                raise self._failures.odd(f"sends more than {MOST_BYTES >> 20} MiB in one answer")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _retry_after(headers: httpx2.Headers) -> float | None:
    """The seconds that an endpoint asks to be left alone; it may give a date."""
    text = headers.get("retry-after", "").strip()
    try:
        return (
            max(0.0, float(text)) if text[:1].isdigit() else parsedate_to_datetime(text).timestamp() - time()
        )
    except (ValueError, OverflowError):
        return None
