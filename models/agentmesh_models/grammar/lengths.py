"""Strings of a form that must also have a length: repetitions are held to fewer turns, or to more."""

from __future__ import annotations

from dataclasses import replace

from agentmesh_models.grammar.expression import Alt, Chars, Node, Ref, Repeat, Seq, Text


def span(node: Node) -> tuple[int, int | None]:
    """The least and the most characters of a raw node; None is without end."""
    if isinstance(node, Text):
        return len(node.text), len(node.text)
    if isinstance(node, Chars):
        return 1, 1
    if isinstance(node, Ref):
        raise ValueError("a raw node names no rules")
    if isinstance(node, Repeat):
        least, most = span(node.item)
        if most == 0:
            return 0, 0
        return least * node.low, None if node.high is None or most is None else most * node.high
    spans = [span(each) for each in (node.parts if isinstance(node, Seq) else node.options)]
    highs = [most for _, most in spans if most is not None]
    open_end = len(highs) < len(spans)
    if isinstance(node, Seq):
        return sum(least for least, _ in spans), None if open_end else sum(highs)
    return min((least for least, _ in spans), default=0), None if open_end else max(highs, default=0)


def fitted(node: Node, low: int, high: int | None) -> Node | None:
    """Those texts of a raw node, or some of them, that are `low` to `high` characters long; None for none found."""
    if span(node)[0] < low:
        raised = _raised(node, low)
        if raised is None:
            return None
        node = raised
    least, most = span(node)
    if high is None or (most is not None and most <= high):
        return node
    return None if least > high else _capped(node, high)


def _capped(node: Node, most: int) -> Node:
    """At most so many characters, which are no fewer than the node's least."""
    if isinstance(node, Alt):
        return Alt(tuple(_capped(each, most) for each in node.options if span(each)[0] <= most))
    if isinstance(node, Seq):
        spans = [span(each) for each in node.parts]
        spare = most - sum(least for least, _ in spans)
        flexible = sum(high is None or high > least for least, high in spans)
        parts = []
        for each, (least, high) in zip(node.parts, spans, strict=True):
            if high is None or high > least:
                share = spare // flexible
                flexible -= 1
                used = share if high is None else min(share, high - least)
                spare -= used
                each = _capped(each, least + used)
            parts.append(each)
        return Seq(tuple(parts))
    if isinstance(node, Repeat):
        least, item_most = span(node.item)
        turns = max(node.low, 1)
        if item_most is not None and item_most * turns <= most:
            fit = most // item_most if item_most else turns
            return replace(node, high=fit if node.high is None else min(node.high, fit))
        if least * turns > most:
            return replace(node, high=node.low)
        return Repeat(_capped(node.item, most // turns), node.low, turns)
    return node


def _raised(node: Node, least: int) -> Node | None:
    """At least so many characters; None where no repetition can take them up."""
    if isinstance(node, Text | Chars):
        return node if span(node)[0] >= least else None
    if isinstance(node, Alt):
        options = [each for each in (_raised(each, least) for each in node.options) if each is not None]
        return Alt(tuple(options)) if options else None
    if isinstance(node, Seq):
        missing = least - span(node)[0]
        if missing <= 0:
            return node
        for at, each in enumerate(node.parts):
            raised = _raised(each, span(each)[0] + missing)
            if raised is not None:
                return Seq((*node.parts[:at], raised, *node.parts[at + 1 :]))
        return None
    if isinstance(node, Repeat):
        each_least = span(node.item)[0]
        turns = -(-least // each_least) if each_least else 0
        if turns and (node.high is None or turns <= node.high):
            return replace(node, low=max(node.low, turns))
    return None
