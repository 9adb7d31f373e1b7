"""The files beside an ONNX file that hold its weights, found by a scan of the file: no library of ONNX is needed.

ONNX keeps tensors of a model outside its file where the whole is above 2 GB, the most that one protobuf message holds.
Each such tensor names its file by a path relative to the model's. Field numbers are those of `onnx.proto3`.
"""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from scoring.bundles.files import is_safe_name, read_file
from scoring.errors import BundleError
from scoring.protobuf import Message, fields

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    from etl.runs.storage import Storage

__all__ = ["bare_model", "external_files", "weights_beside"]

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


def external_files(model: bytes | mmap.mmap) -> tuple[str, ...]:
    """Paths of the files that an ONNX file's tensors lie in, relative to it, each once and sorted.

    What is no ONNX file has none: the runtime says what is wrong with it.
    """
    if isinstance(model, bytes) and _LOCATION not in model:
        return ()
    try:
        return tuple(sorted(set(_locations(model))))
    except ValueError:
        return ()


def bare_model(storage: Storage, path: str, name: str) -> dict[str, bytes | mmap.mmap] | None:
    """An ONNX file under a name, and the files with its weights under those that it gives them; None if none is there.

    Raises:
        BundleError: weights are in a file that is not in the model's folder, or is not there.
    """
    model = _read(storage, path)
    if model is None:
        return None
    files = {name: model}
    for beside in external_files(model):
        place = _beside(path, beside)
        content = None if beside == name else _read(storage, place)
        if content is None:
            message = f"{path}: has weights in the file {beside!r}, which is not beside it. Put it there."
            raise BundleError(message)
        files[beside] = content
    return files


def _read(storage: Storage, path: str) -> bytes | mmap.mmap | None:
    place = storage.local_path(path)
    if place is None or storage.stat(path) is None:
        return storage.read_bytes(path)
    return read_file(place)


def _beside(path: str, name: str) -> str:
    if not is_safe_name(name):
        message = f"{path}: has weights in the file {name!r}, which is not in its folder. Save the model anew."
        raise BundleError(message)
    return posixpath.join(posixpath.dirname(path), name)


def weights_beside(path: str | os.PathLike[str]) -> dict[str, str]:
    """Files with weights of an ONNX file of this host, by the names that it knows them by, as `BundleParts` wants them.

    Raises:
        BundleError: one is named that is not in the model's folder.
        OSError: the model cannot be read.
    """
    model = os.fspath(path)
    return {name: _beside(model, name) for name in external_files(read_file(model))}


def _locations(model: bytes | mmap.mmap) -> Iterator[str]:
    pending = [("model", Message(model, 0, len(model)))]
    while pending:
        kind, message = pending.pop()
        if kind == "entry":
            parts = {part.number: part.content.to_bytes() for part in fields(message)}
            if parts.get(_KEY) == _LOCATION:
                yield posixpath.normpath(parts.get(_VALUE, b"").decode())
            continue
        inside = _INSIDE[kind]
        pending += [(inside[part.number], part.content) for part in fields(message) if part.number in inside]
