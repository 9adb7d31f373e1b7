"""What a step is that needs other rows than its own: it runs on the whole table, before the contract.

A row can be told only what was known at its time. So each such step says either `point_in_time: {event_time: <column>}`
and uses for a row nothing but rows whose time lies *strictly before* its own, rows of the same time not among them; or
`leak: acknowledged`, and uses rows of any time.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from etl.ops.base import ColumnName, Params, Step
from etl.ops.groups import KEY_KINDS, Integers, Ordered, Ties, group_codes, instants, ordered, sort_keys
from etl.ops.spans import Spans

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ColumnType, Schema

__all__ = ["Period", "PointInTime", "TableParams", "TableStep", "need_instants", "need_one_time", "since", "spread"]

_SECOND = 1_000_000
_LEAST = -(2**63)
_MISSING_LEAK = (
    "tells a row of other rows. Say point_in_time: {event_time: <column>}, so that only rows before its own time are "
    "used, or leak: acknowledged"
)


class PointInTime(Params):
    """Which column says when a row came to be."""

    event_time: ColumnName = Field(
        description="A date or timestamp; a row uses only rows whose own is strictly before."
    )


class Period(Params):
    """A stretch of time, given in one of two units."""

    seconds: Annotated[int, Field(ge=1, le=2**43)] | None = Field(default=None, description="Its length in seconds.")
    microseconds: Annotated[int, Field(ge=1, le=2**62)] | None = Field(default=None, description="Its length in µs.")

    @model_validator(mode="after")
    def _has_one_length(self) -> Period:
        if (self.seconds is None) == (self.microseconds is None):
            message = "give exactly one of seconds and microseconds"
            raise ValueError(message)
        return self

    @property
    def length(self) -> int:
        """In µs."""
        return self.microseconds or (self.seconds or 0) * _SECOND


class TableParams(Params):
    """What every step over the table says: how rows are ordered, and which rows one may be told of."""

    order_by: tuple[ColumnName, ...] = Field(
        default=(),
        description="Columns that order rows, ascending: missing first, texts by UTF-8 bytes. Rows that are equal in "
        "all of them are ordered by their other columns: the fields of the contract in their order, then what steps "
        "made, then others by name.",
    )
    point_in_time: PointInTime | None = Field(
        default=None, description="Only rows strictly before the row's own time are used; they are ordered by it first."
    )
    leak: Literal["acknowledged"] | None = Field(
        default=None, description="Rows of any time are used, of the row's own future too."
    )

    @model_validator(mode="after")
    def _leaks_or_not(self) -> TableParams:
        if self.point_in_time is not None and self.leak is not None:
            message = "point_in_time and leak contradict each other; give one"
            raise ValueError(message)
        return self

    @property
    def event_time(self) -> str | None:
        """The column of the row's own time, where only earlier rows are used."""
        return None if self.point_in_time is None else self.point_in_time.event_time

    @property
    def order(self) -> tuple[str, ...]:
        """All columns that order rows, the most important first."""
        first = () if self.event_time is None else (self.event_time,)
        return tuple(dict.fromkeys((*first, *self.order_by)))


class TableStep(Step):
    """A step that needs other rows than its own."""

    params: TableParams

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """Columns whose equal values make a group. A step looks at no row outside a row's group."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs, then the keys and what orders rows, each once."""
        others = dict.fromkeys((*self.keys, *self.params.order))
        return (*self.inputs, *(name for name in others if name not in self.inputs))

    @property
    def breaks_ties(self) -> bool:
        """Whether what the step makes depends on the order of rows that are equal in all that they are ordered by."""
        return True

    @property
    def leak_problem(self) -> str | None:
        """What is wrong where the step does not say which rows it may use."""
        params = self.params
        return _MISSING_LEAK if params.point_in_time is None and params.leak is None else None

    @abstractmethod
    def columns(self, frame: Frame, ties: Ties) -> tuple[Column, ...]:
        """The output columns of a frame that holds whole groups; `ties` orders rows that `order_by` leaves equal."""

    def run(self, frame: Frame, ties: Ties) -> None:
        """Write the output columns into the frame."""
        for name, column in zip(self.outputs, self.columns(frame, ties), strict=True):
            frame[name] = column

    def checked(self, types: tuple[ColumnType, ...]) -> Schema:
        """The types of the columns that the step reads, by name.

        Raises:
            ValueError: keys, event time or order have types that are not taken.
        """
        schema: Schema = dict(zip(self.reads, types, strict=True))
        for name in self.keys:
            if schema[name].kind not in KEY_KINDS:
                message = f"takes keys of type {', '.join(KEY_KINDS)}, found {name} {schema[name]}"
                raise ValueError(message)
        for name in self.params.order:
            if not schema[name].is_scalar:
                message = f"is ordered by scalars, found {name} {schema[name]}"
                raise ValueError(message)
        time = self.params.event_time
        if time is not None:
            need_instants(time, schema[time])
        return schema

    def ordered(self, frame: Frame, time: str | None, ties: Ties | None) -> Ordered:
        """The rows that are in a group, in order; those that have a time, by it first, where a column tells it."""
        codes = group_codes(frame, self.keys)
        eligible = codes >= 0 if time is None else (codes >= 0) & np.logical_not(frame.missing(time))
        rows = np.flatnonzero(eligible)
        by: list[npt.NDArray[Any]] = [] if time is None else [instants(frame, time)[rows]]
        for name in self.params.order:
            if name != time:
                by += [key[rows] for key in sort_keys(frame[name])]
        return ordered(rows, codes[rows], by, peers=0 if time is None else 1, ties=ties)


def need_one_time(params: TableParams, schema: Schema) -> None:
    """Refuse a stretch of time where no one column tells the time.

    Raises:
        ValueError: with what there is.
    """
    if params.event_time is None:
        if len(params.order_by) != 1:
            message = "takes with a stretch of time and leak: acknowledged one column in order_by, the time"
            raise ValueError(message)
        need_instants(params.order_by[0], schema[params.order_by[0]])


def need_instants(name: str, found: ColumnType) -> None:
    """Refuse a column that does not say when.

    Raises:
        ValueError: with its name and type.
    """
    if found.kind not in {"date", "timestamp"}:
        message = f"takes a date or timestamp as a time, found {name} {found}"
        raise ValueError(message)


def since(frame: Frame, name: str, order: Ordered, *, length: int) -> Integers:
    """For each place of an order by a time, the first place of its group of a time at most `length` µs before."""
    times = instants(frame, name)[order.row]
    distinct, rank = np.unique(times, return_inverse=True)
    earliest = np.maximum(times, _LEAST + length) - length
    # Group and rank of the time as one number, ascending with the order.
    width = distinct.size + 1
    return np.searchsorted(order.start * width + rank, order.start * width + np.searchsorted(distinct, earliest))


def spread(frame: Frame, order: Ordered, low: Integers, *, high: Integers) -> Spans:
    """Spans by place as spans by row of the table; empty for rows that are in no order."""
    lows, highs = np.zeros(frame.rows, dtype=np.int64), np.zeros(frame.rows, dtype=np.int64)
    lows[order.row], highs[order.row] = low, high
    return Spans(order.row, lows, highs)
