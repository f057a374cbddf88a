"""A model that says what a script tells it to: the test model, shipped because users test meshes too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeGuard

import anyio.lowlevel

from agentmesh_models.chat import (
    Finish,
    JsonValue,
    Method,
    ModelInfo,
    Piece,
    Profile,
    Reply,
    Request,
    Rescored,
    TextDelta,
    ToolCall,
    Usage,
)
from agentmesh_models.errors import ModelError

N_CTX: Final = 8192
MAX_SCRIPT_BYTES: Final = 4_000_000
_TURN: Final = "Your turn. You are "
_KEYS: Final = frozenset({"say", "call", "expect", "agent"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One reply of the script: text to say, calls to make, or both, and what must have been asked for it.

    `expect` must occur in the request's last message; `agent` is who must be asked: the name that the system message
    begins with (`You are NAME.`), or that a line of the last user message gives the turn to (`Your turn. You are NAME.`).
    """

    say: str = ""
    calls: tuple[ToolCall, ...] = ()
    expect: str | None = None
    agent: str | None = None


class ScriptedModel:
    """Replies with its steps in order, and insists that all of them are used.

    Token numbers in its profile are byte values: it has no tokenizer, and claims none.
    """

    def __init__(self, steps: tuple[Step, ...], *, name: str = "scripted", path: Path | None = None) -> None:
        self._steps = steps
        self._next = 0
        self._closed = False
        self._failed = False
        script = _bytes(repr(steps))
        self.info = ModelInfo(
            name=name,
            path=path,
            digest=hashlib.sha256(script).hexdigest(),
            n_ctx=N_CTX,
            tool_format="scripted",
            template_digest=hashlib.sha256(b"").hexdigest(),
        )

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        """Yield the next step: its text word by word, then the reply.

        Raises:
            ModelError: reason "script" when no step is left or the step expects another request.
        """
        if self._closed:
            raise ModelError("closed", "the scripted model is closed")
        try:
            step = self._take(request)
        except ModelError:
            self._failed = True
            raise
        words = step.say.split(" ")
        for at, word in enumerate(words):
            await anyio.lowlevel.checkpoint()
            piece = word if at == 0 else f" {word}"
            if piece:
                yield TextDelta(text=piece)
        yield self._reply(step, request)

    async def rescore(self, profile: Profile, *, method: Method = "score") -> Rescored:
        """Raises `ModelError` "not_checkable": a script is no model."""
        raise ModelError("not_checkable", "a scripted reply follows from its script, not from a model")

    async def aclose(self) -> None:
        """Check that the script was played to its end.

        Raises:
            ModelError: reason "script", when steps are left; at the first call only, and not where the script
            had
                failed before: what is left then is a consequence, and would hide the cause.
        """
        if self._closed:
            return
        self._closed = True
        left = len(self._steps) - self._next
        if left and not self._failed:
            raise ModelError(
                "script",
                f"{left} of {len(self._steps)} steps were not used; the first is step {self._next + 1}: "
                f"{_describe(self._steps[self._next])}",
                path=self.info.path,
                expected=len(self._steps),
                found=self._next,
            )

    def _take(self, request: Request) -> Step:
        asked = request.messages[-1].content if request.messages else ""
        if self._next >= len(self._steps):
            raise ModelError(
                "script",
                f"the script's {len(self._steps)} steps are used up; asked now: {_short(asked)}",
                path=self.info.path,
            )
        step = self._steps[self._next]
        number = self._next + 1
        if step.expect is not None and step.expect not in asked:
            raise ModelError(
                "script",
                f"step {number} expects {_short(step.expect)} in the last message, which is {_short(asked)}",
                path=self.info.path,
                expected=step.expect,
                found=asked,
            )
        if step.agent is not None and not _is_asked(step.agent, request):
            system = next((each.content for each in request.messages if each.role == "system"), "")
            user = _last_user(request)
            raise ModelError(
                "script",
                f"step {number} is for the agent {step.agent}; the system message is {_short(system)}, "
                f"the last user message ends with {_short(user[-77:])}",
                path=self.info.path,
                expected=step.agent,
                found=system,
            )
        self._next += 1
        return step

    def _reply(self, step: Step, request: Request) -> Reply:
        prompt = "\n".join(f"{each.role}: {each.content}" for each in request.messages)
        output = step.say + "".join(json.dumps([c.name, dict(c.arguments)]) for c in step.calls)
        finish: Finish = "call" if step.calls else "stop"
        return Reply(
            text=step.say,
            calls=step.calls,
            finish=finish,
            usage=Usage(
                prompt_tokens=len(_bytes(prompt)),
                reused_tokens=0,
                output_tokens=len(_bytes(output)),
                prefill_seconds=0.0,
                decode_seconds=0.0,
            ),
            profile=Profile(
                model=self.info.name,
                model_digest=self.info.digest,
                template_digest=self.info.template_digest,
                library="scripted",
                n_ctx=N_CTX,
                prompt_tokens=tuple(_bytes(prompt)),
                reused_tokens=0,
                output_tokens=tuple(_bytes(output)),
                sampling=request.sampling,
                grammar_digest=None,
                finish=finish,
            ),
        )


