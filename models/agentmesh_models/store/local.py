"""The models that have a name on this machine: found, added, checked and removed."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agentmesh_models.digest import file_digest
from agentmesh_models.errors import ModelError
from agentmesh_models.gguf import read_gguf
from agentmesh_models.store.lock import Lock, Pin, Stored, read_lock, write_lock
from agentmesh_models.store.names import check_name, file_name, is_source, parse_source
from agentmesh_models.store.place import claimed, models_folder, sync_folder

MARGIN: Final = 256 << 20
"""Bytes that stay free on the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What `remove` did: bytes given back, and the file that stays because it is not ours."""

    name: str
    freed: int
    kept: Path | None


class Store:
    """The models' folder. Every change is made under a lock file, by one process at a time."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = models_folder() if folder is None else folder

    def models(self) -> tuple[Stored, ...]:
        """Every model that has a name here, in the order of names.

        Raises:
            ModelError: "catalogue" or "unreadable" for the lock file.
        """
        return tuple(sorted(read_lock(self.folder).models.values(), key=lambda each: each.name))

    def find(self, spec: str) -> Stored | None:
        """The model of that name, or that came from that source; None where there is none.

        Raises:
            ModelError: the lock file is damaged, or `spec` is no well-formed source.
        """
        known = read_lock(self.folder).models
        if spec in known:
            return known[spec]
        if not is_source(spec):
            return None
        key = parse_source(spec).key
        # Of a repository without a file: the one file that was pulled from it.
        found = [each for each in known.values() if each.source == key]
        found = found or [each for each in known.values() if (each.source or "").startswith(f"{key}/")]
        return found[0] if len(found) == 1 or (found and found[0].source == key) else None

    def pin(self, key: str) -> Pin | None:
        """What the source of that key is held to."""
        return read_lock(self.folder).pins.get(key)

    def path(self, stored: Stored) -> Path:
        """Where the file of a stored model should be."""
        return self.folder / stored.file if stored.is_ours else Path(stored.file)

    def state(self, stored: Stored) -> str:
        """`pulled` or `added`, or what is wrong at a glance: `missing`, `changed` (another size)."""
        try:
            size = self.path(stored).stat().st_size
        except OSError:
            return "missing"
        return stored.kind if size == stored.size else "changed"

    def checked(self, stored: Stored, *, glance: bool = False) -> Path:
        """The file of a stored model, which is the very file that was pinned. Reads it, if it is new to this user;
        at a `glance` only its size is compared.

        Raises:
            ModelError: "not_found" for a file that is gone, "mismatch" for one that is another now.
        """
        path = self.path(stored)
        again = again_command(stored)
        if not path.is_file():
            raise ModelError("not_found", f"the file of {stored.name!r} is gone; {again}", path=path)
        size = path.stat().st_size
        if size != stored.size:
            digest = f"{size:,} bytes"
        else:
            digest = stored.digest if glance else file_digest(path)
        if digest != stored.digest:
            raise ModelError(
                "mismatch",
                f"not the file that {stored.name!r} was pinned to: expected sha256 {stored.digest} and "
                f"{stored.size:,} bytes, found {digest}; {again}",
                path=path,
                expected=stored.digest,
                found=digest,
            )
        return path

    def add(self, path: Path, name: str, *, copy: bool = False, repin: bool = False) -> Stored:
        """Give a local file a name and pin its digest. With `copy` it is copied into the models' folder.

        Raises:
            ModelError: not a whole GGUF file, a name that is taken or cannot be one, no space for a copy.
        """
        check_name(name)
        read_gguf(path)
        digest, size = file_digest(path), path.stat().st_size
        file = str(path.resolve())
        if copy:
            file = self._copied(path, digest, size)
        stored = Stored(
            name=name,
            kind="added",
            file=file,
            source=None,
            digest=digest,
            size=size,
            revision=None,
            since=now(),
        )
        return self.register(stored, replaces=repin)

    def register(
        self, stored: Stored, *, replaces: bool = False, pins: Mapping[str, Pin] | None = None
    ) -> Stored:
        """Write down a model, and what its sources are held to from now on.

        Raises:
            ModelError: "bad_request" where the name is another model's and `replaces` is not given.
        """

        def change(lock: Lock) -> Lock:
            old = lock.models.get(stored.name)
            if old is not None and not replaces and not _is_same(old, stored):
                where = old.source or old.file
                raise ModelError(
                    "bad_request",
                    f"{stored.name!r} is the name of another model already ({where}); give another with "
                    f"--name, remove that one (agentmesh models rm {stored.name}), or replace it with --repin",
                )
            models = {**lock.models, stored.name: stored}
            if old is not None and old.is_ours and all(each.file != old.file for each in models.values()):
                _delete(self.path(old))
            return replace(lock, models=models, pins={**lock.pins, **(pins or {})})

        self._change(change)
        return stored

    def remove(self, name: str) -> Removed:
        """Forget a model; its file goes too where it is ours and no other name has it. Pins stay.

        Raises:
            ModelError: "not_found" where no model has that name.
        """
        gone: list[Stored] = []
        freed = 0

        def change(lock: Lock) -> Lock:
            nonlocal freed
            stored = lock.models.get(name)
            if stored is None:
                raise ModelError(
                    "not_found", f"no stored model is called {name!r}; see agentmesh models list"
                )
            gone.append(stored)
            rest = {key: each for key, each in lock.models.items() if key != name}
            if stored.is_ours and all(each.file != stored.file for each in rest.values()):
                freed = _delete(self.path(stored))
            return replace(lock, models=rest)

        self._change(change)
        kept = None if gone[0].is_ours else self.path(gone[0])
        return Removed(name=name, freed=freed, kept=kept)

    def part_path(self, key: str) -> Path:
        """Where the beginning of a file is kept while it comes from the source of that key."""
        return self.folder / "parts" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.part"

    def drop_part(self, key: str) -> int:
        """Throw away what came so far of a source; returns the bytes freed. Waits for a pull that is under way."""
        part = self.part_path(key)
        if not part.exists():
            return 0
        with claimed(part.with_suffix(".claim")):
            part.with_name(part.name + ".json").unlink(missing_ok=True)
            size = part.stat().st_size if part.exists() else 0
            part.unlink(missing_ok=True)
        return size

    def own_file(self, digest: str, name: str) -> tuple[str, Path]:
        """Where a file of that digest stands in the folder, relative and absolute; one copy for all its names."""
        folder = self.folder / "files" / digest
        there = sorted(folder.glob("*.gguf")) if folder.is_dir() else []
        file = there[0] if there else folder / file_name(name)
        return file.relative_to(self.folder).as_posix(), file

    def take_in(self, draft: Path, digest: str, name: str) -> str:
        """Move a finished file to its place; returns its path relative to the folder. It outlasts a crash."""
        relative, place = self.own_file(digest, name)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft, place)
            sync_folder(place.parent)
            sync_folder(place.parent.parent)
        except OSError as error:
            raise ModelError("unreadable", error.strerror or "cannot be written", path=place) from error
        return relative

    def _copied(self, path: Path, digest: str, size: int) -> str:
        relative, place = self.own_file(digest, path.name)
        if place.is_file() and place.stat().st_size == size and file_digest(place) == digest:
            return relative
        require_space(self.folder, size)
        draft = self.folder / "parts" / f"copy-{secrets.token_hex(8)}.part"
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, draft.open("xb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            if file_digest(draft) != digest:
                raise ModelError("mismatch", "changed while it was copied; try again", path=path)
            return self.take_in(draft, digest, path.name)
        except OSError as error:
            raise ModelError("unreadable", error.strerror or "cannot be copied", path=path) from error
        finally:
            draft.unlink(missing_ok=True)

    def _change(self, change: Callable[[Lock], Lock]) -> None:
        with claimed(self.folder / ".claim"):
            write_lock(self.folder, change(read_lock(self.folder)))


def again_command(stored: Stored) -> str:
    """How a stored model whose file is gone or changed is had again."""
    if stored.source is not None:
        return f"agentmesh models pull {stored.source} --name {stored.name}"
    return f"agentmesh models add PATH --name {stored.name} --repin"


def require_space(folder: Path, size: int) -> None:
    """Refuse what would fill the disk of `folder`.

    Raises:
        ModelError: "no_space", with what is needed and what is free.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise ModelError("unreadable", error.strerror or "cannot be read", path=place) from error
    if free < size + MARGIN:
        raise ModelError(
            "no_space",
            f"{size / 1e9:,.2f} GB are needed, {MARGIN / 1e9:,.2f} GB more are to stay free, and only "
            f"{free / 1e9:,.2f} GB are; make room (agentmesh models rm NAME) or set AGENTMESH_MODELS to "
            "a folder on another disk",
            path=folder,
            expected=size + MARGIN,
            found=free,
        )


def now() -> str:
    """The time of day as it is written down: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_same(old: Stored, new: Stored) -> bool:
    """Whether `new` is `old` once more: the same source, or of no source the same file."""
    if old.source is not None or new.source is not None:
        return old.source == new.source
    return old.digest == new.digest


def _delete(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise ModelError("unreadable", error.strerror or "cannot be deleted", path=path) from error
    with suppress(OSError):  # something else is in it: then it stays
        path.parent.rmdir()
    return size
