"""`dedupe`: of rows with equal keys, one stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from etl.ops.base import ColumnName, Name
from etl.ops.tables import TableParams, TableStep

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.ops.groups import Ties
    from etl.types import ColumnType

__all__ = ["Dedupe", "DedupeParams"]


class DedupeParams(TableParams):
    """What makes rows copies of each other, and which of them stays."""

    keys: tuple[ColumnName, ...] = Field(min_length=1, description="Rows that are equal in all of these are copies.")
    keep: Literal["first", "last"] = Field(
        default="first", description="Which stays, in the order of event time and `order_by`; last needs leak."
    )


class Dedupe(TableStep):
    """Of rows that are equal in all `keys`, the first or the last in order stays; the others are left out of all that
    follows, and the account counts them as deduplicated.

    With `point_in_time` rows are in the order of event time, then `order_by`, a row without a time before all others,
    and the first stays: whether a row stays depends on no later row. (Of rows of one time one stays, which tells
    nothing of the future.) With `leak: acknowledged` they are in the order of `order_by`. Rows that are equal in all of
    that are ordered as `order_by` says, so which row stays never depends on where rows stand.

    A row with a missing key is a copy of none and stays.
    """  # noqa: D205  one sentence

    op: Literal["dedupe"]
    inputs: tuple[Name, ...] = Field(default=(), alias="in", max_length=0, description="Empty: see `keys`.")
    outputs: tuple[Name, ...] = Field(default=(), alias="out", max_length=0, description="Empty: no column is made.")
    params: DedupeParams
    arity = (0, 0)

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of the params."""
        return self.params.keys

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Nothing is made."""
        self.checked(types)
        if self.params.event_time is not None and self.params.keep == "last":
            message = "keeps the last copy only with leak: acknowledged, since later rows decide which that is"
            raise ValueError(message)
        return ()

    def columns(self, frame: Frame, ties: Ties) -> tuple[Column, ...]:
        """Copies stay in the frame until its end."""
        order = self.ordered(frame, None, ties)
        kept = order.start if self.params.keep == "first" else order.end - 1
        copies = np.zeros(frame.rows, dtype=bool)
        copies[order.row] = np.arange(order.row.size) != kept
        frame.leave_out(copies)
        return ()
