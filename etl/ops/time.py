"""Ops on dates and timestamps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat

from etl.ops.base import Params, RowStep, need_numeric
from etl.types import ColumnType

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = ["DAY_MICROSECONDS", "Cyclical", "CyclicalParams", "DatePart", "DatePartParams", "TimeStep", "integers_of"]

DAY_MICROSECONDS = 86_400_000_000

Part = Literal["year", "month", "day", "hour", "minute", "dow", "doy", "iso_week"]


class DatePartParams(Params):
    """Which part."""

    part: Part = Field(description="dow is 1 for Monday to 7, doy counts from 1, iso_week is ISO 8601's.")


class DatePart(RowStep):
    """The part as float64, in UTC and by the Gregorian calendar at all times, before 1582 and 1970 too. Missing gives
    missing; a date has no hour and no minute.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["date_part"]
    params: DatePartParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Timestamp or date in, float64 out."""
        found = types[0]
        if found.kind not in {"date", "timestamp"}:
            message = f"takes date or timestamp, found {found}; cast it first"
            raise ValueError(message)
        if found.kind == "date" and self.params.part in {"hour", "minute"}:
            message = f"takes a timestamp for part {self.params.part}, found date"
            raise ValueError(message)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Integer arithmetic on days and microseconds, exact over the whole range of int64."""
        column = frame.arrow(self.inputs[0])
        values = integers_of(column)
        days, micros = values, np.zeros(1, dtype=np.int64)
        if pa.types.is_timestamp(column.type):
            days = values // DAY_MICROSECONDS
            micros = values - days * DAY_MICROSECONDS
        part = _PARTS[self.params.part](days, micros).astype(np.float64)
        if column.null_count:
            part[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
        return (part,)


class CyclicalParams(Params):
    """Where a cycle begins and how long it is."""

    period: FiniteFloat = Field(gt=0, description="Length of a cycle, in the input's unit: 24 for hours of a day.")
    offset: FiniteFloat = Field(default=0.0, description="Input at which a cycle begins: 1 for months.")


class Cyclical(RowStep):
    """sin and cos of 2π · r ÷ period, where r is the remainder of x − offset by the period, signed as x − offset is.
    Missing and ±inf give missing.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["cyclical"]
    params: CyclicalParams
    arity = (1, 2)
    transcendental = True

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Number in; sin and cos out, both float64."""
        need_numeric(types)
        return (ColumnType("float64"), ColumnType("float64"))

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """The remainder first: it is exact, while the sine of a large angle loses digits."""
        with np.errstate(all="ignore"):
            turns = np.fmod(frame.float64(self.inputs[0]) - self.params.offset, self.params.period)
            angle = turns * (2 * math.pi) / self.params.period
            return np.sin(angle), np.cos(angle)


def integers_of(column: ArrowArray) -> npt.NDArray[np.int64]:
    """A date, timestamp or integer column as int64 (days, µs since 1970), 0 where it is null."""
    width = pa.int32() if column.type.bit_width == 32 else pa.int64()  # noqa: PLR2004  bits
    values = column.view(width)
    if values.null_count:
        values = values.fill_null(0)
    integers: npt.NDArray[Any] = values.to_numpy()
    return integers.astype(np.int64, copy=False)


def _start(days: npt.NDArray[np.int64], unit: Literal["Y", "M"]) -> npt.NDArray[np.int64]:
    """First day of each day's year or month. numpy's calendar is the Gregorian one for all of int64."""
    return days.astype("datetime64[D]").astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(np.int64)


def _weekday(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0 for Monday; 1970-01-01 was a Thursday."""
    return (days + 3) % 7


def _iso_week(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A week is of the year that its Thursday is in."""
    thursday = days - _weekday(days) + 3
    return (thursday - _start(thursday, "Y")) // 7 + 1


_PARTS: dict[str, Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.int64]]] = {
    "year": lambda days, _: days.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970,
    "month": lambda days, _: days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1,
    "day": lambda days, _: days - _start(days, "M") + 1,
    "hour": lambda _, micros: micros // 3_600_000_000,
    "minute": lambda _, micros: micros // 60_000_000 % 60,
    "dow": lambda days, _: _weekday(days) + 1,
    "doy": lambda days, _: days - _start(days, "Y") + 1,
    "iso_week": lambda days, _: _iso_week(days),
}


TimeStep: TypeAlias = Cyclical | DatePart
