"""`models.lock`: the models that are stored and the digests that sources are held to.

It is JSON, read with suspicion and written whole or not at all. A damaged one is an error, never an empty one: with
it the pins would be forgotten without a word.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal, cast

from agentmesh_models.errors import ModelError
from agentmesh_models.store.place import sync_folder

LOCK_NAME: Final = "models.lock"
VERSION: Final = 1
_MOST_BYTES: Final = 4 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_OWN_FILE: Final = re.compile(r"files/[0-9a-f]{64}/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

Kind = Literal["pulled", "added"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A model that has a name here. `file` is relative to the folder where it is ours, else absolute."""

    name: str
    kind: Kind
    file: str
    source: str | None
    digest: str
    size: int
    revision: str | None
    since: str

    @property
    def is_ours(self) -> bool:
        """Whether the file is in our folder, and ours to delete."""
        return not os.path.isabs(self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The digest that a source gave at the first pull, and is held to."""

    digest: str
    size: int
    revision: str | None
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """What `models.lock` says."""

    models: Mapping[str, Stored] = field(default_factory=dict)
    pins: Mapping[str, Pin] = field(default_factory=dict)


def read_lock(folder: Path) -> Lock:
    """What is stored in `folder`; nothing where there is no lock file.

    Raises:
        ModelError: "catalogue" for a damaged file, "unreadable" for one that cannot be read.
    """
    path = folder / LOCK_NAME
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return Lock()
    except OSError as error:
        raise ModelError("unreadable", error.strerror or "cannot be read", path=path) from error
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"larger than {_MOST_BYTES:,} bytes")
        return _lock(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise ModelError(
            "catalogue",
            f"damaged: {error}; put back an older copy, or delete it and pull and add the models again "
            "(then nothing holds the sources to what they gave before)",
            path=path,
        ) from None


def write_lock(folder: Path, lock: Lock) -> None:
    """Put `lock` in place of what is there, whole or not at all. The caller holds the claim.

    Raises:
        ModelError: "unreadable" where it cannot be written.
    """
    path = folder / LOCK_NAME
    plain = {
        "version": VERSION,
        "models": {
            name: {key: value for key, value in asdict(lock.models[name]).items() if key != "name"}
            for name in sorted(lock.models)
        },
        "pins": {source: asdict(lock.pins[source]) for source in sorted(lock.pins)},
    }
    draft: str | None = None
    try:
        handle, draft = tempfile.mkstemp(dir=folder, prefix=f".{LOCK_NAME}-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(plain, file, indent=1, ensure_ascii=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        draft = None
        sync_folder(folder)
    except OSError as error:
        raise ModelError("unreadable", error.strerror or "cannot be written", path=path) from error
    finally:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)


def _lock(data: object) -> Lock:
    top = _object(data, "the file")
    if top.get("version") != VERSION:
        raise ValueError(f"of version {top.get('version')!r}, and this program knows {VERSION}")
    models = _object(top.get("models"), "models")
    pins = _object(top.get("pins"), "pins")
    return Lock(
        models={name: _stored(name, each) for name, each in models.items()},
        pins={source: _pin(each, source) for source, each in pins.items()},
    )


def _stored(name: str, data: object) -> Stored:
    raw = _object(data, name)
    kind, file = _text(raw, "kind", name), _text(raw, "file", name)
    if kind not in ("pulled", "added"):
        raise ValueError(f"{name}: kind is {kind!r}")
    # A path that led out of the folder would be deleted by `rm`.
    if not os.path.isabs(file) and not _OWN_FILE.fullmatch(file):
        raise ValueError(f"{name}: file is {file!r}")
    return Stored(
        name=name,
        kind=cast(Kind, kind),
        file=file,
        source=_optional(raw, "source", name),
        digest=_digest(raw, name),
        size=_size(raw, name),
        revision=_optional(raw, "revision", name),
        since=_text(raw, "since", name),
    )


def _pin(data: object, source: str) -> Pin:
    raw = _object(data, source)
    return Pin(
        digest=_digest(raw, source),
        size=_size(raw, source),
        revision=_optional(raw, "revision", source),
        since=_text(raw, "since", source),
    )


def is_digest(text: str) -> bool:
    """Whether `text` is a SHA-256 in lower-case hex."""
    return _DIGEST.fullmatch(text) is not None


def _object(data: object, what: str) -> Mapping[str, object]:
    if not isinstance(data, dict):
        raise ValueError(f"{what} is no object")
    return cast(Mapping[str, object], data)


def _text(raw: Mapping[str, object], key: str, what: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{what}: {key} is no text")
    return value


def _optional(raw: Mapping[str, object], key: str, what: str) -> str | None:
    return None if raw.get(key) is None else _text(raw, key, what)


def _digest(raw: Mapping[str, object], what: str) -> str:
    digest = _text(raw, "digest", what)
    if not is_digest(digest):
        raise ValueError(f"{what}: digest is no SHA-256")
    return digest


def _size(raw: Mapping[str, object], what: str) -> int:
    size = raw.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"{what}: size is no number of bytes")
    return size
