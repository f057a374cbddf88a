"""The working memory of one model: many sequences of cells in one llama.cpp context, evaluated together.

Everything here belongs to the thread that owns the engine, except `abort`. Cells are handed out upwards and
never one by one given back (see `memory`), so along a sequence the order of cells is the order of positions:
attention sums in that order, and its last bits would tell of any other.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from agentmesh_models.binding import LOG, Weights
from agentmesh_models.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

MAX_SEQUENCES: Final = 256
"""As many as llama.cpp knows (LLAMA_MAX_SEQ)."""
# ggml.h's GGML_TYPE_F16 and GGML_TYPE_BF16; llama-cpp-python has no name for the second.
_F16: Final = 1
_BF16: Final = 30
_ABORTED: Final = 2
_NO_SPACE: Final = 1


class Aborted(Exception):
    """An evaluation was given up because somebody asked for that; what it was to add is not in memory."""


class NoCells(Exception):
    """llama.cpp found no room for the tokens; memory is as it was."""


class Row(NamedTuple):
    """One token to evaluate: at which position of which sequence, and whether its scores are wanted."""

    token: int
    position: int
    sequence: int
    wanted: bool = False


class Context:
    """A llama.cpp context with one pool of cells for all its sequences."""

    def __init__(
        self, weights: Weights, *, n_cells: int, n_batch: int, n_seq: int, threads: int, exact: bool
    ) -> None:
        """With `exact`, keys are kept as bfloat16, which makes attention sum in one order.

        Raises:
            ModelError: "load_failed", for instance for want of memory; "unsupported".
        """
        import llama_cpp as lib

        LOG.take()
        params = lib.llama_context_default_params()
        params.n_ctx = n_cells
        params.n_batch = params.n_ubatch = n_batch
        params.n_seq_max = n_seq
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        params.type_k = params.type_v = _F16
        if exact:
            # With keys and values of unlike types llama.cpp's CPU attention has one way of summing; with like
            # types it has three, chosen by how many tokens are evaluated together, and their last bits differ.
            params.type_k = _BF16
            params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_ENABLED
        handle = lib.llama_init_from_model(weights.handle, params)
        if handle is None:
            raise ModelError(
                "load_failed", f"no context of {n_cells} tokens: {LOG.take() or 'llama.cpp gives no reason'}"
            )
        memory = lib.llama_get_memory(handle)
        if memory is None:
            lib.llama_free(handle)
            raise ModelError("unsupported", "the model keeps no memory between tokens, so it cannot generate")
        self._handle: int = handle
        self._memory: int = memory
        self._n_vocab = weights.n_vocab
        self._batch = _Batch(n_batch)
        self._abort = _AbortFlag(handle)
        self.n_batch = n_batch
        self.n_cells = int(lib.llama_n_ctx(handle))
        self.threads = threads

    def evaluate(self, rows: Sequence[Row]) -> Rows:
        """Evaluate at most `n_batch` tokens together.

        Returns the scores of the wanted ones, shape (wanted, vocabulary): a view that holds until the next call,
        and that the caller may write to.

        Raises:
            Aborted, NoCells: nothing was added. ModelError: "decode_failed"; nothing was added either.
        """
        import llama_cpp as lib
        import numpy as np

        wanted = self._batch.fill(rows)
        status = lib.llama_decode(self._handle, self._batch.native)
        if status == _ABORTED:
            raise Aborted
        if status == _NO_SPACE:
            raise NoCells
        if status != 0:
            raise ModelError(
                "decode_failed", f"llama.cpp failed with {status}: {LOG.take() or 'no reason given'}"
            )
        if not wanted:
            return np.empty((0, self._n_vocab), dtype=np.float32)
        # The scores wanted stand one after another, in the order of the rows.
        address = ctypes.addressof(lib.llama_get_logits(self._handle).contents)
        scores = (ctypes.c_float * (wanted * self._n_vocab)).from_address(address)
        return np.frombuffer(memoryview(scores), np.float32).reshape(wanted, -1)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Let the cells of `source` at positions from `start` to before `end` belong to `target` too."""
        import llama_cpp as lib

        if start < end:
            lib.llama_memory_seq_cp(self._memory, source, target, start, end)

    def drop(self, sequence: int, start: int = 0, end: int = -1) -> None:
        """Take cells from a sequence. A cell that belongs to none is free, and the next tokens go there."""
        import llama_cpp as lib

        lib.llama_memory_seq_rm(self._memory, sequence, start, end)

    def clear(self) -> None:
        """Forget everything."""
        import llama_cpp as lib

        lib.llama_memory_clear(self._memory, False)

    def save(self, sequence: int) -> bytes:
        """The content of a sequence's cells, in the order of positions."""
        import llama_cpp as lib

        size = lib.llama_state_seq_get_size(self._handle, sequence)
        buffer = (ctypes.c_uint8 * size)()
        written = lib.llama_state_seq_get_data(self._handle, buffer, size, sequence)
        return bytes(memoryview(buffer)[:written])

    def restore(self, sequence: int, saved: bytes) -> None:
        """Put saved cells back, under another sequence if need be: the same content, in the next free cells.

        Raises:
            NoCells: there is no room.
        """
        import llama_cpp as lib

        buffer = (ctypes.c_uint8 * len(saved)).from_buffer_copy(saved)
        if lib.llama_state_seq_set_data(self._handle, buffer, len(saved), sequence) == 0:
            raise NoCells

    def set_threads(self, count: int) -> None:
        """How many threads evaluate from the next call on."""
        import llama_cpp as lib

        self.threads = count
        lib.llama_set_n_threads(self._handle, count, count)

    def abort(self, wish: bool) -> None:
        """From any thread: let the evaluation under way stop at the next node of its graph, or not any more."""
        self._abort.set(wish)

    def close(self) -> None:
        """Give the memory back."""
        import llama_cpp as lib

        lib.llama_free(self._handle)


