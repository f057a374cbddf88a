"""The limit: a loop over llama.cpp's low-level calls that does nothing but evaluate, copy scores and choose."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence

import llama_cpp as lib
import numpy as np

from agentmesh_models import sampler
from figures.contest import SLOTS, Conditions, Prompt, Run

_BATCH = 512
# llama.cpp calls it as long as it lives: it must not be collected.
_SILENT = lib.llama_log_callback(lambda _level, _text, _data: None)


def load(path: str, *, vocabulary_only: bool = False) -> int:
    """The model's handle; llama.cpp writes nothing from now on. Raises `RuntimeError` where it does not load."""
    lib.llama_log_set(_SILENT, ctypes.c_void_p(0))
    lib.llama_backend_init()
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    params.vocab_only = vocabulary_only
    model = lib.llama_model_load_from_file(os.fsencode(path), params)
    if model is None:
        raise RuntimeError(f"llama.cpp does not load {path}")
    return int(model)


def _vocabulary(model: int) -> int:
    found = lib.llama_model_get_vocab(model)
    assert found is not None  # every model that loads has one
    return found


class Tokenizer:
    """The model's own tokenizer, without its weights."""

    def __init__(self, path: str) -> None:
        self._model = load(path, vocabulary_only=True)
        self._vocabulary = _vocabulary(self._model)

    def tokens(self, text: str) -> tuple[int, ...]:
        """The token ids of `text`, in which control tokens may be written out."""
        data = text.encode()
        buffer = (ctypes.c_int32 * (len(data) + 8))()
        count = lib.llama_tokenize(self._vocabulary, data, len(data), buffer, len(buffer), False, True)
        if count < 0:
            raise RuntimeError(f"{len(buffer)} tokens are not enough for {len(data)} bytes")
        return tuple(buffer[:count])

    def close(self) -> None:
        """Give the memory back."""
        lib.llama_model_free(self._model)


class Bare:
    """One loop for one sequence and for several; the memory is emptied before each run."""

    def __init__(self, conditions: Conditions) -> None:
        self._sampling = conditions.sampling()
        self._model = load(conditions.model)
        self._n_vocab = lib.llama_vocab_n_tokens(_vocabulary(self._model))
        self._contexts = {slots: self._context(conditions, slots) for slots in (1, SLOTS)}
        self._batch = lib.llama_batch_init(_BATCH, 0, 1)

    def _context(self, conditions: Conditions, slots: int) -> int:
        params = lib.llama_context_default_params()
        params.n_ctx = conditions.n_ctx
        params.n_batch = params.n_ubatch = _BATCH
        params.n_seq_max = slots
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = conditions.threads
        params.no_perf = True
        context = lib.llama_init_from_model(self._model, params)
        if context is None:
            raise RuntimeError(f"llama.cpp makes no context of {conditions.n_ctx} tokens")
        return int(context)

    def run(self, prompts: Sequence[Prompt], tokens: int, *, together: bool) -> Run:
        """Decode all sequences in one batch a step, or one after another."""
        if together:
            return self._together(prompts, tokens)
        runs = [self._together([prompt], tokens) for prompt in prompts]
        return Run(
            tokens=sum(run.tokens for run in runs),
            seconds=sum(run.seconds for run in runs),
            decoded=sum(run.decoded for run in runs),
            decode_seconds=sum(run.decode_seconds for run in runs),
        )

    def _together(self, prompts: Sequence[Prompt], tokens: int) -> Run:
        context = self._contexts[1 if len(prompts) == 1 else SLOTS]
        memory = lib.llama_get_memory(context)
        assert memory is not None
        lib.llama_memory_clear(memory, False)
        started = time.perf_counter()
        last = [self._prefill(context, slot, prompt.tokens) for slot, prompt in enumerate(prompts)]
        positions = [len(prompt.tokens) for prompt in prompts]
        first = time.perf_counter()
        for _ in range(tokens - 1):
            self._fill([(token, positions[slot], slot, True) for slot, token in enumerate(last)])
            self._decode(context)
            positions = [position + 1 for position in positions]
            last = [self._choose(context, slot, positions[slot]) for slot in range(len(prompts))]
        ended = time.perf_counter()
        return Run(
            tokens=tokens * len(prompts),
            seconds=ended - started,
            decoded=(tokens - 1) * len(prompts),
            decode_seconds=ended - first,
        )

    def _prefill(self, context: int, slot: int, prompt: Sequence[int]) -> int:
        for start in range(0, len(prompt), _BATCH):
            chunk = prompt[start : start + _BATCH]
            end = len(prompt) - 1
            self._fill([(token, start + at, slot, start + at == end) for at, token in enumerate(chunk)])
            self._decode(context)
        return self._choose(context, -1, len(prompt))

    def _fill(self, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for at, (token, position, slot, scored) in enumerate(rows):
            batch.token[at] = token
            batch.pos[at] = position
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = slot
            batch.logits[at] = scored

    def _decode(self, context: int) -> None:
        status = lib.llama_decode(context, self._batch)
        if status:
            raise RuntimeError(f"llama_decode: {status}")

    def _choose(self, context: int, row: int, position: int) -> int:
        scores = lib.llama_get_logits_ith(context, row)
        logits = np.ctypeslib.as_array(scores, shape=(self._n_vocab,)).copy()
        return sampler.choose(logits, self._sampling, position)

    def close(self) -> None:
        """Give back contexts and model."""
        lib.llama_batch_free(self._batch)
        for context in self._contexts.values():
            lib.llama_free(context)
        lib.llama_model_free(self._model)
