"""What ops on columns of numbers share: their types, and how they learn from one column."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Generic, Self, TypeVar

import numpy as np
from pydantic import Field

from etl.ops.base import Accumulator, RowStep, StateT_co, need_numeric
from etl.partials import Extent, Moments, Quantiles
from etl.types import ColumnType

if TYPE_CHECKING:
    from fractions import Fraction

    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = [
    "ColumnAccumulator",
    "ElementStep",
    "ExtentAccumulator",
    "NumberStep",
    "QuantilesAccumulator",
    "RowCount",
    "distance",
    "need_values",
    "rows_of",
]

PartialT = TypeVar("PartialT", Extent, Moments, Quantiles)


RowCount = Annotated[
    int | None, Field(ge=1, description="Rows that had a value at fit; absent where that is not known.")
]
"""How many rows a state was learned from."""


class NumberStep(RowStep):
    """Numbers in, one float64 out."""

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Numbers in, float64 out."""
        if vector := next((found for found in types if found.kind == "vector"), None):
            message = (
                f"takes numbers, found {vector}; a vector is scaled by numbers that are known: arith with a constant, "
                "as x / 255, clip with fixed bounds, or weigh with a factor for each element"
            )
            raise ValueError(message)
        need_numeric(types)
        return (ColumnType("float64"),)


class ElementStep(NumberStep):
    """A function of one number that takes a vector too: out comes a float32 vector of the same width, of each element
    by itself. A missing vector stays missing, and an element that is missing, or becomes so, is NaN in its vector.
    """  # noqa: D205  one sentence and another

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Numbers in, float64 out; or one vector in, a vector of floats and of equal width out."""
        if len(types) == 1 and types[0].kind == "vector":
            return (ColumnType("vector", types[0].width, "float32"),)
        return super().infer(types)

    def _column(self, frame: Frame, values: npt.NDArray[np.float64]) -> Column:
        """The values as the output column, which is missing where its input is: a vector in its own type."""
        if values.ndim == 1:
            return values
        if self.inputs[0] in frame.absent:
            frame.absent[self.outputs[0]] = frame.absent[self.inputs[0]]
        with np.errstate(over="ignore"):
            return values.astype(np.float32)


def rows_of(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows are marked, or have a marked element."""
    return marked if marked.ndim == 1 else np.asarray(marked.any(axis=1))


class ColumnAccumulator(Accumulator[StateT_co], Generic[StateT_co, PartialT]):
    """What the numbers of one column tell, by one partial state; missing ones tell nothing."""

    def __init__(self, column: str, partial: PartialT) -> None:
        """Start with an empty partial state for one column."""
        self.column = column
        self.partial: PartialT = partial

    def fresh(self) -> Self:
        """An empty one that learns the same."""
        return self._with(self.partial.fresh())

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        values = frame.float64(self.column)
        missing = np.isnan(values)
        self.partial.update(values[~missing] if missing.any() else values)

    def merge(self, later: Self) -> None:
        """Take in later rows."""
        self.partial.merge(later.partial)

    def finish(self) -> StateT_co:
        """The state; where there is none, the reason names the column."""
        try:
            return self._state()
        except ValueError as error:
            message = f"column {self.column!r} {error}"
            raise ValueError(message) from None

    @abstractmethod
    def _state(self) -> StateT_co:
        """The state, or a ValueError that says what the column has or holds instead."""

    def _with(self, partial: PartialT) -> Self:
        other = copy.copy(self)
        other.partial = partial
        return other


class ExtentAccumulator(ColumnAccumulator[StateT_co, Extent]):
    """Learns from the least and the largest value."""

    def __init__(self, column: str) -> None:
        """Start empty for one column."""
        super().__init__(column, Extent())

    def _extent(self) -> tuple[float, float]:
        """Least and largest value, both finite."""
        if not self.partial.n:
            message = "has no value to learn from"
            raise ValueError(message)
        if math.isinf(self.partial.least) or math.isinf(self.partial.largest):
            message = "holds ±inf; clip it first"
            raise ValueError(message)
        return self.partial.least, self.partial.largest


class QuantilesAccumulator(ColumnAccumulator[StateT_co, Quantiles]):
    """Learns from exact quantiles, by `inverted_cdf`, in as many passes as they take."""

    def __init__(self, column: str, probabilities: tuple[float | Fraction, ...]) -> None:
        """Start empty for one column."""
        super().__init__(column, Quantiles(probabilities))

    @property
    def most_extra_passes(self) -> int:
        """Those of the quantiles."""
        return self.partial.most_extra_passes

    def narrow(self) -> Self | None:
        """What the quantiles need to know yet."""
        try:
            later = self.partial.narrow()
        except ValueError as error:
            message = f"column {self.column!r} {error}"
            raise ValueError(message) from None
        return None if later is None else self._with(later)

    def _quantiles(self) -> list[float]:
        """The quantiles, none of them infinite."""
        quantiles = self.partial.values()
        for probability, value in zip(self.partial.probabilities, quantiles, strict=True):
            if math.isinf(value):
                message = f"holds ±inf at quantile {float(probability):g}; clip it first"
                raise ValueError(message)
        return quantiles


def need_values(n: int | None, *values: float) -> None:
    """Refuse different values of a column that had one row.

    Raises:
        ValueError: it tells of more than one value.
    """
    if n == 1 and len(set(values)) > 1:
        message = "n is 1, and one row has one value"
        raise ValueError(message)


def distance(least: float, largest: float) -> float:
    """How far apart two numbers are.

    Raises:
        ValueError: further than float64 can say.
    """
    found = largest - least
    if not math.isfinite(found):
        message = "holds numbers further apart than float64 can say; clip it first"
        raise ValueError(message)
    return found
