"""Which database a server is for, and the limits of what is asked of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from agentmesh_servers.errors import ServersError
from agentmesh_servers.options import (
    DEFAULT_ROWS,
    DEFAULT_SECONDS,
    MAX_ROWS,
    MAX_SECONDS,
    flag,
    number,
    require_no_url,
)

FILE_VARIABLE: Final = "AGENTMESH_SQL_DATABASE"
URL_VARIABLE: Final = "AGENTMESH_SQL_URL"
_SCHEMES: Final = ("postgresql://", "postgres://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A database. `place` is a file's path or a URL, which may hold a password and is not for anyone to see."""

    kind: Literal["sqlite", "postgres"]
    place: str = field(repr=False)
    seconds: int
    rows: int
    write: bool
    superuser: bool

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Source:
        """The database that the options name, or else the environment.

        Raises:
            ServersError: `bad_option` for none or two of them, or a value that is not well written; `missing_extra`
                where the PostgreSQL driver is not installed.
        """
        if "database" in given and "url_env" in given:
            raise ServersError("bad_option", "database and url_env are given: give one of the two")
        file = given.get("database")
        variable = given.get("url_env")
        if file is None and variable is None:
            file = os.environ.get(FILE_VARIABLE)
            variable = URL_VARIABLE if os.environ.get(URL_VARIABLE) else None
        if not file and not variable:
            raise ServersError(
                "bad_option",
                "the sql server needs a database: give --database FILE or --url-env NAME, the option database or "
                f"url_env, or set {FILE_VARIABLE} or {URL_VARIABLE}",
            )
        place = _file(file) if file else _url(variable or "")
        return cls(
            kind="sqlite" if file else "postgres",
            place=place,
            seconds=number("timeout", given.get("timeout"), default=DEFAULT_SECONDS, most=MAX_SECONDS),
            rows=number("rows", given.get("rows"), default=DEFAULT_ROWS, most=MAX_ROWS),
            write=flag("write", given.get("write")),
            superuser=flag("superuser", given.get("superuser")),
        )


def _file(written: str) -> str:
    require_no_url("database", written)
    try:
        path = Path(written).expanduser().resolve()
        there = path.is_file()
    except (OSError, RuntimeError, ValueError):
        there = False
    if not there:
        raise ServersError("bad_option", f"the database {written} is not there: name an SQLite file")
    return str(path)


def _url(variable: str) -> str:
    url = os.environ.get(variable, "")
    if not url:
        raise ServersError(
            "bad_option",
            f"the environment variable {variable} is not set: it must hold postgresql://USER@HOST/DATABASE",
        )
    url = url.replace("postgresql+psycopg://", "postgresql://", 1)
    if not url.startswith(_SCHEMES):
        raise ServersError(
            "bad_option",
            f"the environment variable {variable} must hold a URL, postgresql://USER@HOST/DATABASE",
        )
    if "@" in url.partition("://")[2].partition("/")[0].rpartition("@")[0]:
        raise ServersError(
            "bad_option", f"in the environment variable {variable} write an @ in the user or password as %40"
        )
    if find_spec("psycopg") is None:
        raise ServersError(
            "missing_extra",
            "PostgreSQL needs the postgres extra: pip install 'agentmesh-runtime[postgres]'",
            extra="postgres",
        )
    return url
