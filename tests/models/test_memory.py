"""Sizes as people write them, and how much memory a model is thought to need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models import ModelError
from agentmesh_models.catalogue import nano_path
from agentmesh_models.cells import SAVED_BYTES
from agentmesh_models.facts import read_facts
from agentmesh_models.gguf import read_gguf
from agentmesh_models.memory import (
    available_memory,
    cell_count,
    memory_budget,
    memory_needed,
    parse_size,
    saved_limit,
    size_text,
)


@pytest.mark.parametrize(
    ("written", "count"),
    [("6 GB", 6_000_000_000), ("1.5GiB", 3 << 29), (" 512 mb ", 512_000_000), ("2 KiB", 2048), ("7 b", 7)],
)
def test_a_size_is_read_as_people_write_it(written: str, count: int) -> None:
    assert parse_size(written) == count


@given(st.text(max_size=50))
def test_anything_else_is_refused_with_an_example(written: str) -> None:
    try:
        count = parse_size(written)
    except ModelError as error:
        assert error.reason == "bad_request" and "must be" in str(error)
    else:
        assert count >= 1


@pytest.mark.parametrize(
    "written", ["", "6", "GB", "-1 GB", "6 gigs", "0 GB", "0.1 B", "9999999 TB", "1e3 MB", "٣ GB"]
)
def test_what_is_no_size_is_refused(written: str) -> None:
    with pytest.raises(ModelError, match="must be"):
        parse_size(written)


def test_sizes_are_told_with_three_digits() -> None:
    told = [size_text(each) for each in (12, 4_200, 98_760_000, 3_000_000_000, 12_345_000_000_000)]
    assert told == ["12 B", "4.2 kB", "98.8 MB", "3 GB", "12.3 TB"]


def test_the_need_covers_weights_and_every_cell_and_what_may_be_kept_of_them_outside() -> None:
    facts = read_facts(read_gguf(nano_path()))
    small, large = (facts.need(n_ctx, parallel=1) for n_ctx in (512, 2048))
    assert small > nano_path().stat().st_size
    kept = 2  # once in the cache, once more as prefixes put away
    assert facts.kv_bytes and large - small == pytest.approx(
        kept * (2048 - 512) * facts.kv_bytes * 1.05, abs=2
    )


def test_a_small_context_has_cells_for_several_requests() -> None:
    assert [
        cell_count(n_ctx, parallel) for n_ctx, parallel in ((512, 1), (512, 4), (512, 16), (512, 64))
    ] == [
        512,
        2048,
        8192,
        8192,
    ]
    assert cell_count(32768, 16) == 32768
    facts = read_facts(read_gguf(nano_path()))
    assert facts.need(512, parallel=16) == facts.need(1024, parallel=16) > facts.need(512, parallel=2)


def test_no_more_is_kept_outside_than_half_a_gibibyte() -> None:
    assert [saved_limit(1000, 8192), saved_limit(10**6, 8192), saved_limit(None, 1)] == [
        8_192_000,
        SAVED_BYTES,
        SAVED_BYTES,
    ]


def test_the_need_is_above_what_an_engine_takes() -> None:
    """llama.cpp's own figures for a vocabulary of 151,936: a batch's scores stand in memory twice."""
    output, compute, weights, cache = 148.38, 150.13, 265.26, 96.0  # MiB, of a 0.5B model with 8,192 cells
    need = memory_needed(
        weights=int(weights * 2**20), kv_bytes=12288, vocabulary=151_936, n_ctx=8192, layers=24
    )
    assert (
        (output + compute + weights + 2 * cache) * 2**20
        < need
        < 1.15 * (output + compute + weights + 2 * cache) * 2**20
    )


def test_layers_on_a_graphics_card_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = read_facts(read_gguf(nano_path()))
    monkeypatch.setattr("sys.platform", "linux")
    none, some, all_of_them = (facts.need(8192, gpu_layers=n) for n in (0, 2, -1))
    assert none > some > all_of_them > 0
    monkeypatch.setattr("sys.platform", "darwin")
    assert facts.need(8192, gpu_layers=-1) == none


def test_the_default_budget_leaves_a_fifth_of_what_is_free() -> None:
    free, budget = available_memory(), memory_budget()
    assert free is not None and budget is not None
    assert 0 < budget < free * 1.1


def test_a_file_that_tells_little_has_a_need_all_the_same(make_gguf: object) -> None:
    assert callable(make_gguf)
    facts = read_facts(read_gguf(make_gguf()))
    assert facts.memory(512) is None and facts.need(512) > facts.weights
