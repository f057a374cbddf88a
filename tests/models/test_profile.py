"""Profiles read back: what was recorded comes back whole, and anything else is refused by name."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models import ModelError, Profile, Sampling, ToolSpec
from agentmesh_models.profile import read_profile

WHOLE = Profile(
    model="m",
    model_digest="ab" * 32,
    template_digest="cd" * 32,
    library="llama-cpp-python",
    n_ctx=512,
    prompt_tokens=(1, 2, 3),
    reused_tokens=1,
    output_tokens=(4, 5),
    sampling=Sampling(temperature=0.5, seed=(1 << 64) - 1, repeat_penalty=1.1),
    grammar_digest="ef" * 32,
    finish="call",
    splits=(2,),
    invariance="free",
    tools=(ToolSpec(name="t", description="d", parameters={"type": "object", "properties": {"a": {}}}),),
    tool_choice="required",
    parallel_calls=False,
    max_tokens=9,
)


def test_a_recorded_profile_comes_back_whole_and_what_is_unknown_is_left_aside() -> None:
    plain = {**WHOLE.to_json(), "seed_from": {"rule": "agentmesh/seed/v1"}}
    assert read_profile(json.dumps(plain).encode()) == WHOLE
    assert read_profile(json.dumps({**plain, "grammar_digest": None}).encode()).grammar_digest is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("finish", "never"),
        ("tool_choice", "maybe"),
        ("n_ctx", -1),
        ("n_ctx", True),
        ("prompt_tokens", "1,2"),
        ("prompt_tokens", [1, -2]),
        ("output_tokens", [1.5]),
        ("sampling", None),
        ("sampling", {"temperature": "hot"}),
        ("sampling", {"seed": 1 << 64}),
        ("tools", {}),
        ("tools", ["t"]),
        ("tools", [{"name": "t"}]),
        ("parallel_calls", 1),
        ("model_digest", 3),
    ],
)
def test_a_field_that_is_wrong_is_named(key: str, value: object) -> None:
    with pytest.raises(ModelError) as caught:
        read_profile(json.dumps({**WHOLE.to_json(), key: value}).encode())
    assert caught.value.reason == "not_checkable"


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode())
)
def test_hostile_bytes_raise_only_that(data: bytes) -> None:
    with pytest.raises(ModelError):
        read_profile(data)
    with pytest.raises(ModelError):
        read_profile(b"[" * 100_000)
