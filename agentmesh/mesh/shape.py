"""Mistakes in the shape of a mesh file: unknown keys, wrong types, values out of range, told in the reader's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Final, TypeAlias, cast

from pydantic import BaseModel, ValidationError

from agentmesh.errors import Mistake
from agentmesh.mesh.lines import KeyPath, Places
from agentmesh.mesh.spec import (
    AgentSpec,
    AnchorSpec,
    DialogueSpec,
    Limits,
    MeshDocument,
    MeshSection,
    ModelSpec,
    PeerSpec,
    ServerSpec,
    ServeSpec,
    WitnessSpec,
)

Raw: TypeAlias = dict[str, object]

_WORDS: Final = {
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "is_instance_of": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "tuple_type": 'must be a list, for example ["one", "two"]',
    "dict_type": "must be a table",
    "mapping_type": "must be a table",
    "model_type": "must be a table",
    "string_too_short": "must not be empty",
    "too_short": "must not be an empty list: leave it out for the default",
}
_PATTERNS: Final = {
    "name": "may hold letters, digits, - and _ only (at most 64)",
    "origin": "must be visible ASCII without spaces or +, for example agentmesh.local/desk",
    "api_key_env": "must be the name of an environment variable, never the key itself",
    "key": "must be a public key such as did:key:z6Mk..., as `agentmesh keys` prints it",
    "token_env": "must be the name of an environment variable",
    "rpc_env": "must be the name of an environment variable",
    "key_env": "must be the name of an environment variable, never the key itself",
    "passphrase_env": "must be the name of an environment variable, never the passphrase itself",
    "contract": "must be an address: 0x and 40 hex digits, as `agentmesh anchor deploy` prints it",
    "every": 'must be a number of messages, such as "100", or of seconds, such as "60s"',
}


def dotted(path: KeyPath) -> str:
    """A key path as people write it; an index in a list is left out, the line says which one it is."""
    return ".".join(str(part) for part in path if isinstance(part, str))


def did_you_mean(wrong: str, known: Mapping[str, object] | tuple[str, ...] | list[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = get_close_matches(wrong, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are: {', '.join(names)}" if names else "; there are none"


def shape_mistakes(error: ValidationError, places: Places) -> tuple[Mistake, ...]:
    """The mistakes that a validation found, each at its line."""
    return tuple(_mistakes(error, places))


def without(raw: Raw, error: ValidationError) -> Raw:
    """The document with what the validation refused taken out, so that the rest can be checked in the same go."""
    pruned = _copy(raw)
    for found in error.errors(include_url=False):
        if found["type"] != "missing":
            _drop(pruned, found["loc"])
    return pruned


def _mistakes(error: ValidationError, places: Places) -> Iterator[Mistake]:
    seen: set[KeyPath] = set()
    for found in error.errors(include_url=False):
        path = _real_path(found["loc"])
        if path in seen:
            continue
        seen.add(path)
        kind = found["type"]
        if kind == "extra_forbidden":
            key, known = str(path[-1]), _known_keys(path[:-1])
            reason, text = "unknown_key", f"there is no such key{did_you_mean(key, known)}"
        elif kind == "missing":
            reason, text = "missing", _missing(path)
        else:
            reason, text = "bad_value", _told(kind, path, found["msg"], found.get("ctx", {}))
        yield Mistake(reason=reason, key=dotted(path), line=places.line(path), text=text)


def _told(kind: str, path: KeyPath, message: str, context: Mapping[str, object]) -> str:
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(path[-1]), "has characters that are not allowed here")
    if kind == "literal_error":
        return f"must be one of {context.get('expected')}"
    return _WORDS.get(kind) or message[:1].lower() + message[1:]


def _missing(path: KeyPath) -> str:
    if path == ("mesh",):
        return 'is missing: a mesh file begins with [mesh] and name = "..."'
    return "is missing"


def _real_path(location: tuple[int | str, ...]) -> KeyPath:
    """The path in the file; pydantic adds parts for branches of unions, which are no keys."""
    return tuple(part for part in location if not (isinstance(part, str) and part.endswith("]")))


def _known_keys(table: KeyPath) -> tuple[str, ...]:
    model: type[BaseModel] = MeshDocument
    if len(table) == 1:
        single: dict[str, type[BaseModel]] = {
            "mesh": MeshSection,
            "dialogue": DialogueSpec,
            "serve": ServeSpec,
            "witness": WitnessSpec,
            "anchor": AnchorSpec,
        }
        model = single.get(str(table[0]), MeshDocument)
    elif table == ("dialogue", "limits"):
        model = Limits
    elif len(table) == 2:
        tables: dict[str, type[BaseModel]] = {
            "models": ModelSpec,
            "agents": AgentSpec,
            "servers": ServerSpec,
            "peers": PeerSpec,
        }
        model = tables.get(str(table[0]), MeshDocument)
    return tuple(model.model_fields)


def _copy(raw: Raw) -> Raw:
    return {key: _copy(cast(Raw, value)) if isinstance(value, dict) else value for key, value in raw.items()}


def _drop(raw: Raw, location: tuple[int | str, ...]) -> None:
    at: object = raw
    for part in location[:-1]:
        if not isinstance(at, dict):
            return
        below = at.get(part)
        if not isinstance(below, dict):
            # Inside a list or a plain value: the whole of it goes.
            at.pop(part, None)
            return
        at = below
    if isinstance(at, dict):
        at.pop(location[-1], None)
