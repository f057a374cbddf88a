"""What `agentmesh models` shows: one row of each model, and all facts of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentmesh_models import ModelError, ModelInfo, list_models
from agentmesh_models.catalogue import model_path
from agentmesh_models.facts import read_facts
from agentmesh_models.gguf import read_gguf
from agentmesh_models.inspection import DEFAULT_N_CTX, inspect
from agentmesh_models.store.local import Store
from agentmesh_models.store.offers import offers

if TYPE_CHECKING:
    from agentmesh_models.store.lock import Stored
    from agentmesh_models.store.offers import Offer

_COME_ALONG: Final = ("nano", "scripted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A model in the list. `state`: embedded, test, pulled, added, missing, changed, damaged, or not here."""

    name: str
    state: str
    path: Path | None = None
    size: int | None = None
    digest: str | None = None
    n_ctx: int | None = None
    tool_format: str | None = None
    template_digest: str | None = None
    source: str | None = None
    parameters: str | None = None
    licence: str | None = None
    memory: int | None = None

    def to_json(self) -> dict[str, object]:
        """The row as plain JSON values."""
        plain = asdict(self)
        plain["path"] = None if self.path is None else str(self.path)
        plain["bytes"] = plain.pop("size")
        return plain


def rows(*, with_catalogue: bool) -> list[Row]:
    """The models that come along, those that were pulled or added, and those that can be pulled."""
    found = [_row_of(each, state) for each, state in _come_along()]
    store = Store()
    stored = store.models()
    found += [_row_of_stored(store, each) for each in stored]
    if with_catalogue:
        here = {each.name for each in stored}
        found += [_row_of_offer(each) for each in offers().values() if each.name not in here]
    return found


def _come_along() -> Iterator[tuple[ModelInfo, str]]:
    for each in list_models():
        if each.name in _COME_ALONG:
            yield each, "test" if each.path is None else "embedded"


def _row_of(info: ModelInfo, state: str) -> Row:
    return Row(
        name=info.name,
        state=state,
        path=info.path,
        size=None if info.path is None else info.path.stat().st_size,
        digest=info.digest,
        n_ctx=info.n_ctx,
        tool_format=info.tool_format,
        template_digest=info.template_digest,
    )


def _row_of_stored(store: Store, stored: Stored) -> Row:
    state, path = store.state(stored), store.path(stored)
    info: ModelInfo | None = None
    if state == stored.kind:
        try:
            info = inspect(path, name=stored.name, digest=stored.digest).info
        except ModelError as error:
            state = "untalkable" if error.reason == "no_template" else "damaged"
    return Row(
        name=stored.name,
        state=state,
        path=path,
        size=stored.size,
        digest=stored.digest,
        n_ctx=None if info is None else info.n_ctx,
        tool_format=None if info is None else info.tool_format,
        template_digest=None if info is None else info.template_digest,
        source=stored.source,
    )


def _row_of_offer(offer: Offer) -> Row:
    return Row(
        name=offer.name,
        state="not here",
        size=offer.size,
        n_ctx=min(offer.context, DEFAULT_N_CTX),
        tool_format=offer.tool_format,
        source=offer.source.key,
        parameters=offer.parameters,
        licence=offer.licence,
        memory=offer.memory(DEFAULT_N_CTX),
    )


def facts_of(name: str, n_ctx: int | None) -> dict[str, object]:
    """Everything that is known of a model by name, source or path.

    Raises:
        ModelError: there is none, or its file is damaged.
    """
    if name == "scripted":
        return next(_row_of(each, state).to_json() for each, state in _come_along() if each.path is None)
    stored = Store().find(name)
    offer = offers().get(name)
    if stored is None and offer is not None and not Path(name).exists():
        return _row_of_offer(offer).to_json() | {"memory": offer.memory(n_ctx or DEFAULT_N_CTX)}
    path = model_path(name)
    shown = stored.name if stored is not None else name if name == "nano" else path.stem
    facts = read_facts(read_gguf(path))
    ctx = min(n_ctx or DEFAULT_N_CTX, facts.context or n_ctx or DEFAULT_N_CTX)
    digest = stored.digest if stored is not None else None
    info = None if facts.template_digest is None else inspect(path, name=shown, n_ctx=ctx, digest=digest).info
    return {
        "name": shown,
        "path": str(path),
        "bytes": path.stat().st_size,
        "digest": _digest(path) if info is None else info.digest,
        "n_ctx": ctx,
        "source": None if stored is None else stored.source,
        "revision": None if stored is None else stored.revision,
        "title": facts.name,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "quantisation": facts.quantisation,
        "bits_per_weight": facts.bits_per_weight,
        "context": facts.context,
        "embedding": facts.embedding,
        "layers": facts.layers,
        "heads": facts.heads,
        "kv_heads": facts.kv_heads,
        "kv_bytes_a_token": facts.kv_bytes,
        "window": facts.window,
        "vocabulary": facts.vocabulary,
        "tokenizer": facts.tokenizer,
        "tool_format": facts.tool_format,
        "template_digest": facts.template_digest,
        "licence": facts.licence,
        "memory": facts.memory(ctx),
    }


def _digest(path: Path) -> str:
    from agentmesh_models import file_digest

    return file_digest(path)


def told(key: str, value: object) -> str:
    """A fact for people: bytes as megabytes, thousands apart."""
    if value is None:
        return "-"
    if key in ("bytes", "memory") and isinstance(value, int):
        about = "about " if key == "memory" else ""
        return f"{about}{value / 1e6:,.1f} MB"
    if isinstance(value, int) and key not in ("n_ctx", "context"):
        return f"{value:,}"
    return str(value)
