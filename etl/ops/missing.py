"""Ops that treat missing values."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, model_validator

from etl.ops.base import Accumulator, FittedStep, Params, RowStep, State
from etl.ops.codes import count_texts
from etl.types import ColumnType

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = ["Impute", "ImputeAccumulator", "ImputeParams", "ImputeState", "MissingFlag", "MissingStep"]


class MissingFlag(RowStep):
    """1.0 where the input is missing, 0.0 where it has a value. NaN of a field with `nan_is_value` is a value."""

    op: Literal["missing_flag"]

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Any scalar in, float64 out."""
        if types[0].kind == "vector":
            message = f"takes scalars, found {types[0]}"
            raise ValueError(message)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """The frame's own mask, so that the flag and `impute` never differ."""
        return (frame.missing(self.inputs[0]).astype(np.float64),)


class ImputeParams(Params):
    """How the filling value is found."""

    strategy: Literal["mean", "median", "mode", "constant"] = Field(description="Where the filling value comes from.")
    value: FiniteFloat | str | None = Field(default=None, description="With `constant`: the value.")

    @model_validator(mode="after")
    def _value_goes_with_constant(self) -> ImputeParams:
        if (self.strategy == "constant") != (self.value is not None):
            message = "`value` goes with strategy constant, and only with it"
            raise ValueError(message)
        return self


class ImputeState(State):
    """The filling value that was learned."""

    value: FiniteFloat | str = Field(description="Number for a numeric column, else text.")
    n: int = Field(ge=1, description="Rows that had a value at fit.")


class Impute(FittedStep[ImputeState]):
    """Missing becomes the filling value. Median is the smallest value with at least half of the rows at or below it
    (`inverted_cdf`); mode is the most frequent value, ties by the least number, or by UTF-8 bytes.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["impute"]
    params: ImputeParams
    state: ImputeState | None = Field(default=None, description="What fills; absent in a recipe.")

    @model_validator(mode="after")
    def _constant_learns_nothing(self) -> Impute:
        if self.params.strategy == "constant" and self.state is not None:
            message = "strategy constant has no state"
            raise ValueError(message)
        return self

    @property
    def is_fitted(self) -> bool:
        """A constant needs no data."""
        return self.params.strategy == "constant" or self.state is not None

    @property
    def value(self) -> float | str:
        """The filling value."""
        return self.params.value if self.params.value is not None else self.learned.value

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Number in, float64 out; string in (mode or constant), string out."""
        found = types[0]
        is_text = found.kind == "string"
        if not is_text and not found.is_numeric:
            message = f"takes numbers or string, found {found}"
            raise ValueError(message)
        if is_text and self.params.strategy in {"mean", "median"}:
            message = f"strategy {self.params.strategy} takes numbers, found string"
            raise ValueError(message)
        if self.is_fitted and isinstance(self.value, str) != is_text:
            message = f"takes a filling value of the column's type, found {self.value!r:.60} for {found}"
            raise ValueError(message)
        return (found if is_text else ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A column without missing values is passed on as it is."""
        name = self.inputs[0]
        if isinstance(self.value, str):
            return (frame.arrow(name).fill_null(self.value),)
        values, missing = frame.float64(name), frame.missing(name)
        return (np.where(missing, self.value, values) if missing.any() else values,)

    def accumulator(self) -> ImputeAccumulator:
        """All values of the column: exact, and bounded by what a fit can hold."""
        return ImputeAccumulator(self.inputs[0], self.params.strategy)


class ImputeAccumulator(Accumulator[ImputeState]):
    """The column's numbers as they come, in canonical order, or the counts of its texts."""

    def __init__(self, column: str, strategy: str) -> None:
        """Start empty for one column."""
        self.column = column
        self.strategy = strategy
        self.counts: Counter[str] = Counter()
        self.parts: list[npt.NDArray[np.float64]] = []

    def fresh(self) -> ImputeAccumulator:
        """An empty one that learns the same."""
        return ImputeAccumulator(self.column, self.strategy)

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        column = frame[self.column]
        if isinstance(column, pa.Array) and pa.types.is_string(column.type):
            self.counts.update(count_texts(column))
            return
        values = frame.float64(self.column)
        # −0.0 + 0.0 is 0.0: which of two equal values is found must not depend on how the rows were cut.
        self.parts.append(values[~np.isnan(values)] + 0.0)

    def merge(self, later: ImputeAccumulator) -> None:
        """Take in later rows."""
        self.counts.update(later.counts)
        self.parts.extend(later.parts)

    def finish(self) -> ImputeState:
        """The filling value by the strategy."""
        if self.counts:
            text = min(self.counts, key=lambda text: (-self.counts[text], text.encode()))
            return ImputeState(value=text, n=self.counts.total())
        values = np.concatenate(self.parts) if self.parts else np.empty(0)
        if not values.size:
            message = f"column {self.column!r} has no value to learn from"
            raise ValueError(message)
        value = _summary(values, self.strategy)
        if not math.isfinite(value):
            message = f"column {self.column!r} has {self.strategy} {value}: it holds ±inf or sums beyond float64"
            raise ValueError(message)
        return ImputeState(value=value, n=values.size)


def _summary(values: npt.NDArray[np.float64], strategy: str) -> float:
    if strategy == "mean":
        with np.errstate(all="ignore"):
            return float(values.mean())
    if strategy == "median":
        return float(np.quantile(values, 0.5, method="inverted_cdf"))
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[np.argmax(counts)])


MissingStep: TypeAlias = Impute | MissingFlag
