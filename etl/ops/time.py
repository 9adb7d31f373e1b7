"""Ops on dates and timestamps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from etl.ops.base import AsNumber, Params, RowStep, need_numeric
from etl.ops.failures import OnError, treat_failures
from etl.ops.instants import days_of, micros_of
from etl.ops.parsing import EPOCHS, Format, Parsed, parsed, since_epoch
from etl.types import INTEGER_BOUNDS, SCALARS, ColumnType, kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = [
    "DAY_MICROSECONDS",
    "Cyclical",
    "CyclicalParams",
    "DatePart",
    "DatePartParams",
    "ParseTimestamp",
    "ParseTimestampParams",
    "TimeAdd",
    "TimeAddParams",
    "TimeSince",
    "TimeSinceParams",
    "TimeStep",
    "integers_of",
]

DAY_MICROSECONDS = 86_400_000_000

CalendarPart = Literal["year", "quarter", "month", "day", "dow", "doy", "iso_week", "iso_year"]
ClockPart = Literal["hour", "minute", "second", "millisecond", "minute_of_day", "second_of_day"]
_CLOCK_PARTS = get_args(ClockPart)


class DatePartParams(Params):
    """Which part."""

    part: CalendarPart | ClockPart = Field(
        description="quarter is 1 to 4, millisecond 0 to 999, dow 1 for Monday to 7, doy counts from 1; iso_week and "
        "iso_year are ISO 8601's."
    )


class DatePart(RowStep):
    """The part as float64, in UTC and by the Gregorian calendar at all times, before 1582 and 1970 too. Missing gives
    missing; a date has no time of day. A part that is cut off, such as the seconds behind a minute, is never rounded.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["date_part"]
    params: DatePartParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Timestamp or date in, float64 out."""
        found = types[0]
        if found.kind not in {"date", "timestamp"}:
            message = f"takes date or timestamp, found {found}; cast it first"
            raise ValueError(message)
        if found.kind == "date" and self.params.part in _CLOCK_PARTS:
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


def _is_instant(text: str) -> str:
    if micros_of(text) is None:
        message = "is no date such as 2024-02-29, and no instant such as 2024-02-29T23:59:58Z"
        raise ValueError(message)
    return text


Instant = Annotated[str, AfterValidator(_is_instant)]
"""A date or an instant in a document."""

_UNITS = {
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": DAY_MICROSECONDS,
    "day30": 30 * DAY_MICROSECONDS,
    "day365_25": 31_557_600_000_000,
}
"""Microseconds of a unit."""


class TimeSinceParams(Params):
    """In which unit, and from or to which fixed instant."""

    unit: Literal["second", "minute", "hour", "day", "day30", "day365_25"] = Field(
        description="What is counted; day30 is a month of 30 days, day365_25 a year of 365.25."
    )
    start: Instant | None = Field(
        default=None, description="With one column: from this date (its midnight) or instant (without a zone: UTC)."
    )
    end: Instant | None = Field(default=None, description="With one column: to this date or instant.")
    on_negative: Literal["as_is", "as_missing", "reject"] | AsNumber = Field(
        default="as_is",
        description="The result where the end is before the start: kept, missing, a number, or the row is quarantined.",
    )

    @model_validator(mode="after")
    def _has_one_end(self) -> TimeSinceParams:
        if self.start is not None and self.end is not None:
            message = "give start or end, not both: the other one is a column"
            raise ValueError(message)
        return self


class TimeSince(RowStep):
    """The time from the first input to the second, or from `start` to the input, or from the input to `end`: the exact
    difference in microseconds as the nearest float64, ÷ the unit's microseconds. Where it is below 0, `on_negative`
    says what becomes of it. Missing where either is missing.

    A date is its midnight in UTC. Of a date and a timestamp, a row with a date that no timestamp can hold, some 290,000
    years away, is rejected.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["time_since"]
    params: TimeSinceParams
    arity = (None, 1)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Dates and timestamps in, float64 out."""
        for found in types:
            if found.kind not in {"date", "timestamp"}:
                message = f"takes dates and timestamps, found {found}; cast or parse it first"
                raise ValueError(message)
        wanted = 2 if self.params.start is None and self.params.end is None else 1
        if len(types) != wanted:
            message = f"takes two columns, or one and `start` or `end`, found {len(types)}{' and one' * (wanted == 1)}"
            raise ValueError(message)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """Integers until the one division."""
        start, end = self._ends(frame)
        if start.are_dates and end.are_dates:
            # Days that 33 bits hold by microseconds that 27 bits and factors of 2 are: rounded once.
            micros = (end.values - start.values).astype(np.float64) * DAY_MICROSECONDS
        else:
            self._reject_distant(frame, pointer)
            micros = _difference(_to_micros(start), _to_micros(end))
        span = micros / _UNITS[self.params.unit]
        for name in self.inputs:
            span[frame.missing(name)] = np.nan
        self._treat(frame, span, f"{pointer}/params/on_negative")
        return (span,)

    def _ends(self, frame: Frame) -> tuple[_Moments, _Moments]:
        columns = [_Moments(integers_of(frame.arrow(name)), frame.kind(name) == "date") for name in self.inputs]
        if self.params.start is not None:
            return _fixed(self.params.start), columns[0]
        return columns[0], columns[1] if self.params.end is None else _fixed(self.params.end)

    def _reject_distant(self, frame: Frame, pointer: str) -> None:
        for place, name in enumerate(self.inputs):
            if frame.kind(name) == "date":
                message = f"{name} is a date that no timestamp can hold"
                beyond = _is_distant(integers_of(frame.arrow(name)))
                frame.reject(beyond, code="OUT_OF_RANGE", pointer=f"{pointer}/in/{place}", column=name, message=message)

    def _treat(self, frame: Frame, span: npt.NDArray[np.float64], pointer: str) -> None:
        on_negative = self.params.on_negative
        if on_negative == "as_is":
            return
        negative = span < 0
        if on_negative == "reject":
            message = f"the time since {self.inputs[0]} is negative"
            frame.reject(negative, code="OUT_OF_DOMAIN", pointer=pointer, column=self.inputs[0], message=message)
        else:
            span[negative] = on_negative.as_value if isinstance(on_negative, AsNumber) else np.nan


class _Moments(NamedTuple):
    """Dates or instants, 0 where there is none."""

    values: npt.NDArray[np.int64]
    """Days or µs since 1970; of one element where they are the same in every row."""
    are_dates: bool


def _fixed(text: str) -> _Moments:
    days = days_of(text)
    return _Moments(np.array([micros_of(text) if days is None else days], dtype=np.int64), days is not None)


def _is_distant(days: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    furthest = INTEGER_BOUNDS["int64"][1] // DAY_MICROSECONDS
    return np.asarray((days < -furthest) | (days > furthest))


def _to_micros(moments: _Moments) -> npt.NDArray[np.int64]:
    """µs since 1970; of a date that has none 0."""
    if not moments.are_dates:
        return moments.values
    return np.where(_is_distant(moments.values), 0, moments.values) * DAY_MICROSECONDS


def _difference(start: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The nearest float64 to each exact difference, which 65 bits hold."""
    is_negative = end < start
    # Of the larger and the smaller, it is below 2^64, and so it is what it is modulo 2^64.
    larger, smaller = np.where(is_negative, start, end), np.where(is_negative, end, start)
    magnitude = (larger.view(np.uint64) - smaller.view(np.uint64)).astype(np.float64)
    return np.where(is_negative, -magnitude, magnitude)


