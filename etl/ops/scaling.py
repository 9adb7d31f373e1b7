"""Ops that bring numbers to a common scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from etl.ops.base import Accumulator, FittedStep, Params, RowStep, State, need_numeric
from etl.types import ColumnType

if TYPE_CHECKING:
    from etl.frame import Column, Frame

__all__ = [
    "Clip",
    "ClipParams",
    "MomentsAccumulator",
    "ScalingStep",
    "Standardize",
    "StandardizeState",
]


class ClipParams(Params):
    """Fixed bounds, at least one."""

    lower: FiniteFloat | None = Field(default=None, description="Smallest value that is kept.")
    upper: FiniteFloat | None = Field(default=None, description="Largest value that is kept.")

    @model_validator(mode="after")
    def _is_an_interval(self) -> ClipParams:
        if self.lower is None and self.upper is None:
            message = "give lower, upper or both"
            raise ValueError(message)
        if self.lower is not None and self.upper is not None and self.lower > self.upper:
            message = f"lower {self.lower!r} is above upper {self.upper!r}"
            raise ValueError(message)
        return self


class Clip(RowStep):
    """A value below `lower` becomes `lower`, one above `upper` becomes `upper`, ±inf too. Missing stays missing."""

    op: Literal["clip"]
    params: ClipParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Number in, float64 out."""
        need_numeric(types)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By comparison: numpy's clip may turn −0.0 into 0.0 or not, by the length of the batch."""
        values = frame.float64(self.inputs[0]).copy()
        if self.params.lower is not None:
            values[values < self.params.lower] = self.params.lower
        if self.params.upper is not None:
            values[values > self.params.upper] = self.params.upper
        return (values,)


class StandardizeState(State):
    """Moments of the column at fit, over rows that have a value."""

    mean: FiniteFloat = Field(description="Mean.")
    std: FiniteFloat = Field(ge=0, description="Population standard deviation (ddof 0).")
    n: int = Field(ge=1, description="Rows that had a value.")


class Standardize(FittedStep[StandardizeState]):
    """(x − mean) ÷ std in float64. A column that was constant at fit, of std 0, becomes x − mean. Missing stays so."""

    op: Literal["standardize"]
    state: StandardizeState | None = Field(default=None, description="Moments; absent in a recipe.")

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Number in, float64 out."""
        need_numeric(types)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One pass, one temporary."""
        with np.errstate(all="ignore"):
            centred = frame.float64(self.inputs[0]) - self.learned.mean
            centred /= self.learned.std or 1.0
        return (centred,)

    def accumulator(self) -> MomentsAccumulator:
        """Count, mean and sum of squared deviations."""
        return MomentsAccumulator(self.inputs[0])


class MomentsAccumulator(Accumulator[StandardizeState]):
    """Count, mean and M2, merged pairwise; least and largest, because rounding must not give a constant a spread.

    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
    """

    def __init__(self, column: str) -> None:
        """Start empty for one column."""
        self.column = column
        self.n = 0
        self.mean = 0.0
        self.m2 = 0.0
        self.least = math.inf
        self.largest = -math.inf

    def fresh(self) -> MomentsAccumulator:
        """An empty one for the same column."""
        return MomentsAccumulator(self.column)

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        values = frame.float64(self.column)
        values = values[~np.isnan(values)]
        if not values.size:
            return
        with np.errstate(all="ignore"):
            mean = float(values.mean())
            m2 = float(np.square(values - mean).sum())
        self._combine(values.size, mean, m2)
        self.least, self.largest = min(self.least, float(values.min())), max(self.largest, float(values.max()))

    def merge(self, later: MomentsAccumulator) -> None:
        """Take in later rows."""
        if later.n:
            self._combine(later.n, later.mean, later.m2)
            self.least, self.largest = min(self.least, later.least), max(self.largest, later.largest)

    def _combine(self, n: int, mean: float, m2: float) -> None:
        total = self.n + n
        delta = mean - self.mean
        self.m2 += m2 + delta * delta * (self.n * n / total)
        self.mean += delta * (n / total)
        self.n = total

    def finish(self) -> StandardizeState:
        """Population moments."""
        if self.n == 0:
            message = f"column {self.column!r} has no value to learn a mean from"
            raise ValueError(message)
        if self.least == self.largest and math.isfinite(self.least):
            return StandardizeState(mean=self.least + 0.0, std=0.0, n=self.n)
        if not math.isfinite(self.m2):
            message = f"column {self.column!r} holds ±inf or numbers whose squares overflow; clip it first"
            raise ValueError(message)
        return StandardizeState(mean=self.mean, std=math.sqrt(self.m2 / self.n), n=self.n)


ScalingStep: TypeAlias = Clip | Standardize
