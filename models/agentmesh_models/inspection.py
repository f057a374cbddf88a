"""What a model file is, told without loading its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentmesh_models.chat import ModelInfo
from agentmesh_models.digest import file_digest
from agentmesh_models.errors import ModelError
from agentmesh_models.gguf import GgufFile, read_gguf
from agentmesh_models.toolformat import detect

DEFAULT_N_CTX: Final = 8192
_MOST_LAYERS: Final = 512
_TEMPLATE: Final = "tokenizer.chat_template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """A checked model file, its chat template and what to call it."""

    file: GgufFile
    template: str
    info: ModelInfo


def inspect(path: Path, *, name: str, n_ctx: int | None = None, digest: str | None = None) -> Inspected:
    """Check the file and say what it is. `n_ctx` cannot exceed what the model was made for.

    `digest` is the file's, where it is known; without it the file is read for it.

    Raises:
        ModelError: as `read_gguf`; "no_template" for a model without a chat template, "bad_request" for an
        `n_ctx`
            that is not positive.
    """
    if n_ctx is not None and n_ctx < 1:
        raise ModelError("bad_request", f"n_ctx must be at least 1, not {n_ctx}")
    file = read_gguf(path)
    architecture = file.text("general.architecture")
    if architecture is None:
        raise ModelError("malformed", "the metadata names no architecture", path=path)
    layers = file.number(f"{architecture}.block_count")
    if layers is not None and not 1 <= layers <= _MOST_LAYERS:
        # llama.cpp's own check of it is an assertion that ends the whole process.
        raise ModelError(
            "malformed",
            f"{architecture}.block_count is {layers}, and a model has 1 to {_MOST_LAYERS} layers",
            path=path,
        )
    parts = file.number("split.count") or 1
    if parts > 1:
        raise ModelError(
            "unsupported",
            f"one of {parts} parts of a model; join them with llama.cpp's llama-gguf-split --merge "
            "and name the result",
            path=path,
            expected=1,
            found=parts,
        )
    template = file.text(_TEMPLATE)
    if template is None:
        raise ModelError(
            "no_template",
            f"the file has no {_TEMPLATE}, so nobody can know how to talk to it; "
            "use an instruct (chat) model",
            path=path,
        )
    limit = file.context_length
    wanted = n_ctx or min(limit or DEFAULT_N_CTX, DEFAULT_N_CTX)
    info = ModelInfo(
        name=name,
        path=path,
        digest=file_digest(path) if digest is None else digest,
        n_ctx=min(wanted, limit) if limit else wanted,
        tool_format=detect(template),
        template_digest=hashlib.sha256(template.encode("utf-8", "surrogatepass")).hexdigest(),
    )
    return Inspected(file=file, template=template, info=info)
