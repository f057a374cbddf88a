"""A strict reader of what stands before the weights in a GGUF file.

It runs before llama.cpp sees the file, so that a file that is cut off, that is no GGUF, or that lies about a
length gets a message that says so. It keeps single values; arrays (vocabularies) are walked over and read
again on demand. Format: the GGUF page of the ggml documentation, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from agentmesh_models.errors import ModelError, ModelErrorReason

MAX_KEYS: Final = 65_536
MAX_TENSORS: Final = 262_144
MAX_KEY_BYTES: Final = 65_535
MAX_STRING_BYTES: Final = 16 << 20
MAX_ELEMENTS: Final = 1 << 28
MAX_NAME_BYTES: Final = 63
MAX_DIMENSIONS: Final = 4
_BUFFER: Final = 1 << 20
_STRING: Final = 8
_ARRAY: Final = 9
_BOOL: Final = 7
_WHOLE: Final = frozenset({0, 1, 2, 3, 4, 5, 10, 11})

_SCALARS: Final[Mapping[int, str]] = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip

# Tensor type -> values in a block, bytes of a block (ggml.h and ggml-common.h of llama.cpp).
_BLOCKS: Final[Mapping[int, tuple[int, int]]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPlace:
    """Where an array stands in the file: its elements' type, how many, and the byte where they begin."""

    kind: int
    count: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor's place, in bytes from the beginning of the tensor data."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """What a GGUF file says about itself."""

    path: Path
    version: int
    metadata: Mapping[str, Scalar | ArrayPlace]
    tensors: tuple[Tensor, ...]
    data_offset: int

    def text(self, key: str) -> str | None:
        """The text under `key`, or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """The whole number under `key`, or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def context_length(self) -> int | None:
        """The number of tokens that the model was made for, where the file says so."""
        return self.number(f"{self.text('general.architecture')}.context_length")

    def texts(self, key: str) -> Iterator[bytes]:
        """The elements of a text array, read from the file anew, byte for byte.

        Raises:
            ModelError: the file changed since it was read.
        """
        place = self.metadata.get(key)
        if not isinstance(place, ArrayPlace) or place.kind != _STRING:
            return
        with _open(self.path) as file:
            cursor = _Cursor(file, self.path)
            cursor.seek(place.offset)
            for _ in range(place.count):
                yield cursor.bytes(MAX_STRING_BYTES, f"an element of {key}")

    def numbers(self, key: str) -> tuple[int, ...]:
        """The whole numbers of an array, such as one of every layer; none where it is no such array, or a huge one.

        Raises:
            ModelError: the file changed since it was read.
        """
        place = self.metadata.get(key)
        if not isinstance(place, ArrayPlace) or place.kind not in _WHOLE or place.count > MAX_KEYS:
            return ()
        with _open(self.path) as file:
            cursor = _Cursor(file, self.path)
            cursor.seek(place.offset)
            return tuple(
                cursor.whole(_SCALARS[place.kind], f"an element of {key}") for _ in range(place.count)
            )

    def token(self, key: str) -> str:
        """The text of the token whose id stands under `key`; empty where there is none."""
        wanted = self.number(key)
        if wanted is None:
            return ""
        return next(
            (
                text.decode("utf-8", "replace")
                for at, text in enumerate(self.texts("tokenizer.ggml.tokens"))
                if at == wanted
            ),
            "",
        )


def read_gguf(path: Path) -> GgufFile:
    """Read and check everything before the weights, and that the weights are all there.

    Raises:
        ModelError: "not_found", "unreadable", "not_gguf", "truncated", "malformed" or "unsupported", with the
        path,
            what was expected and what was found.
    """
    with _open(path) as file:
        try:
            return _read(_Cursor(file, path))
        except OSError as error:
            raise ModelError("unreadable", error.strerror or "cannot be read", path=path) from error


def _open(path: Path) -> BinaryIO:
    try:
        if not path.is_file():
            if path.exists():
                raise ModelError("not_gguf", "not a file", path=path)
            raise ModelError("not_found", "no such model file", path=path)
        return path.open("rb", buffering=_BUFFER)
    except OSError as error:
        raise ModelError("unreadable", error.strerror or "cannot be read", path=path) from error


