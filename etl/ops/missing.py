"""Ops that treat missing values."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, FiniteFloat, model_validator

from etl.ops.base import FittedStep, Params, State
from etl.types import ColumnType

if TYPE_CHECKING:
    from etl.frame import Column, Frame

__all__ = ["Impute", "ImputeParams", "ImputeState"]


class ImputeParams(Params):
    """How the filling value is found."""

    strategy: Literal["mean", "median", "mode", "constant"]
    value: FiniteFloat | str | None = Field(default=None, description="With `constant`: the value.")

    @model_validator(mode="after")
    def _value_goes_with_constant(self) -> ImputeParams:
        if (self.strategy == "constant") != (self.value is not None):
            message = "`value` goes with strategy constant, and only with it"
            raise ValueError(message)
        return self


class ImputeState(State):
    """The filling value that was learned."""

    value: FiniteFloat | str
    n: int = Field(ge=1, description="Rows that had a value at fit.")


class Impute(FittedStep[ImputeState]):
    """Missing becomes the filling value. Median is the smallest value with at least half of the rows at or below it
    (`inverted_cdf`); mode is the most frequent value, ties by number, or by UTF-8 bytes.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["impute"]
    params: ImputeParams
    state: ImputeState | None = None

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
        kind = types[0]
        if kind.kind == "string":
            if self.params.strategy in {"mean", "median"}:
                message = f"strategy {self.params.strategy} takes numbers, found string"
                raise ValueError(message)
        elif not kind.is_numeric:
            message = f"takes numbers or string, found {kind}"
            raise ValueError(message)
        if self.is_fitted and isinstance(self.value, str) != (kind.kind == "string"):
            message = f"filling value {self.value!r} does not fit a column of type {kind}"
            raise ValueError(message)
        return (kind if kind.kind == "string" else ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A column without missing values is passed on as it is."""
        name = self.inputs[0]
        if isinstance(self.value, str):
            return (pc.fill_null(frame.arrow(name), self.value),)
        values = frame.float64(name)
        missing = np.isnan(values)
        return (np.where(missing, self.value, values) if missing.any() else values,)

    def accumulator(self) -> ImputeAccumulator:
        """All values of the column: exact, and bounded by what a fit can hold."""
        return ImputeAccumulator(self.inputs[0], self.params.strategy)


class ImputeAccumulator:
    """The column's values as they come, in canonical order."""

    def __init__(self, column: str, strategy: str) -> None:
        """Start empty for one column."""
        self.column = column
        self.strategy = strategy
        self.counts: Counter[str] = Counter()
        self.parts: list[np.ndarray] = []

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        column = frame[self.column]
        if isinstance(column, pa.Array) and pa.types.is_string(column.type):
            for entry in pc.value_counts(column.drop_null()):
                self.counts[entry["values"].as_py()] += entry["counts"].as_py()
            return
        values = frame.float64(self.column)
        self.parts.append(values[~np.isnan(values)])

    def merge(self, later: ImputeAccumulator) -> None:
        """Take in later rows."""
        self.counts.update(later.counts)
        self.parts.extend(later.parts)

    def finish(self) -> ImputeState:
        """The filling value by the strategy."""
        if self.counts:
            value = min(self.counts, key=lambda text: (-self.counts[text], text.encode()))
            return ImputeState(value=value, n=self.counts.total())
        values = np.concatenate(self.parts) if self.parts else np.empty(0)
        if not values.size:
            message = f"column {self.column!r} has no value to learn from"
            raise ValueError(message)
        return ImputeState(value=_summary(values, self.strategy), n=values.size)


def _summary(values: np.ndarray, strategy: str) -> float:
    if strategy == "mean":
        return float(values.mean())
    if strategy == "median":
        return float(np.quantile(values, 0.5, method="inverted_cdf"))
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[np.argmax(counts)])
