"""The catalogue: models by short names, before they are here. See `catalogue.toml` for where its facts come from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, cast

from agentmesh_models.memory import memory_needed
from agentmesh_models.store.names import HubFile

FORMATS: Final = frozenset({"hermes", "llama3", "mistral", "gemma", "generic"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model of the catalogue. `size` is about right; the hub tells the exact one at the pull."""

    name: str
    source: HubFile
    licence: str
    parameters: str
    size: int
    context: int
    kv_bytes: int
    vocabulary: int
    tool_format: str

    def memory(self, n_ctx: int) -> int:
        """Bytes of memory that it needs with a context of so many tokens, about."""
        return memory_needed(
            weights=self.size,
            kv_bytes=self.kv_bytes,
            vocabulary=self.vocabulary,
            n_ctx=min(n_ctx, self.context),
        )


@cache
def offers() -> Mapping[str, Offer]:
    """The models of the catalogue, by name."""
    raw = tomllib.loads(files("agentmesh_models").joinpath("catalogue.toml").read_text("utf-8"))
    return {
        name: _offer(name, each) for name, each in cast(dict[str, dict[str, object]], raw["models"]).items()
    }


def _offer(name: str, raw: Mapping[str, object]) -> Offer:
    def text(key: str) -> str:
        value = raw[key]
        assert isinstance(value, str)
        return value

    def number(key: str) -> int:
        value = raw[key]
        assert isinstance(value, int)
        return value

    return Offer(
        name=name,
        source=HubFile(repo=text("repo"), file=text("file")),
        licence=text("licence"),
        parameters=text("parameters"),
        size=number("size_mb") * 1_000_000,
        context=number("context"),
        kv_bytes=number("kv_bytes"),
        vocabulary=number("vocabulary"),
        tool_format=text("tool_format"),
    )
