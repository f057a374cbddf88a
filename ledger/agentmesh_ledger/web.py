"""The files of a published log under an http(s) URL, from a server that may be slow, broken or hostile."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urljoin, urlsplit

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import shown

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SILENCE: Final = 20.0  # seconds without a byte
WHOLE: Final = 120.0  # seconds for one file: a server that drips must not hold an auditor for ever
TRIES: Final = 4
PAUSE: Final = 0.5  # seconds before the second try; twice as long before each further one
MAX_REDIRECTS: Final = 5
_CHUNK: Final = 64 * 1024
_OVERHEAD: Final = 64 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRANSIENT: Final = frozenset({408, 425, 429})


class _Transient(Exception):
    """What may be otherwise the next time."""


class _Redirect(Exception):
    """The server names another place."""


class WebFiles:
    """The files below a URL. Each is tried a few times; every answer is bounded in time and size.

    `silence` and `whole` are seconds: without a byte, and for one answer from the connection on.
    """

    def __init__(
        self,
        url: str,
        *,
        silence: float = SILENCE,
        whole: float = WHOLE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not is_prefix(url):
            raise LedgerError("unreadable", f"{shown(url)!r} is not the URL of a log")
        self._prefix = url.rstrip("/")
        self._silence = silence
        self._sleep = sleep
        self._opener = bounded_opener(whole)

    def fetch(self, path: str, limit: int) -> bytes:
        """The bytes of a file, at most `limit` of them.

        Raises: LedgerError(not_found, unreadable, tile).
        """
        url = f"{self._prefix}/{path}"
        last = ""
        for attempt in range(TRIES):
            if attempt:
                self._sleep(PAUSE * 2 ** (attempt - 1))
            try:
                return self._followed(url, limit)
            except _Transient as error:
                last = str(error)
        raise LedgerError(
            "unreadable", f"the server gave no answer in {TRIES} tries: {shown(last, 120)}", path=shown(url)
        )

    def _followed(self, url: str, limit: int) -> bytes:
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            try:
                return self._once(place, limit)
            except _Redirect as found:
                location = str(found)
            place = _redirected(place, location)
        raise LedgerError("unreadable", "the server redirects without end", path=shown(url))

    def _once(self, url: str, limit: int) -> bytes:
        request = urllib.request.Request(
            url, headers={"Accept-Encoding": "gzip, identity", "User-Agent": "agentmesh-verify"}
        )
        try:
            with self._opener.open(request, timeout=self._silence) as response:
                if response.status != 200:
                    raise LedgerError("unreadable", f"the server answers {response.status}", path=shown(url))
                encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
                # Hashes do not compress: what gzip adds to them is no fault of the file.
                body = _body(response, url, limit if encoding == "identity" else limit + _OVERHEAD)
        except urllib.error.HTTPError as error:
            error.close()
            raise _refusal(error.code, error.headers.get("Location"), url) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise LedgerError(
                    "unreadable", "the server's certificate is not one to trust", path=shown(url)
                ) from error
            raise _Transient(f"{error.reason}") from error
        except (http.client.HTTPException, OSError) as error:
            raise _Transient(f"{type(error).__name__} {error}") from error
        except ValueError as error:  # the standard library's own parsing of what a server sent
            raise LedgerError("unreadable", "the server's answer is malformed", path=shown(url)) from error
        return _decoded(body, encoding, url, limit)


def is_prefix(url: str) -> bool:
    """Whether the text may be a URL that paths are put behind: with a host, without query, fragment and blanks."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return (
        bool(parts.hostname) and not (parts.query or parts.fragment) and url.isprintable() and " " not in url
    )


def _redirected(place: str, location: str) -> str:
    """Where a redirect leads: within http or within https, and nowhere else."""
    try:
        target = urljoin(place, location)
        # From https to http the transport's promise would be lost; to file: the auditor's own files be read.
        if urlsplit(target).scheme == urlsplit(place).scheme and target.isprintable() and " " not in target:
            return target
    except ValueError:
        pass
    raise LedgerError("unreadable", f"the server redirects to {shown(location, 120)!r}", path=shown(place))


def _refusal(status: int, location: str | None, url: str) -> Exception:
    if status in _REDIRECTS and location is not None:
        return _Redirect(location)
    if status in (404, 410):
        return LedgerError("not_found", f"the server answers {status}", path=shown(url))
    if status >= 500 or status in _TRANSIENT:
        return _Transient(f"it answers {status}")
    return LedgerError("unreadable", f"the server answers {status}", path=shown(url))


def _body(response: http.client.HTTPResponse, url: str, limit: int) -> bytes:
    announced = response.length  # None where it is chunked, or ends with the connection
    if announced is not None and announced > limit:
        raise _too_long(url, limit)
    data = bytearray()
    while chunk := response.read1(_CHUNK):
        data += chunk
        if len(data) > limit:
            raise _too_long(url, limit)
    if announced is not None and len(data) != announced:
        raise _Transient(f"it announced {announced} bytes and sent {len(data)}")
    return bytes(data)


def _decoded(body: bytes, encoding: str, url: str, limit: int) -> bytes:
    """The body without its compression, which a tlog-tiles server may apply unasked."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise LedgerError("unreadable", f"the server compresses by {shown(encoding, 40)!r}", path=shown(url))
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        data = inflater.decompress(body, limit + 1)  # bounded: a small body may unfold to gigabytes
    except zlib.error as error:
        raise LedgerError("tile", "the file's compression is damaged", path=shown(url)) from error
    if len(data) > limit:
        raise _too_long(url, limit)
    if not inflater.eof or inflater.unused_data:
        raise LedgerError("tile", "the file's compression is damaged", path=shown(url))
    return data


def _too_long(url: str, limit: int) -> LedgerError:
    return LedgerError("tile", f"the file is longer than {limit} bytes", path=shown(url))


class TimedReader(io.RawIOBase):
    """What a socket sends, up to a point in time. The socket's own timeout starts anew with each byte."""

    def __init__(self, source: socket.socket, whole: float) -> None:
        self._source = source
        self._raw = source.makefile("rb", buffering=0)
        self._silence = source.gettimeout()
        self._deadline = time.monotonic() + whole

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer took too long")
        self._source.settimeout(left if self._silence is None else min(left, self._silence))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """The part of a socket that `http.client` uses."""

    def __init__(self, source: socket.socket, whole: float) -> None:
        self._source = source
        self._whole = whole
        self.sendall = source.sendall
        self.close = source.close

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(TimedReader(self._source, self._whole))


def bounded_opener(whole: float) -> urllib.request.OpenerDirector:
    """Http and https only, each answer within `whole` seconds from its first read on.

    The usual opener also reads file: and ftp: URLs, and takes in the whole body of a redirect, however long.
    """

    class Plain(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock = cast(socket.socket, _TimedSocket(self.sock, whole))

    class Secure(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            self.sock = cast(socket.socket, _TimedSocket(self.sock, whole))

    class PlainHandler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        PlainHandler(),
        SecureHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
