"""An execution profile read back from its record: JSON that anybody may have written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, cast

from agentmesh_models.chat import Finish, JsonValue, Profile, Sampling, ToolChoice, ToolSpec
from agentmesh_models.errors import ModelError

MAX_BYTES: Final = 64 << 20
MAX_TOKENS: Final = 4_000_000
_MOST: Final = (1 << 64) - 1
_FLOATS: Final = (
    "temperature", "top_p", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty",
)  # fmt: skip


def read_profile(data: bytes) -> Profile:
    """The profile in the content of an `inference` message. What it does not know it leaves aside.

    Raises:
        ModelError: reason "not_checkable"; it is no profile, or not one of a model file.
    """
    if len(data) > MAX_BYTES:
        raise _refused(f"a profile has at most {MAX_BYTES:,} bytes", len(data))
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError("not_checkable", f"the profile is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise _refused("a profile is a JSON object", type(value).__name__)
    return _Reader(cast(Mapping[str, JsonValue], value)).profile()


class _Reader:
    """Reads fields of a JSON object and says which of them is wrong."""

    def __init__(self, value: Mapping[str, JsonValue]) -> None:
        self._value = value

    def profile(self) -> Profile:
        finish, choice = self._text("finish"), self._text("tool_choice", "auto")
        if finish not in ("stop", "call", "length"):
            raise _refused("finish must be stop, call or length", finish)
        if choice not in ("auto", "none", "required"):
            raise _refused("tool_choice must be auto, none or required", choice)
        grammar = self._value.get("grammar_digest")
        return Profile(
            model=self._text("model"),
            model_digest=self._text("model_digest"),
            template_digest=self._text("template_digest"),
            library=self._text("library"),
            n_ctx=self._number("n_ctx"),
            prompt_tokens=self._numbers("prompt_tokens"),
            reused_tokens=self._number("reused_tokens"),
            output_tokens=self._numbers("output_tokens"),
            sampling=self._sampling(),
            grammar_digest=None if grammar is None else self._text("grammar_digest"),
            finish=cast(Finish, finish),
            n_batch=self._number("n_batch", 0),
            n_ubatch=self._number("n_ubatch", 0),
            threads=self._number("threads", 0),
            splits=self._numbers("splits", ()),
            invariance=self._text("invariance", ""),
            tools=self._tools(),
            tool_choice=cast(ToolChoice, choice),
            parallel_calls=self._flag("parallel_calls", True),
            max_tokens=self._number("max_tokens", 0),
        )

    def _sampling(self) -> Sampling:
        inner = self._inner("sampling")
        usual = Sampling()
        floats = {name: inner._float(name, getattr(usual, name)) for name in _FLOATS}
        return Sampling(
            top_k=inner._number("top_k", usual.top_k),
            penalty_window=inner._number("penalty_window", usual.penalty_window),
            seed=inner._seed(usual.seed),
            **floats,
        )

    def _tools(self) -> tuple[ToolSpec, ...]:
        listed = self._value.get("tools", [])
        if not isinstance(listed, list):
            raise _refused("tools must be a list", type(listed).__name__)
        tools = []
        for each in listed:
            if not isinstance(each, dict):
                raise _refused("a tool must be an object", type(each).__name__)
            inner = _Reader(each)
            tools.append(
                ToolSpec(
                    name=inner._text("name"),
                    description=inner._text("description", ""),
                    parameters=inner._inner("parameters")._value,
                )
            )
        return tuple(tools)

    def _inner(self, key: str) -> _Reader:
        value = self._value.get(key)
        if not isinstance(value, dict):
            raise _refused(f"{key} must be an object", type(value).__name__)
        return _Reader(value)

    def _text(self, key: str, default: str | None = None) -> str:
        value = self._value.get(key, default)
        if not isinstance(value, str):
            raise _refused(f"{key} must be text", type(value).__name__)
        return value

    def _flag(self, key: str, default: bool) -> bool:
        value = self._value.get(key, default)
        if not isinstance(value, bool):
            raise _refused(f"{key} must be true or false", type(value).__name__)
        return value

    def _float(self, key: str, default: float) -> float:
        value = self._value.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _MOST:
            raise _refused(f"{key} must be a number", str(value)[:40])
        return float(value)

    def _number(self, key: str, default: int | None = None) -> int:
        return _count(self._value.get(key, default), key)

    def _seed(self, default: int) -> int:
        value = self._value.get("seed", default)
        if isinstance(value, bool) or not isinstance(value, int) or not -_MOST <= value <= _MOST:
            raise _refused("seed must be whole, of at most 64 bits", str(value)[:40])
        return value

    def _numbers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self._value.get(key, None if default is None else list(default))
        if not isinstance(value, list) or len(value) > MAX_TOKENS:
            raise _refused(f"{key} must be a list of at most {MAX_TOKENS:,} numbers", type(value).__name__)
        return tuple(_count(each, key) for each in value)


def _count(value: JsonValue, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise _refused(f"{key} must be whole and not negative", str(value)[:40])
    return value


def _refused(text: str, found: str | int) -> ModelError:
    return ModelError("not_checkable", f"the profile cannot be read: {text}, not {found}", found=found)
