"""The SHA-256 of a model file, computed once and remembered.

The memory is a file in the user's cache folder, keyed by real path, size and time of change. It saves
seconds, it proves nothing: whoever can write there can lie to this user. A damaged memory is forgotten.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from agentmesh_models.errors import ModelError

_CHUNK: Final = 1 << 20
_MAX_ENTRIES: Final = 512
_MAX_CACHE_BYTES: Final = 1 << 20


def file_digest(path: Path) -> str:
    """The hex SHA-256 of the file at `path`, from memory where path, size and time of change are unchanged.

    Raises:
        ModelError: the file is missing or cannot be read.
    """
    try:
        real = path.resolve(strict=True)
        before = real.stat()
        key = f"{real}\n{before.st_size}\n{before.st_mtime_ns}"
        cache = cache_path()
        known = _read(cache)
        if key in known:
            return known[key]
        digest = _hash(real)
        after = real.stat()
    except FileNotFoundError:
        raise ModelError("not_found", "no such model file", path=path) from None
    except OSError as error:
        raise ModelError("unreadable", error.strerror or "cannot be read", path=path) from error
    if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
        _remember(cache, key, digest)
    return digest


def cache_path() -> Path:
    """Where digests are remembered: `AGENTMESH_CACHE`, or the platform's cache folder for this user."""
    own = os.environ.get("AGENTMESH_CACHE")
    if own:
        return Path(own) / "digests.json"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "agentmesh" / "digests.json"
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "agentmesh" / "digests.json"


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read(cache: Path) -> dict[str, str]:
    try:
        with cache.open("rb") as file:
            data: object = json.loads(file.read(_MAX_CACHE_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {
        key: value
        for key, value in data.items()
        if isinstance(key, str) and isinstance(value, str) and _is_digest(value)
    }


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(each in "0123456789abcdef" for each in text)


def _remember(cache: Path, key: str, digest: str) -> None:
    """Write the cache anew, whole or not at all; a cache that cannot be written is done without."""
    known = _read(cache)
    known[key] = digest
    kept = dict(list(known.items())[-_MAX_ENTRIES:])
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache.parent, prefix=".digests-")
    except OSError:
        return
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(kept, file, ensure_ascii=True)
        os.replace(name, cache)
    except OSError:
        Path(name).unlink(missing_ok=True)
