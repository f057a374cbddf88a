"""Mistakes in the table `[serve]` are told with their line before anything is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh.errors import MeshFileError
from agentmesh.mesh import load_mesh

MESH = """\
[mesh]
name = "desk"
[agents.front]
model = "nano"
role = "You take questions."
[agents.math]
model = "nano"
role = "You calculate."
[serve]
agents = ["math"]
approve = ["ask_math", "stop_dialogue"]
[serve.prompts.sum]
text = 'Add {a} and {b}. Answer as {"sum": 1} or {}'
"""


@pytest.mark.parametrize(
    ("was", "becomes", "key", "told"),
    [
        ('agents = ["math"]', "agents = []", "serve.agents", "must not be an empty list"),
        ('agents = ["math"]', 'agents = ["math", "maths"]', "serve.agents", "did you mean 'math'?"),
        ('agents = ["math"]', 'agents = ["math", "math"]', "serve.agents", "given twice"),
        ('"ask_math", ', '"ask_front", ', "serve.approve", "'ask_front' is no tool that is served"),
        ('"stop_dialogue"', '"stop_dialog"', "serve.approve", "did you mean 'stop_dialogue'?"),
        ("{b}", "{the number}", "serve.prompts.sum.text", "{the number} is no argument"),
        ("{b}", "{2}", "serve.prompts.sum.text", "{2} is no argument"),
        ("prompts.sum]", 'prompts."a b"]', "serve.prompts.a b", "the name of a prompt begins with a letter"),
    ],
)
def test_a_mistake_is_told_with_its_key(
    refused: Callable[[str], MeshFileError], was: str, becomes: str, key: str, told: str
) -> None:
    assert was in MESH
    (mistake,) = refused(MESH.replace(was, becomes)).mistakes
    assert (mistake.key, told in mistake.text) == (key, True), mistake
    assert mistake.line is not None and mistake.line >= 9


def test_what_is_right_is_let_be(folder: Path) -> None:
    (folder / "mesh.toml").write_text(MESH)
    mesh = load_mesh(folder)
    assert mesh.serve.agents == ("math",) and mesh.serve.prompts["sum"].text.endswith("or {}")
