"""Calendars and nodes asked over HTTP: the ones that a person named, and no other place, whatever a proof or an answer says."""

from __future__ import annotations

import http.client
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.text import shown

MAX_ANSWER: Final = 10_000
"""Bytes of an answer; the limit that the OpenTimestamps library means to have."""
_CHUNK: Final = 4096
_SECRET: Final = re.compile(r"(?<=//)[^/]*@|(?<=[?#]).*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A GET below a URL, or a POST where there is a body."""

    url: str
    path: str
    body: bytes | None = None


Answer: TypeAlias = "bytes | None | LedgerError"
"""What came; None where the server has nothing of the kind (404); LedgerError(node) where there was no usable answer."""


def plain_url(text: str) -> str:
    """The URL without a slash at its end: http or https, a host, perhaps a path, and nothing that hides or carries more.

    Raises: LedgerError(refused).
    """
    try:
        parts = urlsplit(text)
        plain = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.username is None
            and parts.port != 0
            and not (parts.query or parts.fragment)
        )
    except ValueError:
        plain = False
    if not plain or not text.isascii() or not text.isprintable() or " " in text or len(text) > 1000:
        raise LedgerError(
            "refused",
            # What is given in the wrong place is a password more often than not.
            f"{shown(_SECRET.sub('***', text))!r} is not the http or https URL of a server",
            hint="No name, password or query may stand in it",
        )
    return text.rstrip("/")


def ask_all(questions: Sequence[Question], *, within: float) -> tuple[Answer, ...]:
    """The answer to each question, all asked at once and waited for so many seconds altogether.

    A server that drips its answer holds a thread for a while, never the caller.
    """
    deadline = time.monotonic() + within
    came: queue.SimpleQueue[tuple[int, Answer]] = queue.SimpleQueue()
    for place, question in enumerate(questions):
        threading.Thread(target=_tell, args=(came, place, question, deadline), daemon=True).start()
    answers: list[Answer] = [_failure(each, f"no answer in {within:g} seconds") for each in questions]
    for _ in questions:
        try:
            place, answer = came.get(timeout=max(deadline - time.monotonic(), 0.001))
        except queue.Empty:
            break
        answers[place] = answer
    return tuple(answers)


def _tell(
    came: queue.SimpleQueue[tuple[int, Answer]], place: int, question: Question, deadline: float
) -> None:
    try:
        came.put((place, _ask(question, deadline)))
    except LedgerError as error:
        came.put((place, error))
    except (http.client.HTTPException, OSError, ValueError) as error:  # ValueError: a malformed answer
        reason = getattr(error, "reason", None) or error
        came.put((place, _failure(question, f"{type(error).__name__}: {reason}")))


def _ask(question: Question, deadline: float) -> bytes | None:
    headers = {"Accept": "application/vnd.opentimestamps.v1, */*", "User-Agent": "agentmesh"}
    url = f"{question.url}/{question.path}"
    request = urllib.request.Request(url, data=question.body, headers=headers)
    try:
        with _opener().open(request, timeout=max(deadline - time.monotonic(), 0.001)) as response:
            if response.status != 200:
                raise _failure(question, f"it answers {response.status}")
            return _body(response, question, deadline)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404 and question.body is None:
            return None
        raise _failure(question, f"it answers {error.code}") from error


def _body(response: http.client.HTTPResponse, question: Question, deadline: float) -> bytes:
    data = bytearray()
    while chunk := response.read1(_CHUNK):
        data += chunk
        if len(data) > MAX_ANSWER:
            raise _failure(question, f"its answer is longer than {MAX_ANSWER} bytes")
        if time.monotonic() > deadline:
            raise _failure(question, "its answer took too long")
    if response.length:
        raise _failure(question, "its answer ends too early")
    return bytes(data)


def _opener() -> urllib.request.OpenerDirector:
    """Http and https only. The usual opener, which the library uses, also reads file: URLs and follows redirects,
    so that a calendar could send us anywhere."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _failure(question: Question, what: str) -> LedgerError:
    return LedgerError("node", f"{shown(question.url, 120)}: {shown(what, 160)}")
