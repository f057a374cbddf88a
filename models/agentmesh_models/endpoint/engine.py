"""An engine whose model is served elsewhere."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Final, TypeVar

import anyio
import openai

from agentmesh_models.chat import (
    JsonValue,
    Method,
    ModelInfo,
    Piece,
    Profile,
    Reply,
    Request,
    Rescored,
    Usage,
)
from agentmesh_models.endpoint.address import Address, Key, parse_address
from agentmesh_models.endpoint.asking import Asking, ask
from agentmesh_models.endpoint.connection import Connection, Stream
from agentmesh_models.endpoint.failures import Failures
from agentmesh_models.endpoint.hearing import Hearing, only_model
from agentmesh_models.errors import ModelError
from agentmesh_models.inspection import DEFAULT_N_CTX

T = TypeVar("T")

UNKNOWN: Final = "unknown"
"""In place of a digest: nobody here has seen the weights, and a digest of anything else would be a lie."""
DEFAULT_TIMEOUT: Final = 120.0
DEFAULT_KEY_ENV: Final = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointProfile(Profile):
    """What is known of a reply from an endpoint: not enough to run it again, and it says so.

    Digests are "unknown", there are no token ids, and `n_ctx` is 0 where the endpoint does not tell it. `model`,
    `response_id` and `fingerprint` are the endpoint's own words. `prompt_count` and `output_count` are tokens;
    without `counts_told` it told none, and they are 0 and the number of pieces. `sent` is every setting that
    went out with the conversation, after what the endpoint refused (`left_out`) was taken out.
    """

    host: str
    response_id: str
    request_id: str
    fingerprint: str
    prompt_count: int
    output_count: int
    counts_told: bool
    sent: Mapping[str, JsonValue]
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, JsonValue]:
        """The profile as plain JSON values."""
        return {**Profile.to_json(self), "sent": dict(self.sent), "left_out": list(self.left_out)}


def connect(
    spec: str, *, n_ctx: int | None = None, api_key_env: str | None = None, timeout: float | None = None
) -> EndpointEngine:
    """See `open_endpoint`, which first sees to it that the `openai` package is there."""
    address = parse_address(spec)
    key = _key(address, api_key_env)
    failures = Failures(address, key)
    seconds = DEFAULT_TIMEOUT if timeout is None else timeout
    connect_one = partial(Connection, address, key=key, timeout=seconds, failures=failures)

    async def look() -> object:
        connection = connect_one()
        try:
            with anyio.fail_after(seconds):
                return await connection.models()
        except TimeoutError:
            raise failures.silent(seconds) from None
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close()

    # A thread of its own: the caller's may have an event loop that runs.
    with ThreadPoolExecutor(1, thread_name_prefix="agentmesh-endpoint") as thread:
        listed = thread.submit(anyio.run, look).result()
    if listed is None and address.model is not None:
        name, told = (
            address.model,
            None,
        )  # no list of models: then the first request shows whether it is there
    else:
        name, told = only_model(listed, address.model, failures)
    return EndpointEngine(connect_one, address=address, name=name, told=n_ctx or told, failures=failures)


class EndpointEngine:
    """A model at an endpoint, asked over HTTP; requests made at the same time are under way at the same time."""

    def __init__(
        self,
        connect_one: Callable[[], Connection],
        *,
        address: Address,
        name: str,
        told: int | None,
        failures: Failures,
    ) -> None:
        self.info: Final = ModelInfo(
            name=name,
            path=None,
            digest=UNKNOWN,
            n_ctx=told or DEFAULT_N_CTX,
            tool_format="endpoint",
            template_digest=UNKNOWN,
        )
        self._connect = connect_one
        self._address = address
        self._n_ctx = told or 0
        self._failures = failures
        self._waits: set[anyio.CancelScope] = set()
        self._closed = False

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Answer `request`; see `Engine`. Leaving the iterator closes the connection.

        Raises:
            ModelError: "offline", "endpoint", "context_full", "deadline", "closed" or "bad_request".
        """
        if self._closed:
            raise ModelError("closed", "the engine is closed")
        asking = ask(request, self.info.name)
        talk = _Talk(self, request, self._connect())
        try:
            hearing = Hearing(request, self._failures)
            stream, asking = await talk.wait(partial(talk.connection.stream, asking))
            started, first = perf_counter(), 0.0
            talk.stream = stream
            while (event := await talk.next(hearing, asking)) is not None:
                first = first or perf_counter()
                for piece in hearing.add(event):
                    yield piece
            for piece in hearing.end():
                yield piece
            now = perf_counter()
            yield self._reply(
                request, asking, hearing, stream, (first or now) - talk.began, now - (first or started)
            )
        finally:
            with anyio.CancelScope(shield=True):
                await talk.close()

    async def rescore(self, profile: Profile, *, method: Method = "score") -> Rescored:
        """Raises `ModelError` "not_checkable": nobody here knows what model an endpoint runs, and how."""
        raise ModelError("not_checkable", f"what {self.info.name} says elsewhere cannot be run again here")

    async def aclose(self) -> None:
        """End what is under way with "closed". A second call does nothing."""
        self._closed = True
        for scope in tuple(self._waits):
            scope.cancel()

    def _reply(
        self, request: Request, asking: Asking, hearing: Hearing, stream: Stream, before: float, after: float
    ) -> Reply:
        prompt, cached, output, told = hearing.counts
        usage = Usage(
            prompt_tokens=prompt,
            reused_tokens=cached,
            output_tokens=output,
            prefill_seconds=before,
            decode_seconds=after,
        )
        profile = EndpointProfile(
            model=hearing.model or self.info.name,
            model_digest=UNKNOWN,
            template_digest=UNKNOWN,
            library=f"endpoint; openai {openai.__version__}",
            n_ctx=self._n_ctx,
            prompt_tokens=(),
            reused_tokens=cached,
            output_tokens=(),
            sampling=request.sampling,
            grammar_digest=None,
            finish=hearing.finish,
            host=self._address.host,
            response_id=hearing.response_id,
            request_id=stream.request_id,
            fingerprint=hearing.fingerprint,
            prompt_count=prompt,
            output_count=output,
            counts_told=told,
            sent={key: value for key, value in asking.body.items() if key not in ("messages", "tools")},
            left_out=asking.left_out,
        )
        return Reply(
            text=hearing.text,
            calls=hearing.calls,
            finish=hearing.finish,
            usage=usage,
            profile=profile,
            reasoning=hearing.reasoning,
        )


