"""llama.cpp through llama-cpp-python's low-level calls: the one module where untyped pointers are handled.

Everything here belongs to the thread that owns the engine. `load` brings the library in once per process,
with OpenMP's spinning bounded: on a busy machine unbounded spinning costs a factor of ten.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from agentmesh_models.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Logits = NDArray[np.float32]

_ERROR: Final = 3
_CONTINUED: Final = 5
_ABORTED: Final = 2
_NO_SPACE: Final = 1


class Aborted(Exception):
    """A prefill was given up because its caller asked for that."""


class _Log:
    """The last errors that llama.cpp wrote, kept for our messages instead of standing on standard error."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=12)
        self._last_level = 0

    def __call__(self, level: int, text: bytes, _data: int | None) -> None:
        if level == _CONTINUED:
            level = self._last_level
        self._last_level = level
        if level >= _ERROR and text.strip():
            self.lines.append(text.decode("utf-8", "replace").strip())

    def take(self) -> str:
        """The errors since the last call, as one line."""
        text = "; ".join(self.lines)
        self.lines.clear()
        return text


_log: Final = _Log()
# llama.cpp calls the log function as long as it lives: it must not be collected.
_kept: Final[list[object]] = []


@cache
def load() -> ModuleType:
    """Import llama-cpp-python and silence it.

    Raises:
        ModelError: reason "no_backend" when it is not installed or does not start.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it warns of while it is imported is not ours to act on
            import llama_cpp
    except ModuleNotFoundError as error:
        raise ModelError(
            "no_backend", f"GGUF models need {error.name}: pip install 'agentmesh-runtime[llama]'"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError("no_backend", f"llama-cpp-python does not start: {error}") from error
    callback = llama_cpp.llama_log_callback(_log)
    _kept.append(callback)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return llama_cpp


def library_name() -> str:
    """The library and what of this machine's processor it uses: part of every execution profile."""
    lib = load()
    info = lib.llama_print_system_info().decode("utf-8", "replace").strip().rstrip("|").strip()
    return f"llama-cpp-python {lib.__version__}; {info}"


class Weights:
    """A GGUF file loaded by llama.cpp, and its vocabulary."""

    def __init__(self, path: Path, *, gpu_layers: int) -> None:
        """Raises `ModelError` "load_failed" with what llama.cpp said."""
        import llama_cpp as lib

        _log.take()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        handle = lib.llama_model_load_from_file(os.fsencode(path), params)
        if handle is None:
            raise ModelError(
                "load_failed", f"llama.cpp cannot load it: {_log.take() or 'no reason given'}", path=path
            )
        self.handle: int = handle
        vocab = lib.llama_model_get_vocab(handle)
        if vocab is None or not lib.llama_model_has_decoder(handle) or lib.llama_model_has_encoder(handle):
            lib.llama_model_free(handle)
            raise ModelError("unsupported", "not a decoder model that can hold a conversation", path=path)
        self.vocab: int = vocab
        self.n_vocab = lib.llama_vocab_n_tokens(vocab)
        self.add_bos = bool(lib.llama_vocab_get_add_bos(vocab))
        self.bos = int(lib.llama_vocab_bos(vocab))
        self._pieces: dict[int, bytes] = {}

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """The token ids of `text`; with `special`, control tokens written out in it are recognised."""
        import llama_cpp as lib

        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        while True:
            tokens = (ctypes.c_int32 * size)()
            count = lib.llama_tokenize(self.vocab, data, len(data), tokens, size, False, special)
            if count >= 0:
                return list(tokens[:count])
            size = -count

    def piece(self, token: int) -> bytes:
        """The bytes that a token stands for; none for control tokens."""
        if token not in self._pieces:
            self._pieces[token] = self._piece(token, special=False)
        return self._pieces[token]

    def is_end(self, token: int) -> bool:
        """Whether a token ends a reply."""
        import llama_cpp as lib

        return bool(lib.llama_vocab_is_eog(self.vocab, token))

    def control_texts(self) -> tuple[str, ...]:
        """How the control tokens are written, longest first: what must not take effect inside a message."""
        import llama_cpp as lib

        mark = int(lib.LLAMA_TOKEN_ATTR_CONTROL)
        found = {
            self._piece(token, special=True).decode("utf-8", "replace")
            for token in range(self.n_vocab)
            if lib.llama_vocab_get_attr(self.vocab, token) & mark
        }
        return tuple(sorted((text for text in found if len(text) > 1), key=len, reverse=True))

    def close(self) -> None:
        """Give the memory back; its contexts must be closed before."""
        import llama_cpp as lib

        lib.llama_model_free(self.handle)

    def _piece(self, token: int, *, special: bool) -> bytes:
        import llama_cpp as lib

        size = 64
        while True:
            buffer = (ctypes.c_char * size)()
            count = lib.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            size = -count


