"""Ops that bring numbers to a common scale."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from etl.ops.base import AsNumber, FittedStep, Params, State
from etl.ops.numbers import (
    ColumnAccumulator,
    ElementStep,
    ExtentAccumulator,
    NumberStep,
    QuantilesAccumulator,
    RowCount,
    distance,
    need_values,
)
from etl.partials import Extent, Moments

if TYPE_CHECKING:
    from etl.frame import Column, Frame
    from etl.partials import Quantiles
    from etl.types import ColumnType

__all__ = [
    "Clip",
    "ClipParams",
    "ClipState",
    "MaxAbs",
    "MaxAbsState",
    "MinMax",
    "MinMaxParams",
    "MinMaxState",
    "RobustScale",
    "RobustScaleParams",
    "RobustScaleState",
    "ScalingStep",
    "Standardize",
    "StandardizeState",
]

Probability = Annotated[FiniteFloat, Field(ge=0, le=1)]
"""Share of the rows, from 0 to 1."""


class ClipParams(Params):
    """Bounds, at least one: each is fixed, or a quantile that is learned."""

    lower: FiniteFloat | None = Field(default=None, description="Smallest value that is kept.")
    upper: FiniteFloat | None = Field(default=None, description="Largest value that is kept.")
    lower_quantile: Probability | None = Field(
        default=None, description="Instead of `lower`: the quantile at fit, as a share from 0 to 1."
    )
    upper_quantile: Probability | None = Field(
        default=None, description="Instead of `upper`: the quantile at fit, as a share from 0 to 1."
    )

    @model_validator(mode="after")
    def _is_an_interval(self) -> ClipParams:
        bounds = (self.lower, self.upper, self.lower_quantile, self.upper_quantile)
        if all(bound is None for bound in bounds):
            message = "fixed or as a quantile, give lower, upper or both"
            raise ValueError(message)
        for side, fixed, quantile in zip(("lower", "upper"), bounds[:2], bounds[2:], strict=True):
            if fixed is not None and quantile is not None:
                message = f"give {side} or {side}_quantile, not both"
                raise ValueError(message)
        for low, high, suffix in ((*bounds[:2], ""), (*bounds[2:], "_quantile")):
            if low is not None and high is not None and low > high:
                message = f"lower{suffix} {low!r} is above upper{suffix} {high!r}"
                raise ValueError(message)
        return self

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Quantiles that are learned, the lower one first."""
        return tuple(share for share in (self.lower_quantile, self.upper_quantile) if share is not None)


class ClipState(State):
    """The bounds that were learned."""

    lower: FiniteFloat | None = Field(default=None, description="With `lower_quantile`: the quantile.")
    upper: FiniteFloat | None = Field(default=None, description="With `upper_quantile`: the quantile.")
    n: RowCount = None


class Clip(ElementStep, FittedStep[ClipState]):
    """A value below the lower bound becomes it, one above the upper bound becomes that, ±inf too. Missing stays so, and
    −0.0 is not below 0.0 and stays. A bound by quantile p is the least value with at least the share p of the n rows
    that have a value at or below it (`inverted_cdf`): number ⌈n·p⌉ in ascending order, the first for p = 0, in exact
    arithmetic with p as the decimal that was written. With fixed bounds, a vector may be the input: each element is
    clipped, and rounded once to float32.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["clip"]
    params: ClipParams
    state: ClipState | None = Field(default=None, description="Bounds by quantile; absent in a recipe.")

    @model_validator(mode="after")
    def _state_has_what_is_learned(self) -> Clip:
        if self.state is None:
            return self
        for side in ("lower", "upper"):
            is_learned = getattr(self.params, f"{side}_quantile") is not None
            if is_learned != (getattr(self.state, side) is not None):
                message = f"state has `{side}` if and only if params have `{side}_quantile`"
                raise ValueError(message)
        lower, upper = self.bounds
        if lower is not None and upper is not None and lower > upper:
            message = f"lower bound {lower!r} is above upper bound {upper!r}"
            raise ValueError(message)
        return self

    @property
    def is_fitted(self) -> bool:
        """Fixed bounds need no data."""
        return not self.params.probabilities or self.state is not None

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Lower and upper bound, fixed or learned."""
        if not self.params.probabilities:
            return self.params.lower, self.params.upper
        lower = self.params.lower if self.params.lower_quantile is None else self.learned.lower
        upper = self.params.upper if self.params.upper_quantile is None else self.learned.upper
        return lower, upper

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """A number in, float64 out; with fixed bounds, a vector in, one of floats and of equal width out."""
        if types[0].kind == "vector" and self.params.probabilities:
            message = f"takes a vector with fixed bounds, not with those by quantile, found {types[0]}"
            raise ValueError(message)
        return super().infer(types)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By comparison: numpy's clip may turn −0.0 into 0.0 or not, by the length of the batch."""
        values = frame.float64(self.inputs[0]).copy()
        lower, upper = self.bounds
        if lower is not None:
            values[values < lower] = lower
        if upper is not None:
            values[values > upper] = upper
        return (self._column(frame, values),)

    def accumulator(self) -> ClipAccumulator:
        """The quantiles that are bounds."""
        return ClipAccumulator(self.inputs[0], self.params)


