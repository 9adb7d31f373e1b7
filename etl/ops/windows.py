"""`window_lag` and `window_rolling`: what came before a row in its group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from etl.ops.base import ColumnName, Params
from etl.ops.spans import Aggregate, aggregated, kinds_of, taken_at
from etl.ops.tables import Period, TableParams, TableStep, need_one_time, since, spread

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.ops.groups import Ties
    from etl.types import ColumnType

__all__ = ["RollingWindow", "WindowLag", "WindowLagParams", "WindowRolling", "WindowRollingParams"]


class WindowParams(TableParams):
    """Whose rows are looked at."""

    partition_by: tuple[ColumnName, ...] = Field(
        min_length=1, description="Rows that are equal in all of these are a group; a row looks at no other group."
    )


class WindowLagParams(WindowParams):
    """Whose rows, and how many rows back."""

    offset: int = Field(default=1, ge=1, le=2**31, description="How many rows back.")


class WindowLag(TableStep):
    """The value of column k of `in`, as column k of `out`, of the row that stands `offset` rows back in the group;
    missing where there is none, or where that row's value is missing.

    With `point_in_time` the rows of the group whose event time is strictly before the row's own are counted back from
    the last, so rows of the same time are passed over, the row's own peers as well: they all have the same value here.
    Rows are in the order of event time, then `order_by`; a row without a time has no row before it and is none. With
    `leak: acknowledged` the rows of the group are in the order of `order_by`, and the row itself is where counting
    begins. Rows that are equal in all of that are ordered as `order_by` says.

    A row with a missing key is in no group. A value keeps its type, and is the same to the bit.
    """  # noqa: D205  one sentence

    op: Literal["window_lag"]
    params: WindowLagParams
    arity = (None, None)

    @property
    def keys(self) -> tuple[str, ...]:
        """The partition."""
        return self.params.partition_by

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """The columns' own types."""
        schema = self.checked(types)
        if len(self.inputs) != len(self.outputs):
            message = f"takes as many columns in as out, found {len(self.inputs)} and {len(self.outputs)}"
            raise ValueError(message)
        _need_order(self.params)
        for name in self.inputs:
            if not schema[name].may_be_missing:
                message = f"takes no vector of {schema[name].item}, which cannot be missing, found {name}"
                raise ValueError(message)
        return tuple(schema[name] for name in self.inputs)

    def columns(self, frame: Frame, ties: Ties) -> tuple[Column, ...]:
        """One row of the table for each row, for all columns."""
        order = self.ordered(frame, self.params.event_time, ties)
        here = np.arange(order.row.size) if self.params.event_time is None else order.peer
        back = here - self.params.offset
        rows = np.full(frame.rows, -1, dtype=np.int64)
        rows[order.row] = np.where(back >= order.start, order.row[np.maximum(back, 0)], -1)
        return tuple(taken_at(frame, name, rows) for name in self.inputs)


class RollingWindow(Params):
    """How far back a window reaches: so many rows, or so long."""

    rows: Annotated[int, Field(ge=1, le=2**31)] | None = Field(default=None, description="So many rows.")
    seconds: Annotated[int, Field(ge=1, le=2**43)] | None = Field(default=None, description="So many seconds.")
    microseconds: Annotated[int, Field(ge=1, le=2**62)] | None = Field(default=None, description="So many µs.")

    @model_validator(mode="after")
    def _reaches_back_one_way(self) -> RollingWindow:
        if sum(length is not None for length in (self.rows, self.seconds, self.microseconds)) != 1:
            message = "give exactly one of rows, seconds and microseconds"
            raise ValueError(message)
        return self

    @property
    def period(self) -> Period | None:
        """The stretch of time, where it is one."""
        return None if self.rows else Period(seconds=self.seconds, microseconds=self.microseconds)


Rolled = Literal["sum", "mean", "min", "max", "count"]
"""Aggregates over a window."""


class WindowRollingParams(WindowParams):
    """Whose rows, how many or how long, and which aggregates."""

    window: RollingWindow = Field(description="How far back.")
    aggregates: tuple[Rolled, ...] = Field(min_length=1, description="One for each column of `in` and of `out`.")


class WindowRolling(TableStep):
    """Aggregates of the rows before a row in its group: of column k of `in`, aggregate k, as column k of `out`.

    A window of `rows: n` is, with `point_in_time`, the last n rows of the group whose event time is strictly before the
    row's own, in the order of event time and `order_by`; with `leak: acknowledged` it is the row itself and the n − 1
    rows before it in the order of `order_by`. Rows with a missing value are counted among the n. A window of length w
    is, with `point_in_time`, the rows of times from t − w (included) to t (excluded), where t is the row's own; with
    `leak: acknowledged`, those of times from t − w to t, both included, by the one column of `order_by`.

    The aggregates, and what they make of missing values, ±inf and −0.0, are those of `group_aggregate`. A row with a
    missing key, or without a time where times matter, is given what no rows come to, and counts for none.
    """

    op: Literal["window_rolling"]
    params: WindowRollingParams
    arity = (None, None)

    @property
    def keys(self) -> tuple[str, ...]:
        """The partition."""
        return self.params.partition_by

    @property
    def breaks_ties(self) -> bool:
        """Only to tell which rows are the last so many."""
        return self.params.window.period is None

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """As of `group_aggregate`."""
        schema, params = self.checked(types), self.params
        kinds = kinds_of(self, params.aggregates, schema)
        _need_order(params)
        if params.window.period is not None:
            need_one_time(params, schema)
        return kinds

    def columns(self, frame: Frame, ties: Ties) -> tuple[Column, ...]:
        """Rows in order once, then a span of them for each row."""
        params, period = self.params, self.params.window.period
        time = params.event_time or (params.order_by[0] if period is not None else None)
        order = self.ordered(frame, time, ties if self.breaks_ties else None)
        if params.event_time is not None:
            high = order.peer
        else:
            high = np.arange(1, order.row.size + 1) if period is None else order.peer_end
        if period is not None and time is not None:
            low = since(frame, time, order, length=period.length)
        else:
            low = np.maximum(high - (params.window.rows or 0), order.start)
        spans = spread(frame, order, low, high=high)
        pairs: list[tuple[str, Aggregate]] = list(zip(self.inputs, params.aggregates, strict=True))
        return tuple(aggregated(frame, name, aggregate, spans=spans) for name, aggregate in pairs)


def _need_order(params: TableParams) -> None:
    """Refuse a window over rows that are in no order.

    Raises:
        ValueError: neither `order_by` nor `point_in_time` is given.
    """
    if not params.order:
        message = "takes order_by or point_in_time, which say which row comes before which"
        raise ValueError(message)
