"""Grammars of tool calls: JSON Schemas compiled, written for llama.cpp, and walked token by token."""

from __future__ import annotations

from agentmesh_models.grammar.calls import CallGrammar, call_grammar, left_to_tools
from agentmesh_models.grammar.gbnf import literal

__all__ = ["CallGrammar", "call_grammar", "left_to_tools", "literal"]