class ClipAccumulator(QuantilesAccumulator[ClipState]):
    """Bounds by quantile."""

    def __init__(self, column: str, params: ClipParams) -> None:
        """Start empty for one column."""
        super().__init__(column, params.probabilities)
        self.learns_lower = params.lower_quantile is not None
        self.learns_upper = params.upper_quantile is not None
        self.lower = params.lower
        self.upper = params.upper

    def _state(self) -> ClipState:
        quantiles = self._quantiles()
        lower = quantiles[0] if self.learns_lower else self.lower
        upper = quantiles[-1] if self.learns_upper else self.upper
        if lower is not None and upper is not None and lower > upper:
            message = "has a quantile beyond the fixed bound on the other side"
            raise ValueError(message)
        return ClipState(
            lower=lower if self.learns_lower else None,
            upper=upper if self.learns_upper else None,
            n=self.partial.n,
        )


class MaxAbsState(State):
    """How large values were at fit."""

    max_abs: FiniteFloat = Field(ge=0, description="Largest magnitude.")
    n: RowCount = None


class MaxAbs(NumberStep, FittedStep[MaxAbsState]):
    """x ÷ the largest magnitude at fit, in float64. A column that was 0 throughout at fit stays x. Missing stays so,
    ±inf stays ±inf, −0.0 stays −0.0.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["maxabs"]
    state: MaxAbsState | None = Field(default=None, description="Largest magnitude; absent in a recipe.")

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One division."""
        with np.errstate(all="ignore"):
            return (frame.float64(self.inputs[0]) / (self.learned.max_abs or 1.0),)

    def accumulator(self) -> MaxAbsAccumulator:
        """Least and largest value."""
        return MaxAbsAccumulator(self.inputs[0])


class MaxAbsAccumulator(ExtentAccumulator[MaxAbsState]):
    """Largest magnitude."""

    def _state(self) -> MaxAbsState:
        least, largest = self._extent()
        return MaxAbsState(max_abs=max(abs(least), abs(largest)), n=self.partial.n)


class MinMaxParams(Params):
    """Where the column's range at fit comes to lie, as `feature_range` of scikit-learn."""

    lower: FiniteFloat = Field(default=0.0, description="What the least value at fit becomes.")
    upper: FiniteFloat = Field(default=1.0, description="What the largest value at fit becomes.")
    clip: bool = Field(default=False, description="Whether values outside the range at fit become its bounds.")
    nan: Literal["as_missing"] | AsNumber = Field(
        default="as_missing", description="What a missing value becomes; a number is not scaled."
    )

    @model_validator(mode="after")
    def _is_an_interval(self) -> MinMaxParams:
        if self.lower > self.upper:
            message = f"lower {self.lower!r} is above upper {self.upper!r}"
            raise ValueError(message)
        if not math.isfinite(self.upper - self.lower):
            message = "lower and upper are further apart than float64 can say"
            raise ValueError(message)
        return self


