"""From columns of a frame to one tensor: the only cast from float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from etl.bfloat16 import bits_of
from etl.frame import EXACT_INTEGERS
from etl.ragged import Mask, Ragged
from etl.types import VECTOR_ITEMS, ColumnType, held, is_bytes, kernels, rows_with

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Frame, RejectionCode
    from etl.outputs import TensorOutput
    from etl.ragged import Tensor
    from etl.types import ArrowArray

__all__ = ["as_lists", "faults_inside", "listed", "matrix_of", "stack", "tensor_of"]

_LISTS = pa.ListType | pa.LargeListType | pa.FixedSizeListType


def tensor_of(frame: Frame, output: TensorOutput, pointer: str) -> Tensor:
    """The tensor that an output declares, of the shape that it declares: (rows, width) by default.

    A missing value has no form in an integer, bool or string tensor, so its row is rejected; in a float tensor it is
    NaN. In one of lists, so is a row without a list or with a missing element rejected, whatever the element type.
    """
    if output.ragged is not None:
        return _of_lists(frame, output, pointer)
    if output.dtype == "string":
        tensor = _strings(frame, output, pointer)
    elif output.is_float:
        tensor = _floats(frame, output)
    else:
        tensor = _integers(frame, output, pointer)
    return tensor.reshape(frame.rows, *output.axes(tensor.shape[1]))


def _floats(frame: Frame, output: TensorOutput) -> npt.NDArray[Any]:
    if output.dtype != "bfloat16":
        return stack(frame, output.columns, np.dtype(output.dtype))
    is_single = all(frame.kind(name) == "float32" or _is_half_or_single(frame[name]) for name in output.columns)
    return bits_of(stack(frame, output.columns, np.dtype(np.float32 if is_single else np.float64)))


def _is_half_or_single(column: Any) -> bool:
    return isinstance(column, np.ndarray) and column.dtype in {np.dtype(np.float16), np.dtype(np.float32)}


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
    """A list column as (rows, width) of the item's type, and which rows are a vector of another length, with a null
    inside, or with an integer that the type cannot hold.

    A list of lists, such as the lines of an image, is their elements one behind another, where they are of one length.
    Bytes are a list of uint8.

    Without a copy where every row is whole and its elements have the type. Such a broken row, and a null one, is a row
    of NaN, or of zeros (false).
    """  # noqa: D205  the faults are one sentence
    rows, dtype = len(column), np.dtype(item)
    filler = np.nan if dtype.kind == "f" else 0
    if pa.types.is_null(column.type):
        return np.full((rows, width), filler, dtype=dtype), np.zeros(rows, dtype=bool)
    column = listed(column)
    counts, is_whole = _counts(column)
    is_whole &= counts == width
    values, holes = _elements(_leaves(column if is_whole.all() else column.filter(pa.array(is_whole))), dtype)
    vectors = values.reshape(-1, width)
    if holes is None and is_whole.all():
        return vectors, np.zeros(rows, dtype=bool)
    matrix = np.full((rows, width), filler, dtype=dtype)
    matrix[is_whole] = vectors
    if holes is not None:
        is_whole[is_whole] = ~holes.reshape(-1, width).any(axis=1)
        matrix[~is_whole] = filler
    return matrix, ~is_whole & column.is_valid().to_numpy(zero_copy_only=False)


def faults_inside(
    column: ArrowArray, width: int, item: str, *, broken: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Of the broken rows of `matrix_of`, those of the right length: which have a null inside, and which of the others
    an integer that the type cannot hold.
    """  # noqa: D205  one sentence
    has_null, is_beyond = np.zeros(len(column), dtype=bool), np.zeros(len(column), dtype=bool)
    if not broken.any():
        return has_null, is_beyond
    found = listed(column.filter(pa.array(broken)))
    counts, is_whole = _counts(found)
    is_whole &= counts == width
    rows = np.flatnonzero(broken)[is_whole]
    leaves = _leaves(found.filter(pa.array(is_whole)))
    _, holes = _elements(leaves, np.dtype(item))
    if holes is not None:
        nulls = leaves.is_null().to_numpy(zero_copy_only=False)
        has_null[rows] = nulls.reshape(-1, width).any(axis=1)
        is_beyond[rows] = holes.reshape(-1, width).any(axis=1)
    return has_null, is_beyond & ~has_null


def as_lists(column: ArrowArray, item: str) -> ArrowArray:
    """A column that vectors are read from, as lists of the item's Arrow type that are as long as they are; nested ones
    one behind another. One with an element that the type cannot hold is null.
    """  # noqa: D205  one sentence
    kind = VECTOR_ITEMS[item]
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.list_(kind))
    column = listed(column)
    counts, _ = _counts(column)
    leaves = _leaves(column)
    values, holes = _elements(leaves, np.dtype(item))
    offsets: ArrowArray = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    absent: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False).copy()
    if holes is not None:
        unheld = holes & leaves.is_valid().to_numpy(zero_copy_only=False)
        absent[np.repeat(np.arange(counts.size), counts)[unheld]] = True
    mask: Any = pa.array(absent)
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind, mask=holes), mask=mask)