def load_script(path: Path) -> ScriptedModel:
    """Read a script: a JSON list of steps `{"say": text}` or `{"call": {"name": ..., "arguments": {...}}}`.

    A step may hold both; `call` may be a list of calls; `expect` and `agent` say what must have been asked.

    Raises:
        ModelError: no such file, or ("script_file") not a script; the message names the step and the key.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError("not_found", "no such script", path=path) from None
    except OSError as error:
        raise ModelError("unreadable", error.strerror or "cannot be read", path=path) from error
    if len(data) > MAX_SCRIPT_BYTES:
        raise ModelError("script_file", f"longer than {MAX_SCRIPT_BYTES} bytes", path=path)
    try:
        steps: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError("script_file", f"not JSON: {error}", path=path) from error
    if not isinstance(steps, list):
        raise ModelError("script_file", "expected a JSON list of steps", path=path)
    made = tuple(_step(each, number, path) for number, each in enumerate(steps, 1))
    return ScriptedModel(made, name=f"scripted:{path.name}", path=path)


def _is_asked(agent: str, request: Request) -> bool:
    system = next((each.content for each in request.messages if each.role == "system"), "")
    if system.startswith(f"You are {agent}."):
        return True
    # The first such line gives the turn: task and transcript before it are set in and begin no line, a prompt after it may.
    turn = next((line for line in _last_user(request).splitlines() if line.startswith(_TURN)), "")
    return turn.startswith(f"{_TURN}{agent}.")


def _last_user(request: Request) -> str:
    return next((each.content for each in reversed(request.messages) if each.role == "user"), "")


def _step(step: object, number: int, path: Path) -> Step:
    if not isinstance(step, dict):
        raise ModelError("script_file", f"step {number}: expected an object", path=path)
    unknown = sorted(str(key) for key in step.keys() - _KEYS)
    if unknown:
        known = ", ".join(sorted(_KEYS))
        raise ModelError(
            "script_file", f"step {number}: unknown key {unknown[0]!r}; known are {known}", path=path
        )
    if not step.keys() & {"say", "call"}:
        raise ModelError("script_file", f"step {number}: neither 'say' nor 'call'", path=path)
    for key in ("say", "expect", "agent"):
        if key in step and not isinstance(step[key], str):
            raise ModelError("script_file", f"step {number}: {key!r} must be text", path=path)
    calls = step.get("call", [])
    return Step(
        say=step.get("say", ""),
        calls=tuple(_call(each, number, path) for each in (calls if isinstance(calls, list) else [calls])),
        expect=step.get("expect"),
        agent=step.get("agent"),
    )


def _call(call: object, number: int, path: Path) -> ToolCall:
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise ModelError("script_file", f"step {number}: 'call' must be an object with a 'name'", path=path)
    arguments = call.get("arguments", {})
    if not _is_object(arguments) or call.keys() - {"name", "arguments"}:
        raise ModelError(
            "script_file",
            f"step {number}: 'call' holds 'name' and an object 'arguments', nothing else",
            path=path,
        )
    return ToolCall(name=call["name"], arguments=arguments)


def _is_object(value: object) -> TypeGuard[dict[str, JsonValue]]:
    return isinstance(value, dict)  # it came out of a JSON parser, so its keys are text and its values JSON


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a script's JSON may escape half a character


def _describe(step: Step) -> str:
    return f"say {_short(step.say)}" if step.say else f"call {', '.join(call.name for call in step.calls)}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