class MinMaxState(State):
    """The column's range at fit."""

    min: FiniteFloat = Field(description="Least value.")
    max: FiniteFloat = Field(description="Largest value.")
    n: RowCount = None

    @model_validator(mode="after")
    def _is_an_interval(self) -> MinMaxState:
        if self.min > self.max:
            message = f"min {self.min!r} is above max {self.max!r}"
            raise ValueError(message)
        distance(self.min, self.max)
        need_values(self.n, self.min, self.max)
        return self


class MinMax(NumberStep, FittedStep[MinMaxState]):
    """(x − min) ÷ (max − min) × (upper − lower) + lower, in float64 and in this order. A column that was constant at
    fit is divided by 1, so that its value becomes `lower`. A value outside the range at fit comes to lie outside of
    lower to upper, ±inf stays ±inf (but is missing where lower equals upper); with `clip` both become the bound. −0.0
    is taken as 0.0. Missing goes by `nan`.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["minmax"]
    params: MinMaxParams = MinMaxParams()
    state: MinMaxState | None = Field(default=None, description="Range; absent in a recipe.")

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One temporary, and comparisons as in `clip`."""
        values, params = frame.float64(self.inputs[0]), self.params
        with np.errstate(all="ignore"):
            scaled = values - self.learned.min
            scaled /= (self.learned.max - self.learned.min) or 1.0
            scaled *= params.upper - params.lower
            scaled += params.lower
        if params.clip:
            scaled[scaled < params.lower] = params.lower
            scaled[scaled > params.upper] = params.upper
        if isinstance(params.nan, AsNumber):
            scaled[np.isnan(values)] = params.nan.as_value
        return (scaled,)

    def accumulator(self) -> MinMaxAccumulator:
        """Least and largest value."""
        return MinMaxAccumulator(self.inputs[0])


class MinMaxAccumulator(ExtentAccumulator[MinMaxState]):
    """Range."""

    def _state(self) -> MinMaxState:
        least, largest = self._extent()
        distance(least, largest)
        return MinMaxState(min=least, max=largest, n=self.partial.n)


class RobustScaleParams(Params):
    """Between which quantiles the column's spread is measured."""

    lower_quantile: Probability = Field(default=0.25, description="As a share from 0 to 1.")
    upper_quantile: Probability = Field(default=0.75, description="As a share from 0 to 1; above `lower_quantile`.")

    @model_validator(mode="after")
    def _is_an_interval(self) -> RobustScaleParams:
        if self.lower_quantile >= self.upper_quantile:
            message = f"lower_quantile {self.lower_quantile!r} is not below upper_quantile {self.upper_quantile!r}"
            raise ValueError(message)
        return self


class RobustScaleState(State):
    """Quantiles of the column at fit, over rows that have a value."""

    median: FiniteFloat = Field(description="Quantile 0.5.")
    lower: FiniteFloat = Field(description="Quantile `lower_quantile`.")
    upper: FiniteFloat = Field(description="Quantile `upper_quantile`.")
    n: RowCount = None

    @model_validator(mode="after")
    def _is_an_interval(self) -> RobustScaleState:
        if self.lower > self.upper:
            message = f"lower {self.lower!r} is above upper {self.upper!r}"
            raise ValueError(message)
        distance(self.lower, self.upper)
        need_values(self.n, self.lower, self.median, self.upper)
        return self


