"""What a mesh file means by the paths, programs and addresses in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit


def place(folder: Path, written: str) -> Path:
    """The path that a mesh file in `folder` means by `written`; `~` is the home folder, where there is one."""
    try:
        return folder / Path(written).expanduser()
    except RuntimeError:
        return folder / written


def is_program(program: str, folder: Path, env: Mapping[str, str]) -> bool:
    """Whether a server can be started as `program`: with a slash a path from `folder`, else looked up as a shell does."""
    if "/" in program:
        return (folder / program).is_file()
    return shutil.which(program, path=env.get("PATH")) is not None


def is_address(url: str) -> bool:
    """Whether `url` is an http or https address with a host and, where one is given, a port that exists."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
