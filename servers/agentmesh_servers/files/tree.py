"""The roots that are served, and the way from a path asked for to the open folder that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentmesh_servers.errors import ServersError
from agentmesh_servers.files import names
from agentmesh_servers.files.folder import Entry, Folder, opened, told


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place in a tree: the open folder, and the name in it. A root itself is its own folder, with the name `""`."""

    folder: Folder
    name: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One or several folders that are served.

    Of one folder paths are taken as they are; of several a path begins with the name of one.
    """

    roots: Mapping[str, Path]
    hidden: bool = False

    @classmethod
    def of(cls, folders: Mapping[str, str], *, hidden: bool = False) -> Tree:
        """The tree of folders that are there; one alone needs no name. Raises `ServersError` `bad_option`."""
        roots: dict[str, Path] = {}
        for name, written in folders.items():
            try:
                root = Path(written).expanduser().resolve(strict=True)
                there = root.is_dir()
            except (OSError, RuntimeError, ValueError) as error:
                raise ServersError("bad_option", f"the folder {written} is not there: create it") from error
            if not there:
                raise ServersError("bad_option", f"{written} is not a folder: name the folder to serve")
            roots[name] = root
        return cls(roots=roots, hidden=hidden)

    @property
    def named(self) -> bool:
        """Whether paths begin with the name of a root."""
        return "" not in self.roots

    def serves(self, entry: Entry) -> bool:
        """Whether an entry is one that callers get to see."""
        return self.hidden or not entry.name.startswith(".")

    def split(self, path: str) -> tuple[str, tuple[str, ...]]:
        """The root that a path means, and the names below it. Raises `ServersError`."""
        found = names.parts(path, hidden=self.hidden)
        if not self.named:
            return "", found
        listed = ", ".join(self.roots)
        if not found:
            raise ServersError("bad_input", f"name one of the folders first: {listed}")
        if found[0] not in self.roots:
            raise ServersError(
                "not_found", f"there is no folder {names.shown(found[0])}: paths begin with one of {listed}"
            )
        return found[0], found[1:]

    @contextmanager
    def spot(self, path: str) -> Iterator[Spot]:
        """The place that a path means, its folder held open. What is there, if anything, is not looked at.

        Raises:
            ServersError: a folder on the way is not there, is a link, or may not be entered.
        """
        root, below = self.split(path)
        written = [root] if root else []
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(opened(self.roots[root]))
            except OSError as error:
                raise told(error, root) from error
            for name in below[:-1]:
                written.append(name)
                folder = _entered(stack, folder, name, "/".join(written))
            yield Spot(
                folder=folder,
                name=below[-1] if below else "",
                path="/".join([*written, *below[-1:]]),
            )

    @contextmanager
    def folder(self, path: str) -> Iterator[tuple[Folder, str]]:
        """The folder that a path means, open, and its path in plain form. Raises `ServersError`."""
        with self.spot(path) as spot, ExitStack() as stack:
            if spot.name:
                yield _entered(stack, spot.folder, spot.name, spot.path), spot.path
            else:
                yield spot.folder, spot.path


def _entered(stack: ExitStack, folder: Folder, name: str, path: str) -> Folder:
    try:
        return stack.enter_context(folder.enter(name))
    except FileNotFoundError as error:
        raise not_found(folder, name, path) from error
    except NotADirectoryError as error:
        raise ServersError("bad_input", f"{names.shown(path)} is a file, not a folder") from error
    except (OSError, ValueError) as error:
        raise told(error, path) from error


def not_found(folder: Folder, name: str, path: str) -> ServersError:
    """That a name is not in a folder, with the names that are nearest to it."""
    try:
        others = [entry.name for entry in folder.entries()[0][:2_000] if not entry.name.startswith(".")]
    except OSError:
        others = []
    return ServersError("not_found", f"{names.shown(path)} is not there{names.advice(name, others)}")
