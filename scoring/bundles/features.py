"""Golden features: what the spec made of the golden rows where the bundle was made, a list column a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from etl.bfloat16 import floats_of
from etl.ragged import Ragged
from etl.ulp import ulp_distance
from scoring.errors import GoldenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from etl.ragged import Tensor
    from etl.spec import Spec
    from etl.types import ArrowArray

__all__ = ["compare_features", "feature_table"]

_BFLOAT16_STEP = 2**16
"""Float32 numbers from one bfloat16 to the next."""


def feature_table(tensors: Mapping[str, Tensor]) -> pa.Table:
    """The tensors as columns: a scalar where a tensor has rank 1, else the values of a row in row-major order; of a
    ragged one those that a row has, without padding. A bfloat16 is its bits, as in the tensor.
    """  # noqa: D205  one sentence
    return pa.table({name: _column(tensor) for name, tensor in tensors.items()})


def _column(tensor: Tensor) -> ArrowArray:
    if isinstance(tensor, Ragged):
        return pa.ListArray.from_arrays(pa.array(tensor.offsets.astype(np.int32)), pa.array(tensor.values))
    if tensor.ndim == 1:
        return pa.array(tensor)
    offsets: ArrowArray = pa.array(np.arange(0, tensor.size + 1, tensor[0].size, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(tensor.reshape(-1)))


def compare_features(tensors: Mapping[str, Tensor], expected: pa.Table, *, spec: Spec) -> int:
    """The largest difference, in units in the last place of the tensors' types.

    Raises:
        GoldenError: naming the first tensor and row that differs by more than one unit, where the spec uses a
            transcendental function, or at all.
    """
    allowed = int(any(step.transcendental for step in spec.steps))
    bits = {output.model_input for output in spec.outputs.tensors if output.dtype == "bfloat16"}
    largest = 0
    for name, tensor in tensors.items():
        what = f"tensor {name!r}"
        lengths, values = _taken_apart(tensor)
        wanted = _wanted(expected, name, lengths, what=what)
        distance = _distance(values, wanted, is_bfloat16=name in bits)
        off = int(distance.max()) if distance.size else 0
        if off > allowed:
            ends = np.cumsum(lengths)
            place = int(distance.argmax())
            row = int(np.searchsorted(ends, place, side="right"))
            message = (
                f"golden row {row}: feature {place - int(ends[row] - lengths[row])} of {what} is off by {off} units in "
                f"the last place, {allowed} are allowed. The ETL does not mean here what it meant where the bundle was "
                "made."
            )
            raise GoldenError(message)
        largest = max(largest, off)
    return largest


def _taken_apart(tensor: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
    """How many values each row has, and all of them."""
    if isinstance(tensor, Ragged):
        return tensor.lengths, tensor.values
    rows = len(tensor)
    return np.full(rows, tensor.size // max(rows, 1), dtype=np.int64), tensor.reshape(-1)


def _wanted(expected: pa.Table, name: str, lengths: npt.NDArray[np.int64], *, what: str) -> npt.NDArray[Any]:
    """The golden values of a tensor, of as many rows and values as there are here."""
    if name not in expected.column_names:
        message = f"the golden rows have no {what}; there is: {', '.join(expected.column_names)}."
        raise GoldenError(message)
    column: Any = expected.column(name).combine_chunks()
    if len(column) != lengths.size:
        message = f"{what} has {len(column)} golden rows, here there are {lengths.size}."
        raise GoldenError(message)
    counts = np.ones(lengths.size, dtype=np.int64)
    if pa.types.is_list(column.type):
        counts, column = column.value_lengths().to_numpy().astype(np.int64), column.flatten()
    other = np.flatnonzero(counts != lengths)
    if other.size:
        row = int(other[0])
        message = f"golden row {row}: features of {what} have {counts[row]} values, here there are {lengths[row]}."
        raise GoldenError(message)
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values


def _distance(found: npt.NDArray[Any], wanted: npt.NDArray[Any], *, is_bfloat16: bool) -> npt.NDArray[Any]:
    if is_bfloat16:
        return ulp_distance(floats_of(found), floats_of(wanted)) // _BFLOAT16_STEP
    return ulp_distance(found, wanted)
