"""Who is measured: each contestant in a process of its own, so that no one's threads are in another's way.

A contestant loads the model once and then waits, idle, for commands. All get the same file, the same number of
threads, the same sampling, and the same bound on OpenMP's spinning before any library is loaded.

    python benchmarks/figures/contest.py OPTIONS    (JSON; a command a line on standard input, a result a line out)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self

if TYPE_CHECKING:
    from agentmesh_models import Sampling

Kind = Literal["ours", "bare", "completion", "xllamacpp"]
SPIN: Final = {"GOMP_SPINCOUNT": "1000"}
SLOTS: Final = 8
_PATIENCE: Final = 900.0  # seconds for one command


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What is the same for all."""

    model: str
    threads: int
    n_ctx: int
    temperature: float
    seed: int = 1

    def sampling(self) -> Sampling:
        """The sampling that all use."""
        from agentmesh_models import Sampling

        return Sampling(temperature=self.temperature, seed=self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A question: what the user says, and the tokens that the chat template makes of it."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Requests answered: all their tokens, seconds from the first request to the last token; and the decode alone.

    Decoding is counted from when every request has had its first token until the first of them ends; of requests
    one after another, each from its first token to its last.
    """

    tokens: int
    seconds: float
    decoded: int
    decode_seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second of decoding."""
        return self.decoded / self.decode_seconds

    @property
    def whole_rate(self) -> float:
        """Tokens a second with everything, prefill included."""
        return self.tokens / self.seconds


class Runner(Protocol):
    """What a contestant does with requests; `together`: all at once, else one after another."""

    def run(self, prompts: Sequence[Prompt], tokens: int, *, together: bool) -> Run:
        """Answer them, each with exactly so many tokens."""
        ...

    def close(self) -> None:
        """Give back the model."""
        ...


class NotInstalled(Exception):
    """The contestant's library is not there."""


class Contestant:
    """A contestant's process, seen from outside; leaving the `with` block ends it."""

    def __init__(self, kind: Kind, conditions: Conditions) -> None:
        """Start it and wait until its model is loaded. Raises `NotInstalled`, or `RuntimeError` with what it said."""
        self.kind = kind
        self._errors = tempfile.TemporaryFile("w+")
        options = json.dumps({"kind": kind, **asdict(conditions)})
        environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**environment, **SPIN},
        )
        try:
            self._answer()
        except BaseException:  # whatever broke off, Ctrl-C too: the process must not outlive it
            self.__exit__(None, None, None)
            raise

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def run(self, prompts: Sequence[Prompt], tokens: int, *, together: bool) -> Run:
        """Have requests answered."""
        asked = [asdict(each) for each in prompts]
        return Run(**self.ask("run", prompts=asked, tokens=tokens, together=together))

    def ask(self, command: str, **arguments: object) -> Any:
        """Any command that the contestant knows, and its JSON answer."""
        assert self._process.stdin is not None
        try:
            print(json.dumps({"do": command, **arguments}), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise RuntimeError(f"{self.kind} is gone: {self._said()}") from None
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        guard = threading.Timer(_PATIENCE, self._process.kill)
        guard.start()
        try:
            line = self._process.stdout.readline()
        finally:
            guard.cancel()
        if not line:
            raise RuntimeError(f"{self.kind} ended: {self._said()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise NotInstalled(answer["missing"])
        return answer["result"]

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-2000:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def _runner(kind: Kind, conditions: Conditions) -> Runner:
    if kind == "ours":
        from figures.ours import Ours

        return Ours(conditions)
    if kind == "bare":
        from figures.bare import Bare

        return Bare(conditions)
    if kind == "completion":
        from figures.libraries import Completion

        return Completion(conditions)
    from figures.libraries import Xllamacpp

    return Xllamacpp(conditions)


def _serve(options: Mapping[str, Any], answer: Callable[[object], None]) -> None:
    """The contestant's side: load, then obey until standard input ends."""
    names = {field.name for field in fields(Conditions)}
    conditions = Conditions(**{name: options[name] for name in names})
    try:
        runner = _runner(options["kind"], conditions)
    except ModuleNotFoundError as error:
        if error.name != "xllamacpp":  # the one that is nobody's dependency
            raise
        answer({"missing": error.name})
        return
    answer({"result": None})
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("do")
        if name == "run":
            prompts = [Prompt(text=each["text"], tokens=tuple(each["tokens"])) for each in command["prompts"]]
            run = runner.run(prompts, command["tokens"], together=command["together"])
            answer({"result": asdict(run)})
        else:
            answer({"result": getattr(runner, name)(**command)})
    runner.close()


def main() -> None:
    """Serve one contestant."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    # Libraries write where they please: standard output is kept for answers.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # The classes of this module, not of a second copy of it named __main__, are what the runners use.
    from figures import contest

    contest._serve(json.loads(sys.argv[1]), lambda result: print(json.dumps(result), file=out, flush=True))


if __name__ == "__main__":
    main()
