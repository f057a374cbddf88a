"""How a dialogue looks to a person or a program. Renderers take values and write; they open and decide nothing."""

from __future__ import annotations
