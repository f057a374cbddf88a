"""Holds a server to the tools that were accepted of it."""

from __future__ import annotations

from agentmesh.toolbox.changes import Change, ToolsChanged
from agentmesh.toolbox.pins import PinFile, ToolSet


class Guard:
    """Keeps one server to its pinned tool set; without a file of pins, to the set that it showed first.

    Once something differed it stays refused: what was asked of other tools than these is over.
    """

    def __init__(self, *, server: str, source: str, pins: PinFile | None) -> None:
        self._server = server
        self._source = source
        self._pins = pins
        self._held: ToolSet | None = None
        self._change: Change | None = None

    @property
    def known(self) -> ToolSet | None:
        """What is pinned of a server that was not met yet. Raises `ToolboxError` `pins_unreadable`."""
        pin = None if self._pins is None else self._pins.find(self._server, self._source)
        return None if pin is None else pin.tools

    def require_unchanged(self) -> None:
        """Raises `ToolsChanged` where the tools were found changed before."""
        if self._change is not None:
            raise ToolsChanged([self._change])

    def admit(self, found: ToolSet) -> None:
        """Take note of what the server shows now; on first use it is pinned.

        Raises:
            ToolsChanged: it is not what is held. ToolboxError: `pins_unreadable`.
        """
        self.require_unchanged()
        if self._held is None:
            self._held = found if self._pins is None else self._pins.hold(self._server, self._source, found)
        if self._held.digest != found.digest:
            self._change = Change(server=self._server, source=self._source, pinned=self._held, found=found)
            self.require_unchanged()
