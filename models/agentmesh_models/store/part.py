"""The beginning of a file that is on its way: what is there, whose it is, and its digest so far."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

from agentmesh_models.errors import ModelError
from agentmesh_models.store.web import Answer

_CHUNK: Final = 1 << 20
_MOST_NOTE: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What the server said of the file that a part is of; a part of anything else is begun anew."""

    key: str
    digest: str | None
    etag: str | None
    modified: str | None

    @property
    def validator(self) -> str | None:
        """What `If-Range` may hold: a strong tag, or else a date."""
        if self.etag is not None and self.etag.startswith('"'):
            return self.etag
        return self.modified if self.etag is None else None

    @property
    def can_resume(self) -> bool:
        """Whether going on is safe: the server can tell a change, or the digest at the end will."""
        return self.validator is not None or self.digest is not None


def note_of(answer: Answer, *, key: str, digest: str | None) -> Note:
    """What an answer says of its file."""
    return Note(
        key=key,
        digest=digest,
        etag=_short(answer.headers.get("etag")),
        modified=_short(answer.headers.get("last-modified")),
    )


class Part:
    """The file `*.part` and the note beside it. One process writes it at a time: the caller holds the claim."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note: Note | None = None
        self.size = 0
        self.resumed = False
        self._hash = hashlib.sha256()
        self._note_path = path.with_name(path.name + ".json")

    def open(self, *, key: str, digest: str | None) -> None:
        """Take up what an earlier attempt left, if it is of the same file, and read it for the digest.

        Raises:
            ModelError: "unreadable" where the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            note = self._read_note()
            if note is None or (note.key, note.digest) != (key, digest) or not note.can_resume:
                self.restart()
                return
            with self.path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    self._hash.update(chunk)
                    self.size += len(chunk)
            self.note, self.resumed = note, self.size > 0
        except FileNotFoundError:
            self.restart()
        except OSError as error:
            raise ModelError("unreadable", error.strerror or "cannot be written", path=self.path) from error

    def begin(self, note: Note) -> None:
        """Remember what the part is of, before its first byte."""
        self.note = note
        draft = self._note_path.with_name(self._note_path.name + ".new")
        draft.write_text(json.dumps(asdict(note)), encoding="utf-8")
        os.replace(draft, self._note_path)

    def restart(self) -> None:
        """Throw away what is there."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)
        self.note, self.size, self.resumed, self._hash = None, 0, False, hashlib.sha256()

    def append(self, data: bytes) -> None:
        """Count and hash bytes that were written."""
        self._hash.update(data)
        self.size += len(data)

    @property
    def digest(self) -> str:
        """The hex SHA-256 of all bytes so far."""
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Forget the note: the part is whole."""
        self._note_path.unlink(missing_ok=True)

    def _read_note(self) -> Note | None:
        try:
            with self._note_path.open("rb") as file:
                data: object = json.loads(file.read(_MOST_NOTE))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        if not isinstance(data, dict):
            return None
        raw = cast(Mapping[str, object], data)
        values = [raw.get(key) for key in ("key", "digest", "etag", "modified")]
        if not isinstance(values[0], str) or any(not isinstance(each, str | None) for each in values):
            return None
        key, digest, etag, modified = cast(tuple[str, str | None, str | None, str | None], tuple(values))
        return Note(key=key, digest=digest, etag=_short(etag), modified=_short(modified))


def _short(text: str | None) -> str | None:
    """A header that may be sent back: of sensible length, without anything that ends a line."""
    return text if text is not None and len(text) <= 300 and text.isascii() and text.isprintable() else None
