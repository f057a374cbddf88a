"""What a model may be called, and where a name points: a file on the hub, or at an address."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from agentmesh_models.errors import ModelError

HUB: Final = "hf:"
WEB: Final = ("http://", "https://")
SUFFIX: Final = ".gguf"
RESERVED: Final = frozenset({"nano", "scripted"})

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REPO_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_HUB_HOSTS: Final = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file of a repository on the hub. Without `file` it is the repository's one obvious choice."""

    repo: str
    file: str | None = None
    revision: str | None = None

    @property
    def key(self) -> str:
        """The name under which its digest is pinned; never holds a secret."""
        at = f"@{self.revision}" if self.revision else ""
        return f"{HUB}{self.repo}{at}" + (f"/{self.file}" if self.file else "")

    @property
    def shown(self) -> str:
        """What people are told it is called."""
        return self.key


@dataclass(frozen=True, slots=True, kw_only=True)
class WebFile:
    """A file at an address. The address as it is used is kept from `repr`: its query may be a password."""

    key: str
    """Scheme, host and path: what is pinned and shown. User, password and query are not in it."""
    url: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """What people are told it is called."""
        return self.key

    @property
    def file(self) -> str:
        """The last part of the path."""
        return unquote(self.key.rpartition("/")[2])


Source = HubFile | WebFile


def is_source(text: str) -> bool:
    """Whether `text` names something on the hub or the web rather than a model or a path."""
    return text.startswith(HUB) or text.lower().startswith(WEB)


def redact(text: str) -> str:
    """What may be shown of a name that people typed: an address without user, password and query."""
    if not text.lower().startswith(WEB):
        return text
    scheme, _, rest = text.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    place, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{place.rpartition('@')[2]}{slash}{path}"


def parse_source(text: str) -> Source:
    """The file that `hf:owner/repo[@revision][/file.gguf]` or an address names.

    Raises:
        ModelError: "bad_request", with the form that is wanted.
    """
    if text.startswith(HUB):
        return _hub(text)
    return _web(text)


def is_name(text: str) -> bool:
    """Whether a model may be called `text`; no path with a folder or a suffix in it may."""
    return _NAME.fullmatch(text) is not None and not text.lower().endswith(SUFFIX)


def check_name(name: str) -> str:
    """`name`, where a model may be called that.

    Raises:
        ModelError: "bad_request".
    """
    if not is_name(name):
        raise ModelError(
            "bad_request",
            f"{name!r} cannot be the name of a model: up to 64 letters, digits, '.', '_' and '-', "
            f"a letter or digit first, and not ending with {SUFFIX}",
        )
    if name.lower() in RESERVED:
        raise ModelError("bad_request", f"{name!r} is the name of a model that comes with the package")
    return name


def name_from(file: str) -> str:
    """A name made of a file's: `Qwen3-0.6B-Q8_0.gguf` is `qwen3-0.6b-q8_0`."""
    stem = file.rpartition("/")[2]
    if stem.lower().endswith(SUFFIX):
        stem = stem[: -len(SUFFIX)]
    name = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:64]
    return f"{name}-model" if name in RESERVED else name or "model"


def file_name(file: str) -> str:
    """A file's name as it may stand in a folder: no letters that a file system or a terminal acts on."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", file.rpartition("/")[2]).strip("-.")[-96:] or f"model{SUFFIX}"


def _hub(text: str) -> HubFile:
    owner, _, rest = text.removeprefix(HUB).partition("/")
    repo, _, file = rest.partition("/")
    repo, at, revision = repo.partition("@")
    good = all(_REPO_PART.fullmatch(part) and ".." not in part for part in (owner, repo))
    if not good or (at and (not _REVISION.fullmatch(revision) or ".." in revision)):
        raise _bad_hub(text)
    if rest.endswith("/") or (
        not file and repo.lower().endswith(SUFFIX)
    ):  # owner/file.gguf: the repository is missing
        raise _bad_hub(text)
    if file and (not file.lower().endswith(SUFFIX) or not _is_plain(file)):
        raise _bad_hub(text)
    return HubFile(repo=f"{owner}/{repo}", file=file or None, revision=revision or None)


def _bad_hub(text: str) -> ModelError:
    return ModelError(
        "bad_request",
        f"{text!r}: give hf:owner/repo/file.gguf, hf:owner/repo@revision/file.gguf, or hf:owner/repo",
    )


def _is_plain(path: str) -> bool:
    return not _UNPRINTABLE.search(path) and all(part not in ("", ".", "..") for part in path.split("/"))


def _web(text: str) -> Source:
    shown = redact(text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        place = f"[{host}]" if ":" in host else host if host.isascii() else host.encode("idna").decode()
        path = quote(parts.path or "/", safe=_PATH_SAFE)
        query = f"?{quote(parts.query, safe=_PATH_SAFE + '?')}" if parts.query else ""
        authorization = _authorization(parts)
    except ValueError:  # no number after the colon, brackets that do not close, letters that no host has
        raise ModelError("bad_request", f"{shown}: not an address") from None
    if not place or _UNPRINTABLE.search(text) or parts.scheme.lower() not in ("http", "https"):
        raise ModelError("bad_request", f"{shown}: give the http:// or https:// address of a {SUFFIX} file")
    on_hub = _of_hub_address(parts) if host in _HUB_HOSTS else None
    if on_hub is not None:
        return on_hub
    if not unquote(path).lower().endswith(SUFFIX) and SUFFIX not in parts.query.lower():
        raise ModelError("bad_request", f"{shown}: give the address of a {SUFFIX} file")
    key = f"{parts.scheme.lower()}://{place}{f':{port}' if port else ''}{path}"
    return WebFile(key=key, url=key + query, authorization=authorization)


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def _of_hub_address(parts: SplitResult) -> HubFile | None:
    """The hub's file that its page or download address names, so that its digest is asked for."""
    steps = unquote(parts.path).strip("/").split("/")
    if len(steps) < 5 or steps[2] not in ("resolve", "blob"):
        return None
    revision = "" if steps[3] == "main" else f"@{steps[3]}"
    return _hub(f"{HUB}{steps[0]}/{steps[1]}{revision}/{'/'.join(steps[4:])}")
