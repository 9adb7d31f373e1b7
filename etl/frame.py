"""The columns of one batch while a spec runs over it.

Inputs and strings are Arrow arrays of the canonical types; what numeric ops make is numpy: float64 with NaN for
missing, or a 2-D array for a vector. Each conversion is made once and kept, because several steps read one column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Column", "Frame", "Rejection"]

Column = pa.Array | np.ndarray
"""A column of a frame: an Arrow array of a canonical type, or numpy of shape (rows,) or (rows, width)."""


class Rejection(NamedTuple):
    """Rows of one batch that one rule sends to quarantine."""

    rows: npt.NDArray[np.int64]
    """Positions in the batch, ascending."""
    code: str
    """Short stable name of the kind of fault, e.g. `OUT_OF_RANGE`."""
    pointer: str
    """JSON pointer of the rule in the spec."""
    column: str
    """The column whose value is at fault."""
    message: str
    """One sentence for a person; it shows no value, since a value may be personal data."""


class Frame:
    """Named columns of equal length. A column is written once and never changed."""

    def __init__(self, rows: int, columns: dict[str, Column]) -> None:
        """Take canonical columns as the contract hands them on."""
        self.rows = rows
        self.rejections: list[Rejection] = []
        self._columns = dict(columns)
        self._float64: dict[str, npt.NDArray[np.float64]] = {}

    def __getitem__(self, name: str) -> Column:
        """The column as it was written."""
        return self._columns[name]

    def __setitem__(self, name: str, column: Column) -> None:
        """Write a new column."""
        self._columns[name] = column

    def arrow(self, name: str) -> pa.Array:
        """The column as an Arrow array; NaN of a numpy column becomes null."""
        column = self._columns[name]
        if isinstance(column, pa.Array):
            return column
        if column.ndim == 1:
            return pa.array(column, from_pandas=True)
        offsets = np.arange(0, column.size + 1, column.shape[1], dtype=np.int32)
        return pa.ListArray.from_arrays(offsets, pa.array(column.reshape(-1)))

    def float64(self, name: str) -> npt.NDArray[np.float64]:
        """A scalar numeric column as float64 with NaN for missing; shape (rows,). Not to be written to."""
        if name not in self._float64:
            column = self._columns[name]
            if isinstance(column, pa.Array):
                column = _numeric_to_numpy(column)
            self._float64[name] = column.astype(np.float64, copy=False)
        return self._float64[name]

    def missing(self, name: str) -> npt.NDArray[np.bool_]:
        """Which rows have no value: null, or NaN in a float column; shape (rows,)."""
        column = self._columns[name]
        if isinstance(column, pa.Array):
            return pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)
        return np.isnan(column)

    def reject(self, rows: npt.NDArray[np.bool_], *, code: str, pointer: str, column: str, message: str) -> None:
        """Send the rows where the mask is true to quarantine; they stay in the frame until its end."""
        positions = np.flatnonzero(rows)
        if positions.size:
            self.rejections.append(Rejection(positions, code, pointer, column, message))


def _numeric_to_numpy(column: pa.Array) -> npt.NDArray[np.generic]:
    """To numpy with NaN for null. int64 beyond 2^53 would be rounded; contracts check for that on entry."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.null_count == 0:
        return column.to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type):
        return column.to_numpy(zero_copy_only=False)
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