class TimeAddParams(Params):
    """How much time."""

    amount: int = Field(description="A whole number of the unit, negative to go back.")
    unit: Literal["microsecond", "millisecond", "second", "minute", "hour", "day"] = Field(
        description="What is added; a day is 24 hours."
    )

    @model_validator(mode="after")
    def _is_held(self) -> TimeAddParams:
        if abs(self.micros) > INTEGER_BOUNDS["int64"][1]:
            message = "is more time than a timestamp can hold"
            raise ValueError(message)
        return self

    @property
    def micros(self) -> int:
        """The time in microseconds."""
        return self.amount * {"microsecond": 1, "millisecond": 1000, **_UNITS}[self.unit]


class TimeAdd(RowStep):
    """The date or instant that is so much later, in the input's type. Missing stays missing, and a row whose result the
    type cannot hold is rejected.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["time_add"]
    params: TimeAddParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A timestamp in, or a date where days are added, and the same type out."""
        found = types[0]
        if found.kind not in {"date", "timestamp"}:
            message = f"takes date or timestamp, found {found}; cast or parse it first"
            raise ValueError(message)
        if found.kind == "date" and self.params.unit != "day":
            message = f"takes a timestamp for unit {self.params.unit}, found date; cast it first"
            raise ValueError(message)
        return types

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """Added only where it cannot overflow."""
        name = self.inputs[0]
        kind, values, missing = frame.kind(name), integers_of(frame.arrow(name)), frame.missing(name)
        low, high = INTEGER_BOUNDS["int32" if kind == "date" else "int64"]
        amount = self.params.amount if kind == "date" else self.params.micros
        beyond = (values > high - amount if amount > 0 else values < low - amount) & ~missing
        message = f"{name} plus {self.params.amount} {self.params.unit} is more than {kind} can hold"
        frame.reject(beyond, code="OUT_OF_RANGE", pointer=f"{pointer}/params/amount", column=name, message=message)
        moved = np.where(beyond | missing, 0, values) + np.int64(amount) * ~(beyond | missing)
        width = np.int32 if kind == "date" else np.int64
        return (pa.array(moved.astype(width), mask=beyond | missing).view(SCALARS[kind]),)


