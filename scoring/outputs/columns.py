"""From a model's output tensors to typed Arrow columns, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from etl.documents import Strict
from etl.frame import EXACT_INTEGERS
from etl.ops.base import Name
from etl.types import INTEGER_BOUNDS
from scoring.errors import InferenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scoring.signature import TensorSpec

__all__ = ["OutputColumn", "ScalarType"]

ScalarType = Literal["float32", "float64", "int32", "int64", "bool", "string"]
_ARROW: dict[str, pa.DataType] = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
}


class OutputColumn(Strict):
    """One published column: a tensor, or one element of each of its rows."""

    column: Name
    tensor: str = Field(description="Name of the model output.")
    type: ScalarType = Field(description="Type of the column, or of its elements when it is a list.")
    element: int | None = Field(default=None, ge=0, description="Take this element of each row of an (n, k) tensor.")

    def problem(self, tensor: TensorSpec) -> str | None:
        """Why the column cannot be made from the tensor, or None."""
        rank = len(tensor.shape)
        if rank not in {1, 2}:
            return f"tensor {tensor} has rank {rank}; this release publishes rank 1 and 2"
        width = tensor.shape[1] if rank == 2 else 1  # noqa: PLR2004  a matrix
        if self.element is not None and width is not None and self.element >= width:
            return f"tensor {tensor} has no element {self.element}"
        if (tensor.dtype == "string") != (self.type == "string"):
            return f"tensor {tensor} cannot become {self.type}"
        return None

    def is_list(self, tensor: TensorSpec) -> bool:
        """Whether the column is a list: an (n, k) tensor of which no element is taken. (n, 1) is a scalar."""
        return self.element is None and len(tensor.shape) == 2 and tensor.shape[1] != 1  # noqa: PLR2004  a matrix

    def field(self, tensor: TensorSpec) -> pa.Field:
        """The column in the published schema."""
        scalar = _ARROW[self.type]
        return pa.field(self.column, pa.list_(scalar) if self.is_list(tensor) else scalar)

    def unheld(self, outputs: Mapping[str, np.ndarray], rows: int) -> np.ndarray | None:
        """Which rows have a value that the column's type cannot hold; None where no value of the tensor could be one.

        A tensor of another shape than `array` takes is left to that.
        """
        values = outputs[self.tensor]
        if values.shape[:1] != (rows,) or values.size == 0:
            return None
        values = values.reshape(rows, -1)
        if self.element is not None:
            values = values[:, self.element : self.element + 1]
        mask = _unheld(values, self.type)
        return None if mask is None else np.asarray(mask.any(axis=1))

    def array(self, outputs: Mapping[str, np.ndarray], tensor: TensorSpec, rows: int) -> pa.Array:
        """The column of a batch; no copy where the element type is the tensor's.

        Raises:
            InferenceError: the model gave another shape than it declares, or a value that the type cannot hold.
        """
        values = outputs[self.tensor]
        width = values.shape[1] if values.ndim == 2 else 1  # noqa: PLR2004  a matrix
        if values.shape[:1] != (rows,) or (self.element is not None and self.element >= width):
            raise self._unexpected(values, rows)
        if self.is_list(tensor):
            offsets = np.arange(rows + 1, dtype=np.int32) * np.int32(width)
            return pa.ListArray.from_arrays(offsets, self._typed(values.reshape(-1)))
        if self.element is not None and values.ndim == 2:  # noqa: PLR2004  a matrix
            values = values[:, self.element]
        if values.size != rows:
            raise self._unexpected(values, rows)
        return self._typed(values.reshape(rows))

    def check_rows(self, outputs: Mapping[str, np.ndarray], rows: int) -> None:
        """See that one call of the model gave something for each of its rows.

        Raises:
            InferenceError: it did not; what several calls gave could no longer be told apart.
        """
        if outputs[self.tensor].shape[:1] != (rows,):
            raise self._unexpected(outputs[self.tensor], rows)

    def _unexpected(self, values: np.ndarray, rows: int) -> InferenceError:
        found = f"model output {self.tensor} has shape {values.shape} for {rows} rows"
        return InferenceError(f"{found}; column {self.column!r} cannot be made of that")

    def _typed(self, values: np.ndarray) -> pa.Array:
        try:
            return pa.array(np.ascontiguousarray(values)).cast(_ARROW[self.type], safe=self.type != "float32")
        except pa.ArrowInvalid as error:
            message = f"model output {self.tensor} cannot become column {self.column!r} of type {self.type}: {error}"
            raise InferenceError(message) from error


def _unheld(values: np.ndarray, wanted: ScalarType) -> np.ndarray | None:
    """Which numbers have no equal in an integer type, or in float64; narrowing to float32 may round."""
    is_float = values.dtype.kind == "f"
    if values.dtype.kind not in "fiu" or wanted in {"bool", "float32"} or (is_float and wanted == "float64"):
        return None
    low, high = INTEGER_BOUNDS.get(wanted, (-EXACT_INTEGERS, EXACT_INTEGERS))
    if not is_float:
        return np.asarray((values < low) | (values > high))
    wide = values.astype(np.float64)
    # −2^63 and 2^63 are floats, 2^63 − 1 is not: the upper bound is the one that is excluded.
    return np.asarray(~((wide >= low) & (wide < high + 1) & (np.trunc(wide) == wide)))
