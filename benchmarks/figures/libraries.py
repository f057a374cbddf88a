"""What people use today: llama-cpp-python's completions, and llama.cpp's own server inside xllamacpp."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from figures.contest import SLOTS, Conditions, Prompt, Run
from figures.random_model import word_count


@dataclass(slots=True)
class Trace:
    """When the tokens of one reply came: (time, how many)."""

    arrivals: list[tuple[float, int]] = field(default_factory=list)

    def add(self, text: str) -> None:
        """A piece of the reply came now."""
        if tokens := word_count(text):
            self.arrivals.append((time.perf_counter(), tokens))

    @property
    def tokens(self) -> int:
        """All that came."""
        return sum(tokens for _, tokens in self.arrivals)


def summarise(traces: Sequence[Trace], started: float, tokens: int, *, together: bool) -> Run:
    """The run that these replies make. Raises `RuntimeError` where one has not as many tokens as were asked for.

    Replies that hardly overlap, as of an engine with fewer places than requests, leave no time when all decode: then
    all the time from the first token to the last counts.
    """
    if found := [trace.tokens for trace in traces if trace.tokens != tokens]:
        raise RuntimeError(f"replies of {found} tokens where {tokens} were asked for")
    ended = max(trace.arrivals[-1][0] for trace in traces)
    if together:
        first = max(trace.arrivals[0][0] for trace in traces)
        last = min(trace.arrivals[-1][0] for trace in traces)
        decoded = sum(n for trace in traces for at, n in trace.arrivals if first < at <= last)
        seconds = last - first
        if 2 * decoded < tokens * len(traces):
            decoded = (tokens - 1) * len(traces)
            seconds = ended - min(trace.arrivals[0][0] for trace in traces)
    else:
        decoded = sum(n for trace in traces for _, n in trace.arrivals[1:])
        seconds = sum(trace.arrivals[-1][0] - trace.arrivals[0][0] for trace in traces)
    return Run(tokens=tokens * len(traces), seconds=ended - started, decoded=decoded, decode_seconds=seconds)


class Completion:
    """llama-cpp-python's `create_completion(stream=True)`; it has no batches, so requests wait for one another."""

    def __init__(self, conditions: Conditions) -> None:
        import llama_cpp

        self._conditions = conditions
        library: Any = llama_cpp  # our stubs know its low-level half only
        self._llama = library.Llama(
            conditions.model,
            n_ctx=conditions.n_ctx,
            n_threads=conditions.threads,
            n_threads_batch=conditions.threads,
            n_gpu_layers=0,
            verbose=False,
        )

    def run(self, prompts: Sequence[Prompt], tokens: int, *, together: bool) -> Run:
        """One after another, whatever was asked for."""
        started = time.perf_counter()
        traces = [self._answer(prompt, tokens) for prompt in prompts]
        return summarise(traces, started, tokens, together=False)

    def _answer(self, prompt: Prompt, tokens: int) -> Trace:
        trace = Trace()
        sampling = self._conditions.sampling()
        pieces = self._llama.create_completion(
            list(prompt.tokens),
            max_tokens=tokens,
            stream=True,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            seed=sampling.seed,
        )
        for piece in pieces:
            trace.add(piece["choices"][0]["text"])
        return trace

    def close(self) -> None:
        """Give back the model."""
        self._llama.close()


class Xllamacpp:
    """llama.cpp's own server, asked in its process without HTTP; 8 slots, continuous batching, one memory for all."""

    def __init__(self, conditions: Conditions) -> None:
        import xllamacpp  # type: ignore[import-untyped]  # it brings no types

        params = xllamacpp.CommonParams()
        params.model.path = conditions.model
        params.n_ctx = conditions.n_ctx
        params.n_parallel = SLOTS
        params.cont_batching = True
        params.kv_unified = True
        params.n_gpu_layers = 0
        params.fit_params = False  # or it would take another context than was asked for
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = conditions.threads
        params.verbosity = 0
        self._conditions = conditions
        self._server = xllamacpp.Server(params)
        self._pool = ThreadPoolExecutor(SLOTS)

    def run(self, prompts: Sequence[Prompt], tokens: int, *, together: bool) -> Run:
        """Each request from a thread of its own, streamed."""
        started = time.perf_counter()
        if together:
            traces = list(self._pool.map(lambda prompt: self._answer(prompt, tokens), prompts))
        else:
            traces = [self._answer(prompt, tokens) for prompt in prompts]
        return summarise(traces, started, tokens, together=together)

    def _answer(self, prompt: Prompt, tokens: int) -> Trace:
        trace, sampling = Trace(), self._conditions.sampling()
        request = {
            "prompt": list(prompt.tokens),
            "max_tokens": tokens,
            "stream": True,
            "ignore_eos": True,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "seed": sampling.seed,
        }

        def take(piece: dict[str, Any]) -> bool:
            if "choices" not in piece:
                raise RuntimeError(f"xllamacpp: {piece}")
            trace.add(piece["choices"][0]["text"])
            return False  # go on

        self._server.handle_completions(request, take)
        return trace

    def close(self) -> None:
        """Give back threads and server."""
        self._pool.shutdown()
        del self._server