class RobustScale(NumberStep, FittedStep[RobustScaleState]):
    """(x − median) ÷ (upper − lower), in float64, where lower and upper are quantiles at fit, by default quartiles.
    Where they were equal, x − median. A quantile p is the least value with at least the share p of the n rows that have
    a value at or below it (`inverted_cdf`), so it is a value of the column: number ⌈n·p⌉ in ascending order, the first
    for p = 0, in exact arithmetic with p as the decimal that was written. Missing stays missing and ±inf stays ±inf, at
    fit too, where it is a value like others. A fit refuses finite values further from the median than float64 can say.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["robust_scale"]
    params: RobustScaleParams = RobustScaleParams()
    state: RobustScaleState | None = Field(default=None, description="Quantiles; absent in a recipe.")

    @model_validator(mode="after")
    def _quantiles_ascend(self) -> RobustScale:
        if self.state is not None:
            quantiles = [
                (self.params.lower_quantile, self.state.lower, "lower"),
                (0.5, self.state.median, "median"),
                (self.params.upper_quantile, self.state.upper, "upper"),
            ]
            for (share, low, one), (other_share, high, other) in itertools.pairwise(sorted(quantiles)):
                if low > high or (share == other_share and low != high):
                    message = f"state has {one} {low!r} at quantile {share!r}, {other} {high!r} at {other_share!r}"
                    raise ValueError(message)
        return self

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One temporary."""
        with np.errstate(all="ignore"):
            centred = frame.float64(self.inputs[0]) - self.learned.median
            centred /= (self.learned.upper - self.learned.lower) or 1.0
        return (centred,)

    def accumulator(self) -> RobustScaleAccumulator:
        """Median and both quantiles."""
        return RobustScaleAccumulator(self.inputs[0], (0.5, self.params.lower_quantile, self.params.upper_quantile))


class RobustScaleAccumulator(QuantilesAccumulator[RobustScaleState]):
    """Median and two more quantiles; and the extent of the finite values, none of which may become infinite."""

    def __init__(self, column: str, probabilities: tuple[float, ...]) -> None:
        """Start empty for one column."""
        super().__init__(column, probabilities)
        self.extent = Extent()

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        super().update(frame)
        values = frame.float64(self.column)
        self.extent.update(values[np.isfinite(values)])

    def merge(self, later: Self) -> None:
        """Take in later rows."""
        super().merge(later)
        self.extent.merge(later.extent)

    def _with(self, partial: Quantiles) -> Self:
        other = super()._with(partial)
        other.extent = Extent()
        return other

    def _state(self) -> RobustScaleState:
        median, lower, upper = self._quantiles()
        distance(lower, upper)
        for value in (self.extent.least, self.extent.largest) if self.extent.n else ():
            distance(median, value)
        return RobustScaleState(median=median, lower=lower, upper=upper, n=self.partial.n)


class StandardizeState(State):
    """Moments of the column at fit, over rows that have a value."""

    mean: FiniteFloat = Field(description="Mean.")
    std: FiniteFloat = Field(ge=0, description="Population standard deviation (ddof 0).")
    ddof: Literal[0] | None = Field(default=None, description="Says again that `std` is the population's.")
    n: RowCount = None

    @model_validator(mode="after")
    def _one_row_has_no_deviation(self) -> StandardizeState:
        need_values(self.n, 0.0, self.std)
        return self


class Standardize(NumberStep, FittedStep[StandardizeState]):
    """(x − mean) ÷ std, in float64. A column that was constant at fit, of std 0, becomes x − mean. Mean and std are
    those of the real numbers, rounded once. Missing stays missing, ±inf stays ±inf; at fit ±inf is refused, and so is a
    value further from the mean than float64 can say.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["standardize"]
    state: StandardizeState | None = Field(default=None, description="Moments; absent in a recipe.")

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """One pass, one temporary."""
        with np.errstate(all="ignore"):
            centred = frame.float64(self.inputs[0]) - self.learned.mean
            centred /= self.learned.std or 1.0
        return (centred,)

    def accumulator(self) -> StandardizeAccumulator:
        """Exact count, sum and sum of squares."""
        return StandardizeAccumulator(self.inputs[0], Moments())


class StandardizeAccumulator(ColumnAccumulator[StandardizeState, Moments]):
    """Mean and standard deviation."""

    def _state(self) -> StandardizeState:
        mean = self.partial.mean()
        for value in (self.partial.least, self.partial.largest):
            distance(mean, value)
        return StandardizeState(mean=mean, std=self.partial.std(), n=self.partial.n)


ScalingStep: TypeAlias = Clip | MaxAbs | MinMax | RobustScale | Standardize