class _Batch:
    """A llama_batch over arrays of our own, filled without a Python loop for each field."""

    def __init__(self, size: int) -> None:
        import llama_cpp as lib
        import numpy as np

        self._token = np.zeros(size, dtype=np.int32)
        self._position = np.zeros(size, dtype=np.int32)
        self._sequence = np.zeros(size, dtype=np.int32)
        self._wanted = np.zeros(size, dtype=np.int8)
        self._counts = np.ones(size, dtype=np.int32)
        places = self._sequence.ctypes.data + 4 * np.arange(size + 1, dtype=np.uint64)
        self._places = places.astype(np.uint64)
        self.native = lib.llama_batch()
        int32 = ctypes.POINTER(ctypes.c_int32)
        self.native.token = ctypes.cast(self._token.ctypes.data, int32)
        self.native.pos = ctypes.cast(self._position.ctypes.data, int32)
        self.native.n_seq_id = ctypes.cast(self._counts.ctypes.data, int32)
        self.native.seq_id = ctypes.cast(self._places.ctypes.data, ctypes.POINTER(int32))
        self.native.logits = ctypes.cast(self._wanted.ctypes.data, ctypes.POINTER(ctypes.c_int8))

    def fill(self, rows: Sequence[Row]) -> int:
        """Write the rows; returns how many want scores."""
        import numpy as np

        n = len(rows)
        fields = np.array(rows, dtype=np.int32)
        self._token[:n] = fields[:, 0]
        self._position[:n] = fields[:, 1]
        self._sequence[:n] = fields[:, 2]
        self._wanted[:n] = fields[:, 3]
        self.native.n_tokens = n
        return sum(row.wanted for row in rows)


class _AbortFlag:
    """What llama.cpp asks between any two steps of its graph, thousands of times a second.

    A Python function would take the interpreter's lock each time. C's strlen does as well: of an empty string
    it says 0, no, and of one with a character in it 1, yes.
    """

    def __init__(self, handle: int) -> None:
        import llama_cpp as lib

        self._text = ctypes.create_string_buffer(2)
        ask = ctypes.cast(ctypes.CDLL(None).strlen, lib.ggml_abort_callback)
        lib.llama_set_abort_callback(handle, ask, ctypes.cast(self._text, ctypes.c_void_p))

    def set(self, wish: bool) -> None:
        self._text[0] = b"x" if wish else b"\0"
