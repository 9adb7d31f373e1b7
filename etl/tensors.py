"""From columns of a frame to one tensor: the only cast from float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.spec import TensorOutput

__all__ = ["stack", "tensor_of"]


def tensor_of(frame: Frame, output: TensorOutput, pointer: str) -> np.ndarray:
    """The tensor that an output declares: (rows, width), or (rows,) for rank 1.

    A missing value has no form in an integer, bool or string tensor, so its row is rejected; in a float tensor it is
    NaN.
    """
    if output.dtype == "string":
        tensor = _strings(frame, output, pointer)
    else:
        if not output.dtype.startswith("float"):
            _reject_missing(frame, output, pointer)
        tensor = stack(frame, output.columns, np.dtype(output.dtype))
    return tensor[:, 0] if output.rank == 1 else tensor


def stack(frame: Frame, names: tuple[str, ...], dtype: np.dtype) -> np.ndarray:
    """Columns side by side, shape (rows, total width), each value cast once; out of float32's range becomes ±inf."""
    parts = [_numbers(frame[name], frame, name) for name in names]
    if len(parts) == 1 and parts[0].ndim == 2 and parts[0].dtype == dtype:  # noqa: PLR2004  a matrix
        return parts[0]
    widths = [part.shape[1] if part.ndim == 2 else 1 for part in parts]  # noqa: PLR2004  a matrix
    tensor = np.empty((frame.rows, sum(widths)), dtype=dtype)
    start = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for part, width in zip(parts, widths, strict=True):
            tensor[:, start : start + width] = part.reshape(frame.rows, width)
            start += width
    return tensor


def _numbers(column: Column, frame: Frame, name: str) -> np.ndarray:
    """As numpy without a cast where there is one without; null is NaN."""
    if isinstance(column, np.ndarray):
        return column
    if pa.types.is_list(column.type):
        return _vectors(column, frame.rows)
    if column.null_count == 0 and not pa.types.is_boolean(column.type):
        return column.to_numpy(zero_copy_only=False)
    return frame.float64(name)


def _vectors(column: pa.ListArray, rows: int) -> np.ndarray:
    """A list column as (rows, width) without a copy where every row is whole; a rejected row becomes NaN."""
    if rows == 0:
        return np.empty((0, 1), dtype=np.float32)
    lengths = pc.list_value_length(column)
    width = pc.max(lengths).as_py() or 1
    if column.null_count == 0 and pc.min(lengths).as_py() == width:
        values = column.flatten()
        if values.null_count == 0:
            return values.to_numpy(zero_copy_only=True).reshape(rows, width)
        return values.to_numpy(zero_copy_only=False).reshape(rows, width)
    raise NotImplementedError


def _strings(frame: Frame, output: TensorOutput, pointer: str) -> np.ndarray:
    columns = []
    for position, name in enumerate(output.columns):
        column = frame.arrow(name)
        _reject_nulls(frame, name, f"{pointer}/from/{position}")
        columns.append(pc.fill_null(column, "").to_numpy(zero_copy_only=False))
    return np.stack(columns, axis=1)


def _reject_missing(frame: Frame, output: TensorOutput, pointer: str) -> None:
    for position, name in enumerate(output.columns):
        _reject_nulls(frame, name, f"{pointer}/from/{position}")


def _reject_nulls(frame: Frame, name: str, pointer: str) -> None:
    missing = frame.missing(name)
    rows = missing.any(axis=1) if missing.ndim > 1 else missing
    message = f"{name} has no value, and its tensor cannot hold a missing one"
    frame.reject(rows, code="MISSING", pointer=pointer, column=name, message=message)
