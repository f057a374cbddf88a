"""What a path asked for may look like, and how a name is shown.

A path is a row of names below a root, with `/` between them. It never holds `..`, and no name with a meaning of its own
to some operating system; what a caller names can therefore only be looked for where it may look.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from agentmesh_servers.errors import ServersError

MAX_NAME_BYTES: Final = 255
MAX_DEPTH: Final = 64
_SHOWN: Final = 200
# There a name may have several spellings, and some names mean a device or a part of a file.
WINDOWS: Final = os.name == "nt"
_SHORT: Final = re.compile(r"~\d")
# Windows opens devices by these names, whatever the folder and whatever comes behind a dot.
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}
    | {f"{kind}{digit}" for kind in ("com", "lpt") for digit in "0123456789¹²³"}
)
_UNPORTABLE: Final = frozenset('<>:"|?*\\')
_DRIVE: Final = re.compile(r"[A-Za-z]:")


def clean(name: str) -> str:
    """A name or path in one line, each character that cannot be seen replaced."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def shown(name: str) -> str:
    """The same for a message: at most 200 letters."""
    kept = clean(name[: 2 * _SHOWN])
    return kept if len(kept) <= _SHOWN else f"{kept[:_SHOWN]}…"


def parts(path: str, *, hidden: bool) -> tuple[str, ...]:
    """The names that a path is made of; none for the root itself.

    Raises:
        ServersError: `bad_input` for a path that could lead elsewhere or that no file system holds, `refused` for a
            hidden name where those are not served.
    """
    if path.startswith(("/", "\\", "~")) or _DRIVE.match(path):
        raise ServersError(
            "bad_input",
            f"{shown(path)!r} is no path below the folder: begin with the name of a file or folder in it",
        )
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    if len(names) > MAX_DEPTH:
        raise ServersError("bad_input", f"the path has {len(names)} names; {MAX_DEPTH} is the limit")
    for name in names:
        if name == "..":
            raise ServersError("bad_input", "'..' leads out of the folder: write the path from the folder on")
        if "\0" in name or len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES:
            raise ServersError("bad_input", f"no file can be called {shown(name)!r}")
        if WINDOWS:
            require_portable(name)
            if _SHORT.search(name):
                raise ServersError(
                    "bad_input", f"{shown(name)!r} may be a short form of another name: write that"
                )
        # Some file systems of macOS do not see what cannot be seen, and find `.git` by such a name.
        if clean(name).lstrip("\ufffd").startswith(".") and not hidden:
            raise ServersError(
                "refused", f"{shown(name)!r} is hidden (it begins with a dot), and those are not served"
            )
    return names


def require_portable(name: str) -> None:
    """Lets pass only names that every operating system takes as the name of a plain file.

    Raises:
        ServersError: `bad_input`, for what a new file must not be called.
    """
    why = None
    if not name.isprintable():
        why = "it holds characters that cannot be seen"
    elif bad := sorted(_UNPORTABLE.intersection(name)):
        why = f"it holds {' '.join(bad)}"
    elif name != name.strip() or name.endswith("."):
        why = "it begins or ends with a space, or ends with a dot"
    elif name.split(".")[0].strip().casefold() in _DEVICES:
        why = "Windows keeps that name for a device"
    elif name != unicodedata.normalize("NFC", name):
        why = "its accents are written as separate characters (use Unicode's form NFC)"
    if why is not None:
        raise ServersError("bad_input", f"a file cannot be called {shown(name)!r}: {why}")


def alike(name: str) -> str:
    """The same for all names that some file system takes for one: case and the way accents are written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def advice(name: str, others: Iterable[str]) -> str:
    """`; did you mean ...` for the names that are nearest, or nothing."""
    by_form = {alike(other): other for other in others}
    wanted = alike(name)
    near = [by_form[match] for match in get_close_matches(wanted[:100], by_form, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(map(shown, near))}?" if near else ""
