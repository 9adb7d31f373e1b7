"""Numeric ops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from etl.ops.base import FittedStep, State, need_numeric
from etl.types import ColumnType

if TYPE_CHECKING:
    from etl.frame import Column, Frame

__all__ = ["Standardize", "StandardizeState"]


class StandardizeState(State):
    """Moments of the column at fit, over rows that have a value."""

    mean: FiniteFloat
    std: FiniteFloat = Field(ge=0, description="Population standard deviation (ddof 0).")
    n: int = Field(ge=1, description="Rows that had a value.")


class Standardize(FittedStep[StandardizeState]):
    """(x − mean) ÷ std in float64. A constant column (std 0) becomes x − mean. Missing stays missing."""

    op: Literal["standardize"]
    state: StandardizeState | None = None

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Number in, float64 out."""
        need_numeric(types)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One pass, one temporary."""
        centred = frame.float64(self.inputs[0]) - self.learned.mean
        centred /= self.learned.std or 1.0
        return (centred,)

    def accumulator(self) -> MomentsAccumulator:
        """Count, mean and sum of squared deviations."""
        return MomentsAccumulator(self.inputs[0])


class MomentsAccumulator:
    """Count, mean and M2, merged pairwise.

    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
    """

    def __init__(self, column: str) -> None:
        """Start empty for one column."""
        self.column = column
        self.n = 0
        self.mean = 0.0
        self.m2 = 0.0

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        values = frame.float64(self.column)
        values = values[~np.isnan(values)]
        if values.size:
            mean = float(values.mean())
            self._combine(values.size, mean, float(np.square(values - mean).sum()))

    def merge(self, later: MomentsAccumulator) -> None:
        """Take in later rows."""
        if later.n:
            self._combine(later.n, later.mean, later.m2)

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
        return StandardizeState(mean=self.mean, std=math.sqrt(self.m2 / self.n), n=self.n)
