"""The columns of one batch while a spec runs over it.

A column is one of five things, by its type in the spec:

- a scalar as the contract read it, or text that an op made: an Arrow array of the canonical type, null for missing;
- a float that an op made: numpy of shape (rows,), NaN for missing;
- an integer that an op made and that is never missing: numpy int64 of shape (rows,);
- a vector: numpy of shape (rows, width) in the type of its elements; of floats a row of NaN where there is none, of
  integers and bools never missing;
- a list of any length, or a struct: an Arrow array of the canonical type, null for missing.

Each conversion is made once and kept, because several steps read one column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from etl.types import SCALARS

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from etl.types import ArrowArray

__all__ = ["EXACT_INTEGERS", "Column", "Frame", "Rejection", "RejectionCode", "once"]

Column: TypeAlias = "pa.Array[Any] | npt.NDArray[Any]"
"""A column of a frame; the module says which kinds there are."""

EXACT_INTEGERS = 2**53
"""float64 holds each integer up to this magnitude, and not each above."""

RejectionCode = Literal[
    "EXPECTATION",
    "INEXACT",
    "MISSING",
    "MODEL_FAILED",
    "NON_FINITE",
    "NOT_ALLOWED",
    "NOT_CASTABLE",
    "NOT_PARSABLE",
    "NOT_UTF8",
    "NO_FOLDER",
    "NO_MATCH",
    "NO_MODEL",
    "OUTLIER",
    "OUT_OF_DOMAIN",
    "OUT_OF_RANGE",
    "PATTERN",
    "TOO_LONG",
    "UNKNOWN_CATEGORY",
    "WRONG_LENGTH",
]
"""Why a row was rejected, in one stable word."""


class Rejection(NamedTuple):
    """Rows of one batch that one rule sends to quarantine."""

    rows: npt.NDArray[np.int64]
    """Positions in the batch, ascending."""
    code: RejectionCode
    """Short stable name of the kind of fault, e.g. `OUT_OF_RANGE`."""
    pointer: str
    """JSON pointer of the rule in the spec."""
    column: str
    """The column whose value is at fault."""
    message: str
    """One sentence for a person; it shows no value, since a value may be personal data."""


class Frame:
    """Named columns of equal length. A column is written once and never changed."""

    def __init__(self, rows: int, columns: dict[str, Column], *, nan_is_value: frozenset[str] = frozenset()) -> None:
        """Take canonical columns as the contract hands them on, and the names of those whose NaN is a value."""
        self.rows = rows
        self.rejections: list[Rejection] = []
        """In the order in which rules were broken; a row that breaks several is in several."""
        self.nan_is_value = nan_is_value
        self.absent: dict[str, npt.NDArray[np.bool_]] = {}
        """Rows of a vector column that have no vector, where there are any: to be null again in an Arrow array."""
        self.filtered: npt.NDArray[np.bool_] | None = None
        """Rows that a filter left out, shape (rows,); None where none did. They are in no rejection."""
        self._columns = dict(columns)
        self._float64: dict[str, npt.NDArray[np.float64]] = {}

    def __getitem__(self, name: str) -> Column:
        """The column as it was written."""
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        """Whether the column is there."""
        return name in self._columns

    def __setitem__(self, name: str, column: Column) -> None:
        """Write a new column."""
        self._columns[name] = column

    def kind(self, name: str) -> str:
        """The kind of the column's type, as a spec names it."""
        column = self._columns[name]
        if isinstance(column, np.ndarray):
            return "vector" if column.ndim == 2 else str(column.dtype)  # noqa: PLR2004  a vector
        if isinstance(column.type, pa.ListType | pa.StructType):
            return "list" if isinstance(column.type, pa.ListType) else "struct"
        return next(kind for kind, arrow in SCALARS.items() if arrow == column.type)

    def arrow(self, name: str) -> ArrowArray:
        """The column as an Arrow array of its canonical type; NaN of a float that an op made becomes null."""
        column = self._columns[name]
        if isinstance(column, pa.Array):
            return column
        if column.ndim == 1:
            return pa.array(column, from_pandas=True)
        offsets: ArrowArray = pa.array(np.arange(0, column.size + 1, column.shape[1], dtype=np.int32))
        values: ArrowArray = pa.array(column.reshape(-1))
        absent: Any = self.absent.get(name)
        return pa.ListArray.from_arrays(offsets, values, mask=None if absent is None else pa.array(absent))

    def float64(self, name: str) -> npt.NDArray[np.float64]:
        """A scalar numeric column as float64 with NaN for missing; shape (rows,). Not to be written to.

        A vector is of shape (rows, width).

        Profile f64-v1: a row whose int64 lies beyond ±2^53 is rejected, because float64 would change it silently.
        """
        if name not in self._float64:
            self._float64[name] = self._as_float64(name, self._columns[name])
        return self._float64[name]

    def missing(self, name: str) -> npt.NDArray[np.bool_]:
        """Which rows have no value: null, or NaN in a float column whose NaN is no value; shape (rows,)."""
        column = self._columns[name]
        if isinstance(column, np.ndarray) and column.dtype.kind != "f":
            return np.zeros(self.rows, dtype=bool)
        if isinstance(column, np.ndarray) and column.ndim == 2:  # noqa: PLR2004  a vector
            return np.asarray(np.isnan(column).any(axis=1))
        if isinstance(column, np.ndarray) or (pa.types.is_floating(column.type) and name not in self.nan_is_value):
            return np.isnan(self.float64(name))
        if column.null_count == 0:
            return np.zeros(self.rows, dtype=bool)
        mask: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
        return mask

    @property
    def rejected(self) -> npt.NDArray[np.bool_]:
        """Which rows some rule has sent to quarantine so far; shape (rows,)."""
        mask = np.zeros(self.rows, dtype=bool)
        for rejection in self.rejections:
            mask[rejection.rows] = True
        return mask

    @property
    def gone(self) -> npt.NDArray[np.bool_]:
        """Which rows are rejected or filtered so far: they neither fail a run nor count in a share; shape (rows,)."""
        return self.rejected if self.filtered is None else self.rejected | self.filtered

    def leave_out(self, rows: npt.NDArray[np.bool_]) -> None:
        """Filter the rows where the mask is true; a row that is rejected already stays so."""
        fresh = rows & ~self.rejected
        if fresh.any():
            self.filtered = fresh if self.filtered is None else self.filtered | fresh

    def reject(
        self, rows: npt.NDArray[np.bool_], *, code: RejectionCode, pointer: str, column: str, message: str
    ) -> None:
        """Send the rows where the mask is true to quarantine; they stay in the frame until its end."""
        positions = np.flatnonzero(rows if self.filtered is None else rows & ~self.filtered)
        if positions.size:
            self.rejections.append(Rejection(positions, code, pointer, column, message))

    def _as_float64(self, name: str, column: Column) -> npt.NDArray[np.float64]:
        if isinstance(column, np.ndarray):
            if column.ndim == 2 and column.dtype == np.int64:  # noqa: PLR2004  a vector
                self._reject_inexact(name, column)
            with np.errstate(invalid="ignore"):  # of a vector's signalling NaN, which becomes a quiet one
                return column.astype(np.float64, copy=False)
        if column.type == pa.int64():
            self._reject_inexact(name, column.fill_null(0).to_numpy())
        return _numeric_to_numpy(column).astype(np.float64, copy=False)

    def _reject_inexact(self, name: str, values: npt.NDArray[np.int64]) -> None:
        if values.size and (values.min() < -EXACT_INTEGERS or values.max() > EXACT_INTEGERS):
            beyond = (values < -EXACT_INTEGERS) | (values > EXACT_INTEGERS)
            is_vector = values.ndim == 2  # noqa: PLR2004  a vector
            rows = np.asarray(beyond.any(axis=1)) if is_vector else beyond
            reason = f"{'has' if is_vector else 'is'} an integer beyond ±2^53, which float64 cannot hold exactly"
            self.reject(rows, code="INEXACT", pointer="/semantics/profile", column=name, message=f"{name} {reason}")


def once(rejections: Iterable[Rejection], rows: int) -> list[Rejection]:
    """The same rejections with each row under the first rule that it broke, so that their counts add up."""
    seen = np.zeros(rows, dtype=bool)
    first: list[Rejection] = []
    for rejection in rejections:
        fresh = rejection.rows[~seen[rejection.rows]]
        seen[fresh] = True
        if fresh.size:
            first.append(rejection._replace(rows=fresh))
    return first


def _numeric_to_numpy(column: ArrowArray) -> npt.NDArray[Any]:
    """To numpy with NaN for null, in the column's own type where it has no nulls."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if column.null_count and not pa.types.is_floating(column.type):
        column = column.cast(pa.float64(), safe=False)
    values: npt.NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values
