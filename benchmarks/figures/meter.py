"""What our engine does with llama.cpp, seen from where it calls it: tokens evaluated, and where the time goes."""

from __future__ import annotations

import cProfile
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, ModuleType
from typing import Any


@dataclass(slots=True)
class Meter:
    """Counts and times calls of llama.cpp and of the sampler, once `install`ed; nothing is changed in them.

    Put in place before the engine is opened. An engine that found the functions another way is not seen: then
    `steps` stays 0.
    """

    steps: int = 0
    tokens: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def install(self) -> None:
        """Wrap the functions where the engine looks them up."""
        import llama_cpp

        from agentmesh_models import sampler

        plain = llama_cpp.llama_decode

        def decode(context: int, batch: Any) -> int:
            started = time.perf_counter()
            status: int = plain(context, batch)
            self._add("llama_decode", started)
            self.steps += 1
            self.tokens += batch.n_tokens
            return status

        llama_cpp.llama_decode = decode
        self._time(llama_cpp, "llama_get_logits_ith")
        self._time(llama_cpp, "llama_get_logits")
        self._time(sampler, "choose")

    def clear(self) -> None:
        """Begin anew."""
        self.steps = self.tokens = 0
        self.seconds.clear()

    def _time(self, module: ModuleType, name: str) -> None:
        plain: Callable[..., object] = getattr(module, name)

        def timed(*args: object) -> object:
            started = time.perf_counter()
            result = plain(*args)
            self._add(name, started)
            return result

        setattr(module, name, timed)

    def _add(self, name: str, started: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Watched:
    """A profile of every thread that starts from now on."""

    profiles: dict[str, cProfile.Profile] = field(default_factory=dict)

    def begin(self) -> None:
        """Threads that start after this are profiled."""

        def start(_frame: FrameType, _event: str, _arg: object) -> None:
            sys.setprofile(None)
            profile = self.profiles[threading.current_thread().name] = cProfile.Profile()
            profile.enable()

        threading.setprofile(start)

    def end(self) -> None:
        """Threads that start after this are not."""
        threading.setprofile(None)

    def lines(self, most: int = 20) -> list[str]:
        """The functions that took the most time by themselves, of each thread; the threads should be idle now."""
        out: list[str] = []
        for name, profile in self.profiles.items():
            entries = sorted(profile.getstats(), key=lambda each: each.inlinetime, reverse=True)
            total = sum(each.inlinetime for each in entries)
            out.append(f"thread {name}: {total:.2f} s")
            for each in entries[:most]:
                code = each.code
                where = code if isinstance(code, str) else f"{code.co_filename[-40:]}:{code.co_name}"
                out.append(f"  {each.inlinetime:8.3f} s {each.callcount:8} calls  {where}")
        return out