def listed(column: ArrowArray) -> ArrowArray:
    """Bytes as lists of uint8 over the same memory; lists as they are.

    Parquet has no integers below 32 bits: it hands a list of them over at a fifteenth of the speed of bytes.
    """
    found = column.type
    if not is_bytes(found):
        return column
    if pa.types.is_binary_view(found):
        column, found = column.cast(pa.binary()), pa.binary()
    *layout, data = column.buffers()
    values = pa.Array.from_buffers(pa.uint8(), 0 if data is None else data.size, [None, data])
    if pa.types.is_fixed_size_binary(found):
        kind: pa.DataType = pa.list_(pa.uint8(), found.byte_width)
    else:
        kind = pa.large_list(pa.uint8()) if pa.types.is_large_binary(found) else pa.list_(pa.uint8())
    return pa.Array.from_buffers(kind, len(column), layout, offset=column.offset, children=[values])


def _counts(column: ArrowArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Elements of each row, inside all of its lists; and which rows are there and have lists of one length inside."""
    is_regular: npt.NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False).copy()
    counts = _lengths(column, 0)
    while isinstance(column.type.value_type, _LISTS):
        column = column.flatten()
        inner = _lengths(column, -1)
        starts, some = np.cumsum(counts) - counts, counts > 0
        uneven = inner != np.repeat(inner[starts[some]], counts[some])
        is_regular[np.repeat(np.arange(counts.size), counts)[uneven | (inner < 0)]] = False
        ends = np.concatenate([[0], np.cumsum(np.maximum(inner, 0))])
        counts = ends[starts + counts] - ends[starts]
    return counts, is_regular


def _lengths(column: ArrowArray, absent: int) -> npt.NDArray[np.int64]:
    """Elements of each list; `absent` of a null one."""
    return np.asarray(kernels.list_value_length(column).fill_null(absent).to_numpy()).astype(np.int64)


def _leaves(column: ArrowArray) -> ArrowArray:
    """All elements inside of all lists, one behind another."""
    while isinstance(column.type, _LISTS):
        column = column.flatten()
    return column


def _elements(values: ArrowArray, dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """As numpy, each cast once; and which have no form in the type, being null or too large, if any."""
    holes = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    if pa.types.is_null(values.type):
        return np.zeros(len(values), dtype), holes
    if dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):  # of a signalling NaN, which becomes a quiet one
            return values.to_numpy(zero_copy_only=False).astype(dtype, copy=False), holes
    if pa.types.is_decimal(values.type):
        values, _ = held(values, ColumnType("int64"))
        holes = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    numbers = (values.fill_null(pa.scalar(0).cast(values.type)) if values.null_count else values).to_numpy(
        zero_copy_only=False
    )
    beyond = _beyond(numbers, dtype)
    if beyond is not None:
        holes = beyond if holes is None else holes | beyond
    return numbers.astype(dtype, copy=False), holes


def _beyond(numbers: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[np.bool_] | None:
    """Which integers a type cannot hold; None where it holds all."""
    if not numbers.size or numbers.dtype == dtype or numbers.dtype.kind == "b" or dtype.kind == "b":
        return None
    found, wanted = np.iinfo(numbers.dtype), np.iinfo(dtype)
    low, high = max(found.min, wanted.min), min(found.max, wanted.max)
    # The least and the largest are found without a mask, and mostly there is no more to see.
    if low <= int(numbers.min()) and int(numbers.max()) <= high:
        return None
    return np.asarray((numbers < low) | (numbers > high))


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
        tensor[:, start : start + part.shape[1]] = part
        start += part.shape[1]
        beyond = _beyond(part, dtype)
        if beyond is not None:
            message = f"{name} is an integer beyond {output.dtype}, the type of its tensor"
            rule = f"{pointer}/from/{at}"
            frame.reject(
                np.asarray(beyond.any(axis=1)), code="OUT_OF_RANGE", pointer=rule, column=name, message=message
            )
    return tensor


def _whole_numbers(frame: Frame, name: str, rule: str) -> npt.NDArray[Any]:
    """A column of integers or bools as (rows, width), of int64 where it is no vector and no uint64; a row without a
    value is rejected and 0.
    """  # noqa: D205  one sentence
    _reject_missing(frame, name, rule)
    column = frame[name]
    if not isinstance(column, np.ndarray):
        column = column if column.type == pa.uint64() else column.cast(pa.int64())
        column = (column.fill_null(0) if column.null_count else column).to_numpy()
    return column.reshape(frame.rows, -1) if frame.rows else column.reshape(0, *(column.shape[1:] or (1,)))


def _of_lists(frame: Frame, output: TensorOutput, pointer: str) -> Tensor:
    """Rows of any length, or of the declared one alone, as `ragged` says."""
    assert output.ragged is not None  # noqa: S101  who calls has looked
    [name], ragged = output.columns, output.ragged
    _reject_missing(frame, name, f"{pointer}/from/0")
    column = frame.arrow(name)
    lengths = _lengths(column, 0)
    values = _Lists(frame, name, column).values(output, f"{pointer}/from/0")
    if ragged.on_ragged == "error":
        axes = output.axes(0)
        wanted = math.prod(axes)
        other = (lengths != wanted) & ~frame.missing(name)
        message = f"{name} does not have {wanted} elements"
        rule = f"{pointer}/ragged/on_ragged"
        frame.reject(other, code="WRONG_LENGTH", pointer=rule, column=name, message=message)
        return _of_one_length(values, lengths, wanted).reshape(frame.rows, *axes)
    most = ragged.buckets[-1] if ragged.buckets else None
    if most is not None and lengths.size and int(lengths.max()) > most:
        if ragged.too_long == "reject":
            message = f"{name} has more than {most} elements, the most that its tensor is padded to"
            rule = f"{pointer}/ragged/too_long"
            frame.reject(lengths > most, code="TOO_LONG", pointer=rule, column=name, message=message)
        # A row that is rejected has to lie in a bucket, too, until it is left out.
        places = np.arange(values.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        values, lengths = values[places < most], np.minimum(lengths, most)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    mask = Mask(ragged.mask.model_input, ragged.mask.dtype) if ragged.mask else None
    return Ragged(values, offsets, ragged.buckets or (), output.pad, mask)


def _of_one_length(values: npt.NDArray[Any], lengths: npt.NDArray[np.int64], wanted: int) -> npt.NDArray[Any]:
    """Rows of zeros where there is another length; without a copy where there is none."""
    fits = lengths == wanted
    if fits.all():
        return values.reshape(-1, wanted)
    dense = np.zeros((lengths.size, wanted), values.dtype)
    dense[fits] = values[np.repeat(fits, lengths)].reshape(-1, wanted)
    return dense


class _Lists(NamedTuple):
    """A column of lists on its way into a tensor."""

    frame: Frame
    name: str
    column: ArrowArray

    def reject(self, elements: npt.NDArray[np.bool_], code: RejectionCode, *, rule: str, reason: str) -> None:
        """Send rows with a marked element to quarantine."""
        rows = rows_with(self.column, ColumnType("list"), elements)
        self.frame.reject(rows, code=code, pointer=rule, column=self.name, message=f"{self.name} has {reason}")

    def values(self, output: TensorOutput, rule: str) -> npt.NDArray[Any]:
        """All elements in the tensor's type; rows with one that is missing, or has no form in it, are rejected."""
        elements = self.column.flatten()
        if elements.null_count:
            marked = elements.is_null().to_numpy(zero_copy_only=False)
            reason = "a list with a missing element, which its tensor cannot hold"
            self.reject(marked, "MISSING", rule=rule, reason=reason)
            elements = elements.fill_null(pa.scalar(0).cast(elements.type))
        values: npt.NDArray[Any] = elements.to_numpy(zero_copy_only=False)
        if output.is_float:
            return self._as_floats(values, output.dtype)
        dtype = np.dtype(output.dtype)
        beyond = _beyond(values, dtype)
        if beyond is not None:
            reason = f"an integer beyond {output.dtype}, the type of its tensor"
            self.reject(beyond, "OUT_OF_RANGE", rule=rule, reason=reason)
        return values.astype(dtype, copy=False)

    def _as_floats(self, values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
        if values.dtype == np.int64:
            inexact = (values < -EXACT_INTEGERS) | (values > EXACT_INTEGERS)
            reason = "an integer beyond ±2^53, which float64 cannot hold exactly"
            self.reject(inexact, "INEXACT", rule="/semantics/profile", reason=reason)
        if dtype == "bfloat16":
            return bits_of(values if values.dtype == np.float32 else values.astype(np.float64))
        with np.errstate(over="ignore", invalid="ignore"):  # as above
            return values.astype(dtype, copy=False)


def _strings(frame: Frame, output: TensorOutput, pointer: str) -> npt.NDArray[Any]:
    tensor = np.empty((frame.rows, len(output.columns)), dtype=object)
    for position, name in enumerate(output.columns):
        _reject_missing(frame, name, f"{pointer}/from/{position}")
        tensor[:, position] = frame.arrow(name).fill_null("").to_numpy(zero_copy_only=False)
    return tensor


def _reject_missing(frame: Frame, name: str, pointer: str) -> None:
    message = f"{name} has no value, and its tensor cannot hold a missing one"
    frame.reject(frame.missing(name), code="MISSING", pointer=pointer, column=name, message=message)
