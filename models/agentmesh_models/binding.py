"""llama.cpp through llama-cpp-python's low-level calls: the one module where untyped pointers are handled.

Everything here belongs to the thread that owns the engine. `load` brings the library in once per process,
with OpenMP's spinning bounded: on a busy machine unbounded spinning costs a factor of ten.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections import deque
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from agentmesh_models.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agentmesh_models.grammar.guard import Vocabulary
    from agentmesh_models.toolformat.form import Form

    Logits = NDArray[np.float32]

_ERROR: Final = 3
_CONTINUED: Final = 5


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


LOG: Final = _Log()
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
    callback = llama_cpp.llama_log_callback(LOG)
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

        LOG.take()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        handle = lib.llama_model_load_from_file(os.fsencode(path), params)
        if handle is None:
            raise ModelError(
                "load_failed", f"llama.cpp cannot load it: {LOG.take() or 'no reason given'}", path=path
            )
        self.handle: int = handle
        vocab = lib.llama_model_get_vocab(handle)
        if vocab is None or not lib.llama_model_has_decoder(handle) or lib.llama_model_has_encoder(handle):
            lib.llama_model_free(handle)
            raise ModelError("unsupported", "not a decoder model that can hold a conversation", path=path)
        self.vocab: int = vocab
        self.n_vocab = lib.llama_vocab_n_tokens(vocab)
        self.keeps_prefixes = not (lib.llama_model_is_recurrent(handle) or lib.llama_model_is_hybrid(handle))
        """Whether a sequence can be cut short: a recurrent state is that of all its tokens."""
        self.add_bos = bool(lib.llama_vocab_get_add_bos(vocab))
        self.bos = int(lib.llama_vocab_bos(vocab))
        self.vocabularies: dict[Form, Vocabulary] = {}
        """What was made of it for a form; see `grammar.guard`."""
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

    def written(self, token: int) -> bytes:
        """How a token is written, control tokens too."""
        return self._piece(token, special=True)

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


class Grammar:
    """A GBNF grammar at work.

    llama.cpp ends the whole process when a token is accepted that the grammar does not allow: `accept` must
    only be given tokens for which `allows` is true.
    """

    def __init__(self, weights: Weights, text: str) -> None:
        """Raises `ModelError` "bad_request" when llama.cpp does not take the grammar."""
        import llama_cpp as lib

        LOG.take()
        handle = lib.llama_sampler_init_grammar(weights.vocab, text.encode("utf-8", "replace"), b"root")
        if handle is None:
            raise ModelError(
                "bad_request", f"the tools give no usable grammar: {LOG.take() or 'no reason given'}"
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