class _Talk:
    """One request: its connection, its deadline, and the waits that closing the engine breaks off."""

    def __init__(self, engine: EndpointEngine, request: Request, connection: Connection) -> None:
        self._engine = engine
        self._seconds = request.deadline
        self._ends = float("inf") if request.deadline is None else anyio.current_time() + request.deadline
        self.began = perf_counter()
        self.connection = connection
        self.stream: Stream | None = None
        self._whole = False

    async def wait(self, step: Callable[[], Awaitable[T]]) -> T:
        """Await one step. The scope ends with it, since none may stay open while a generator yields."""
        with anyio.CancelScope(deadline=self._ends) as scope:
            self._engine._waits.add(scope)
            try:
                if self._engine._closed:
                    scope.cancel()
                return await step()
            finally:
                self._engine._waits.discard(scope)
        if self._engine._closed:
            raise ModelError("closed", "the engine was closed")
        raise ModelError(
            "deadline",
            f"the endpoint {self._engine._address.host} had not answered after {self._seconds:g} seconds",
        )

    async def next(self, hearing: Hearing, asking: Asking) -> object:
        """The next event, or None; a stream that ends before it began is asked for once more in one piece.

        llama-cpp-python's server sends nothing and hangs up where a conversation is too long for a stream: only
        without one does it say so. Other servers cannot stream together with tools.
        """
        assert self.stream is not None
        if self._whole:
            return None
        try:
            event = await self.wait(self.stream.next)
        except ModelError as error:
            if error.reason not in ("offline", "endpoint") or not hearing.empty:
                raise
            event = None
        if event is None and hearing.empty:
            self._whole = True
            return await self.wait(partial(self.connection.whole, asking))
        return event

    async def close(self) -> None:
        """Close the stream and the connection."""
        if self.stream is not None:
            await self.stream.close()
        await self.connection.close()


def _key(address: Address, name: str | None) -> Key | None:
    """The key: out of the variable named, or OPENAI_API_KEY where nobody on the way could read it."""
    text = os.environ.get(name or DEFAULT_KEY_ENV, "").strip()
    if name is None and not (text and address.is_private):
        return None
    if not text:
        raise ModelError(
            "endpoint", f"the key of {address.host} is not set: put it into the environment as {name}"
        )
    if not text.isascii() or any(not letter.isprintable() or letter == " " for letter in text):
        raise ModelError(
            "endpoint", f"{name or DEFAULT_KEY_ENV} holds characters that no key of an endpoint has"
        )
    return Key(text)
