"""What a model file says of itself in numbers, and the memory that follows from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_models.catalogue import nano_path
from agentmesh_models.facts import read_facts
from agentmesh_models.gguf import read_gguf
from agentmesh_models.memory import memory_needed


def test_the_facts_of_nano_are_those_of_its_recipe() -> None:
    facts = read_facts(read_gguf(nano_path()))
    assert (facts.architecture, facts.layers, facts.embedding, facts.heads, facts.kv_heads) == (
        "llama",
        5,
        256,
        8,
        8,
    )
    assert (facts.context, facts.vocabulary, facts.quantisation, facts.tool_format) == (
        2048,
        2048,
        "Q8_0",
        "hermes",
    )
    # What llama.cpp itself reports for 2,048 cells: a cache of 10 MiB, weights of 3.86 MiB at 8.52 bits.
    assert facts.kv_bytes == 10 * (1 << 20) // 2048
    assert facts.weights == pytest.approx(3.86 * (1 << 20), rel=0.002) and facts.bits_per_weight == 8.52
    assert facts.parameters == 3_803_904
    assert facts.read_a_step == facts.weights  # its table of embeddings is its output matrix too


def test_a_random_model_has_the_shape_it_was_made_with(random_model: Path) -> None:
    facts = read_facts(read_gguf(random_model))
    vocabulary = facts.vocabulary or 0
    assert facts.kv_bytes == 2 * 2 * (32 + 32) * 2  # layers, heads, the width of a key and of a value, f16
    # Embeddings and the last norm; of each layer four matrices of attention, three of the rest, two norms.
    assert facts.parameters == vocabulary * 64 + 64 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64)
    assert facts.weights == 4 * facts.parameters and facts.quantisation == "F32"


def test_what_a_file_does_not_tell_is_none(make_gguf: Callable[..., Path]) -> None:
    facts = read_facts(read_gguf(make_gguf(template=None)))
    assert (facts.layers, facts.heads, facts.kv_bytes, facts.licence, facts.tool_format) == (None,) * 5
    assert facts.memory(1000) is None and facts.context == 512


def written(path: Path, **shape: object) -> Path:
    """A file of an architecture with odd shapes, by the other implementation of the format."""
    gguf = pytest.importorskip("gguf", reason="gguf writes the model")
    np = pytest.importorskip("numpy", reason="numpy makes the weights")
    out = gguf.GGUFWriter(str(path), "odd")
    out.add_embedding_length(64)
    out.add_block_count(3)
    out.add_head_count(4)
    out.add_license("mit")
    if "kv" in shape:
        out.add_head_count_kv(shape["kv"])
    if "experts" in shape:
        out.add_expert_count(8)
        out.add_expert_used_count(2)
        out.add_tensor("blk.0.ffn_up_exps.weight", np.zeros((8, 4, 64), dtype=np.float32))
    if "width" in shape:
        out.add_key_length(shape["width"])
        out.add_value_length(shape["width"])
    out.add_tensor("token_embd.weight", np.zeros((10, 64), dtype=np.float32))
    if "output" in shape:
        out.add_tensor("output.weight", np.zeros((10, 64), dtype=np.float16))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def test_heads_may_differ_from_layer_to_layer(tmp_path: Path) -> None:
    facts = read_facts(read_gguf(written(tmp_path / "a.gguf", kv=[2, 0, 4])))
    assert (facts.kv_bytes, facts.kv_heads) == ((2 + 0 + 4) * (16 + 16) * 2, 4)
    assert read_facts(read_gguf(written(tmp_path / "b.gguf"))).kv_bytes == 3 * 4 * (16 + 16) * 2
    wide = read_facts(read_gguf(written(tmp_path / "c.gguf", kv=1, width=256)))
    assert (wide.kv_bytes, wide.licence) == (3 * 512 * 2, "mit")


def test_a_step_reads_no_idle_experts_and_no_table_beside_an_output_matrix(tmp_path: Path) -> None:
    facts = read_facts(read_gguf(written(tmp_path / "a.gguf", experts=True, output=True)))
    experts, table, output = 8 * 4 * 64 * 4, 10 * 64 * 4, 10 * 64 * 2
    assert facts.weights == experts + table + output
    assert facts.read_a_step == experts * 2 // 8 + output


def test_memory_of_a_catalogue_and_of_a_file_is_one_estimate() -> None:
    facts = read_facts(read_gguf(nano_path()))
    told = memory_needed(
        weights=facts.weights, kv_bytes=facts.kv_bytes, vocabulary=facts.vocabulary or 0, n_ctx=2048
    )
    assert facts.memory(2048) == facts.need(2048) == told
