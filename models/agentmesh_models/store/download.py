"""A file brought here whole: resumed where it broke, held to its size and digest, and never taken for more than it is."""

from __future__ import annotations

import errno
import http.client
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Final

from agentmesh_models.errors import ModelError
from agentmesh_models.store.local import require_space
from agentmesh_models.store.part import Part, note_of
from agentmesh_models.store.web import Answer, Broken, ask

_CHUNK: Final = 1 << 18
_MAGIC: Final = b"GGUF"
_MOST_ATTEMPTS: Final = 200

Progress = Callable[[int, int | None], None]
"""Bytes that are here, and bytes that there will be, where the server tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a download is tried. Times in seconds, sizes in bytes."""

    attempts: int = 6
    """Attempts in a row that bring nothing."""
    pause: float = 1.0
    """The first wait between two; each is twice the one before."""
    longest_pause: float = 30.0
    silence: float = 30.0
    """How long a server may say nothing."""
    slow_after: float = 60.0
    """Within this time at least `slow_bytes` must have come, or the connection is given up."""
    slow_bytes: int = 16_384
    most_bytes: int = 1 << 38
    """A file larger than this is refused: 275 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file to be brought: where it is, and what is known of it beforehand."""

    url: str = field(repr=False)
    shown: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    size: int | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What came."""

    digest: str
    size: int


def download(
    wanted: Wanted, path: Path, *, patience: Patience, progress: Progress, say: Callable[[str], None]
) -> Arrived:
    """Bring the file to `path`, going on from what is there. Interrupted, it keeps what came for the next time.

    Raises:
        ModelError: "not_found", "offline", "download", "mismatch", "no_space", "not_gguf" or "unreadable".
    """
    part = Part(path)
    part.open(key=wanted.shown, digest=wanted.digest)
    if wanted.size is not None and part.size > wanted.size:
        part.restart()
    _bring(wanted, part, patience, progress, say)
    if wanted.digest is not None and part.digest != wanted.digest and part.resumed:
        say("what was here from before does not fit what came; beginning anew")
        part.restart()
        _bring(wanted, part, patience, progress, say)
    if wanted.digest is not None and part.digest != wanted.digest:
        found = part.digest
        part.restart()
        raise ModelError(
            "mismatch",
            f"{wanted.shown}: expected sha256 {wanted.digest}, and {found} came; it was thrown away",
            expected=wanted.digest,
            found=found,
        )
    part.finish()
    return Arrived(digest=part.digest, size=part.size)


def _bring(
    wanted: Wanted, part: Part, patience: Patience, progress: Progress, say: Callable[[str], None]
) -> None:
    """Attempts until the part is whole."""
    fruitless = begun_anew = 0
    reached = False
    for _ in range(_MOST_ATTEMPTS):
        before = part.size
        try:
            if _attempt(wanted, part, patience, progress):
                return
            reached = True
            begun_anew += 1  # what was here did not fit what the server has
            if begun_anew > patience.attempts:
                raise ModelError("download", f"{wanted.shown}: the server has another file at every request")
        except Broken as broken:
            reached = reached or not broken.unreached
            fruitless = 0 if part.size > before else fruitless + 1
            if fruitless >= patience.attempts:
                raise _given_up(wanted, part, broken, reached) from None
            pause = min(patience.pause * 2 ** max(0, fruitless - 1), patience.longest_pause)
            if broken.wait is not None:
                pause = min(broken.wait, 2 * patience.longest_pause)
            say(f"{broken}; going on at {part.size / 1e6:,.1f} MB in {pause:g} s")
            time.sleep(pause)
    raise ModelError(
        "download", f"{wanted.shown}: the connection broke {_MOST_ATTEMPTS} times; try again later"
    )


def _given_up(wanted: Wanted, part: Part, broken: Broken, reached: bool) -> ModelError:
    kept = (
        f"; {part.size / 1e6:,.1f} MB are kept, and the same command goes on from there" if part.size else ""
    )
    if reached:
        return ModelError("download", f"{wanted.shown}: {broken}{kept}")
    return ModelError(
        "offline",
        f"{wanted.shown}: {broken}; without a network, copy the file here by other means and say "
        f"agentmesh models add PATH --name NAME{kept}",
    )


def _attempt(wanted: Wanted, part: Part, patience: Patience, progress: Progress) -> bool:
    """One request. True when the part is whole, False when it was thrown away and the next begins anew."""
    headers = {**wanted.headers, "Accept-Encoding": "identity"}
    if part.size:
        if wanted.size is not None and part.size == wanted.size:
            return True
        headers["Range"] = f"bytes={part.size}-"
        if part.note is not None and part.note.validator is not None:
            headers["If-Range"] = part.note.validator
    answer = ask(wanted.url, headers, shown=wanted.shown, timeout=patience.silence)
    try:
        total = _place(answer, wanted, part)
        if total is _ANEW:
            part.restart()
            return False
        if total is _WHOLE:
            return True
        _admit(total, wanted, part, patience)
        _receive(answer, total, wanted, part, patience, progress)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise ModelError("unreadable", error.strerror or "cannot be written", path=part.path) from error
        raise ModelError("no_space", "the disk is full; what came is kept", path=part.path) from error
    finally:
        answer.body.close()
    return True


_ANEW: Final = -1
_WHOLE: Final = -2


def _place(answer: Answer, wanted: Wanted, part: Part) -> int | None:
    """How long the file is by this answer, with the part brought to where the answer begins."""
    note = note_of(answer, key=wanted.shown, digest=wanted.digest)
    if answer.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise ModelError(
            "download", f"{wanted.shown}: the server packs the file although it was asked not to"
        )
    if answer.status == 416:
        return (
            _WHOLE if part.size and answer.whole == part.size else _ANEW if part.size else _no_range(wanted)
        )
    if answer.status == 206:
        span = answer.span
        if not part.size:
            return _no_range(wanted)
        same = part.note is None or note.etag is None or part.note.etag in (None, note.etag)
        if span is None or span[0] != part.size or not same:
            return _ANEW
        part.resumed = True
        return span[1]
    # 200: the server knows no ranges, or the file is another since; either way it begins anew.
    part.restart()
    part.begin(note)
    return answer.length


def _no_range(wanted: Wanted) -> int:
    raise ModelError(
        "download", f"{wanted.shown}: the server answers for a part where the whole was asked for"
    )


def _admit(total: int | None, wanted: Wanted, part: Part, patience: Patience) -> None:
    """Refuse a file of the wrong size or of too many bytes before it comes."""
    if total is None:
        total = wanted.size
    if total is None:
        return
    if wanted.size is not None and total != wanted.size:
        part.restart()
        raise ModelError(
            "mismatch",
            f"{wanted.shown}: {wanted.size:,} bytes are announced, and the server sends {total:,}",
            expected=wanted.size,
            found=total,
        )
    if total > patience.most_bytes:
        part.restart()
        raise ModelError(
            "download",
            f"{wanted.shown}: {total:,} bytes are more than the {patience.most_bytes:,} that are taken",
            expected=patience.most_bytes,
            found=total,
        )
    require_space(part.path.parent, total - part.size)


def _receive(
    answer: Answer, total: int | None, wanted: Wanted, part: Part, patience: Patience, progress: Progress
) -> None:
    """Write what comes to the end of the part; raises `Broken` where it ends early."""
    end = wanted.size if total is None else total
    since, at = time.monotonic(), part.size
    with part.path.open("ab", buffering=0) as file:  # what came outlasts this process, however it ends
        try:
            while chunk := _read(answer, patience):
                _write(file, chunk)
                part.append(chunk)
                if part.size - len(chunk) < len(_MAGIC) <= part.size:
                    _check_magic(wanted, part)
                if part.size > (patience.most_bytes if end is None else end):
                    raise _too_long(wanted, part, end)
                progress(part.size, end)
                now = time.monotonic()
                if now - since >= patience.slow_after:
                    if part.size - at < patience.slow_bytes:
                        raise Broken("the server sends next to nothing")
                    since, at = now, part.size
        finally:
            os.fsync(file.fileno())
    if end is not None and part.size < end:
        raise Broken(f"the connection ended after {part.size:,} of {end:,} bytes")


def _read(answer: Answer, patience: Patience) -> bytes:
    try:
        return answer.body.read1(_CHUNK)
    except TimeoutError:
        raise Broken(f"the server fell silent for {patience.silence:g} seconds") from None
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
    ) as error:  # ValueError: a chunk's length is no number
        raise Broken(f"the connection broke ({type(error).__name__})") from None


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a full disk takes a piece, and fails at the next
        view = view[file.write(view) :]


def _check_magic(wanted: Wanted, part: Part) -> None:
    with part.path.open("rb") as start:
        magic = start.read(len(_MAGIC))
    if magic == _MAGIC:
        return
    part.restart()
    page = " (a web page?)" if magic.lstrip()[:1] == b"<" else ""
    raise ModelError(
        "not_gguf",
        f"{wanted.shown}: no GGUF file: it begins with {magic!r}{page}",
        expected="GGUF",
        found=repr(magic),
    )


def _too_long(wanted: Wanted, part: Part, end: int | None) -> ModelError:
    part.restart()
    most = "are taken" if end is None else "are announced"
    return ModelError("mismatch" if end else "download", f"{wanted.shown}: more bytes come than {most}")
