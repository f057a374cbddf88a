"""The progress bar."""

from __future__ import annotations

import io

from agentmesh_ledger.bar import Bar


def test_the_bar_is_drawn_on_a_terminal_only_and_taken_away() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    bar = Bar(shown)
    bar.draw(0, 0)
    bar.draw(150, 300)  # too soon after the first to be drawn
    bar.clear()
    assert shown.getvalue().startswith("\r[..") and shown.getvalue().endswith(" \r")
    assert "150" not in shown.getvalue()
    plain = io.StringIO()
    bar = Bar(plain)
    bar.draw(1, 2)
    bar.clear()
    Bar(None).draw(1, 2)
    assert plain.getvalue() == ""
