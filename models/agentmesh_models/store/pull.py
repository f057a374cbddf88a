"""A pull: from a name to a checked file in the models' folder, with its digest pinned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agentmesh_models.digest import file_digest
from agentmesh_models.errors import ModelError
from agentmesh_models.gguf import read_gguf
from agentmesh_models.store.download import Patience, Progress, Wanted, download
from agentmesh_models.store.hub import Located, cached_at, locate
from agentmesh_models.store.local import Store, now
from agentmesh_models.store.lock import Pin, Stored, is_digest
from agentmesh_models.store.names import (
    HubFile,
    Source,
    WebFile,
    check_name,
    is_source,
    name_from,
    parse_source,
)
from agentmesh_models.store.offers import offers
from agentmesh_models.store.place import claimed

HUB_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull left: the model, and where the file came from."""

    stored: Stored
    path: Path
    how: str
    """`downloaded`, `here` already, or `cached` by the hub's client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aim:
    """What a pull is of: where the bytes are, what they are held to, and what the model will be called."""

    source: Source
    name: str
    wanted: Wanted
    revision: str | None
    cached: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """How to pull: what the digest must be, whether another than before is taken, and who is told of it."""

    name: str | None = None
    digest: str | None = None
    repin: bool = False
    patience: Patience = field(default_factory=Patience)
    progress: Progress = lambda here, total: None
    say: Callable[[str], None] = lambda text: None


def pull(spec: str, how: Pull, *, store: Store | None = None) -> Pulled:
    """Bring the model that a name of the catalogue, `hf:owner/repo/file.gguf` or an address names.

    What is here already is checked and not brought again. Two pulls of one file wait for one another.

    Raises:
        ModelError: "bad_request" or "not_found" for a name, "mismatch" where the source gives another file than it
            is pinned to, and what `download` and `locate` raise.
    """
    store = Store() if store is None else store
    if how.digest is not None and not is_digest(how.digest):
        raise ModelError("bad_request", "a SHA-256 is 64 digits of lower-case hex")
    source, name = _target(spec, how)
    known = store.find(source.key)
    try:
        aim = _aim(source, name, how)
    except ModelError as error:
        if error.reason != "offline" or known is None or how.repin or known.name != name:
            raise _with_hint(error, source) from None
        path = store.checked(known)
        how.say(f"no network; {known.name} is here already")
        return Pulled(stored=known, path=path, how="here")
    aim = _held_to_pin(aim, store.pin(aim.source.key), how)
    return _have(aim, store, how)


def source_of(spec: str) -> Source | None:
    """What would be pulled by that name; None for a name that the catalogue does not have.

    Raises:
        ModelError: "bad_request" for a source that is none.
    """
    if is_source(spec):
        return parse_source(spec)
    offer = offers().get(spec)
    return None if offer is None else offer.source


def _target(spec: str, how: Pull) -> tuple[Source, str]:
    source = source_of(spec)
    if source is None:
        raise ModelError(
            "not_found",
            f"the catalogue has no {spec!r}; it has {', '.join(offers())}. Other models: "
            "hf:owner/repo/file.gguf or an https:// address; a file that is here: agentmesh models add",
        )
    usual = name_from(source.file or source.shown) if is_source(spec) else spec
    return source, check_name(how.name or usual)


def _aim(source: Source, name: str, how: Pull) -> _Aim:
    if isinstance(source, WebFile):
        headers = {} if source.authorization is None else {"authorization": source.authorization}
        wanted = Wanted(url=source.url, shown=source.shown, headers=headers, digest=how.digest)
        return _Aim(source=source, name=name, wanted=wanted, revision=None, cached=None)
    found = locate(source, timeout=HUB_TIMEOUT)
    if how.digest is not None and found.digest is not None and how.digest != found.digest:
        raise _other(found.source.shown, how.digest, found.digest, "it was to be")
    if source.file is None:
        name = check_name(how.name or name_from(found.source.file or ""))
    return _Aim(
        source=found.source,
        name=name,
        wanted=_wanted(found, how),
        revision=found.commit,
        cached=found.cached,
    )


def _wanted(found: Located, how: Pull) -> Wanted:
    return Wanted(
        url=found.url,
        shown=found.source.shown,
        headers=found.headers,
        size=found.size,
        digest=found.digest or how.digest,
    )


def _held_to_pin(aim: _Aim, pin: Pin | None, how: Pull) -> _Aim:
    """The aim with the pinned digest as what must come, unless the pin is to be made anew."""
    if pin is None or how.repin:
        return aim
    told = aim.wanted.digest
    if told is not None and told != pin.digest:
        raise _other(aim.source.shown, pin.digest, told, f"since {pin.since} it is pinned to")
    return replace(aim, wanted=replace(aim.wanted, digest=pin.digest))


def _other(shown: str, expected: str, found: str, why: str) -> ModelError:
    return ModelError(
        "mismatch",
        f"{shown}: {why} sha256 {expected}, and the source has {found} now; if you know why it changed, "
        "pull it with --repin",
        expected=expected,
        found=found,
    )


def _have(aim: _Aim, store: Store, how: Pull) -> Pulled:
    """The file of the aim, from the nearest place that has it."""
    part = store.part_path(aim.source.key)
    with claimed(
        part.with_suffix(".claim"),
        lambda: how.say(f"{aim.source.shown} is being pulled already; waiting for that"),
    ):
        digest = aim.wanted.digest
        if digest is not None:
            # Looked at inside the claim: another pull may just have finished it.
            relative, path = store.own_file(digest, aim.source.file or "")
            if path.is_file() and file_digest(path) == digest:
                return _register(aim, store, how, relative, digest, path.stat().st_size, "here")
            cached = aim.cached or (cached_at(aim.source) if isinstance(aim.source, HubFile) else None)
            if cached is not None and file_digest(cached) == digest:
                read_gguf(cached)
                # The hub client's own link stays valid when the blob behind it is shared by other revisions.
                return _register(
                    aim, store, how, str(cached.absolute()), digest, cached.stat().st_size, "cached"
                )
        arrived = download(aim.wanted, part, patience=how.patience, progress=how.progress, say=how.say)
        _check_whole(part, aim)
        relative = store.take_in(part, arrived.digest, aim.source.file or "")
        return _register(aim, store, how, relative, arrived.digest, arrived.size, "downloaded")


def _check_whole(part: Path, aim: _Aim) -> None:
    try:
        read_gguf(part)
    except ModelError as error:
        part.unlink(missing_ok=True)
        told = str(error).removeprefix(f"{part}: ")
        reason = "download" if error.reason == "truncated" else error.reason
        raise ModelError(
            reason,
            f"{aim.source.shown}: what came is no whole model, and was thrown away: {told}",
            expected=error.expected,
            found=error.found,
        ) from None


def _register(aim: _Aim, store: Store, how: Pull, file: str, digest: str, size: int, came: str) -> Pulled:
    since = now()
    stored = Stored(
        name=aim.name,
        kind="pulled",
        file=file,
        source=aim.source.key,
        digest=digest,
        size=size,
        revision=aim.revision,
        since=since,
    )
    before = store.pin(aim.source.key)
    keep = before is not None and before.digest == digest
    pin = (
        before
        if before is not None and keep
        else Pin(digest=digest, size=size, revision=aim.revision, since=since)
    )
    store.register(stored, replaces=how.repin, pins={aim.source.key: pin})
    return Pulled(stored=stored, path=store.path(stored), how=came)


def _with_hint(error: ModelError, source: Source) -> ModelError:
    """An offline error that names a copy the hub's client has, where it has one."""
    cached = cached_at(source) if error.reason == "offline" and isinstance(source, HubFile) else None
    if cached is None:
        return error
    return ModelError("offline", f"{error}; the hub's cache has a copy, never checked: {cached}")