class ParseTimestampParams(Params):
    """What the texts look like."""

    formats: tuple[Format, ...] = Field(
        min_length=1,
        description="Formats such as yyyy-MM-dd HH:mm:ss, tried in their order, by the op's own table.",
    )
    on_error: OnError = Field(default="reject", description="Missing, the row is quarantined, or the run fails.")


class ParseTimestamp(RowStep):
    """The instant that a text names in the first of the formats that the whole text has; spaces (U+0020) around it do
    not count. A date that does not exist, such as 29 February 2023, has no format, nor has the second 60. Without an
    offset it is UTC. An integer is read by the one epoch format. Missing stays missing; other texts go by `on_error`,
    the empty one too.

    | in a format | in a text |
    |---|---|
    | `yyyy` | four digits: the year, 0001 to 9999 |
    | `MM`, `M` | the month, 01 to 12; `M`: 1 to 12, with or without a leading zero |
    | `MMM`, `MMMM` | the month's English name: `Jan` to `Dec`, `January` to `December`, in any ASCII case |
    | `dd`, `d` | the day of the month, two digits; `d`: with or without a leading zero |
    | `HH`, `H` | the hour, 00 to 23; `H`: with or without a leading zero |
    | `hh`, `h`, with `a` | the hour, 01 to 12; `h`: with or without leading zero; `a`: `AM` or `PM` in any ASCII case |
    | `mm`, `ss` | the minute and the second, 00 to 59 |
    | `S` to `SSSSSSSSS` | so many digits of a fraction of a second; digits behind the sixth are cut off |
    | `XXX`, `XX` | `Z`, or the offset from UTC: `±hh:mm`, or `±hhmm` |
    | `'text'`, `''` | the text; an apostrophe |
    | what is no letter | itself |
    | `epoch_seconds`, `epoch_milliseconds` | a whole number since 1970, of at most 18 digits; such a format is alone |

    What a format lacks is the first: January, the 1st, midnight, UTC. A year is needed.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["parse_timestamp"]
    params: ParseTimestampParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Text, or integers with an epoch format, in; timestamp out."""
        found = types[0]
        if not found.is_integer and found.kind != "string":
            message = f"takes string, int32 or int64, found {found}"
            raise ValueError(message)
        if found.is_integer and (len(self.params.formats) > 1 or self.params.formats[0] not in EPOCHS):
            message = f"takes one format for {found}, {' or '.join(EPOCHS)}, found {', '.join(self.params.formats):.80}"
            raise ValueError(message)
        return (ColumnType("timestamp"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """Every format reads the whole column, until all texts are read."""
        name = self.inputs[0]
        missing = frame.missing(name)
        found = self._read(frame.arrow(name), missing)
        good = found.good & ~missing
        failed = ~good & ~missing
        if failed.any():
            treat_failures(
                self,
                frame,
                failed,
                on_error=self.params.on_error,
                code="NOT_PARSABLE",
                pointer=f"{pointer}/params/on_error",
                message=f"{name} has none of the formats",
            )
        return (pa.array(found.micros, mask=~good).view(SCALARS["timestamp"]),)

    def _read(self, column: ArrowArray, missing: npt.NDArray[np.bool_]) -> Parsed:
        formats = self.params.formats
        if not pa.types.is_string(column.type):
            return since_epoch(integers_of(column), EPOCHS[formats[0]])
        texts = kernels.utf8_trim(column, characters=" ")
        found = parsed(texts, formats[0])
        for other in formats[1:]:
            if (found.good | missing).all():
                break
            more = parsed(texts, other)
            found = Parsed(np.where(found.good, found.micros, more.micros), found.good | more.good)
        return found


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


def _thursday(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A week is of the year that its Thursday is in."""
    return days - _weekday(days) + 3


def _year(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return days.astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970


def _iso_week(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    thursday = _thursday(days)
    return (thursday - _start(thursday, "Y")) // 7 + 1


_PARTS: dict[str, Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.int64]]] = {
    "year": lambda days, _: _year(days),
    "month": lambda days, _: days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1,
    "day": lambda days, _: days - _start(days, "M") + 1,
    "quarter": lambda days, _: days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 // 3 + 1,
    "hour": lambda _, micros: micros // 3_600_000_000,
    "minute": lambda _, micros: micros // 60_000_000 % 60,
    "second": lambda _, micros: micros // 1_000_000 % 60,
    "millisecond": lambda _, micros: micros // 1000 % 1000,
    "minute_of_day": lambda _, micros: micros // 60_000_000,
    "second_of_day": lambda _, micros: micros // 1_000_000,
    "dow": lambda days, _: _weekday(days) + 1,
    "doy": lambda days, _: days - _start(days, "Y") + 1,
    "iso_week": lambda days, _: _iso_week(days),
    "iso_year": lambda days, _: _year(_thursday(days)),
}


TimeStep: TypeAlias = Cyclical | DatePart | ParseTimestamp | TimeAdd | TimeSince
