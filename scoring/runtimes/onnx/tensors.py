"""What onnxruntime takes and gives, as tensors of numpy."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from scoring.errors import BundleError, InferenceError
from scoring.signature import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scoring.runtimes.onnx.graph import Zipped

__all__ = ["BFLOAT16", "fed", "input_spec", "output_spec", "sequence", "unfolded", "zipped_spec"]

BFLOAT16 = 16
"""ONNX's number of this element type."""

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "bool": "bool",
    "string": "string",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_TENSOR = re.compile(r"tensor\((\w+)\)")
_SEQUENCE = re.compile(r"seq\(tensor\((\w+)\)\)")
_MAPS = re.compile(r"seq\(map\((int64|string),tensor\(float\)\)\)")
_ADVICE = {
    "optional": "Export the model without optional values.",
    "sparse": "Export the model with a dense tensor.",
    "seq": "Export the model with a tensor in its place.",
    "map": "Export the model with a tensor in its place: of scikit-learn, without DictVectorizer.",
    "tensor": "Put a Cast to float32 or int64 there in the model.",
}


def input_spec(node: ort.NodeArg, where: str) -> TensorSpec:
    """An input of the model.

    Raises:
        BundleError: it is not a tensor of a type that can be fed.
    """
    found = _TENSOR.fullmatch(node.type)
    if found is None or found[1] not in _DTYPES:
        raise _refusal(node, where, "input")
    return TensorSpec(name=node.name, dtype=_DTYPES[found[1]], shape=_shape(node))


def output_spec(node: ort.NodeArg, where: str) -> TensorSpec:
    """An output of the model. Of maps the keys and their number are known when the model has run once.

    Raises:
        BundleError: it is of a type that cannot be read.
    """
    if (found := _TENSOR.fullmatch(node.type)) and found[1] in _DTYPES:
        return TensorSpec(name=node.name, dtype=_DTYPES[found[1]], shape=_shape(node))
    if _MAPS.fullmatch(node.type):
        return TensorSpec(name=node.name, dtype="float32", shape=(None, None))
    # Of the elements of a sequence the runtime tells no shape; there is none of bfloat16, which numpy could not hold.
    if (found := _SEQUENCE.fullmatch(node.type)) and found[1] in _DTYPES and found[1] != "bfloat16":
        return TensorSpec(name=node.name, dtype=_DTYPES[found[1]], shape=(None, None), sequence=True)
    raise _refusal(node, where, "output")


def zipped_spec(name: str, zipped: Zipped) -> TensorSpec:
    """An output of ZipMap, unfolded: its columns are in the order of their keys, as in the runtime's dicts."""
    return TensorSpec(name=name, dtype="float32", shape=(None, len(zipped.keys)), keys=tuple(sorted(zipped.keys)))


def _shape(node: ort.NodeArg) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in node.shape)


def _refusal(node: ort.NodeArg, where: str, what: str) -> BundleError:
    advice = next(advice for kind, advice in (*_ADVICE.items(), ("", "")) if node.type.startswith(kind))
    verb = "feed" if what == "input" else "read"
    message = f"{where}: model {what} {node.name} has type {node.type}, which this release cannot {verb}. {advice}"
    return BundleError(message)


def fed(values: np.ndarray, dtype: str) -> Any:
    """An array as the runtime takes it: of bfloat16, which numpy lacks, the bits are in uint16."""
    if dtype != "bfloat16":
        return values
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(values), BFLOAT16)


def unfolded(maps: Sequence[dict[Any, float]], name: str) -> tuple[np.ndarray, tuple[Any, ...]]:
    """(rows, k) float32 of one map a row, and the keys of its columns.

    The runtime's maps are sorted, so maps with the same keys have them in the same order.

    Raises:
        InferenceError: not every row has the same keys.
    """
    if not maps:
        return np.empty((0, 0), np.float32), ()
    keys = tuple(maps[0])
    if not all(map(maps[0].keys().__eq__, map(dict.keys, maps))):
        message = f"the model failed: not every row of its output {name} has the same keys"
        raise InferenceError(message)
    values = itertools.chain.from_iterable(map(dict.values, maps))
    return np.fromiter(values, np.float32, len(maps) * len(keys)).reshape(len(maps), len(keys)), keys


def sequence(tensors: Sequence[np.ndarray]) -> np.ndarray:
    """An array of arrays, one a row: they may be of the same shape, and are not to be made one."""
    return np.fromiter(tensors, dtype=object, count=len(tensors))