class Context:
    """The working memory of one model: one sequence, evaluated piece by piece."""

    def __init__(self, weights: Weights, *, n_ctx: int, n_batch: int, threads: int) -> None:
        """Raises `ModelError` "load_failed", for instance for want of memory."""
        import llama_cpp as lib

        _log.take()
        params = lib.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = n_batch
        params.n_seq_max = 1
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        handle = lib.llama_init_from_model(weights.handle, params)
        if handle is None:
            raise ModelError(
                "load_failed", f"no context of {n_ctx} tokens: {_log.take() or 'llama.cpp gives no reason'}"
            )
        memory = lib.llama_get_memory(handle)
        if memory is None:
            lib.llama_free(handle)
            raise ModelError("unsupported", "the model keeps no memory between tokens, so it cannot generate")
        self._handle: int = handle
        self._memory: int = memory
        self._weights = weights
        self._batch = lib.llama_batch_init(n_batch, 0, 1)
        self.n_batch = n_batch
        self.n_ctx = int(lib.llama_n_ctx(handle))

    def evaluate(self, tokens: Sequence[int], start: int) -> None:
        """Evaluate at most `n_batch` tokens at positions from `start`; `logits` then tells of the last one.

        Raises:
            Aborted: the abort function said so. ModelError: "decode_failed".
            After either, what the memory holds from `start` on is unknown: `forget` it.
        """
        import llama_cpp as lib

        batch = self._batch
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at] = token
            batch.pos[at] = start + at
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = 0
            batch.logits[at] = 0
        batch.logits[len(tokens) - 1] = 1
        status = lib.llama_decode(self._handle, batch)
        if status == _ABORTED:
            raise Aborted
        if status == _NO_SPACE:
            raise ModelError("decode_failed", f"llama.cpp finds no room for {len(tokens)} tokens at {start}")
        if status != 0:
            raise ModelError(
                "decode_failed", f"llama.cpp failed with {status}: {_log.take() or 'no reason given'}"
            )

    def logits(self) -> Logits:
        """The scores of all tokens for the next place: a copy of a row of `n_vocab`."""
        import llama_cpp as lib
        import numpy as np

        row = lib.llama_get_logits_ith(self._handle, -1)
        return np.ctypeslib.as_array(row, shape=(self._weights.n_vocab,)).copy()

    def forget(self, start: int) -> bool:
        """Drop the memory from position `start`; False where the model can only forget all, and did."""
        import llama_cpp as lib

        if start > 0 and lib.llama_memory_seq_rm(self._memory, 0, start, -1):
            return True
        lib.llama_memory_clear(self._memory, False)
        return start == 0

    def watch(self, abort: Callable[[], bool]) -> Watch:
        """While in the returned context, evaluation asks `abort` between any two steps of its graph."""
        return Watch(self._handle, abort)

    def close(self) -> None:
        """Give the memory back."""
        import llama_cpp as lib

        lib.llama_batch_free(self._batch)
        lib.llama_free(self._handle)


class Watch:
    """Installs an abort function for a while.

    Used around prefills only: each question takes the interpreter's lock, which single tokens would feel.
    """

    def __init__(self, handle: int, abort: Callable[[], bool]) -> None:
        import llama_cpp as lib

        self._handle = handle
        self._callback = lib.ggml_abort_callback(lambda _data: abort())
        self._none = lib.ggml_abort_callback()

    def __enter__(self) -> None:
        import llama_cpp as lib

        lib.llama_set_abort_callback(self._handle, self._callback, ctypes.c_void_p(0))

    def __exit__(self, *_: object) -> None:
        import llama_cpp as lib

        lib.llama_set_abort_callback(self._handle, self._none, ctypes.c_void_p(0))


class Grammar:
    """A GBNF grammar at work.

    llama.cpp ends the whole process when a token is accepted that the grammar does not allow: `accept` must
    only be given tokens for which `allows` is true.
    """

    def __init__(self, weights: Weights, text: str) -> None:
        """Raises `ModelError` "bad_request" when llama.cpp does not take the grammar."""
        import llama_cpp as lib

        _log.take()
        handle = lib.llama_sampler_init_grammar(weights.vocab, text.encode("utf-8", "replace"), b"root")
        if handle is None:
            raise ModelError(
                "bad_request", f"the tools give no usable grammar: {_log.take() or 'no reason given'}"
            )
        self._handle: int = handle
        self._n_vocab = weights.n_vocab

    def allows(self, token: int) -> bool:
        """Whether `token` may come next; an end token only where the grammar is complete."""
        import numpy as np

        return bool(
            np.isfinite(self._apply(np.array([token], dtype=np.int32), np.zeros(1, dtype=np.float32)))[0]
        )

    def mask(self, logits: Logits) -> Logits:
        """The logits with minus infinity for every token that may not come next."""
        import numpy as np

        return self._apply(np.arange(self._n_vocab, dtype=np.int32), logits)

    def accept(self, token: int) -> None:
        """Move on by one allowed token."""
        import llama_cpp as lib

        lib.llama_sampler_accept(self._handle, token)

    def close(self) -> None:
        """Give the memory back."""
        import llama_cpp as lib

        lib.llama_sampler_free(self._handle)

    def _apply(self, ids: NDArray[np.int32], logits: Logits) -> Logits:
        import llama_cpp as lib
        import numpy as np

        rows = np.zeros(len(ids), dtype=[("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
        rows["id"] = ids
        rows["logit"] = logits
        array = lib.llama_token_data_array(
            data=ctypes.cast(rows.ctypes.data, lib.llama_token_data_p),
            size=len(ids),
            selected=-1,
            sorted=False,
        )
        lib.llama_sampler_apply(self._handle, ctypes.byref(array))
        return np.asarray(rows["logit"])
