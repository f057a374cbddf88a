"""What the hub says of a file: its digest, size and commit, asked for through the hub's own client.

The client is asked for facts only. The bytes come by plain HTTP from the address that the client makes, so that one
code resumes, counts, hashes and refuses them, wherever they come from; the hub's chunk protocol (Xet) is not needed
for that, every file is served whole too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentmesh_models.errors import ModelError
from agentmesh_models.store.lock import is_digest
from agentmesh_models.store.names import SUFFIX, HubFile, redact

if TYPE_CHECKING:
    from types import ModuleType

_PIECE: Final = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_USUAL: Final = re.compile(r"q4_k_m", re.IGNORECASE)
_MOST_NAMED: Final = 12
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A file of the hub as it is now. `cached` is where the hub's client has it already."""

    source: HubFile
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    digest: str | None
    size: int | None
    commit: str
    cached: Path | None


def locate(source: HubFile, *, timeout: float) -> Located:
    """What the hub (`HF_ENDPOINT`) says of a file, with the token of `HF_TOKEN` or of the saved login.

    Raises:
        ModelError: "no_backend" without huggingface_hub, "offline", "not_found", "bad_request", "download".
    """
    hub = _client()
    endpoint = (os.environ.get("HF_ENDPOINT") or hub.constants.ENDPOINT).rstrip("/")
    token = hub.get_token()
    try:
        file = source.file or _choose(source, hub, endpoint, token, timeout)
        return _facts(source, file, hub, endpoint, token, timeout)
    except Exception as error:  # the client lets its HTTP library's errors out; what is not the hub's goes on
        told = _told(error, source, hub, endpoint, has_token=token is not None)
        if told is None:
            raise
        raise told from None  # the client's words hold addresses


def cached_at(source: HubFile) -> Path | None:
    """Where the hub's client has the file, without a network; None without the client too."""
    try:
        hub = _client()
    except ModelError:
        return None
    return _cached(hub, source, source.revision) if source.file else None


def _client() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ModuleNotFoundError as error:
        raise ModelError(
            "no_backend",
            f"the hub needs huggingface_hub ({error.name} is missing): pip install 'agentmesh-runtime[hub]'; "
            "or give the file's https:// address",
        ) from None
    return huggingface_hub


def _facts(
    source: HubFile, file: str, hub: ModuleType, endpoint: str, token: str | None, timeout: float
) -> Located:
    url = hub.hf_hub_url(source.repo, file, revision=source.revision, endpoint=endpoint)
    # The client follows the hub's own redirects, and stops at the one to its storage: the facts are on that.
    head = hub.get_hf_file_metadata(url, token=token or False, timeout=timeout, endpoint=endpoint)
    commit = head.commit_hash or ""
    if not _COMMIT.fullmatch(commit):
        raise ModelError("download", f"{source.shown}: {redact(endpoint)} tells no commit; is it a hub?")
    digest = head.etag if head.etag is not None and is_digest(head.etag) else None
    found = HubFile(repo=source.repo, file=file, revision=source.revision)
    return Located(
        source=found,
        url=hub.hf_hub_url(source.repo, file, revision=commit, endpoint=endpoint),
        headers={"authorization": f"Bearer {token}"} if token else {},
        digest=digest,
        size=head.size if isinstance(head.size, int) and head.size >= 0 else None,
        commit=commit,
        cached=_cached(hub, found, commit),
    )


def _cached(hub: ModuleType, source: HubFile, revision: str | None) -> Path | None:
    found = hub.try_to_load_from_cache(source.repo, source.file or "", revision=revision)
    path = Path(found) if isinstance(found, str) else None
    return path if path is not None and path.is_file() else None


def _choose(source: HubFile, hub: ModuleType, endpoint: str, token: str | None, timeout: float) -> str:
    told = hub.HfApi(endpoint=endpoint, token=token or False).model_info(
        source.repo, revision=source.revision, timeout=timeout
    )
    return choose([str(each.rfilename) for each in told.siblings or ()], source)


def choose(names: Sequence[str], source: HubFile) -> str:
    """The one file that is meant by a repository: its only one, or its only Q4_K_M.

    Raises:
        ModelError: "bad_request", with the names there are.
    """
    models = [
        name
        for name in names
        if name.lower().endswith(SUFFIX) and not _PIECE.search(name) and "mmproj" not in name.lower()
    ]
    usual = [name for name in models if _USUAL.search(name)]
    for found in (models, usual):
        if len(found) == 1:
            return found[0]
    if not models:
        raise ModelError("not_found", f"{source.shown}: no whole {SUFFIX} file is in that repository")
    some = ", ".join(sorted(models)[:_MOST_NAMED]) + (", ..." if len(models) > _MOST_NAMED else "")
    raise ModelError("bad_request", f"{source.shown}: name one of its files, as {source.key}/FILE: {some}")


def _told(
    error: Exception, source: HubFile, hub: ModuleType, endpoint: str, *, has_token: bool
) -> ModelError | None:
    """The client's error in our words; None for one that is not the hub's."""
    errors, shown, place = hub.errors, source.shown, redact(endpoint)
    if isinstance(error, ModelError):
        return error
    if isinstance(error, errors.OfflineModeIsEnabled):
        return _offline(shown, "HF_HUB_OFFLINE is set")
    if isinstance(error, errors.GatedRepoError):
        page = f"{place}/{source.repo}"
        token = "the token that is set was refused" if has_token else "then set HF_TOKEN to a token of yours"
        return ModelError("download", f"{shown}: gated: accept its terms at {page}; {token}")
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError("not_found", f"{shown}: the repository has no revision {source.revision!r}")
    if isinstance(error, errors.EntryNotFoundError):
        return ModelError(
            "not_found", f"{shown}: the repository has no such file (see {place}/{source.repo})"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        private = "" if has_token else "; a private one wants HF_TOKEN"
        return ModelError("not_found", f"{shown}: {place} has no such repository{private}")
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(error.response, "status_code", "an error")
        return ModelError("download", f"{shown}: {place} answers {status}; try again later")
    if isinstance(error, errors.HFValidationError):
        return ModelError("bad_request", f"{shown}: not a name the hub can have")
    if _is_transport(error):
        return _offline(shown, f"{place} does not answer ({type(error).__name__})")
    return None


def _offline(shown: str, why: str) -> ModelError:
    return ModelError(
        "offline",
        f"{shown}: {why}; give the path of a GGUF file instead of a name, or copy the file here by other means and "
        "say agentmesh models add PATH --name NAME",
    )


def _is_transport(error: Exception) -> bool:
    """Whether it is an error of the connection: the client lets its HTTP library's out as they are."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or bool(
        modules & {"httpx2", "httpx", "httpcore2", "httpcore"}
    )
