"""One answer of a web server: asked for without trusting it, redirects included.

Made of the standard library alone: an installation without extras can pull, and what http.client does to a socket that
falls silent, lies about a length or dies in the middle is little enough to be known.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import IO, Final, Protocol, cast
from urllib.parse import urljoin, urlsplit

from agentmesh_models.errors import ModelError
from agentmesh_models.store.names import redact

MOST_REDIRECTS: Final = 10
_AGENT: Final = "agentmesh-models"
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_UNSATISFIED: Final = re.compile(r"bytes \*/(\d{1,18})")
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


class Broken(Exception):
    """The transfer ended early, in a way that another attempt may mend. `wait` is what the server asked for, in seconds."""

    def __init__(self, message: str, *, wait: float | None = None, unreached: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.unreached = unreached


class Body(Protocol):
    """What is read of an answer."""

    def read1(self, size: int, /) -> bytes:
        """Some bytes as they come; none at the end."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of an answer, and its body still to be read."""

    status: int
    headers: Mapping[str, str]
    body: Body = field(repr=False)

    @property
    def length(self) -> int | None:
        """How many bytes the server says will follow."""
        text = self.headers.get("content-length", "")
        return int(text) if re.fullmatch(r"\d{1,18}", text) else None

    @property
    def span(self) -> tuple[int, int | None] | None:
        """Of a part: where it begins, and how long the whole is, if that is told."""
        found = _RANGE.fullmatch(self.headers.get("content-range", ""))
        return None if found is None else (int(found[1]), None if found[3] == "*" else int(found[3]))

    @property
    def whole(self) -> int | None:
        """Of a range that cannot be had: how long the whole is."""
        found = _UNSATISFIED.fullmatch(self.headers.get("content-range", ""))
        return None if found is None else int(found[1])


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would follow from https to http, and take our password along."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message
    ) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def ask(url: str, headers: Mapping[str, str], *, shown: str, timeout: float) -> Answer:
    """The server's answer (200, 206 or 416) to a GET, after at most ten redirects.

    `authorization` among the headers goes to the first origin only. `timeout` is how long the server may say
    nothing, in seconds. Proxies are taken from the environment.

    Raises:
        Broken: it failed in a way that may pass.
        ModelError: "not_found", or "download" for what another attempt will not mend.
    """
    first = _origin(url)
    opener = urllib.request.build_opener(_NoRedirect())
    for _ in range(MOST_REDIRECTS + 1):
        kept = {
            key: value
            for key, value in headers.items()
            if key.lower() != "authorization" or _origin(url) == first
        }
        answer = _get(opener, url, {"User-Agent": _AGENT, **kept}, shown, timeout)
        if answer.status in (200, 206, 416):
            return answer
        answer.body.close()
        if answer.status not in (301, 302, 303, 307, 308):
            raise _refused(answer, shown)
        url = _next(url, answer.headers.get("location", ""), shown)
    raise ModelError(
        "download", f"{shown}: more than {MOST_REDIRECTS} redirects; the server sends us in circles"
    )


def _get(
    opener: urllib.request.OpenerDirector, url: str, headers: Mapping[str, str], shown: str, timeout: float
) -> Answer:
    try:
        request = urllib.request.Request(url, headers=dict(headers))
        # Each way of failing is told in our words: urllib's own may hold the address with its password.
        try:
            response = cast(http.client.HTTPResponse, opener.open(request, timeout=timeout))
        except urllib.error.HTTPError as error:
            response = cast(http.client.HTTPResponse, error)
    except urllib.error.URLError as error:
        raise _unreached(error.reason, url, shown) from None
    except ssl.SSLCertVerificationError as error:
        raise _unreached(error, url, shown) from None
    except TimeoutError:
        raise Broken(f"no answer within {timeout:g} seconds", unreached=True) from None
    except (http.client.InvalidURL, UnicodeError, ValueError):
        raise ModelError("bad_request", f"{shown}: not an address") from None
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"the connection broke ({type(error).__name__})") from None
    told = {key.lower(): value for key, value in response.headers.items()}
    return Answer(status=response.status or 0, headers=told, body=response)


def _unreached(reason: object, url: str, shown: str) -> ModelError | Broken:
    host = urlsplit(url).hostname
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ModelError(
            "download",
            f"{shown}: the certificate of {host} does not hold ({reason.verify_message}); "
            "if a proxy of your own is in between, name its certificate in SSL_CERT_FILE",
        )
    if isinstance(reason, TimeoutError | socket.timeout):
        return Broken(f"{host} does not answer", unreached=True)
    if isinstance(reason, ssl.SSLError):
        return Broken(f"no safe connection to {host} ({reason.reason or 'TLS error'})")
    why = reason.strerror if isinstance(reason, OSError) and reason.strerror else "unreachable"
    return Broken(f"{host}: {why}", unreached=True)


def _refused(answer: Answer, shown: str) -> ModelError | Broken:
    status = answer.status
    if status in _AGAIN:
        return Broken(f"the server answers {status}", wait=_wait(answer.headers.get("retry-after", "")))
    if status in (404, 410):
        return ModelError("not_found", f"{shown}: there is no such file (the server answers {status})")
    if status in (401, 403, 407):
        return ModelError(
            "download",
            f"{shown}: the server refuses it ({status}); for the hub set HF_TOKEN and accept the model's terms on "
            "its page, for another server put user and password into the address",
        )
    return ModelError("download", f"{shown}: the server answers {status}")


def _wait(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,6}", text) else None


def _next(url: str, location: str, shown: str) -> str:
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        host = parts.hostname
    except ValueError:
        host, parts, target = None, urlsplit(""), ""
    if not location or not host or parts.scheme not in ("http", "https"):
        raise ModelError("download", f"{shown}: the server sends us on, but to no web address")
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise ModelError(
            "download",
            f"{shown}: the server sends us from https to {redact(target)}, where anyone can change it",
        )
    if parts.username is not None:
        raise ModelError("download", f"{shown}: the server sends us to an address with a password in it")
    return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
