"""Names that match a pattern and lines that hold a text, in all folders below one."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event
from typing import Final

from agentmesh_servers.errors import ServersError
from agentmesh_servers.files import names
from agentmesh_servers.files.folder import Entry, Folder
from agentmesh_servers.files.reading import MAX_ANSWER_BYTES, looks_like_text
from agentmesh_servers.files.tree import Tree

MAX_MATCHES: Final = 100
MAX_IN_A_FILE: Final = 10
MAX_VISITED: Final = 50_000
MAX_SEARCHED_BYTES: Final = 4 * 1024 * 1024
MAX_LINE: Final = 200
MAX_PATTERN: Final = 200
SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A file, and a line in it that holds the text (number 0 and empty where only names were looked for)."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found. `cut` says why there may be more, or is empty; `skipped` counts files too large to look into."""

    matches: tuple[Match, ...]
    cut: str
    skipped: int


@dataclass(slots=True, kw_only=True)
class Search:
    """One search, which another thread may stop."""

    tree: Tree
    pattern: str
    text: str
    stop: Event = field(default_factory=Event)
    _matches: list[Match] = field(default_factory=list)
    _visited: int = 0
    _skipped: int = 0
    _room: int = MAX_ANSWER_BYTES
    _cut: str = ""
    _end: float = 0.0

    def run(self, path: str) -> Found:
        """Looks through the folder at `path` and all below it. Raises `ServersError`."""
        if not self.pattern and not self.text:
            raise ServersError(
                "bad_input", "give name, a pattern such as *.md, or text, words to look for in files"
            )
        if len(self.pattern) > MAX_PATTERN or len(self.text) > MAX_PATTERN:
            raise ServersError("bad_input", f"name and text have {MAX_PATTERN} letters at most")
        if "\n" in self.text:
            raise ServersError("bad_input", "text is looked for within one line")
        self._end = time.monotonic() + SECONDS
        fits = _fitting(self.pattern)
        tops = [path]
        if self.tree.named and path.strip("/") in ("", "."):
            tops = list(self.tree.roots)
        for top in tops:
            with self.tree.folder(top) as (folder, plain):
                self._walk(folder, plain, fits, depth=len(plain.split("/")))
        return Found(matches=tuple(self._matches), cut=self._cut, skipped=self._skipped)

    def _walk(self, folder: Folder, path: str, fits: Callable[[str], bool], depth: int) -> None:
        """A folder's files first and then the folders in it; recursion ends at the depth that paths may have."""
        try:
            entries, _ = folder.entries()
        except OSError:
            return  # it may not be read: as if it were empty
        served = [entry for entry in entries if self.tree.serves(entry)]
        for entry in served:
            if self._over():
                return
            self._visited += 1
            inner = f"{path}/{entry.name}" if path else entry.name
            if entry.kind == "file" and fits(inner):
                self._look(folder, entry, inner)
        for entry in served:
            if self._over():
                return
            if entry.kind == "folder":
                if depth >= names.MAX_DEPTH:
                    self._cut = f"folders deeper than {names.MAX_DEPTH} were not looked into"
                    continue
                with ExitStack() as stack:
                    try:
                        below = stack.enter_context(folder.enter(entry.name))
                    except OSError:
                        continue  # it went away, or may not be entered
                    self._walk(below, f"{path}/{entry.name}" if path else entry.name, fits, depth + 1)

    def _over(self) -> bool:
        if len(self._matches) >= MAX_MATCHES or self._room < 0:
            self._cut = f"the first {len(self._matches)} are listed: narrow the search for the others"
        elif self._visited >= MAX_VISITED:
            self._cut = f"{MAX_VISITED:,} files were looked at: search in a folder below"
        elif time.monotonic() > self._end or self.stop.is_set():
            self._cut = f"it was ended after {SECONDS:g} seconds: search in a folder below"
        else:
            return False
        return True

    def _look(self, folder: Folder, entry: Entry, path: str) -> None:
        if not self.text:
            self._match(path, 0, "")
            return
        if entry.size > MAX_SEARCHED_BYTES:
            self._skipped += 1
            return
        try:
            with folder.reading(entry.name) as file:
                if not looks_like_text(file):
                    return
                content = file.read(MAX_SEARCHED_BYTES).decode("utf-8-sig", errors="replace")
        except (OSError, ServersError):
            return  # it went away, or may not be read
        wanted, here = self.text.casefold(), 0
        for number, line in enumerate(content.split("\n"), start=1):
            if wanted in line.casefold():
                self._match(path, number, _around(line, self.text))
                here += 1
            if here == MAX_IN_A_FILE or len(self._matches) == MAX_MATCHES or self._room < 0:
                return

    def _match(self, path: str, line: int, text: str) -> None:
        self._matches.append(Match(path=path, line=line, text=text))
        self._room -= len(path) + len(text)


def _fitting(pattern: str) -> Callable[[str], bool]:
    """Whether a path fits: by its last name, or with a `/` in the pattern by the whole path; case does not count."""
    if not pattern:
        return lambda path: True
    # A row of stars means what one does, and costs more.
    fits = re.compile(fnmatch.translate(re.sub(r"\*+", "*", pattern).casefold())).fullmatch
    if "/" in pattern:
        return lambda path: fits(path.casefold()) is not None
    return lambda path: fits(path.rpartition("/")[2].casefold()) is not None


def _around(line: str, text: str) -> str:
    """The part of a line around the text, at most 200 letters."""
    line = line.strip()
    if len(line) <= MAX_LINE:
        return line
    begin = max(0, _place(line, text) - MAX_LINE // 4)
    return f"{'…' if begin else ''}{line[begin : begin + MAX_LINE]}…"


def _place(line: str, text: str) -> int:
    """Where the text begins in the line, case set aside; -1 where it does not. Some letters become two then, as ß does."""
    folded = line.casefold()
    at = folded.find(text.casefold())
    if len(folded) == len(line):
        return at
    width = 0
    for place, letter in enumerate(line):
        if width >= at:
            return place
        width += len(letter.casefold())
    return at
