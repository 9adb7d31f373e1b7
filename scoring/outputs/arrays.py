"""From numpy to Arrow: numbers, truths and texts, in lists of as many levels as a tensor has axes; no copy where the
type and the layout allow.
"""  # noqa: D205  one sentence

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.frame import EXACT_INTEGERS
from scoring.errors import InferenceError

if TYPE_CHECKING:
    from scoring.outputs.steps import Form, ScalarType, Values

__all__ = ["arrow_array", "arrow_type", "cast", "unheld", "without_fixed_sizes"]

_ARROW: dict[str, pa.DataType] = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
_MOST_VALUES = 2**31 - 1
"""Of the lists of one batch, where their lengths are not known before: Arrow's offsets have 32 bits."""


def arrow_type(form: Form, wanted: ScalarType) -> pa.DataType:
    """The Arrow type of a column: a list level for each axis beside the rows, fixed in size where the axis is.

    (n, 1) is a scalar, but for the pairs of top_k.
    """
    type_ = _ARROW[wanted]
    if form.pair is not None:
        type_ = pa.struct([(_first(form), _ARROW[form.pair]), ("score", type_)])
    for size in reversed(list_axes(form)):
        type_ = pa.list_(type_, -1 if size is None else size)
    return type_


def list_axes(form: Form) -> tuple[int | None, ...]:
    """The axes that become levels of lists."""
    axes = form.shape[1:]
    return () if axes == (1,) and form.pair is None else axes


def _first(form: Form) -> str:
    return "label" if form.is_labelled else "index"


def without_fixed_sizes(type_: pa.DataType) -> pa.DataType:
    """The type with lists of any length in place of lists of one, to which `Array.cast` brings a column without a copy
    of its values: Spark reads Parquet with both, and takes only the first from Python.
    """  # noqa: D205  one sentence
    if pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_):
        return pa.list_(without_fixed_sizes(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(part.name, without_fixed_sizes(part.type)) for part in type_])
    return type_


def unheld(data: np.ndarray, wanted: ScalarType) -> np.ndarray | None:
    """Which numbers have no equal in a type, or None where all have; narrowing to float32 may round.

    float64 has no equal of most integers beyond ±2^53, and bool of any but 0 and 1.
    """
    dtype = data.dtype
    kind = dtype.kind
    if wanted in {"float32", "string"} or dtype == wanted or kind not in "fiu" or data.size == 0:
        return None
    if kind == "f" and wanted == "float64":
        return None
    low, high = _bounds(wanted)
    if kind != "f":
        own = np.iinfo(dtype)
        if own.min >= low and own.max <= high:
            return None
        bad = (data < low) | (data > high)
    else:
        wide = data.astype(np.float64)
        # −2^63 and 2^63 are floats, 2^63 − 1 is not: the upper bound is the one that is excluded.
        bad = ~((wide >= low) & (wide < high + 1) & (np.trunc(wide) == wide))
    return bad if bad.any() else None


def _bounds(wanted: ScalarType) -> tuple[int, int]:
    if wanted == "bool":
        return 0, 1
    if wanted == "float64":
        return -EXACT_INTEGERS, EXACT_INTEGERS
    bounds = np.iinfo(wanted)
    return int(bounds.min), int(bounds.max)


def cast(data: np.ndarray, wanted: ScalarType, bad: np.ndarray | None) -> np.ndarray:
    """The numbers in a type, 0 in place of those that it cannot hold; the same array where there is nothing to do."""
    if wanted == "string" or (bad is None and data.dtype == wanted):
        return data
    with np.errstate(over="ignore"):  # of float64 beyond float32: ±inf, which the column's policy is for
        return (data if bad is None else np.where(bad, 0, data)).astype(wanted)


def arrow_array(values: Values, form: Form, wanted: ScalarType, *, null: np.ndarray | None = None) -> pa.Array:
    """The column, of the type that `arrow_type` says; `null` tells the rows that are null.

    `values` are of the wanted type already, and `form` is theirs.

    Raises:
        InferenceError: there are more values than lists of unknown length can have.
    """
    axes = list_axes(form)
    mask = None if null is None else pa.array(null)
    own = None if axes else null
    if form.pair is not None:
        assert values.places is not None  # noqa: S101  pairs have an index
        first = _leaf(values.places, form.pair, values.labels)
        names = [_first(form), "score"]
        array = pa.StructArray.from_arrays(
            [first, _leaf(values.data, wanted, None)], names, mask=None if axes else mask
        )
    else:
        array = _leaf(values.data, wanted, values.labels, null=own)
    shape = values.data.shape
    for level in range(len(axes), 0, -1):
        array = _lists(array, axes[level - 1], shape[: level + 1], mask=mask if level == 1 else None)
    return array


def _leaf(data: np.ndarray, wanted: ScalarType, labels: pa.Array | None, *, null: np.ndarray | None = None) -> Any:
    flat = np.ascontiguousarray(data).reshape(-1)
    if labels is not None:
        return labels.take(pa.array(flat.astype(np.int8) if flat.dtype.kind == "b" else flat, mask=null))
    if wanted != "string":
        return pa.array(flat, mask=null)
    try:
        return pa.array(flat, pa.string(), mask=null)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        message = "a model output that is declared to be text holds something else"
        raise InferenceError(message) from error


def _lists(array: Any, size: int | None, shape: tuple[int, ...], *, mask: pa.Array | None) -> Any:
    """Lists of the values of the last axis of a shape."""
    if size is not None:
        return pa.FixedSizeListArray.from_arrays(array, size, mask=mask)
    count, found = int(np.prod(shape[:-1])), shape[-1]
    if count * found > _MOST_VALUES:
        message = f"lists of unknown length would have {count * found:,} values in one batch. Set a smaller batch_rows."
        raise InferenceError(message)
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(found)
    return pa.ListArray.from_arrays(offsets, array, mask=mask)
