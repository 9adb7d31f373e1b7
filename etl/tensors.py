"""From columns of a frame to one tensor: the only cast from float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.types import ColumnType, held, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Frame
    from etl.outputs import TensorOutput
    from etl.types import ArrowArray

__all__ = ["matrix_of", "stack", "tensor_of"]


def tensor_of(frame: Frame, output: TensorOutput, pointer: str) -> npt.NDArray[Any]:
    """The tensor that an output declares, of the shape that it declares: (rows, width) by default.

    A missing value has no form in an integer, bool or string tensor, so its row is rejected; in a float tensor it is
    NaN.
    """
    if output.dtype == "string":
        tensor = _strings(frame, output, pointer)
    elif output.dtype.startswith("float"):
        tensor = stack(frame, output.columns, np.dtype(output.dtype))
    else:
        tensor = _integers(frame, output, pointer)
    return tensor.reshape(frame.rows, *output.axes(tensor.shape[1]))


def stack(frame: Frame, names: tuple[str, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Columns side by side, shape (rows, total width), each value cast once; out of float32's range becomes ±inf."""
    parts = [_numbers(frame, name) for name in names]
    if len(parts) == 1 and parts[0].ndim == 2 and parts[0].dtype == dtype:  # noqa: PLR2004  a vector
        return parts[0]
    widths = [part.shape[1] if part.ndim == 2 else 1 for part in parts]  # noqa: PLR2004  a vector
    tensor = np.empty((frame.rows, sum(widths)), dtype=dtype)
    start = 0
    with np.errstate(over="ignore", invalid="ignore"):  # of a vector's signalling NaN, which becomes a quiet one
        for part, width in zip(parts, widths, strict=True):
            tensor[:, start : start + width] = part.reshape(frame.rows, width)
            start += width
    return tensor


def matrix_of(column: ArrowArray, width: int, item: str = "float32") -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """A list column as (rows, width) of `float32` or `int64`, and which rows are a vector of another length, with a
    null inside, or with an integer that int64 cannot hold.

    Without a copy where every row is whole. Such a broken row, and a null one, is a row of NaN, or of zeros.
    """  # noqa: D205  the faults are one sentence
    rows, filler = len(column), np.nan if item == "float32" else 0
    if pa.types.is_null(column.type):
        return np.full((rows, width), filler, dtype=item), np.zeros(rows, dtype=bool)
    whole = kernels.fill_null(kernels.equal(kernels.list_value_length(column), pa.scalar(width)), False)  # noqa: FBT003  pyarrow's own
    mask: npt.NDArray[np.bool_] = whole.to_numpy(zero_copy_only=False)
    values = (column if mask.all() else column.filter(whole)).flatten()
    if item == "int64":
        values, _ = held(values, ColumnType("int64"))
    vectors = _flat(values, item).reshape(-1, width)
    if mask.all() and not values.null_count:
        return vectors, np.zeros(rows, dtype=bool)
    matrix = np.full((rows, width), filler, dtype=item)
    matrix[mask] = vectors
    if values.null_count:
        holed = values.is_null().to_numpy(zero_copy_only=False).reshape(-1, width).any(axis=1)
        mask[mask] = ~holed
        matrix[~mask] = filler
    return matrix, ~mask & column.is_valid().to_numpy(zero_copy_only=False)


def _flat(values: ArrowArray, item: str) -> npt.NDArray[Any]:
    if item == "int64":
        whole: npt.NDArray[Any] = (values.fill_null(0) if values.null_count else values).to_numpy()
        return whole
    if pa.types.is_null(values.type):
        values = values.cast(pa.float32())
    with np.errstate(over="ignore", invalid="ignore"):  # as above
        flat: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return flat


def _numbers(frame: Frame, name: str) -> npt.NDArray[Any]:
    """As numpy, null as NaN, in the column's own float type, or in float64."""
    column = frame[name]
    if isinstance(column, np.ndarray):
        return column
    if pa.types.is_floating(column.type):
        values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return values
    return frame.float64(name)


def _integers(frame: Frame, output: TensorOutput, pointer: str) -> npt.NDArray[Any]:
    """Whole numbers and bools, never by way of a float. A checked spec lets nothing else in."""
    parts = [_whole_numbers(frame, name, f"{pointer}/from/{at}") for at, name in enumerate(output.columns)]
    dtype = np.dtype(output.dtype)
    if len(parts) == 1 and parts[0].dtype == dtype:
        return parts[0]
    tensor = np.empty((frame.rows, sum(part.shape[1] for part in parts)), dtype=dtype)
    start = 0
    for at, (name, part) in enumerate(zip(output.columns, parts, strict=True)):
        place = tensor[:, start : start + part.shape[1]]
        place[...] = part
        start += part.shape[1]
        if dtype.kind in "iu" and dtype.itemsize < part.dtype.itemsize:
            beyond = (place != part).any(axis=1)
            message = f"{name} is an integer beyond {output.dtype}, the type of its tensor"
            rule = f"{pointer}/from/{at}"
            frame.reject(beyond, code="OUT_OF_RANGE", pointer=rule, column=name, message=message)
    return tensor


def _whole_numbers(frame: Frame, name: str, rule: str) -> npt.NDArray[np.int64]:
    """A column of integers or bools as int64 (rows, width); a row without a value is rejected and 0."""
    _reject_missing(frame, name, rule)
    column = frame[name]
    if not isinstance(column, np.ndarray):
        column = column.cast(pa.int64()).fill_null(0).to_numpy()
    return column.reshape(frame.rows, -1) if frame.rows else column.reshape(0, *(column.shape[1:] or (1,)))


def _strings(frame: Frame, output: TensorOutput, pointer: str) -> npt.NDArray[Any]:
    tensor = np.empty((frame.rows, len(output.columns)), dtype=object)
    for position, name in enumerate(output.columns):
        _reject_missing(frame, name, f"{pointer}/from/{position}")
        tensor[:, position] = frame.arrow(name).fill_null("").to_numpy(zero_copy_only=False)
    return tensor


def _reject_missing(frame: Frame, name: str, pointer: str) -> None:
    message = f"{name} has no value, and its tensor cannot hold a missing one"
    frame.reject(frame.missing(name), code="MISSING", pointer=pointer, column=name, message=message)
