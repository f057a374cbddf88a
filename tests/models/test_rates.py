"""The bench measures what an engine does: of engines whose speed is known by a clock that they turn, it tells that speed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agentmesh_models import ModelError, ModelInfo, Piece, Profile, Reply, Request, Usage, rates
from agentmesh_models.catalogue import nano_path
from agentmesh_models.rates import Workload, last_cache, measure, read_bandwidth

READS, WRITES = 1000.0, 50.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Engine:
    """Turns the clock by a thousandth of a second a token read and a fiftieth a token written, one request after another.

    With `keeps` it reads no prompt twice; with `side_by_side` requests that came together share their decode steps.
    """

    def __init__(self, clock: Clock, *, keeps: bool, side_by_side: bool) -> None:
        self.info = ModelInfo(
            name="m", path=None, digest="0" * 64, n_ctx=8192, tool_format="x", template_digest="0" * 64
        )
        self.closed = False
        self._clock, self._keeps, self._shared = clock, keeps, side_by_side
        self._known: set[str] = set()
        self._stepping = 0

    async def generate(self, request: Request) -> AsyncGenerator[Piece, None]:
        text = request.messages[0].content
        prompt = 10 + 2 * len(text.split())
        reused = prompt - 1 if self._keeps and text in self._known else 0
        self._known.add(text)
        self._clock.now += (prompt - reused) / READS
        new = (
            request.max_tokens if request.max_tokens > 1 else 0
        )  # the first token costs nothing, to keep sums plain
        is_first = self._stepping == 0
        self._stepping += 1
        if is_first or not self._shared:
            self._clock.now += new / WRITES
        await anyio.lowlevel.checkpoint()
        self._stepping -= 1
        usage = Usage(
            prompt_tokens=prompt,
            reused_tokens=reused,
            output_tokens=max(1, new),
            prefill_seconds=0.0,
            decode_seconds=9.0,
        )
        profile: Any = Profile(
            model="m", model_digest="0" * 64, template_digest="0" * 64, library="none", n_ctx=8192, prompt_tokens=(),
            reused_tokens=0, output_tokens=(), sampling=request.sampling, grammar_digest=None, finish="length", threads=2,
        )  # fmt: skip
        yield Reply(text="", calls=(), finish="length", usage=usage, profile=profile)

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rates, "time", made)
    monkeypatch.setattr(rates, "read_bandwidth", lambda threads: threads * 1e9)
    return made


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("side_by_side", [True, False])
def test_an_engine_of_known_speed_is_told_its_speed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, keeps: bool, side_by_side: bool
) -> None:
    engine = Engine(clock, keeps=keeps, side_by_side=side_by_side)
    monkeypatch.setattr(rates, "open_model", lambda spec, **how: engine)
    found = anyio.run(measure, str(nano_path()), Workload(prompt_tokens=110, new_tokens=20))
    assert engine.closed and found.bandwidth == 2e9 and found.threads == 2
    for point in found.points:
        assert (point.prompt_tokens, point.new_tokens) == (110, 20)
        assert point.prefill == pytest.approx(READS)
        assert point.decode == pytest.approx(WRITES * (point.sequences if side_by_side else 1))
        step = found.read_a_step + point.sequences * found.kv_bytes * 120
        assert point.bound == pytest.approx(2e9 * point.sequences / step)


def test_the_prompts_of_a_row_have_nothing_in_common() -> None:
    firsts = [rates._prompt(5, number).split()[0] for number in (-1, -2, 10_000, 20_000, 20_001, 80_207)]
    assert len(set(firsts)) == 6


def test_a_context_that_holds_no_prompt_is_told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(clock, keeps=False, side_by_side=False)
    monkeypatch.setattr(rates, "open_model", lambda spec, **how: engine)
    with pytest.raises(ModelError, match="9000 new tokens do not fit a context of 8192"):
        anyio.run(measure, str(nano_path()), Workload(new_tokens=9000))
    assert engine.closed


def test_memory_is_read_at_a_speed_that_memory_has(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numpy", reason="numpy reads memory")
    monkeypatch.setattr(rates, "_LEAST_BUFFER", 1 << 20)
    monkeypatch.setattr(rates, "_MOST_BUFFER", 8 << 20)
    assert 1e8 < read_bandwidth(1) < 1e13
    assert last_cache() >= 1 << 15


def test_the_last_cache_is_the_largest_that_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number, size in enumerate(("32K", "16M", "odd", "")):
        place = tmp_path / "cpu0" / "cache" / f"index{number}"
        place.mkdir(parents=True)
        (place / "size").write_text(size + "\n")
    monkeypatch.setattr(rates, "Path", lambda text: tmp_path)
    assert last_cache() == 16 << 20
