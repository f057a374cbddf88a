"""Files fetched before they are asked for: over a network an auditor would else wait for each in turn."""

from __future__ import annotations

from threading import Thread

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.web import WebFiles


class AheadFiles:
    """The files of a `WebFiles`. What was prepared is fetched meanwhile, by a thread each.

    The threads are daemons: whoever presses Ctrl-C does not wait for a server that is silent.
    """

    def __init__(self, files: WebFiles) -> None:
        self._files = files
        self._flying: dict[str, _Flight] = {}

    def prepare(self, path: str, limit: int) -> None:
        """Begins to fetch a file that will be asked for soon. The caller bounds how many."""
        if path not in self._flying:
            flight = _Flight(self._files, path, limit)
            self._flying[path] = flight
            flight.start()

    def fetch(self, path: str, limit: int) -> bytes:
        """The bytes of a file, at most `limit` of them.

        Raises: LedgerError(not_found, unreadable, tile).
        """
        flight = self._flying.pop(path, None)
        if flight is None:
            return self._files.fetch(path, limit)
        flight.join()
        if flight.error is not None:
            raise flight.error
        return flight.data


class _Flight(Thread):
    """One fetch under way."""

    def __init__(self, files: WebFiles, path: str, limit: int) -> None:
        super().__init__(daemon=True)
        self.data = b""
        self.error: LedgerError | None = LedgerError(
            "unreadable", "the fetch ended without a word", path=path
        )
        self._files, self._path, self._limit = files, path, limit

    def run(self) -> None:
        try:
            self.data = self._files.fetch(self._path, self._limit)
            self.error = None
        except LedgerError as error:
            self.error = error
