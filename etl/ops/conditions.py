"""Conditions on rows, for `filter`, `if` and expectations: a closed grammar, each condition a mapping of one key.

A condition is true or false for every row, never unknown: a comparison with a missing value is false, `not` of it is
true. Numbers compare as numbers, exactly (integers too); texts by their UTF-8 bytes; dates and timestamps with a text
such as `2024-02-01` or `2024-02-01T00:00:00Z`. NaN, missing or a value, compares as false with everything.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Discriminator, Field, FiniteFloat, Tag

from etl.documents import Strict
from etl.ops.base import Name
from etl.patterns import Pattern, matches
from etl.problems import nearest
from etl.types import INTEGER_BOUNDS, ColumnType, kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from etl.frame import Frame
    from etl.types import Schema

__all__ = ["AnyCondition", "Condition", "Literal_", "Operator"]

Literal_ = bool | int | FiniteFloat | str
"""A value in a condition."""

Operator = Literal["<", "<=", "==", "!=", ">=", ">"]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    ">=": np.greater_equal,
    ">": np.greater,
}
_KERNELS = {
    "<": kernels.less,
    "<=": kernels.less_equal,
    "==": kernels.equal,
    "!=": kernels.not_equal,
    ">=": kernels.greater_equal,
    ">": kernels.greater,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Condition(Strict):
    """One condition."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads, each once, in the order in which they stand."""

    @abstractmethod
    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """Whether it is true, for each row; shape (rows,). Not to be written to."""

    @abstractmethod
    def problems(self, schema: Schema) -> list[str]:
        """What does not fit the types of the columns; a column that is not there too."""


class _OfOne(Condition):
    """A condition on one column."""

    @property
    @abstractmethod
    def column(self) -> str:
        """The column."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def problems(self, schema: Schema) -> list[str]:
        """The column is there and has a type that fits."""
        if self.column not in schema:
            return [f"column {self.column!r} is not there.{nearest(self.column, schema)}"]
        problem = self.misfit(schema[self.column])
        return [f"column {self.column!r} {problem}"] if problem else []

    def misfit(self, found: ColumnType) -> str | None:
        """Why the column's type does not fit; None where it does."""
        return None if found.is_scalar else f"is {found}, and a condition takes scalars"


