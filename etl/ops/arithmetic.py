"""Arithmetic on numbers, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from pydantic import Field

from etl.ops.base import AsNumber, Params, RowStep, need_numeric
from etl.types import ColumnType

if TYPE_CHECKING:
    from etl.frame import Column, Frame

__all__ = ["ArithmeticStep", "Ratio", "RatioParams"]


class RatioParams(Params):
    """What a denominator of zero gives."""

    on_zero: Literal["as_missing"] | AsNumber = Field(
        default="as_missing", description="The result where the denominator is 0 or -0, whatever the numerator is."
    )


class Ratio(RowStep):
    """First input ÷ second in float64. Missing where either is missing, and then `on_zero` has no say."""

    op: Literal["ratio"]
    params: RatioParams = RatioParams()
    arity = (2, 1)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Two numbers in, float64 out."""
        need_numeric(types)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Division of all rows, then repair of those that divided by zero."""
        numerator, denominator = frame.float64(self.inputs[0]), frame.float64(self.inputs[1])
        with np.errstate(all="ignore"):
            quotient = numerator / denominator
        on_zero = self.params.on_zero
        by_zero = (denominator == 0) & ~np.isnan(numerator)
        quotient[by_zero] = on_zero.as_value if isinstance(on_zero, AsNumber) else np.nan
        return (quotient,)


ArithmeticStep: TypeAlias = Ratio
