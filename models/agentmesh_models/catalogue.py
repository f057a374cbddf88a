"""Which models there are, and how a name or a path becomes an engine."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Final

from agentmesh_models.chat import Engine, ModelInfo
from agentmesh_models.errors import ModelError
from agentmesh_models.memory import PARALLEL

NANO: Final = "nano"
SCRIPTED: Final = "scripted:"
ENDPOINT: Final = "openai:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """The file of a model, and what the model is called. `digest` is the pinned one, checked; None for a bare file."""

    path: Path
    name: str
    digest: str | None = None


def open_model(
    spec: str,
    *,
    n_ctx: int | None = None,
    threads: int | None = None,
    gpu_layers: int = 0,
    exact: bool = True,
    parallel: int = PARALLEL,
    base: Path | None = None,
    api_key_env: str | None = None,
    timeout: float | None = None,
) -> Engine:
    """Open the model that `spec` names: `nano`, a stored model's name or source, a path to a GGUF file,
    `scripted:steps.json`, or `openai:URL#MODEL`.

    Nothing is downloaded: a model that is not here is an error that says how it is pulled. Paths are relative to
    `base`. `n_ctx` is in tokens; without it the engine takes what the model was made for, up to 8192. `threads`
    defaults to the cores that are idle now; for `exact` and `parallel` see `open_llama`. `api_key_env` and `timeout` are for an endpoint, see `open_endpoint`.
    Slow (it reads the whole file once, or asks the endpoint): call it in a thread.

    Raises:
        ModelError: no such model, a damaged file, an endpoint that does not answer, or a package that is not installed.
    """
    if spec.startswith(ENDPOINT):
        from agentmesh_models.endpoint import open_endpoint

        return open_endpoint(spec, n_ctx=n_ctx, api_key_env=api_key_env, timeout=timeout)
    if spec.startswith(SCRIPTED):
        from agentmesh_models.scripted import load_script

        return load_script(_path(spec.removeprefix(SCRIPTED), base))
    found = locate(spec, base=base)
    from agentmesh_models.llama import open_llama

    return open_llama(
        found.path,
        name=found.name,
        n_ctx=n_ctx,
        threads=threads,
        gpu_layers=gpu_layers,
        exact=exact,
        parallel=parallel,
    )


def locate(spec: str, *, base: Path | None = None, glance: bool = False) -> Located:
    """The GGUF file that `spec` names. Of a stored model it is the very file that was pinned; at a `glance` only its
    size is compared.

    Raises:
        ModelError: "not_found", with what is near or how it is pulled; "mismatch" for a stored file that changed;
            "bad_request" for a source that is none; "catalogue" for a damaged models.lock.
    """
    if spec == NANO:
        path = nano_path()
        if not path.is_file():
            raise ModelError("not_found", "the embedded model is missing from this installation", path=path)
        return Located(path=path, name=NANO)
    from agentmesh_models.store.local import Store
    from agentmesh_models.store.names import is_name, is_source, redact

    if is_name(spec) or is_source(spec):  # a path opens whatever became of models.lock
        store = Store()
        stored = store.find(spec)
        if stored is not None:
            path = store.checked(stored, glance=glance)
            return Located(path=path, name=stored.name, digest=stored.digest)
    if is_source(spec):
        shown = redact(spec)
        raise ModelError("not_found", f"{shown} is not on this machine; agentmesh models pull {shown}")
    path = _path(spec, base)
    if path.is_dir():
        raise ModelError("not_found", "is a folder; name a .gguf file in it", path=path)
    if not path.exists():
        raise _not_here(spec, path)
    return Located(path=path, name=path.stem)


def model_path(spec: str, *, base: Path | None = None) -> Path:
    """The GGUF file that `spec` names; see `locate`."""
    return locate(spec, base=base).path


def require_model(spec: str, *, base: Path | None = None) -> None:
    """Refuse what names no model file on this machine, at a glance: the file itself is not read.

    Raises:
        ModelError: as `locate`, but for what only reading shows.
    """
    locate(spec, base=base, glance=True)


def list_models() -> tuple[ModelInfo, ...]:
    """The models that open without a path: `nano`, where its weights are installed, `scripted`, and what was pulled
    or added and is there. The digests of stored models are the pinned ones, not computed here.

    Raises:
        ModelError: models.lock is damaged.
    """
    from agentmesh_models.inspection import inspect
    from agentmesh_models.store.local import Store

    infos: list[ModelInfo] = []
    path = nano_path()
    if path.is_file():
        infos.append(inspect(path, name=NANO).info)
    infos.append(
        ModelInfo(
            name="scripted",
            path=None,
            digest=hashlib.sha256(b"").hexdigest(),
            n_ctx=8192,
            tool_format="scripted",
            template_digest=hashlib.sha256(b"").hexdigest(),
        )
    )
    store = Store()
    for each in store.models():
        try:
            infos.append(inspect(store.path(each), name=each.name, digest=each.digest).info)
        except ModelError:  # it would not open: then it is none of those that do
            continue
    return tuple(infos)


def nano_path() -> Path:
    """Where the embedded model's weights are."""
    return Path(str(files("agentmesh_models.nano").joinpath("nano.gguf")))


def _path(text: str, base: Path | None) -> Path:
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # ~somebody, and there is no such user: then it is a name like any other
        path = Path(text)
    return path if path.is_absolute() or base is None else base / path


def _not_here(spec: str, path: Path) -> ModelError:
    from agentmesh_models.store.offers import offers

    offer = offers().get(spec)
    if offer is not None:
        return ModelError(
            "not_found",
            f"{spec} is not on this machine yet ({offer.size / 1e9:.1f} GB); agentmesh models pull {spec}",
        )
    if _is_path(spec):
        return ModelError("not_found", f"no such model{_near_path(spec, path)}", path=path)
    # Somebody who writes a name has no use for the folder in which no such file stands.
    return ModelError("not_found", f"no model {spec!r}{_near_name(spec, path)}")


def _is_path(spec: str) -> bool:
    return spec.endswith(".gguf") or spec.startswith("~") or "/" in spec or os.sep in spec


def _near_name(spec: str, path: Path) -> str:
    meant = {each: each for each in _known()} | {"scripted": "scripted:steps.json"}
    for each in _siblings(path):
        meant |= {each: each, Path(each).stem: each}
    near = get_close_matches(spec, meant, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {meant[near[0]]!r}?"
    return (
        f"; use {NANO}, a name from `agentmesh models list --all`, one under [models] of a mesh file, "
        "the path of a .gguf file, or openai:URL#MODEL"
    )


def _near_path(spec: str, path: Path) -> str:
    near = get_close_matches(path.name, _siblings(path), n=1, cutoff=0.5)
    near = near or get_close_matches(spec, _known(), n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; use {NANO}, the path of a .gguf file, or a name from `agentmesh models list --all`"


def _known() -> list[str]:
    from agentmesh_models.store.local import Store
    from agentmesh_models.store.offers import offers

    try:
        stored = [each.name for each in Store().models()]
    except ModelError:  # a damaged models.lock is no answer to a model that is not there
        stored = []
    return [NANO, *stored, *offers()]


def _siblings(path: Path) -> list[str]:
    try:
        return [each.name for each in path.parent.iterdir() if each.suffix == ".gguf"]
    except OSError:
        return []
