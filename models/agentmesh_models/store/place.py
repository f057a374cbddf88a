"""Where the models' files are, and how processes keep out of one another's way there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agentmesh_models.errors import ModelError

_LOOK_AGAIN: Final = 0.1


def models_folder() -> Path:
    """The folder of models: `AGENTMESH_MODELS`, or the platform's data folder for this user."""
    own = os.environ.get("AGENTMESH_MODELS")
    if own:
        return Path(own).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "agentmesh" / "models"
    root = os.environ.get("XDG_DATA_HOME")
    # The convention asks for an absolute path; a relative one would be another folder in every directory.
    folder = Path(root) if root and Path(root).is_absolute() else Path.home() / ".local" / "share"
    return folder / "agentmesh" / "models"


@contextmanager
def claimed(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file at `path`: one process at a time, however many wait. A holder that dies lets go.

    `waiting` is called once where another holds it.

    Raises:
        ModelError: "unreadable" where the lock file cannot be made.
    """
    import fcntl  # here: a machine without it can still read what is stored

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ModelError("unreadable", error.strerror or "cannot be written", path=path) from error
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                    waiting = None
                time.sleep(_LOOK_AGAIN)
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Let a name that was just made in `folder` outlast a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
