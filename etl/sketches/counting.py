"""What is counted of every row of a column: rows, missing ones, and the least and the largest number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from etl.frame import Column
    from etl.types import ArrowArray

__all__ = ["Counts", "Kind", "Values", "counts_of", "counts_without", "kind_of", "values_of"]

Kind = Literal["number", "text"]
"""Numbers and bools, or texts; nothing else is sketched."""

Values: TypeAlias = "npt.NDArray[np.floating] | pa.Array[pa.StringScalar]"
"""Numbers, NaN where there is none, or texts, null where there is none."""


class Counts(NamedTuple):
    """Of a column. Those of disjoint sets of rows add up."""

    rows: int = 0
    missing: int = 0
    """Rows without a value: null or NaN."""
    least: float = math.inf
    """The least number; inf where there is none, as of texts."""
    most: float = -math.inf
    """The largest number; -inf where there is none."""

    def merged(self, other: Counts) -> Counts:
        """Counts of two disjoint sets of rows together."""
        least, most = min(self.least, other.least), max(self.most, other.most)
        return Counts(self.rows + other.rows, self.missing + other.missing, least, most)


def kind_of(type_: pa.DataType) -> Kind | None:
    """How values of a type are sketched; None where they are not."""
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return "number"
    return "text" if pa.types.is_string(type_) or pa.types.is_large_string(type_) else None


def values_of(column: Column) -> npt.NDArray[np.generic] | ArrowArray:
    """A column as it is counted: numbers in numpy, without a copy where none is missing; texts in Arrow."""
    if isinstance(column, np.ndarray) or kind_of(column.type) == "text":
        return column
    numbers = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
    found: npt.NDArray[np.generic] = numbers.to_numpy(zero_copy_only=False)
    return found


def counts_of(values: npt.NDArray[np.generic] | ArrowArray) -> Counts:
    """Of all rows of what `values_of` gives.

    The least of numbers with a NaN among them is NaN, so that one pass tells whether any is missing.
    """
    if not isinstance(values, np.ndarray):
        return Counts(len(values), values.null_count)
    if not values.size:
        return Counts()
    least = values.min()
    if least == least:  # noqa: PLR0124  no NaN
        return Counts(values.size, 0, float(least), float(values.max()))
    missing = int(np.count_nonzero(np.isnan(values)))
    if missing == values.size:
        return Counts(missing, missing)
    return Counts(values.size, missing, float(np.fmin.reduce(values)), float(np.fmax.reduce(values)))


def counts_without(values: npt.NDArray[np.generic] | ArrowArray, kept: npt.NDArray[np.int64], known: Counts) -> Counts:
    """Of the rows at `kept`, ascending, where these are not all.

    To take nearly all rows of many columns costs more than to score them. So all are counted, and the few others taken
    away; only where one of those may be the least or the largest, beyond what is `known` already, the kept are taken.
    """
    whole = counts_of(values)
    gone = np.ones(len(values), dtype=bool)
    gone[kept] = False
    others = counts_of(_taken(values, np.flatnonzero(gone)))
    is_clear = (others.least > whole.least or whole.least >= known.least) and (
        others.most < whole.most or whole.most <= known.most
    )
    if not is_clear:
        return counts_of(_taken(values, kept))
    return whole._replace(rows=whole.rows - others.rows, missing=whole.missing - others.missing)


def _taken(
    values: npt.NDArray[np.generic] | ArrowArray, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.generic] | ArrowArray:
    return values[rows] if isinstance(values, np.ndarray) else values.take(pa.array(rows))
