"""Ops that treat missing values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from etl.ops.base import Accumulator, FittedStep, Params, RowStep, State
from etl.ops.comparing import Literal_, listing, literal_misfit, positions, scalar_of, value_misfit
from etl.partials.counts import Counts, NumberCounts
from etl.partials.moments import Moments
from etl.partials.quantiles import Quantiles
from etl.types import ColumnType, kernels

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.frame import Column, Frame

__all__ = [
    "Impute",
    "ImputeAccumulator",
    "ImputeParams",
    "ImputeState",
    "MissingFlag",
    "MissingStep",
    "NullIf",
    "NullIfParams",
    "ReplaceValues",
    "ReplaceValuesParams",
]

Pair = Annotated[tuple[Literal_, Literal_], BeforeValidator(listing("old value", "new value"))]
"""A value and what it becomes."""


class MissingFlag(RowStep):
    """1.0 where the input is missing, 0.0 where it has a value. NaN of a field with `nan_is_value` is a value; so is a
    list without elements, or with missing ones.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["missing_flag"]

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Any scalar, list or struct in, float64 out."""
        if types[0].kind == "vector":
            message = f"takes scalars, lists and structs, found {types[0]}"
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
    """Missing becomes the filling value; every other value stays, ±inf, −0.0 and the empty text too.

    Mean is the exact one, rounded once. Median is the smallest value with at least half of the rows at or below it
    (`inverted_cdf`): of an even number of rows the lower middle one. Mode is the most frequent value, ties by the least
    number, or by UTF-8 bytes; a column with more than a million different numbers has none. Of a column of −0.0 and
    0.0, 0.0 is learned.
    """

    op: Literal["impute"]
    params: ImputeParams
    state: ImputeState | None = Field(default=None, description="What fills; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_the_strategy(self) -> Impute:
        if self.params.strategy == "constant" and self.state is not None:
            message = "strategy constant has no state"
            raise ValueError(message)
        if self.params.strategy in {"mean", "median"} and self.state is not None and isinstance(self.state.value, str):
            message = f"strategy {self.params.strategy} learns a number, found text in state"
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
        """Exact, and in bounded memory."""
        return ImputeAccumulator(self.inputs[0], self.params.strategy)


class ImputeAccumulator(Accumulator[ImputeState]):
    """What the strategy needs of a column of numbers, exactly and in bounded memory, or the counts of its texts."""

    def __init__(self, column: str, strategy: str) -> None:
        """Start empty for one column."""
        self.column = column
        self.strategy = strategy
        self.texts = Counts()
        self.numbers: Moments | Quantiles | NumberCounts = _NUMBERS[strategy]()
        self.problem = ""

    @property
    def most_extra_passes(self) -> int:
        """Those of a median."""
        return self.numbers.most_extra_passes if isinstance(self.numbers, Quantiles) else 0

    def fresh(self) -> ImputeAccumulator:
        """An empty one that learns the same."""
        return self._with(self.numbers.fresh())

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        column = frame[self.column]
        if isinstance(column, pa.Array) and pa.types.is_string(column.type):
            self.texts.update_texts(column)
            return
        values = frame.float64(self.column)
        self._attempt(self.numbers.update, values[~np.isnan(values)])

    def merge(self, later: ImputeAccumulator) -> None:
        """Take in later rows."""
        self.texts.merge(later.texts)
        self.problem = self.problem or later.problem
        self._attempt(self.numbers.merge, later.numbers)

    def narrow(self) -> ImputeAccumulator | None:
        """What a median of many different values has to learn in one more pass."""
        further = self._attempt(self.numbers.narrow) if isinstance(self.numbers, Quantiles) else None
        return None if further is None else self._with(further)

    def finish(self) -> ImputeState:
        """The filling value by the strategy."""
        if self.texts.n:
            return ImputeState(value=self.texts.ordered()[0][0], n=self.texts.n)
        value, n = self._attempt(_summary, self.numbers) or (math.nan, 0)
        if not (self.problem or math.isfinite(value)):
            self.problem = f"has {self.strategy} {value}: it holds ±inf; clip it first"
        if self.problem:
            message = f"column {self.column!r} {self.problem}"
            raise ValueError(message)
        return ImputeState(value=value, n=n)

    def _with(self, numbers: Moments | Quantiles | NumberCounts) -> ImputeAccumulator:
        other = ImputeAccumulator(self.column, self.strategy)
        other.numbers = numbers
        return other

    def _attempt(self, learn: Callable[..., Any], *given: Any) -> Any:
        """Keep what cannot be learned for the end, where an error names the step; from then on learn nothing."""
        if self.problem:
            return None
        try:
            return learn(*given)
        except ValueError as error:
            self.problem = str(error)
            return None


_NUMBERS: dict[str, Callable[[], Moments | Quantiles | NumberCounts]] = {
    "mean": Moments,
    "median": lambda: Quantiles([0.5]),
    "mode": NumberCounts,
}


def _summary(numbers: Moments | Quantiles | NumberCounts) -> tuple[float, int]:
    """The filling value, and how many rows had a value."""
    if isinstance(numbers, Moments):
        return numbers.mean(), numbers.n
    if isinstance(numbers, Quantiles):
        return numbers.values()[0], numbers.n
    values, counts = numbers.ordered()
    if not counts.size:
        message = "has no value to learn from"
        raise ValueError(message)
    return float(values[0]), int(counts.sum())


class ReplaceValuesParams(Params):
    """Which values become which."""

    values: tuple[Pair, ...] = Field(min_length=1, description="[old value, new value], each old value once.")

    @model_validator(mode="after")
    def _each_once(self) -> ReplaceValuesParams:
        for place, (old, _) in enumerate(self.values):
            if any(
                old == earlier and isinstance(old, str) == isinstance(earlier, str)
                for earlier, _ in self.values[:place]
            ):
                message = f"an old value stands once, found {old!r:.60} again"
                raise ValueError(message)
        return self


class ReplaceValues(RowStep):
    """A value that equals an old value becomes the new one that stands beside it, all at once, so that no new value is
    replaced again; other values stay as they are. Missing stays missing, NaN too.

    Numbers are equal as real numbers: 0 is −0.0 too, and 0.1 is no float32. The result has the input's type, in which a
    new float32 is the nearest.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["replace_values"]
    params: ReplaceValuesParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A scalar in, the same type out."""
        found = types[0]
        for old, new in self.params.values:
            if problem := literal_misfit(found, old) or value_misfit(found, new):
                message = f"takes values of the column's type: it {problem}"
                raise ValueError(message)
        return types

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A look-up for the whole batch, then a choice."""
        name = self.inputs[0]
        kind, column = frame.kind(name), frame[name]
        found = positions(frame, name, [old for old, _ in self.params.values])
        hit = found >= 0
        if kind in {"float32", "float64"}:
            new = np.array([new for _, new in self.params.values], dtype=kind)
            return (np.where(hit, new[found], frame.float64(name).astype(kind, copy=False)),)
        if not hit.any():
            return (column,)
        values = pa.concat_arrays([pa.repeat(scalar_of(kind, new), 1) for _, new in self.params.values])
        return (kernels.if_else(pa.array(hit), values.take(pa.array(found, mask=~hit)), frame.arrow(name)),)


class NullIfParams(Params):
    """Which values stand for a missing one."""

    values: tuple[Literal_, ...] = Field(min_length=1, description="Values of the column's type.")


class NullIf(RowStep):
    """A value that equals one of `values` becomes missing; others stay as they are.

    Numbers are equal as real numbers: 0 is −0.0 too, and 0.1 is no float32. The result has the input's type.
    """

    op: Literal["nullif"]
    params: NullIfParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A scalar in, the same type out."""
        for value in self.params.values:
            if problem := literal_misfit(types[0], value):
                message = f"takes values of the column's type: it {problem}"
                raise ValueError(message)
        return types

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A look-up for the whole batch, then a choice."""
        name = self.inputs[0]
        hit, kind = positions(frame, name, self.params.values) >= 0, frame.kind(name)
        if kind in {"float32", "float64"}:
            values = frame.float64(name).astype(kind, copy=False)
            return (np.where(hit, values.dtype.type(np.nan), values),)
        if not hit.any():
            return (frame[name],)
        column = frame.arrow(name)
        return (kernels.if_else(pa.array(hit), pa.scalar(None, column.type), column),)


MissingStep: TypeAlias = Impute | MissingFlag | NullIf | ReplaceValues
