"""The files beside an ONNX file that hold its weights, found by a scan of the file: no library of ONNX is needed.

ONNX keeps tensors of a model outside its file where the whole is above 2 GB, the most that one protobuf message holds.
Each such tensor names its file by a path relative to the model's. Field numbers are those of `onnx.proto3`.
"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from scoring.bundles.files import is_safe_name, read_file
from scoring.errors import BundleError

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

__all__ = ["external_files", "weights_beside"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}

# What holds a tensor, by the kind of message: field number → kind of what is in it.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2
_LOCATION = b"location"


class _Field(NamedTuple):
    number: int
    content: memoryview


def external_files(model: bytes | mmap.mmap) -> tuple[str, ...]:
    """Paths of the files that an ONNX file's tensors lie in, relative to it, each once and sorted.

    What is no ONNX file has none: the runtime says what is wrong with it.
    """
    if isinstance(model, bytes) and _LOCATION not in model:
        return ()
    found: set[str] = set()
    try:
        found.update(_locations(memoryview(model)))
    except (ValueError, RecursionError):
        return ()
    return tuple(sorted(found))


def weights_beside(path: str | os.PathLike[str]) -> dict[str, str]:
    """Files with weights of an ONNX file of this host, by the names that it knows them by, as `BundleParts` wants them.

    Raises:
        BundleError: one is named that is not in the model's folder, or is not there.
        OSError: the model cannot be read.
    """
    model = Path(path)
    found = {name: model.parent / name for name in external_files(read_file(os.fspath(path)))}
    for name, place in found.items():
        if not is_safe_name(name):
            message = f"{model}: has weights in the file {name!r}, which is not in its folder. Save the model anew."
            raise BundleError(message)
        if not place.is_file():
            message = f"{model}: has weights in the file {name!r}, which is not beside it. Copy it there."
            raise BundleError(message)
    return {name: str(place) for name, place in found.items()}


def _locations(message: memoryview) -> Iterator[str]:
    pending = [("model", message)]
    while pending:
        kind, content = pending.pop()
        if kind == "entry":
            parts = {field.number: bytes(field.content) for field in _fields(content)}
            if parts.get(_KEY) == _LOCATION:
                yield posixpath.normpath(parts.get(_VALUE, b"").decode())
            continue
        inside = _INSIDE[kind]
        pending += [(inside[field.number], field.content) for field in _fields(content) if field.number in inside]


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message that have a length: messages, texts and bytes; the others are passed over."""
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        wire = tag & 7
        if wire == _VARINT:
            _, place = _varint(message, place)
            continue
        if wire in _FIXED:
            place += _FIXED[wire]
            continue
        if wire != _BYTES:
            raise ValueError
        length, place = _varint(message, place)
        if place + length > end:
            raise ValueError
        yield _Field(tag >> 3, message[place : place + length])
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where it ends."""
    number = shift = 0
    while place < len(message):
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004  the bit that says that more follow
            return number, place
        shift += 7
    raise ValueError
