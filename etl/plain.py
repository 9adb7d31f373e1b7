"""Values of columns as JSON and back: what golden rows are written in.

A float is its shortest text that reads back, `"nan"`, `"inf"` or `"-inf"`; an instant or a day is ISO 8601, or a number
(µs or days since 1970) outside of the years 1 to 9999; null is a missing value.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from etl.frame import Column
    from etl.types import ArrowArray, ColumnType

__all__ = ["array_of", "plain_values"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = (date.min.toordinal() - _EPOCH.toordinal(), date.max.toordinal() - _EPOCH.toordinal())
_DAY_MICROSECONDS = 86_400_000_000


def plain_values(column: Column) -> list[Any]:
    """A column of a frame as JSON values, one a row."""
    if isinstance(column, pa.Array):
        if pa.types.is_timestamp(column.type):
            return [_instant(value) for value in column.cast(pa.int64()).to_pylist()]
        if pa.types.is_date(column.type):
            return [_day(value) for value in column.cast(pa.int32()).to_pylist()]
        return [_number(value) for value in column.to_pylist()]
    return [_number(value) for value in column.tolist()]


def array_of(values: list[Any], type_: ColumnType) -> ArrowArray:
    """JSON values as an Arrow array of a column type.

    Raises:
        ValueError: a value is none of the type.
    """
    if type_.kind == "timestamp":
        return pa.array([_micros(value) for value in values], pa.int64()).view(type_.arrow)
    if type_.kind == "date":
        return pa.array([_days(value) for value in values], pa.int32()).view(type_.arrow)
    try:
        return pa.array([_float(value, type_) for value in values], type_.arrow)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        message = f"a value is no {type_}"
        raise ValueError(message) from error


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(part) for part in value]
    if isinstance(value, dict):
        return {key: _number(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _float(value: Any, type_: ColumnType) -> Any:
    """Back from `_number`; a text in a column of text is text."""
    if isinstance(value, list):
        return [_float(part, type_) for part in value]
    kind = type_.item if type_.kind in {"vector", "list"} else type_.kind
    if isinstance(value, str) and kind in {"float32", "float64"}:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value]
    if isinstance(value, dict):
        fields = dict(type_.fields)
        return {key: float(part) if fields.get(key, "").startswith("float") else part for key, part in value.items()}
    return np.float32(value) if kind == "float32" and isinstance(value, float) else value


def _instant(micros: int | None) -> Any:
    if micros is None or not _DAYS[0] <= micros // _DAY_MICROSECONDS <= _DAYS[1]:
        return micros
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def _day(days: int | None) -> Any:
    if days is None or not _DAYS[0] <= days <= _DAYS[1]:
        return days
    return date.fromordinal(_EPOCH.toordinal() + days).isoformat()


def _micros(value: Any) -> int | None:
    if value is None or isinstance(value, int):
        return value
    return (datetime.fromisoformat(value) - _EPOCH) // timedelta(microseconds=1)


def _days(value: Any) -> int | None:
    return (
        value if value is None or isinstance(value, int) else date.fromisoformat(value).toordinal() - _EPOCH.toordinal()
    )
