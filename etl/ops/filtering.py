"""`filter`: leave rows out, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from etl.ops.base import Name, Params, RowStep
from etl.ops.conditions import AnyCondition, need_fitting

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.types import ColumnType

__all__ = ["Filter", "FilterParams"]


class FilterParams(Params):
    """Which rows stay."""

    keep: AnyCondition = Field(description="Rows for which this is true stay; a missing value compares as false.")


class Filter(RowStep):
    """Rows for which `keep` is false are left out of all that follows: they are neither scored nor set aside, and the
    account counts them as filtered. Among relational steps it has its place in their order: steps before it see the
    rows that it leaves out, steps behind it do not.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["filter"]
    inputs: tuple[Name, ...] = Field(default=(), alias="in", max_length=0, description="Empty: see `keep`.")
    outputs: tuple[Name, ...] = Field(default=(), alias="out", max_length=0, description="Empty: no column is made.")
    params: FilterParams
    arity = (0, 0)

    @property
    def reads(self) -> tuple[str, ...]:
        """The condition's columns."""
        return self.params.keep.columns

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Nothing is made; the condition must fit its columns."""
        need_fitting(self.params.keep, "params/keep", dict(zip(self.reads, types, strict=True)))
        return ()

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Rows stay in the frame until its end."""
        frame.leave_out(~self.params.keep.holds(frame))
        return ()
