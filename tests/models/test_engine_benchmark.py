"""What the engine's benchmark stands on: random-weight models, contestants who do the same work, and its counts."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from agentmesh_models import Message, Reply, Request, Sampling, open_model

pytest.importorskip("gguf", reason="gguf writes the random-weight models")
pytest.importorskip("llama_cpp", reason="the models are llama.cpp's")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def random_model(load: Any) -> ModuleType:
    module: ModuleType = load("figures.random_model")
    return module


@pytest.fixture
def tiny(random_model: ModuleType, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    random_model.write_model(path, random_model.TINY)
    return path


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_reply_is_words_as_many_as_were_asked_for_and_they_read_back_as_the_same_tokens(
    random_model: ModuleType, tiny: Path, temperature: float
) -> None:
    spoken, again = anyio.run(_speak_and_repeat, tiny, "go" + random_model.words(20, 1), temperature)
    assert spoken.finish == "length"
    assert random_model.word_count(spoken.text) == len(spoken.profile.output_tokens) == 100
    read, wrote = again.profile.prompt_tokens, spoken.profile.output_tokens
    assert any(read[at : at + 100] == wrote for at in range(len(read)))


async def _speak_and_repeat(model: Path, text: str, temperature: float) -> tuple[Reply, Reply]:
    sampling = Sampling(temperature=temperature)
    engine = open_model(str(model), n_ctx=512, threads=1)

    async def ask(said: str, tokens: int) -> Reply:
        request = Request(
            messages=(Message(role="user", content=said),), max_tokens=tokens, sampling=sampling
        )
        last = [piece async for piece in engine.generate(request)][-1]
        assert isinstance(last, Reply)
        return last

    try:
        with anyio.fail_after(60):
            spoken = await ask(text, 100)
            return spoken, await ask(spoken.text, 1)
    finally:
        await engine.aclose()


@pytest.mark.parametrize("name", ["135M", "0.5B"])
def test_the_vocabularies_of_the_shapes_are_full_and_hold_nothing_twice(
    random_model: ModuleType, name: str
) -> None:
    size = random_model.SHAPES[name].vocabulary
    made = random_model.make_vocabulary(size)
    assert len(made.tokens) == len(set(made.tokens)) == size
    assert {merge.replace(" ", "") for merge in made.merges} <= set(made.tokens)


@pytest.mark.parametrize("kind", ["ours", "bare", "completion", "xllamacpp"])
def test_every_contestant_makes_exactly_the_tokens_that_were_asked_for(
    load: Any, random_model: ModuleType, tiny: Path, kind: str
) -> None:
    if kind == "xllamacpp":
        pytest.importorskip("xllamacpp", reason="llama.cpp's own server is measured where it is installed")
    contest, engine = load("figures.contest"), load("engine")
    conditions = contest.Conditions(model=str(tiny), threads=1, n_ctx=1024, temperature=0.0)
    prompts = engine.Prompts(tiny)
    with contest.Contestant(kind, conditions) as contestant:
        for together in (True, False):
            run = contestant.run(prompts.take(3, 8), 5, together=together)
            assert run.tokens == 15
            assert 0 < run.decoded <= 12
            assert run.rate > 0 < run.whole_rate
    prompts.close()


def test_a_contestant_that_breaks_off_says_why(load: Any, tmp_path: Path) -> None:
    contest = load("figures.contest")
    conditions = contest.Conditions(model=str(tmp_path / "none.gguf"), threads=1, n_ctx=64, temperature=0.0)
    with pytest.raises(RuntimeError, match="does not load"):
        contest.Contestant("bare", conditions)


def test_a_reply_of_other_length_is_no_measurement(load: Any) -> None:
    libraries = load("figures.libraries")
    trace = libraries.Trace()
    trace.add(" ba bo")
    with pytest.raises(RuntimeError, match="2"):
        libraries.summarise([trace], 0.0, 3, together=True)


def test_distinct_tokens_are_the_nodes_of_the_tree_of_all_sequences(load: Any) -> None:
    distinct = load("figures.talk").distinct
    assert distinct([(1, 2, 3), (1, 2, 4), (1, 2, 3, 5), (2, 3)]) == 7


def test_agents_of_a_shared_layout_differ_only_at_the_end(load: Any) -> None:
    talk = load("figures.talk").Talk(seed=1, layout="shared", said=[("ada", " ba"), ("ben", " bo")])
    one, other = talk.prompt("ada"), talk.prompt("ben")
    assert one[:-1] == other[:-1]
    before, _, last = one[-1].content.partition("Your turn.")
    assert last.startswith(" You are ada.")
    assert other[-1].content.startswith(before + "Your turn. You are ben.")


@pytest.mark.parametrize(("value", "word"), [(1.2, " ok "), (1.0, "MISSED"), (None, "MISSED")])
def test_a_bound_that_is_not_kept_is_marked(load: Any, value: float | None, word: str) -> None:
    figure = load("engine").Figure(name="figure", value=value, least=1.1)
    assert word in figure.line()
