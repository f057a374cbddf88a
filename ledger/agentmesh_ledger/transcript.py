"""Transcript files: a selection of a log as JSON lines, written and read as a stream (SPEC section 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO, Final

from agentmesh_ledger.anchor.lines import MAX_ANCHOR_LINE, MAX_ANCHORS, AnchorLine, parse_anchor_line
from agentmesh_ledger.encoding import decode64, decode_hash, encode64
from agentmesh_ledger.envelope import MAX_ENTRY
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.fields import count_of, hash_of, hashes_of, parse_line, parse_object
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.message import MAX_CONTENT, MAX_PARTS, Part
from agentmesh_ledger.note import MAX_NOTE
from agentmesh_ledger.record import Opening
from agentmesh_ledger.text import is_dialogue, is_origin, shown
from agentmesh_ledger.tree import MAX_PROOF

FORMAT: Final = "agentmesh-transcript/v1"
MAX_HEADER: Final = 2 * MAX_NOTE + 64 * 1024
MAX_LINE: Final = 4 * (MAX_CONTENT // 3 + MAX_ENTRY // 3) + 1024 * (MAX_PARTS + 1) + 128 * MAX_PROOF
MAX_VKEYS: Final = 16
_ENTRY: Final = b'{"entry":"'  # no end line begins so: its keys stand in another order
WITHHELD: Final = "withheld"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """A proof that the log of the checkpoint begins with the tree of this size and root."""

    size: int
    root: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line. Nothing in it is believed that signed data does not bear out.

    `anchors` is how many anchor lines follow it.
    """

    origin: str
    vkeys: tuple[str, ...]
    checkpoint: str
    tree_size: int
    dialogue: str | None
    consistency: Consistency | None = None
    anchors: int = 0

    def encode(self) -> bytes:
        """The header's line, without its line feed."""
        consistency: JsonValue = None
        if self.consistency is not None:
            consistency = {
                "proof": [each.hex() for each in self.consistency.proof],
                "root": self.consistency.root.hex(),
                "size": self.consistency.size,
            }
        fields: dict[str, JsonValue] = {
            "checkpoint": self.checkpoint,
            "consistency": consistency,
            "format": FORMAT,
            "origin": self.origin,
            "selection": "log" if self.dialogue is None else {"dialogue": self.dialogue},
            "tree_size": self.tree_size,
            "vkeys": list(self.vkeys),
        }
        if self.anchors:  # or the header is to the byte what it was before there were anchors
            fields["anchors"] = self.anchors
        return canonical(fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryLine:
    """One shown entry. `openings` has every part that the line names; None means withheld."""

    index: int
    entry: bytes
    openings: Mapping[bytes, Opening | None]
    types: Mapping[bytes, str]
    proof: tuple[bytes, ...] | None


class TranscriptWriter:
    """Writes a transcript line by line; nothing but the running digest is kept."""

    def __init__(self, out: BinaryIO, header: Header) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self._entries = 0
        self._write(header.encode())

    def anchor(self, line: AnchorLine) -> None:
        """Writes one anchor line; the header announced how many there are, before the first entry."""
        self._write(line.encode())

    def entry(
        self,
        index: int,
        entry: bytes,
        parts: Sequence[Part],
        openings: Mapping[bytes, Opening | None],
        proof: Sequence[bytes] | None,
    ) -> None:
        """Writes one entry and what there is of its content."""
        content: dict[str, JsonValue] = {}
        for part in parts:
            opening = openings.get(part.hash)
            content[part.hash.hex()] = (
                WITHHELD
                if opening is None
                else {"data": encode64(opening.data), "salt": encode64(opening.salt), "type": part.type}
            )
        line: dict[str, JsonValue] = {"entry": encode64(entry), "index": index, "parts": content}
        if proof is not None:
            line["proof"] = [each.hex() for each in proof]
        self._write(canonical(line))
        self._entries += 1

    def end(self) -> str:
        """Writes the end line and gives the digest of all lines before it."""
        digest = self._digest.hexdigest()
        self._write(canonical({"digest": digest, "end": True, "entries": self._entries}))
        return digest

    def _write(self, line: bytes) -> None:
        self._digest.update(line + b"\n")
        try:
            self._out.write(line + b"\n")
        except OSError as error:
            raise LedgerError("failed", f"the transcript cannot be written: {error.strerror}") from error


class TranscriptReader:
    """Reads a transcript line by line and holds it to the format; says nothing of what the entries mean.

    Every error carries the number of the line, from 1. `line` is the line last read. `anchors` stand before the
    entries and are read first. Once the end line was read `endings` has what it says wrongly of the file: lines counted, digest, and whether anything follows.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._digest = hashlib.sha256()
        self.line = 0
        self.entries = 0
        self.endings: list[LedgerError] = []
        try:
            header = self._read(MAX_HEADER)
            self._digest.update(header)
            self.header = _parse_header(parse_object(header[:-1], "header"))
        except LedgerError as error:
            error.locate(line=self.line)
            raise

    def anchors(self) -> Iterator[AnchorLine]:
        """The anchor lines that the header announces, one by one: together they may be half a gigabyte.

        Raises: LedgerError where one of them is none; what follows it can then not be told.
        """
        proof = self.header.dialogue is not None
        for number in range(self.header.anchors):
            try:
                data = self._read(MAX_ANCHOR_LINE)
                if data.startswith(_ENTRY) or _end_line(data[:-1]) is not None:
                    raise LedgerError(
                        "line",
                        "anchor lines are missing",
                        expected=f"{self.header.anchors} of them",
                        found=str(number),
                    )
                line = parse_anchor_line(data[:-1], proof=proof)
            except LedgerError as error:
                error.locate(line=self.line)
                raise
            self._digest.update(data)
            yield line

    def __iter__(self) -> Iterator[EntryLine]:
        """The entries, up to the first fault."""
        proof = self.header.dialogue is not None
        for chunk in self.chunks(1, 1):
            try:
                yield parse_entry_line(chunk[:-1], proof=proof)
            except LedgerError as error:
                error.locate(line=self.line)
                raise
        if self.endings:
            raise self.endings[0]

    def chunks(self, lines: int, size: int) -> Iterator[bytes]:
        """The entry lines as they are, up to so many at once, or so many bytes where these are reached first.

        Raises: LedgerError where the file cannot be read on; what was read before is given out first.
        """
        held: list[bytes] = []
        room, left = size, lines
        failure: LedgerError | None = None
        ended = False
        while not ended:
            try:
                data, count = self._read_ahead(left, room)
                if not count:
                    data, count = self._read(MAX_LINE), 1
                end = None if data.startswith(_ENTRY) else _end_line(data[:-1])
            except LedgerError as error:
                error.locate(line=self.line)
                failure, ended = error, True
            else:
                if end is None:
                    held.append(data)
                    room, left = room - len(data), left - count
                    if room > 0 and left > 0:
                        continue
                else:
                    ended = True
            if held:
                chunk = b"".join(held)
                self._digest.update(chunk)
                self.entries += lines - left
                held, room, left = [], size, lines
                yield chunk
        if failure is not None:
            raise failure
        try:
            self._end(end or {})
        except LedgerError as error:
            error.locate(line=self.line)
            raise

    def _read_ahead(self, lines: int, size: int) -> tuple[bytes, int]:
        """Lines that the source has at hand and that are surely entries', and how many: at most so many, or so many
        bytes and the rest of a line. None where it is not known what the source has at hand."""
        if lines < 2 or not isinstance(self._source, BufferedReader):
            return b"", 0
        try:
            ready = self._source.peek()
            at = count = 0
            while count < lines and at < size and ready.startswith(_ENTRY, at):
                end = ready.find(b"\n", at) + 1
                if not at < end <= at + MAX_LINE + 1:
                    break
                at, count = end, count + 1
            self.line += count
            return self._source.read(at), count
        except OSError:  # the next line by itself will tell
            return b"", 0

    def _read(self, limit: int) -> bytes:
        self.line += 1
        try:
            data = self._source.readline(limit + 2)
        except OSError as error:
            raise LedgerError("unreadable", f"the file cannot be read: {error.strerror}") from error
        if not data:
            what = "the file is empty" if self.line == 1 else "the file ends before its end line"
            raise LedgerError("truncated", what)
        if len(data) > limit + 1:
            raise LedgerError("line", f"the line is longer than {limit} bytes")
        if not data.endswith(b"\n"):
            raise LedgerError("truncated", "the file ends in the middle of a line")
        return data

    def _end(self, value: Mapping[str, JsonValue]) -> None:
        digest = self._digest.hexdigest()
        if set(value) != {"digest", "end", "entries"} or value["end"] is not True:
            raise LedgerError("line", "the end line is malformed")
        if count_of(value["entries"], "line", "entries") != self.entries:
            self.endings.append(
                LedgerError(
                    "count",
                    "the end line counts other entries than there are",
                    expected=str(self.entries),
                    found=str(value["entries"]),
                    line=self.line,
                )
            )
        if value["digest"] != digest:
            self.endings.append(
                LedgerError(
                    "digest",
                    "the end line's digest is not that of the lines before it",
                    expected=digest,
                    found=shown(str(value["digest"]), 64),
                    line=self.line,
                )
            )
        try:
            rest = self._source.read(1)
        except OSError as error:
            raise LedgerError("unreadable", f"the file cannot be read: {error.strerror}") from error
        if rest:
            self.line += 1
            self.endings.append(LedgerError("trailing", "there are bytes after the end line", line=self.line))


def parse_entry_line(data: bytes, *, proof: bool) -> EntryLine:
    """An entry line, given without its line feed; `proof` where the selection is a dialogue (SPEC L-52, L-53).

    Raises: LedgerError(line).
    """
    return _parse_entry(parse_line(data), proof=proof)


def _end_line(data: bytes) -> Mapping[str, JsonValue] | None:
    """The end line's fields; None for any other line, which will be judged as an entry's."""
    try:
        value = parse_line(data)
    except LedgerError:
        return None
    return value if "end" in value else None


def _parse_header(value: Mapping[str, JsonValue]) -> Header:
    if value.get("format") != FORMAT:
        raise LedgerError("header", f"the first line is not the header of an {FORMAT} file")
    fields = {"checkpoint", "consistency", "format", "origin", "selection", "tree_size", "vkeys"}
    if set(value) - {"anchors"} != fields:
        raise LedgerError("header", "the header's fields are not those of the format")
    origin, note, vkeys, selection = (value[key] for key in ("origin", "checkpoint", "vkeys", "selection"))
    if not isinstance(origin, str) or not is_origin(origin) or not isinstance(note, str):
        raise LedgerError("header", "the header's origin or checkpoint is malformed")
    if not isinstance(vkeys, list) or not 0 < len(vkeys) <= MAX_VKEYS:
        raise LedgerError("header", f"the header does not name 1 to {MAX_VKEYS} log keys")
    keys = tuple(each for each in vkeys if isinstance(each, str))
    if len(set(keys)) != len(vkeys):
        raise LedgerError("header", "the header's log keys are not different texts")
    dialogue: str | None = None
    if selection != "log":
        named = selection.get("dialogue") if isinstance(selection, dict) and len(selection) == 1 else None
        if not isinstance(named, str) or not is_dialogue(named):
            raise LedgerError("header", "the header's selection is neither the log nor a dialogue")
        dialogue = named
    consistency = value["consistency"]
    if consistency is not None and dialogue is None:
        raise LedgerError("header", "the whole log needs no consistency proof and may not carry one")
    anchors = count_of(value["anchors"], "header", "anchors") if "anchors" in value else 0
    if "anchors" in value and not 0 < anchors <= MAX_ANCHORS:
        raise LedgerError("header", f"the header announces other than 1 to {MAX_ANCHORS} anchors")
    return Header(
        origin=origin,
        vkeys=keys,
        checkpoint=note,
        tree_size=count_of(value["tree_size"], "header", "tree_size"),
        dialogue=dialogue,
        consistency=None if consistency is None else _parse_consistency(consistency),
        anchors=anchors,
    )


def _parse_consistency(value: JsonValue) -> Consistency:
    if not isinstance(value, dict) or set(value) != {"proof", "root", "size"}:
        raise LedgerError("header", "the header's consistency proof is malformed")
    return Consistency(
        size=count_of(value["size"], "header", "the consistency proof's size"),
        root=hash_of(value["root"], "header", "the consistency proof's root"),
        proof=hashes_of(value["proof"], "header"),
    )


def _parse_entry(value: Mapping[str, JsonValue], *, proof: bool) -> EntryLine:
    wanted = {"entry", "index", "parts"} | ({"proof"} if proof else set())
    if set(value) != wanted:
        raise LedgerError("line", f"the line's fields are not {', '.join(sorted(wanted))}")
    entry, parts = value["entry"], value["parts"]
    if not isinstance(entry, str) or not isinstance(parts, dict) or len(parts) > MAX_PARTS:
        raise LedgerError("line", "the line's entry or parts are malformed")
    openings: dict[bytes, Opening | None] = {}
    types: dict[bytes, str] = {}
    for key, item in parts.items():
        digest = decode_hash(key, "line", "a part's hash")
        if item == WITHHELD:
            openings[digest] = None
            continue
        if not isinstance(item, dict) or set(item) != {"data", "salt", "type"}:
            raise LedgerError("line", "a part is neither withheld nor data, salt and type")
        data, salt, kind = item["data"], item["salt"], item["type"]
        if not isinstance(data, str) or not isinstance(salt, str) or not isinstance(kind, str):
            raise LedgerError("line", "a part's data, salt or type is not a text")
        openings[digest] = Opening(
            salt=decode64(salt, "line", "a part's salt"), data=decode64(data, "line", "a part's data")
        )
        types[digest] = kind
    return EntryLine(
        index=count_of(value["index"], "line", "index"),
        entry=decode64(entry, "line", "the entry"),
        openings=openings,
        types=types,
        proof=hashes_of(value["proof"], "line") if proof else None,
    )
