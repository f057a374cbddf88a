"""What goes wrong with an endpoint, as `ModelError`s that say what to do and never hold the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from agentmesh_models.endpoint.address import Address, Key
from agentmesh_models.errors import ModelError

MOST_SHOWN: Final = 400
_FULL_KINDS: Final = frozenset({"exceed_context_size_error", "context_length_exceeded"})
_FULL: Final = re.compile(
    r"maximum context length|exceeds? the (?:available |model'?s )?(?:maximum )?context|"
    r"context (?:length|size|window)[^.]{0,40}exceed|exceed[^.]{0,40}context (?:length|size|window)|"
    r"requested tokens \(\d+\) exceed context window",
    re.IGNORECASE,
)
_LIMIT: Final = re.compile(
    r"(?:maximum context length (?:is|of)|context window of|context size \(|context length of)\s*([\d,]{1,12})",
    re.IGNORECASE,
)
_NEEDED: Final = re.compile(
    r"(?:requested tokens \(|requested about |requested |request \(|request has |resulted in |got )([\d,]{1,12})",
    re.IGNORECASE,
)
_WHAT_TO_DO: Final = {
    401: "it refuses the key: set the environment variable that api_key_env names, or OPENAI_API_KEY",
    403: "it refuses this key or this model",
    404: "it has no such address or model; most servers want /v1 at the end of the URL, and MODEL after #",
    413: "it finds the request too large",
    429: "it asks to be asked less often",
}


class Failures:
    """Makes the errors of one endpoint; `key` is cut out of whatever the endpoint says."""

    def __init__(self, address: Address, key: Key | None) -> None:
        self._host = address.host
        self._key = key

    def offline(self, error: BaseException) -> ModelError:
        """Nobody answers."""
        why = self._clean(_root(error))
        return ModelError(
            "offline",
            f"the endpoint {self._host} does not answer ({why}); is the server running there, and is the address right?",
        )

    def silent(self, seconds: float) -> ModelError:
        """It answers no more."""
        return ModelError(
            "offline",
            f"the endpoint {self._host} was silent for {seconds:g} seconds; where it only needs longer, raise timeout",
        )

    def odd(self, what: str) -> ModelError:
        """It said something that an OpenAI-compatible endpoint does not say."""
        return ModelError("endpoint", f"the endpoint {self._host} {self._clean(what)}")

    def told(self, body: object) -> ModelError:
        """An error that it told in the middle of a reply."""
        return self._full(body) or self.odd(f"broke off its reply: {message(body)}")

    def status(self, code: int, body: object) -> ModelError:
        """It refused, with an HTTP status."""
        full = self._full(body) if 400 <= code < 500 else None
        if full is not None:
            return full
        if 300 <= code < 400:
            return self.odd(f"answers {code}, a redirect; give the address that it leads to")
        advice = _WHAT_TO_DO.get(code, "its log may say why" if code >= 500 else "")
        said = message(body)
        return self.odd(f"answers {code}{f' ({said})' if said else ''}{f'; {advice}' if advice else ''}")

    def _full(self, body: object) -> ModelError | None:
        inner = _inner(body)
        said = message(body)
        kinds = {inner.get("type"), inner.get("code")} if isinstance(inner, Mapping) else set()
        if not any(kind in _FULL_KINDS for kind in kinds if isinstance(kind, str)) and not _FULL.search(said):
            return None
        limit = _count(inner, "n_ctx") or _found(_LIMIT, said)
        needed = _count(inner, "n_prompt_tokens") or _found(_NEEDED, said)
        text = f"the conversation does not fit the context of the model at {self._host}: {self._clean(said)}"
        return ModelError("context_full", text, expected=limit, found=needed)

    def _clean(self, text: str) -> str:
        if self._key is not None:
            text = text.replace(self._key.text, "[key]")
        line = " ".join(text.split())
        return line if len(line) <= MOST_SHOWN else f"{line[: MOST_SHOWN - 3]}..."


def _inner(body: object) -> object:
    """Servers wrap what they say in `error`, some of them twice."""
    for _ in range(3):
        if isinstance(body, Mapping) and isinstance(body.get("error"), Mapping | str):
            body = body["error"]
    return body


def message(body: object) -> str:
    """What an error's body says, in whichever of the usual places."""
    inner = _inner(body)
    if isinstance(inner, Mapping):
        said = inner.get("message", inner.get("detail", ""))
        return said if isinstance(said, str) else repr(said)[:MOST_SHOWN]
    return inner[: 4 * MOST_SHOWN] if isinstance(inner, str) else ""


def _count(body: object, key: str) -> int | None:
    value = body.get(key) if isinstance(body, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _found(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    digits = found[1].replace(",", "") if found else ""
    return int(digits) if digits else None


def _root(error: BaseException) -> str:
    """What the innermost cause says: the outer ones say "Connection error."."""
    seen = 0
    while error.__cause__ is not None and seen < 10:
        error, seen = error.__cause__, seen + 1
    return str(error) or type(error).__name__
