"""A word of the command line that is meant where none is given: `agentmesh keys MESH` is `agentmesh keys list MESH`."""

from __future__ import annotations

from typing import ClassVar

import typer
from typer.core import TyperGroup


class Implied(TyperGroup):
    """A group in which the command `word` is meant where the first argument names no command."""

    word: ClassVar[str]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer vendors click's Context
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = [self.word, *args]
        return super().parse_args(ctx, args)


class ListIsMeant(Implied):
    """Without a word the list is meant."""

    word = "list"


class ShowIsMeant(Implied):
    """Without a word it is shown."""

    word = "show"
