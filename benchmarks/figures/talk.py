"""A dialogue of agents as prompts, in two layouts, and how many different tokens there are in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from agentmesh.prompt import Page, Said, lay_out, own_part, system_text
from agentmesh_models import Message
from figures.random_model import words

Layout = Literal["shared", "apart"]
NAMES: Final = ("ada", "ben", "cleo", "dan")
_RULES: Final = 96  # words
_TASK: Final = 128
_ROLE: Final = 12


@dataclass(slots=True, kw_only=True)
class Talk:
    """Four agents, each with a role of its own, and what they have said; all text follows from `seed`.

    The layouts are the runtime's own, `shared` and (here `apart`) `agent`: see `agentmesh.prompt`.
    """

    seed: int
    layout: Layout
    said: list[tuple[str, str]] = field(default_factory=list)

    def prompt(self, name: str) -> tuple[Message, ...]:
        """What `name` reads before it speaks."""
        heard = tuple(
            Said(index=index, leaf_hash=b"", agent=speaker, text=text)
            for index, (speaker, text) in enumerate(self.said)
        )
        if self.layout == "shared":
            own = own_part(name=name, role=self._role(name), asked="Go on.", tools=(), shown=())
            page = Page(
                layout="shared", name=name, rules=self._rules(), task=self._task(), own=own, heard=heard
            )
        else:
            rules = f"{system_text(name, self._role(name))}\n{self._rules()}"
            page = Page(layout="agent", name=name, rules=rules, task="", own=self._task(), heard=heard)
        return lay_out(page)

    def _rules(self) -> str:
        return words(_RULES, self.seed * 1000)

    def _task(self) -> str:
        return words(_TASK, self.seed * 1000 + 1)

    def _role(self, name: str) -> str:
        return words(_ROLE, self.seed * 1000 + 2 + NAMES.index(name))


def distinct(sequences: Iterable[Sequence[int]]) -> int:
    """The tokens that somebody who shares every beginning has to evaluate: the nodes of the sequences' tree."""
    nodes: dict[tuple[int, int], int] = {}
    for sequence in sequences:
        node = 0
        for token in sequence:
            node = nodes.setdefault((node, token), len(nodes) + 1)
    return len(nodes)
