"""Which models there are, and how a name or a path becomes an engine."""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Final

from agentmesh_models.chat import Engine, ModelInfo
from agentmesh_models.errors import ModelError

NANO: Final = "nano"
SCRIPTED: Final = "scripted:"
HUB: Final = "hf:"


def open_model(
    spec: str,
    *,
    n_ctx: int | None = None,
    threads: int | None = None,
    gpu_layers: int = 0,
    base: Path | None = None,
) -> Engine:
    """Open the model that `spec` names: `nano`, a path to a GGUF file, or `scripted:steps.json`.

    Paths are relative to `base`. `n_ctx` is in tokens; without it the engine takes what the model was made
    for, up to 8192. `threads` defaults to the cores that are idle now. Slow (it reads the whole file once):
    call it in a thread.

    Raises:
        ModelError: no such model, a damaged file, or llama-cpp-python is not installed.
    """
    if spec.startswith(SCRIPTED):
        from agentmesh_models.scripted import load_script

        return load_script(_path(spec.removeprefix(SCRIPTED), base))
    path = model_path(spec, base=base)
    from agentmesh_models.llama import open_llama

    name = NANO if spec == NANO else path.stem
    return open_llama(path, name=name, n_ctx=n_ctx, threads=threads, gpu_layers=gpu_layers)


def model_path(spec: str, *, base: Path | None = None) -> Path:
    """The GGUF file that `spec` names.

    Raises:
        ModelError: reason "not_found", with what is near; "unsupported" for a kind of name that is not known
        yet.
    """
    if spec == NANO:
        path = nano_path()
        if not path.is_file():
            raise ModelError("not_found", "the embedded model is missing from this installation", path=path)
        return path
    if spec.startswith(HUB):
        raise ModelError(
            "unsupported",
            f"{spec}: downloading arrives with a later version; download the GGUF file and give its path",
        )
    path = _path(spec, base)
    if path.is_dir():
        raise ModelError("not_found", "is a folder; name a .gguf file in it", path=path)
    if not path.exists():
        raise ModelError("not_found", f"no such model{_suggest(spec, path)}", path=path)
    return path


def list_models() -> tuple[ModelInfo, ...]:
    """The models that come with the package: `nano`, where its weights are installed, and `scripted`."""
    scripted = ModelInfo(
        name="scripted",
        path=None,
        digest=hashlib.sha256(b"").hexdigest(),
        n_ctx=8192,
        tool_format="scripted",
        template_digest=hashlib.sha256(b"").hexdigest(),
    )
    path = nano_path()
    if not path.is_file():
        return (scripted,)
    from agentmesh_models.inspection import inspect

    return (inspect(path, name=NANO).info, scripted)


def nano_path() -> Path:
    """Where the embedded model's weights are."""
    return Path(str(files("agentmesh_models.nano").joinpath("nano.gguf")))


def _path(text: str, base: Path | None) -> Path:
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # ~somebody, and there is no such user: then it is a name like any other
        path = Path(text)
    return path if path.is_absolute() or base is None else base / path


def _suggest(spec: str, path: Path) -> str:
    near = get_close_matches(spec, [NANO, "scripted"], n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?" if near[0] == NANO else "; did you mean 'scripted:steps.json'?"
    try:
        names = [each.name for each in path.parent.iterdir() if each.suffix == ".gguf"]
    except OSError:
        return f"; use {NANO!r} or the path of a .gguf file"
    near = get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; use {NANO!r} or the path of a .gguf file"
