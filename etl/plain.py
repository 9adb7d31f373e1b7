"""Values of columns as JSON and back: what golden rows are written in.

A float is its shortest text that reads back, `"nan"`, `"inf"` or `"-inf"`; an instant or a day is ISO 8601, or a number
(µs or days since 1970) outside of the years 1 to 9999; null is a missing value. So are those of a list or a struct.
"""

from __future__ import annotations

import itertools
import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.frame import Column
    from etl.types import ArrowArray, ColumnType

__all__ = ["array_of", "plain_values"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = (date.min.toordinal() - _EPOCH.toordinal(), date.max.toordinal() - _EPOCH.toordinal())
_DAY_MICROSECONDS = 86_400_000_000
_NARROW = {"float16": np.float16, "float32": np.float32}
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def plain_values(column: Column) -> list[Any]:
    """A column of a frame as JSON values, one a row."""
    if not isinstance(column, pa.Array):
        return [_number(value) for value in column.tolist()]
    if pa.types.is_struct(column.type) or pa.types.is_list(column.type):
        return [
            None if not there else row
            for there, row in zip(column.is_valid().to_pylist(), _nested(column), strict=True)
        ]
    if pa.types.is_timestamp(column.type):
        return [_instant(value) for value in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_date(column.type):
        return [_day(value) for value in column.cast(pa.int32()).to_pylist()]
    return [_number(value) for value in column.to_pylist()]


def _nested(column: ArrowArray) -> Iterable[Any]:
    """What each row holds, whatever it is where the row is null."""
    if pa.types.is_struct(column.type):
        parts = [plain_values(part) for part in column.flatten()]
        return [dict(zip(column.type.names, row, strict=True)) for row in zip(*parts, strict=True)]
    values = iter(plain_values(column.flatten()))
    return [list(itertools.islice(values, count or 0)) for count in column.value_lengths().to_pylist()]


def array_of(values: list[Any], type_: ColumnType) -> ArrowArray:
    """JSON values as an Arrow array of a column type.

    Raises:
        ValueError: a value is none of the type.
    """
    try:
        return pa.array([_read(value, type_) for value in values], type_.arrow)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        message = f"a value is no {type_}"
        raise ValueError(message) from error


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def _read(value: Any, type_: ColumnType) -> Any:
    """Back from a JSON value, for Arrow, which takes instants and days as numbers."""
    if value is None:
        return None
    if type_.kind == "struct":
        return {name: _scalar(value.get(name), kind) for name, kind in type_.fields}
    if type_.kind in {"vector", "list"}:
        return [_scalar(part, type_.item) for part in value]
    return _scalar(value, type_.kind)


def _scalar(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "timestamp":
        return _micros(value)
    if kind == "date":
        return _days(value)
    if kind in _NARROW or kind == "float64":
        number = _SPECIAL[value] if isinstance(value, str) else value
        return _NARROW[kind](number) if kind in _NARROW else float(number)
    return value


def _instant(micros: int | None) -> Any:
    if micros is None or not _DAYS[0] <= micros // _DAY_MICROSECONDS <= _DAYS[1]:
        return micros
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def _day(days: int | None) -> Any:
    if days is None or not _DAYS[0] <= days <= _DAYS[1]:
        return days
    return date.fromordinal(_EPOCH.toordinal() + days).isoformat()


def _micros(value: Any) -> int:
    return value if isinstance(value, int) else (datetime.fromisoformat(value) - _EPOCH) // timedelta(microseconds=1)


def _days(value: Any) -> int:
    return value if isinstance(value, int) else date.fromisoformat(value).toordinal() - _EPOCH.toordinal()