class _Cursor:
    """A place in a file that never reads past its end and never believes a length it has not checked."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self.size = file.seek(0, 2)
        self.at = file.seek(0)

    def seek(self, offset: int) -> None:
        self.at = self._file.seek(offset)

    def fail(
        self, reason: ModelErrorReason, message: str, *, expected: int | str, found: int | str
    ) -> NoReturn:
        raise ModelError(reason, message, path=self._path, expected=expected, found=found)

    def need(self, count: int, what: str) -> None:
        left = self.size - self.at
        if count > left:
            self.fail(
                "truncated",
                f"the file ends inside {what}: {count:,} bytes expected at byte {self.at:,}, "
                f"{max(left, 0):,} left (download it again?)",
                expected=count,
                found=left,
            )

    def take(self, count: int, what: str) -> bytes:
        self.need(count, what)
        data = self._file.read(count)
        if len(data) != count:
            self.fail("truncated", f"the file ends inside {what}", expected=count, found=len(data))
        self.at += count
        return data

    def skip(self, count: int, what: str) -> None:
        self.need(count, what)
        self.at = self._file.seek(count, 1)

    def skip_texts(self, count: int, key: str) -> None:
        """Walk over that many texts. Vocabularies have hundreds of thousands: whole blocks are looked through."""
        length = struct.Struct("<Q").unpack_from
        while count:
            block = self._file.read(_BUFFER)
            at = 0
            while count and len(block) - at >= 8:
                (size,) = length(block, at)
                if size > len(block) - at - 8:
                    break
                at += 8 + size
                count -= 1
            self.at = self._file.seek(self.at + at)
            if count and at == 0:  # longer than a block, or a lie, or the file's end: looked at closely
                what = f"an element of {key!r}"
                self.skip(self.length(MAX_STRING_BYTES, what), f"the array {key!r}")
                count -= 1

    def whole(self, form: str, what: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form), what))[0])

    def length(self, limit: int, what: str) -> int:
        count = self.whole("<Q", f"the length of {what}")
        if count > limit:
            self.fail(
                "malformed",
                f"{what} claims a length of {count:,} at byte {self.at - 8:,}; at most {limit:,} is sensible",
                expected=limit,
                found=count,
            )
        return count

    def text(self, limit: int, what: str) -> str:
        return self.bytes(limit, what).decode("utf-8", "replace")

    def bytes(self, limit: int, what: str) -> bytes:
        return self.take(self.length(limit, what), what)


def _read(cursor: _Cursor) -> GgufFile:
    path = cursor._path
    version = _header(cursor)
    n_tensors = cursor.length(MAX_TENSORS, "the tensor list")
    n_keys = cursor.length(MAX_KEYS, "the metadata")
    metadata: dict[str, Scalar | ArrayPlace] = {}
    for number in range(1, n_keys + 1):
        key = cursor.text(MAX_KEY_BYTES, f"metadata key {number} of {n_keys}")
        if key in metadata:
            cursor.fail("malformed", f"metadata key {key!r} stands there twice", expected="one", found="two")
        metadata[key] = _value(cursor, key)
    tensors: dict[str, Tensor] = {}
    for number in range(1, n_tensors + 1):
        tensor = _tensor(cursor, f"tensor {number} of {n_tensors}")
        if tensor.name in tensors:
            cursor.fail(
                "malformed", f"tensor {tensor.name!r} stands there twice", expected="one", found="two"
            )
        tensors[tensor.name] = tensor
    start = _data_offset(cursor, metadata)
    for tensor in tensors.values():
        _check_data(cursor, tensor, start)
    return GgufFile(
        path=path, version=version, metadata=metadata, tensors=tuple(tensors.values()), data_offset=start
    )


def _header(cursor: _Cursor) -> int:
    if cursor.size < 4:
        cursor.fail(
            "not_gguf", f"not a GGUF file: {cursor.size} bytes long", expected="GGUF", found=cursor.size
        )
    magic = cursor.take(4, "the first four bytes")
    if magic != b"GGUF":
        cursor.fail(
            "not_gguf",
            f"not a GGUF file: it begins with {magic!r}, expected b'GGUF'{_guess(magic)}",
            expected="GGUF",
            found=repr(magic),
        )
    version = cursor.whole("<I", "the version")
    if version in (0x02000000, 0x03000000):
        cursor.fail("unsupported", "a big-endian GGUF file", expected="little-endian", found="big-endian")
    if version not in (2, 3):
        cursor.fail(
            "unsupported", f"GGUF version {version}; 2 and 3 are known", expected="2 or 3", found=version
        )
    return version


def _guess(magic: bytes) -> str:
    if magic.startswith(b"PK"):
        return " (a zip archive or a PyTorch checkpoint)"
    if magic == b"vers":
        return " (a Git LFS pointer: fetch the file itself)"
    if magic.lstrip().startswith((b"<!", b"<h", b"<H")):
        return " (a web page: the download went wrong)"
    return ""


def _value(cursor: _Cursor, key: str) -> Scalar | ArrayPlace:
    what = f"the value of {key!r}"
    kind = cursor.whole("<I", f"the type of {key!r}")
    if kind == _STRING:
        return cursor.text(MAX_STRING_BYTES, what)
    if kind == _ARRAY:
        return _array(cursor, key)
    form = _SCALARS.get(kind)
    if form is None:
        cursor.fail("malformed", f"{what} has the unknown type {kind}", expected="0 to 12", found=kind)
    value: int | float = struct.unpack(form, cursor.take(struct.calcsize(form), what))[0]
    if kind == _BOOL:
        if value not in (0, 1):
            cursor.fail("malformed", f"{what} is no truth value", expected="0 or 1", found=str(value))
        return value == 1
    return value


def _array(cursor: _Cursor, key: str) -> ArrayPlace:
    what = f"the array {key!r}"
    kind = cursor.whole("<I", f"the element type of {key!r}")
    count = cursor.length(MAX_ELEMENTS, what)
    place = ArrayPlace(kind=kind, count=count, offset=cursor.at)
    if kind == _STRING:
        cursor.need(8 * count, what)
        cursor.skip_texts(count, key)
    elif kind in _SCALARS:
        cursor.skip(count * struct.calcsize(_SCALARS[kind]), what)
    else:
        cursor.fail(
            "malformed", f"{what} has elements of type {kind}", expected="0 to 8, 10 to 12", found=kind
        )
    return place


def _tensor(cursor: _Cursor, what: str) -> Tensor:
    name = cursor.text(MAX_NAME_BYTES, f"the name of {what}")
    count = cursor.whole("<I", f"the shape of {name!r}")
    if not 1 <= count <= MAX_DIMENSIONS:
        cursor.fail("malformed", f"tensor {name!r} has {count} dimensions", expected="1 to 4", found=count)
    shape = tuple(cursor.whole("<Q", f"the shape of {name!r}") for _ in range(count))
    kind = cursor.whole("<I", f"the type of {name!r}")
    offset = cursor.whole("<Q", f"the place of {name!r}")
    if kind not in _BLOCKS:
        cursor.fail(
            "unsupported", f"tensor {name!r} has the unknown type {kind}", expected="a known type", found=kind
        )
    values, block = _BLOCKS[kind]
    elements = 1
    for dimension in shape:
        elements *= dimension
        if not 1 <= dimension < 1 << 62 or elements >= 1 << 62:
            cursor.fail(
                "malformed",
                f"tensor {name!r} has the shape {list(shape)}",
                expected="a shape",
                found=str(shape),
            )
    if shape[0] % values:
        cursor.fail(
            "malformed",
            f"tensor {name!r} has rows of {shape[0]}, not a multiple of {values}",
            expected=values,
            found=shape[0],
        )
    return Tensor(name=name, shape=shape, kind=kind, offset=offset, size=elements // values * block)


def _data_offset(cursor: _Cursor, metadata: Mapping[str, Scalar | ArrayPlace]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if isinstance(alignment, bool) or not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        cursor.fail(
            "malformed", f"an alignment of {alignment!r}", expected="a power of two", found=str(alignment)
        )
    if alignment & (alignment - 1):
        cursor.fail("malformed", f"an alignment of {alignment}", expected="a power of two", found=alignment)
    return -(-cursor.at // alignment) * alignment


def _check_data(cursor: _Cursor, tensor: Tensor, start: int) -> None:
    end = start + tensor.offset + tensor.size
    if end > cursor.size:
        cursor.fail(
            "truncated",
            f"tensor {tensor.name!r} ends at byte {end:,}, the file at byte {cursor.size:,} "
            "(download it again?)",
            expected=end,
            found=cursor.size,
        )
