"""The training of the embedded model: one tree is its conversations one by one, and a GGUF goes back into a checkpoint.

torch is in none of the project's extras, so these tests run where a recipe's environment is, not in CI.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch trains nano and is in none of the project's extras")
pytest.importorskip("tokenizers", reason="tokenizers trains nano and is in none of the project's extras")

RECIPE = Path(__file__).parents[2] / "models" / "nano"
TINY = {"width": 32, "layers": 2, "heads": 2, "hidden": 64}


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    """Imports a module of the recipe by name; its folder is on the path for this module's tests only."""
    before = set(sys.modules)
    sys.path.insert(0, str(RECIPE))
    yield importlib.import_module
    sys.path.remove(str(RECIPE))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(RECIPE)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def tokenizer(recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenizer of the weights in the repository."""
    import gguf

    import agentmesh_models.nano

    weights = Path(agentmesh_models.nano.__file__).with_name("nano.gguf")
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    found = recipe("reopen").tokenizer_of(gguf.GGUFReader(weights))
    path.write_text(json.dumps(found), encoding="utf-8")
    return recipe("tokenizer").NanoTokenizer(path)


def network(recipe: Any, tokenizer: Any) -> Any:
    torch.manual_seed(4)
    return recipe("network").Nano(recipe("network").Shape(vocabulary=len(tokenizer.tokens), **TINY))


def test_a_tree_of_conversations_gives_the_logits_of_each_conversation_alone(
    recipe: Any, tokenizer: Any
) -> None:
    Turn, train = recipe("conversations").Turn, recipe("train")
    system = Turn("system", "You are desk.")
    first = [Turn("user", "What is 2 + 2?"), Turn("assistant", "4", "a"), Turn("user", "And 3?")]
    first.append(Turn("assistant", "5", "b"))
    second = [Turn("user", "Read Plan."), Turn("assistant", "It says: Plan.", "c")]
    tree = [system, first[0]._replace(fresh=True), *first[1:], second[0]._replace(fresh=True), second[1]]
    model = network(recipe, tokenizer)

    def logits(turns: list[Any]) -> tuple[Any, list[str]]:
        batch = train.collate([train.encode(tokenizer, turns)])
        return model(batch.inputs, batch.branches, batch.places, batch.positions), batch.labels

    (whole, labels), (one, _), (two, _) = logits(tree), logits([system, *first]), logits([system, *second])
    assert labels == ["a", "b", "c"]
    torch.testing.assert_close(whole, torch.cat([one, two]))
    assert not torch.allclose(whole[-len(two) :], logits([system, *first, *second])[0][-len(two) :])


def test_a_tree_too_long_is_cut_after_a_trained_turn(recipe: Any, tokenizer: Any) -> None:
    Turn, train = recipe("conversations").Turn, recipe("train")
    pair = [Turn("user", "1 " * 60, fresh=True), Turn("assistant", "2 " * 60, "a")]
    whole = train.encode(tokenizer, [Turn("system", "You are desk."), *pair])
    cut = train.encode(tokenizer, [Turn("system", "You are desk."), *pair * 9])
    assert 1 < len(cut.labels) < 9
    assert len(cut.tokens) <= train.LONGEST
    assert set(cut.branches) == set(range(len(cut.labels) + 1))
    assert max(cut.places) == len(whole.tokens) - 1


def test_two_workers_improve_the_weights_by_the_mean_of_their_gradients(recipe: Any, tokenizer: Any) -> None:
    train, optimiser = recipe("train"), recipe("optimiser")
    source = recipe("words").Source(8)
    batches = [
        train.collate([train.encode(tokenizer, recipe("generate").conversation(source)) for _ in range(3)])
        for _ in range(2)
    ]

    def loss(model: Any, batch: Any) -> Any:
        logits = model(batch.inputs, batch.branches, batch.places, batch.positions)
        return torch.nn.functional.cross_entropy(logits, batch.targets)

    shared, alone = network(recipe, tokenizer), network(recipe, tokenizer)
    two = optimiser.Optimiser(shared, 2, 0.02, 0.003)
    one = optimiser.Optimiser(alone, 1, 0.02, 0.003)
    losses = []
    for _ in range(6):
        for index, batch in enumerate(batches):
            losses.append(loss(shared, batch))
            losses[-1].backward()
            two.give(index, shared)
        (sum(loss(alone, batch) for batch in batches) / 2).backward()
        one.give(0, alone)
        for each, count in ((two, 2), (one, 1)):
            each.steps += 1
            for index in range(count):
                each.improve(index, 1.0)
        two.take(shared)
        one.take(alone)
    torch.testing.assert_close(two.master, one.master, rtol=0.02, atol=0.002)
    assert losses[-1] < losses[1] - 0.3


def test_an_exported_model_goes_back_into_a_checkpoint_with_its_shape(
    recipe: Any, tokenizer: Any, tmp_path: Path
) -> None:
    model = network(recipe, tokenizer)
    whole = recipe("optimiser").Optimiser(model, 1, 0, 0)
    source, back = tmp_path / "source", tmp_path / "back"
    source.mkdir()
    back.mkdir()
    (source / "tokenizer.json").write_text(
        json.dumps({"tokens": tokenizer.tokens, "types": tokenizer.types, "merges": tokenizer.merges}),
        encoding="utf-8",
    )
    saved = {
        "shape": dataclasses.asdict(model.shape),
        "weights": whole.views(whole.master),
        "optimiser": whole.state(),
    }
    torch.save(saved, source / "checkpoint.pt")
    recipe("export").export(source, tmp_path / "f16.gguf", "{{ messages }}")
    shape = recipe("reopen").reopen(tmp_path / "f16.gguf", back)
    assert shape == model.shape
    again = torch.load(back / "checkpoint.pt")
    for name, weight in saved["weights"].items():
        torch.testing.assert_close(again["weights"][name], weight, rtol=1e-3, atol=1e-4)
    options = argparse.Namespace(out=back, width=None, layers=None, heads=None, hidden=None)
    assert recipe("train").shape_of(options, again) == model.shape
    options.layers = 9
    with pytest.raises(SystemExit, match="has layers 2, not 9"):
        recipe("train").shape_of(options, again)
