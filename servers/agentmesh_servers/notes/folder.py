"""A folder of Markdown notes: titles, search, reading.

Trusts nobody who asks: a title is compared with the titles that are there and never becomes a path. Of the folder it
trusts the regular files inside it; links that lead out, hidden files, devices and files over 256 KiB are left out.
The folder is read afresh for every question, so a note that was just saved is found.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from agentmesh_servers.errors import ServersError

MAX_NOTE_BYTES: Final = 256 * 1024
MAX_NOTES: Final = 2_000
MAX_LISTED: Final = 20
_SUFFIXES: Final = frozenset({".md", ".markdown"})
_HEADING: Final = re.compile(r"#[ \t]+(?P<title>.*?)(?:[ \t]+#+)?[ \t]*")
# Words that a question carries and a note need not; they count only where nothing else was asked.
_COMMON: Final = frozenset(
    (
        "a",
        "an",
        "the",
        "of",
        "my",
        "our",
        "about",
        "on",
        "in",
        "for",
        "from",
        "and",
        "to",
        "with",
        "note",
        "notes",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note: its title, and its text without the line the title stands on."""

    title: str
    stem: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a search found; at most 20 titles are listed."""

    text: str
    count: int
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotesFolder:
    """The notes under one folder."""

    root: Path

    @classmethod
    def open(cls, folder: Path) -> NotesFolder:
        """The notes of an existing folder. Raises `ServersError` `bad_option` when it is none."""
        try:
            root = folder.expanduser().resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise ServersError("bad_option", f"the notes folder {folder} is not there: create it") from error
        if not root.is_dir():
            raise ServersError(
                "bad_option", f"{folder} is not a folder: name the folder that holds the notes"
            )
        return cls(root=root)

    def notes(self) -> tuple[Note, ...]:
        """All notes, by path. Notes of one title are told apart by their file names, else by their paths."""
        files = list(self._files())
        found = [_parsed(path.stem, raw) for path, raw in files]
        titles = Counter(_plain(note.title) for note in found)
        names = Counter((_plain(note.title), _plain(note.stem)) for note in found)
        notes: list[Note] = []
        for note, (path, _) in zip(found, files, strict=True):
            name = note.stem
            if names[_plain(note.title), _plain(note.stem)] > 1:
                name = _one_line(path.relative_to(self.root).with_suffix("").as_posix())
            title = note.title if titles[_plain(note.title)] == 1 else f"{note.title} ({name})"
            notes.append(Note(title=title, stem=note.stem, text=note.text))
        return tuple(notes)

    def search(self, query: str) -> Search:
        """The notes that hold every word of the query; those that hold them in the title come first.

        Case and accents do not count, and neither do words such as `my` and `the`. A word also matches inside a
        longer one.
        """
        words = _plain(query).split()
        if not words:
            raise ServersError("bad_input", "the query is empty: give one or more words to look for")
        words = [word for word in words if word not in _COMMON] or words
        ranked: list[tuple[int, str]] = []
        for note in self.notes():
            title, body = _plain(note.title), _plain(note.text)
            if all(word in title or word in body for word in words):
                ranked.append((-sum(word in title for word in words), note.title))
        ranked.sort(key=lambda hit: (hit[0], hit[1].casefold()))
        titles = tuple(title for _, title in ranked[:MAX_LISTED])
        return Search(text=_listing(titles, len(ranked)), count=len(ranked), titles=titles)

    def read(self, title: str) -> Note:
        """The note of that title; case, accents, quotes, `.md` and punctuation do not count.

        Raises:
            ServersError: `not_found`, with the nearest titles.
        """
        notes = self.notes()
        wanted = _plain(
            re.sub(r"\.(md|markdown)$", "", title.strip().strip("\"'`“”‘’«»").strip(), flags=re.IGNORECASE)
        )
        titled = [note for note in notes if wanted and _plain(note.title) == wanted]
        named = titled or [note for note in notes if wanted and _plain(note.stem) == wanted]
        if named:
            return _with_text(named[0])
        inside = [note for note in notes if wanted and wanted in _plain(note.title)]
        if len(inside) == 1:
            return _with_text(inside[0])
        raise ServersError("not_found", _advice(title, wanted, notes, inside))

    def _files(self) -> Iterator[tuple[Path, str]]:
        """The notes' paths and texts, in order of path, at most 2,000."""
        count = 0
        for folder, subfolders, files in os.walk(self.root):  # does not follow links to folders
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in sorted(files):
                path = Path(folder, name)
                if name.startswith(".") or path.suffix.lower() not in _SUFFIXES:
                    continue
                raw = self._content(path)
                if raw is not None:
                    yield path, raw
                    count += 1
                    if count == MAX_NOTES:
                        return

    def _content(self, path: Path) -> str | None:
        """The text of a file that truly lies in the folder; None for any other."""
        try:
            real = path.resolve(strict=True)
            if not real.is_relative_to(self.root):
                return None
            # Not blocking: opening a named pipe would otherwise wait for a writer for ever.
            handle = os.open(real, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(handle, "rb") as file:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_NOTE_BYTES:
                    return None
                return file.read(MAX_NOTE_BYTES).decode("utf-8-sig", errors="replace")
        except (OSError, RuntimeError, ValueError):
            return None  # it went away, or may not be read: as if it were not there


def _parsed(stem: str, raw: str) -> Note:
    lines = raw.splitlines()
    fenced = False
    for place, line in enumerate(lines):
        fenced ^= line.startswith(("```", "~~~"))
        match = None if fenced else _HEADING.fullmatch(line)
        title = _one_line(match["title"]) if match else ""
        if title:
            return Note(title=title, stem=stem, text="\n".join(lines[:place] + lines[place + 1 :]).strip())
    return Note(title=_one_line(stem) or "Untitled", stem=stem, text="\n".join(lines).strip())


def _one_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:200]


def _plain(text: str) -> str:
    """Letters and digits only, without case or accents, words apart by one space."""
    if not text.isascii():
        spread = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in spread if not unicodedata.combining(letter))
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _with_text(note: Note) -> Note:
    return note if note.text else Note(title=note.title, stem=note.stem, text="(This note is empty.)")


def _listing(titles: tuple[str, ...], count: int) -> str:
    if count == 0:
        return "No note matches."
    more = f"; and {count - len(titles)} more" if count > len(titles) else ""
    return f"{count} {'note' if count == 1 else 'notes'}: {'; '.join(titles)}{more}"


def _advice(title: str, wanted: str, notes: tuple[Note, ...], inside: list[Note]) -> str:
    shown = _one_line(title)[:60]
    if not notes:
        return f"no note is called {shown!r}: the folder holds no notes"
    near = [note.title for note in inside[:3]]
    if not near:
        by_plain = {_plain(note.title): note.title for note in notes}
        near = [by_plain[match] for match in get_close_matches(wanted[:200], by_plain, n=3, cutoff=0.6)]
    if near:
        return f"no note is called {shown!r}: did you mean {' or '.join(near)}?"
    return f"no note is called {shown!r}: call search_notes to find its title"
