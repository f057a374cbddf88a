"""The icon that hosts show beside our servers and tools: three nodes and their links."""

from __future__ import annotations

import base64
from typing import Final

from mcp.types import Icon

# Small: in the 2026-07-28 revision every result carries the server's description of itself.
_SVG: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="#2b6cb0">'
    '<path d="M12 5 5 18h14z"/><path d="M12 5h0M5 18h0M19 18h0" stroke-width="6" stroke-linecap="round"/></svg>'
)
ICON: Final = Icon(
    src=f"data:image/svg+xml;base64,{base64.b64encode(_SVG.encode()).decode()}",
    mime_type="image/svg+xml",
    sizes=["any"],
)
