"""The options of the servers: what each is for, which are paths, and what is wrong with those given.

Knows neither the MCP SDK nor any server's work, so that a mesh file can be checked where nothing is installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from agentmesh_servers.errors import ServersError

Kind: TypeAlias = Literal["folder", "folders", "file", "flag", "number", "word"]
Place: TypeAlias = Callable[[str], Path]
MAX_ROOTS: Final = 16
DEFAULT_SECONDS: Final = 10
MAX_SECONDS: Final = 300
DEFAULT_ROWS: Final = 200
MAX_ROWS: Final = 5_000
_ROOT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
# Only a comma that a name follows: a path may hold commas.
_NEXT_ROOT: Final = re.compile(r",(?=\s*[A-Za-z][A-Za-z0-9_-]*\s*=)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a server.

    `variable` is the environment variable that is read where it is not given, `most` the largest number it may be.
    """

    name: str
    kind: Kind
    about: str
    variable: str | None = None
    most: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """What is wrong with the options given: with one of them, or (option None) with what is not there."""

    option: str | None
    reason: Literal["missing", "bad_value", "folder_not_found", "file_not_found"]
    text: str


_WRITE: Final = Option(name="write", kind="flag", about="allow changes (without it nothing is ever written)")
OPTIONS: Final[Mapping[str, tuple[Option, ...]]] = {
    "files": (
        Option(name="folder", kind="folder", about="the folder to serve", variable="AGENTMESH_FILES"),
        Option(name="roots", kind="folders", about="several folders by name: docs=PATH,code=PATH"),
        _WRITE,
        Option(name="hidden", kind="flag", about="serve names that begin with a dot too"),
    ),
    "notes": (
        Option(
            name="folder", kind="folder", about="the folder of Markdown files", variable="AGENTMESH_NOTES"
        ),
    ),
    "sql": (
        Option(name="database", kind="file", about="the SQLite file", variable="AGENTMESH_SQL_DATABASE"),
        Option(
            name="url_env",
            kind="word",
            about="the environment variable that holds a PostgreSQL URL (default: AGENTMESH_SQL_URL)",
            variable="AGENTMESH_SQL_URL",
        ),
        _WRITE,
        Option(
            name="timeout",
            kind="number",
            about=f"seconds a statement may take, 1 to {MAX_SECONDS}; default {DEFAULT_SECONDS}",
            most=MAX_SECONDS,
        ),
        Option(
            name="rows",
            kind="number",
            about=f"rows of an answer, 1 to {MAX_ROWS}; default {DEFAULT_ROWS}",
            most=MAX_ROWS,
        ),
        Option(name="superuser", kind="flag", about="accept a PostgreSQL role that may do anything"),
    ),
}
# Of these options one is needed, and this is how it is written in a mesh file.
_NEEDED: Final = {
    "files": (("folder", "roots"), "a folder", 'folder = "docs"'),
    "notes": (("folder",), "a folder", 'folder = "notes"'),
    "sql": (("database", "url_env"), "a database", 'database = "library.db"'),
}


def flag(name: str, written: str | None) -> bool:
    """Whether an option that is `true` or `false` is on. Raises `ServersError` `bad_option` for anything else."""
    if written in (None, "false"):
        return False
    if written == "true":
        return True
    raise ServersError("bad_option", f'{name} is "true" or "false", not {written!r}')


def number(name: str, written: str | None, *, default: int, most: int) -> int:
    """A whole number from 1 to `most`. Raises `ServersError` `bad_option` for anything else."""
    if written is None:
        return default
    if not (written.isascii() and written.isdigit() and len(written) < 10 and 1 <= int(written) <= most):
        raise ServersError("bad_option", f"{name} is a whole number from 1 to {most}, not {written!r}")
    return int(written)


def require_no_url(name: str, written: str) -> None:
    """Lets pass what is no URL, which may hold a password. Raises `ServersError` `bad_option`."""
    if "://" in written:
        raise ServersError(
            "bad_option",
            f"{name} is a file: put a database's URL into an environment variable, and give its name as url_env",
        )


def named_folders(written: str) -> dict[str, str]:
    """The paths of `docs=PATH,code=PATH` by name. Raises `ServersError` `bad_option`."""
    found: dict[str, str] = {}
    for part in _NEXT_ROOT.split(written):
        name, mark, path = (piece.strip() for piece in part.partition("="))
        if not mark or not path or not _ROOT_NAME.fullmatch(name):
            raise ServersError(
                "bad_option",
                f"roots is written docs=PATH,code=PATH with names of letters, digits, - and _; not {part.strip()!r}",
            )
        if name.casefold() in map(str.casefold, found):
            raise ServersError("bad_option", f"roots names {name!r} twice")
        found[name] = path
    if len(found) > MAX_ROOTS:
        raise ServersError("bad_option", f"roots names {len(found)} folders; {MAX_ROOTS} is the limit")
    return found


def placed(name: str, given: Mapping[str, str], place: Place) -> dict[str, str]:
    """The options with every path in them as `place` means it; what is not well written stays as it is."""
    kinds = {option.name: option.kind for option in OPTIONS.get(name, ())}
    made: dict[str, str] = {}
    for option, written in given.items():
        kind = kinds.get(option)
        if kind in ("folder", "file"):
            written = str(place(written))
        elif kind == "folders":
            try:
                written = ",".join(f"{root}={place(path)}" for root, path in named_folders(written).items())
            except ServersError:
                pass  # `build` tells of it
        made[option] = written
    return made


def mistakes(name: str, given: Mapping[str, str], place: Place) -> Iterator[Wrong]:
    """What can be known to be wrong with a server's options before it is built."""
    needed = _NEEDED.get(name)
    if needed is not None:
        options, what, example = needed
        present = [option for option in options if option in given]
        variables = [option.variable for option in OPTIONS[name] if option.variable]
        if not present and not any(os.environ.get(variable) for variable in variables):
            text = f"is missing: the server {name!r} needs {what}: options = {{ {example} }}"
            yield Wrong(option=None, reason="missing", text=text)
        elif len(present) > 1:
            text = f"has a meaning without {present[0]!r} only: give one of the two"
            yield Wrong(option=present[1], reason="bad_value", text=text)
    for option in OPTIONS.get(name, ()):
        if option.name in given:
            yield from _wrong(option, given[option.name], place)


def _wrong(option: Option, written: str, place: Place) -> Iterator[Wrong]:
    try:
        if option.kind == "flag":
            flag(option.name, written)
        if option.kind == "number":
            number(option.name, written, default=1, most=option.most)
        if option.kind == "file":
            require_no_url(option.name, written)
        folders = {"": written} if option.kind == "folder" else {}
        if option.kind == "folders":
            folders = named_folders(written)
    except ServersError as error:
        yield Wrong(option=option.name, reason="bad_value", text=error.message)
        return
    for path in map(place, folders.values()):
        if not path.is_dir():
            yield Wrong(option=option.name, reason="folder_not_found", text=f"no such folder: {path}")
    if option.kind == "file" and not place(written).is_file():
        yield Wrong(option=option.name, reason="file_not_found", text=f"no such file: {place(written)}")
