"""`group_aggregate`: what the rows of a row's group come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from etl.ops.base import ColumnName
from etl.ops.spans import Aggregate, aggregated, kinds_of
from etl.ops.tables import Period, TableParams, TableStep, need_one_time, since, spread

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.ops.groups import Ties
    from etl.types import ColumnType

__all__ = ["GroupAggregate", "GroupAggregateParams"]


class GroupAggregateParams(TableParams):
    """By which keys, which aggregates, and over which time."""

    keys: tuple[ColumnName, ...] = Field(min_length=1, description="Rows that are equal in all of these are a group.")
    aggregates: tuple[Aggregate, ...] = Field(min_length=1, description="One for each column of `in` and of `out`.")
    window: Period | None = Field(
        default=None,
        description="Only rows whose time is at most so long before the row's own are used. The time is the event "
        "time, or with `leak: acknowledged` the one column of `order_by`.",
    )


class GroupAggregate(TableStep):
    """Aggregates of the other rows with the same keys, given to each row: of column k of `in`, aggregate k, as column k
    of `out`.

    With `point_in_time` the rows used are those of the group whose event time is strictly before the row's own, so
    neither the row itself nor another of the same time; with a `window` of length w, those of times from t − w
    (included) to t (excluded), where t is the row's own. With `leak: acknowledged` they are all rows of the group, the
    row itself too; with a `window`, those of times from t − w to t, both included.

    Missing values (null, NaN, whatever `nan_is_value` says) are skipped. `count` counts the others, and `nunique` the
    different ones, 0.0 and −0.0 as one: both are int64, and 0 where there is none. `sum`, `mean` and `std` (population,
    ddof 0) are float64, computed exactly and rounded once, and missing where there is no value; a sum of 0 is 0.0, one
    beyond float64 is ±inf, ±inf adds up as in IEEE 754 (∞ − ∞ is missing), and `std` of values with ±inf is missing.
    `min` and `max` keep the type, texts compare by UTF-8 bytes, −0.0 is below 0.0. `last` is the last value that is not
    missing, in the order of event time and `order_by`.

    A row with a missing key, or without a time where times matter, is given what no rows come to, and counts for none.
    """  # noqa: D205  one sentence

    op: Literal["group_aggregate"]
    params: GroupAggregateParams
    arity = (None, None)

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of the params."""
        return self.params.keys

    @property
    def breaks_ties(self) -> bool:
        """Only to tell which row is last."""
        return "last" in self.params.aggregates

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """float64 for sums, means and deviations, int64 for counts, else the column's own type."""
        schema, params = self.checked(types), self.params
        kinds = kinds_of(self, params.aggregates, schema)
        if params.window is not None:
            need_one_time(params, schema)
        if "last" in params.aggregates and not params.order:
            message = "takes for the aggregate last order_by or point_in_time, which say which row is last"
            raise ValueError(message)
        return kinds

    def columns(self, frame: Frame, ties: Ties) -> tuple[Column, ...]:
        """Rows in order once, then a span of them for each row."""
        params = self.params
        time = params.event_time or (params.order_by[0] if params.window is not None else None)
        order = self.ordered(frame, time, ties if self.breaks_ties else None)
        low, high = order.start, order.end
        if params.event_time is not None:
            high = order.peer
        elif params.window is not None:
            high = order.peer_end
        if params.window is not None and time is not None:
            low = since(frame, time, order, length=params.window.length)
        spans = spread(frame, order, low, high=high)
        pairs = zip(self.inputs, params.aggregates, strict=True)
        return tuple(aggregated(frame, name, aggregate, spans=spans) for name, aggregate in pairs)