class All(Condition):
    """True where every part is; of no parts, everywhere."""

    all: tuple[AnyCondition, ...] = Field(description="The parts.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(dict.fromkeys(name for part in self.all for name in part.columns))

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By and."""
        mask = np.ones(frame.rows, dtype=bool)
        for part in self.all:
            mask &= part.holds(frame)
        return mask

    def problems(self, schema: Schema) -> list[str]:
        """Those of the parts."""
        return [problem for part in self.all for problem in part.problems(schema)]


class AnyOf(Condition):
    """True where a part is; of no parts, nowhere."""

    any: tuple[AnyCondition, ...] = Field(description="The parts.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the parts."""
        return tuple(dict.fromkeys(name for part in self.any for name in part.columns))

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By or."""
        mask = np.zeros(frame.rows, dtype=bool)
        for part in self.any:
            mask |= part.holds(frame)
        return mask

    def problems(self, schema: Schema) -> list[str]:
        """Those of the parts."""
        return [problem for part in self.any for problem in part.problems(schema)]


class Not(Condition):
    """True where its part is false, and so where a comparison has a missing value."""

    negated: AnyCondition = Field(alias="not", description="The part.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the part."""
        return self.negated.columns

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """The opposite."""
        return ~self.negated.holds(frame)

    def problems(self, schema: Schema) -> list[str]:
        """Those of the part."""
        return self.negated.problems(schema)


class Compare(_OfOne):
    """`[column, operator, value]`; false where the column is missing or NaN, for `!=` too."""

    cmp: tuple[Name, Operator, Literal_] = Field(description="Column, operator, value.")

    @property
    def column(self) -> str:
        """The column."""
        return self.cmp[0]

    def misfit(self, found: ColumnType) -> str | None:
        """The value is one of the column's type, and bools and vectors have no order."""
        _, operator, value = self.cmp
        if problem := super().misfit(found) or _literal_misfit(found, value):
            return problem
        return f"is bool and has no order, found {operator}" if found.kind == "bool" and operator[0] in "<>" else None

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By whole columns."""
        name, operator, value = self.cmp
        return _compared(frame, name, operator, value=value)


class CompareColumns(Condition):
    """`[column, operator, column]` of numbers; false where either is missing or NaN."""

    cmp_columns: tuple[Name, Operator, Name] = Field(description="Column, operator, column.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Both."""
        return tuple(dict.fromkeys((self.cmp_columns[0], self.cmp_columns[2])))

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """As float64."""
        left, operator, right = self.cmp_columns
        values = frame.float64(left), frame.float64(right)
        return np.asarray(_COMPARE[operator](*values) & ~np.isnan(values[0]) & ~np.isnan(values[1]))

    def problems(self, schema: Schema) -> list[str]:
        """Both are there and numbers."""
        found = [f"column {name!r} is not there.{nearest(name, schema)}" for name in self.columns if name not in schema]
        wrong = [name for name in self.columns if name in schema and not schema[name].is_numeric]
        return found + [f"column {name!r} is {schema[name]}, and cmp_columns takes numbers" for name in wrong]


class Between(_OfOne):
    """`[column, lowest, highest]`, both included; false where the column is missing or NaN."""

    between: tuple[Name, Literal_, Literal_] = Field(description="Column, lowest, highest.")

    @property
    def column(self) -> str:
        """The column."""
        return self.between[0]

    def misfit(self, found: ColumnType) -> str | None:
        """Both edges are values of the column's type, which has an order."""
        _, low, high = self.between
        problem = super().misfit(found) or _literal_misfit(found, low) or _literal_misfit(found, high)
        return problem or ("is bool and has no order" if found.kind == "bool" else None)

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """Two comparisons."""
        name, low, high = self.between
        return _compared(frame, name, ">=", value=low) & _compared(frame, name, "<=", value=high)


class In(_OfOne):
    """`[column, [values]]`; false where the column is missing."""

    in_: tuple[Name, tuple[Literal_, ...]] = Field(alias="in", description="Column, values.")

    @property
    def column(self) -> str:
        """The column."""
        return self.in_[0]

    def misfit(self, found: ColumnType) -> str | None:
        """The values are of the column's type."""
        problems = (_literal_misfit(found, value) for value in self.in_[1])
        return super().misfit(found) or next((problem for problem in problems if problem), None)

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By a hash table for texts, else value by value."""
        name, values = self.in_
        column = frame[name]
        if isinstance(column, pa.Array) and pa.types.is_string(column.type):
            found = kernels.is_in(column, value_set=pa.array(values, pa.string()))
            return np.asarray(found.to_numpy(zero_copy_only=False) & ~frame.missing(name))
        mask = np.zeros(frame.rows, dtype=bool)
        for value in values:
            mask |= _compared(frame, name, "==", value=value)
        return mask


class IsNull(_OfOne):
    """True where the column is missing: null, or NaN of a float unless NaN is a value of its field."""

    is_null: Name = Field(description="Column.")

    @property
    def column(self) -> str:
        """The column."""
        return self.is_null

    def misfit(self, found: ColumnType) -> str | None:  # noqa: ARG002  any type has missing values
        """Any column fits."""
        return None

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """The frame's own mask."""
        return frame.missing(self.is_null)


class IsNan(_OfOne):
    """True where a float column holds NaN, whether that is missing or a value."""

    is_nan: Name = Field(description="Column.")

    @property
    def column(self) -> str:
        """The column."""
        return self.is_nan

    def misfit(self, found: ColumnType) -> str | None:
        """Only floats have NaN."""
        return None if found.is_float else f"is {found}, and is_nan takes floats"

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """A null is no NaN."""
        column = frame[self.is_nan]
        if isinstance(column, np.ndarray):
            return np.isnan(column)
        return np.asarray(kernels.is_nan(column).fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003  pyarrow's own


class RegexFullMatch(_OfOne):
    """`[column, pattern]`: true where the whole text matches; false where it is missing."""

    regex_full_match: tuple[Name, Pattern] = Field(description="Column, RE2 pattern.")

    @property
    def column(self) -> str:
        """The column."""
        return self.regex_full_match[0]

    def misfit(self, found: ColumnType) -> str | None:
        """Only text matches."""
        return None if found.kind == "string" else f"is {found}, and regex_full_match takes string"

    def holds(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """By RE2."""
        name, pattern = self.regex_full_match
        return matches(frame.arrow(name), pattern)


def _key(value: Any) -> str | None:
    """The one key that says which condition it is; any of several, whose others are then unknown keys."""
    if isinstance(value, dict):
        known = [key for key in value if key in _CONDITIONS]
        return known[0] if known else str(next(iter(value), "nothing"))
    return next((key for key, kind in _CONDITIONS.items() if isinstance(value, kind)), None)


_CONDITIONS: dict[str, type[Condition]] = {
    "all": All,
    "any": AnyOf,
    "not": Not,
    "cmp": Compare,
    "cmp_columns": CompareColumns,
    "between": Between,
    "in": In,
    "is_null": IsNull,
    "is_nan": IsNan,
    "regex_full_match": RegexFullMatch,
}

AnyCondition = Annotated[
    Annotated[All, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Compare, Tag("cmp")]
    | Annotated[CompareColumns, Tag("cmp_columns")]
    | Annotated[Between, Tag("between")]
    | Annotated[In, Tag("in")]
    | Annotated[IsNull, Tag("is_null")]
    | Annotated[IsNan, Tag("is_nan")]
    | Annotated[RegexFullMatch, Tag("regex_full_match")],
    Discriminator(_key),
]
"""Any condition."""

for _kind in (All, AnyOf, Not):
    _kind.model_rebuild()


def _literal_misfit(found: ColumnType, value: Any) -> str | None:
    """Why a value of a condition is none of a column's type; None where it is one."""
    if isinstance(value, bool):
        fits = found.kind == "bool"
    elif isinstance(value, str):
        fits = found.kind == "string" or (
            found.kind in {"date", "timestamp"} and _instant(found.kind, value) is not None
        )
    else:
        fits = found.is_numeric and found.kind != "bool"
    return None if fits else f"is {found}, and {value!r:.60} is no value of that type"


def _instant(kind: str, text: str) -> int | None:
    """Days or µs since 1970 of an ISO 8601 text; None where it is none. Without a zone it is UTC."""
    try:
        if kind == "date":
            return (date.fromisoformat(text) - _EPOCH.date()).days
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


def _compared(frame: Frame, name: str, operator: str, *, value: Any) -> npt.NDArray[np.bool_]:
    """One comparison with a literal; false where the value is missing or NaN."""
    column = frame[name]
    if isinstance(column, np.ndarray) or pa.types.is_floating(column.type):
        numbers = column if isinstance(column, np.ndarray) and column.dtype.kind == "i" else frame.float64(name)
    elif pa.types.is_string(column.type):
        found = _KERNELS[operator](column, pa.scalar(value, pa.string()))
        return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))  # noqa: FBT003  pyarrow's own
    else:
        numbers = _integers(column)
        if isinstance(value, str):
            value = _instant(frame.kind(name), value)
    compared = _whole(numbers, operator, value) if numbers.dtype.kind == "i" else _COMPARE[operator](numbers, value)
    return np.asarray(compared & ~frame.missing(name) & ~_nan(numbers))


def _nan(numbers: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | np.bool_:
    return np.isnan(numbers) if numbers.dtype.kind == "f" else np.False_


def _integers(column: Any) -> npt.NDArray[np.int64]:
    """A bool, integer, date or timestamp column as int64, 0 where it is null."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    elif not pa.types.is_integer(column.type):
        column = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())  # noqa: PLR2004  bits
    return np.asarray(column.fill_null(0).to_numpy()).astype(np.int64, copy=False)


def _whole(numbers: npt.NDArray[Any], operator: str, value: float) -> npt.NDArray[np.bool_]:
    """Compare integers with any number exactly, where numpy would round them to float64."""
    if value != math.floor(value):
        if operator in {"==", "!="}:
            return np.full(numbers.shape, operator == "!=")
        value = math.ceil(value) if operator in {"<", ">="} else math.floor(value)
    low, high = INTEGER_BOUNDS["int64"]
    if not low <= value <= high:
        return np.full(numbers.shape, bool(_COMPARE[operator](0.0, float(value))))
    return np.asarray(_COMPARE[operator](numbers, np.int64(int(value))))
