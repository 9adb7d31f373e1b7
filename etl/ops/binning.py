"""Ops that replace a number by where it lies among others: the number of its bin, or its quantile."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, TypeAlias

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from etl.ops.arithmetic import horner
from etl.ops.base import Accumulator, FittedStep, Params, State
from etl.ops.numbers import ExtentAccumulator, NumberStep, QuantilesAccumulator, RowCount, distance, need_values

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = [
    "BinningStep",
    "Bucketize",
    "BucketizeParams",
    "BucketizeState",
    "QuantileMap",
    "QuantileMapParams",
    "QuantileMapState",
]

Splits = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=10_000)]


def _need_ascending(splits: tuple[float, ...]) -> None:
    for before, after in itertools.pairwise(splits):
        if before >= after:
            message = f"splits ascend, each above the one before it; {after!r} follows {before!r}"
            raise ValueError(message)


class BucketizeParams(Params):
    """Where the bins meet, and what is done with what is in none."""

    method: Literal["quantile", "uniform", "fixed"] = Field(
        description="Bins of equally many rows, or of equal width, at fit; or by `splits`."
    )
    k: int | None = Field(default=None, ge=2, le=10_000, description="With quantile and uniform: how many bins.")
    splits: Splits | None = Field(default=None, description="With fixed: where bins meet, in ascending order.")
    closed: Literal["left", "right"] = Field(
        default="left", description="Whether a value that equals a split is in the bin above it, or in that below it."
    )
    missing: Literal["as_missing"] | Annotated[int, Field(ge=-(2**53), le=2**53)] = Field(
        default="as_missing", description="The number of the bin of missing values, such as -1; or they stay missing."
    )

    @model_validator(mode="after")
    def _goes_with_the_method(self) -> BucketizeParams:
        is_fixed = self.method == "fixed"
        if is_fixed != (self.splits is not None) or is_fixed != (self.k is None):
            message = "`splits` goes with method fixed, and `k` with quantile and uniform"
            raise ValueError(message)
        if self.splits is not None:
            _need_ascending(self.splits)
        return self


class BucketizeState(State):
    """Where the bins meet."""

    splits: Splits = Field(description="In ascending order.")
    n: RowCount = None

    @model_validator(mode="after")
    def _ascends(self) -> BucketizeState:
        _need_ascending(self.splits)
        need_values(self.n, *self.splits)
        return self


class Bucketize(NumberStep, FittedStep[BucketizeState]):
    """The number of the bin that x lies in, as float64: how many splits are at or below x (closed left), or below x
    (closed right). So bins are counted from 0; −inf is in the first and inf in the last; −0.0 equals 0.0. Missing goes
    by `missing`.

    Splits by quantile are the least values with at least 1/k, 2/k, … of the n rows that have a value at or below them
    (`inverted_cdf`): split i is number ⌈n·i ÷ k⌉ in ascending order, in exact arithmetic. Splits of uniform width are
    least + i × ((largest − least) ÷ k), in float64. Of equal splits one is kept, so that there may be fewer than k
    bins; they are numbered without gaps.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["bucketize"]
    params: BucketizeParams
    state: BucketizeState | None = Field(default=None, description="Splits; absent in a recipe and with fixed.")

    @model_validator(mode="after")
    def _state_fits(self) -> Bucketize:
        if self.state is not None and len(self.state.splits) >= (self.params.k or 0):
            message = "state has at most k - 1 splits, and none with method fixed"
            raise ValueError(message)
        return self

    @property
    def is_fitted(self) -> bool:
        """Fixed splits need no data."""
        return self.params.method == "fixed" or self.state is not None

    @property
    def splits(self) -> tuple[float, ...]:
        """Where bins meet, given or learned."""
        return self.learned.splits if self.params.splits is None else self.params.splits

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By comparison with each of few splits, which is many times faster than binary search; else by that."""
        values = frame.float64(self.inputs[0])
        if len(self.splits) <= _COMPARED:
            below = np.less_equal if self.params.closed == "left" else np.less
            counts = np.zeros(values.shape, dtype=np.uint8)
            for split in self.splits:
                counts += below(split, values)
            bins = counts.astype(np.float64)
        else:
            side: Literal["left", "right"] = "right" if self.params.closed == "left" else "left"
            bins = np.searchsorted(np.array(self.splits), values, side=side).astype(np.float64)
        bins[np.isnan(values)] = np.nan if self.params.missing == "as_missing" else self.params.missing
        return (bins,)

    def accumulator(self) -> Accumulator[BucketizeState]:
        """Quantiles, or least and largest value."""
        k = self.params.k or 0
        if self.params.method == "uniform":
            return UniformSplits(self.inputs[0], k)
        return QuantileSplits(self.inputs[0], tuple(Fraction(i, k) for i in range(1, k)))


_COMPARED = 64
"""Splits up to which comparing is faster (measured: 1 instead of 30 ns a row with 4 splits)."""


class QuantileSplits(QuantilesAccumulator[BucketizeState]):
    """Splits between bins of equally many rows."""

    def _state(self) -> BucketizeState:
        return BucketizeState(splits=tuple(sorted(set(self._quantiles()))), n=self.partial.n)


class UniformSplits(ExtentAccumulator[BucketizeState]):
    """Splits between bins of equal width."""

    def __init__(self, column: str, k: int) -> None:
        """Start empty for one column and k bins."""
        super().__init__(column)
        self.k = k

    def _state(self) -> BucketizeState:
        least, largest = self._extent()
        width = distance(least, largest) / self.k
        return BucketizeState(splits=tuple(sorted({least + i * width for i in range(1, self.k)})), n=self.partial.n)


class QuantileMapParams(Params):
    """How fine the map is, and to what it goes."""

    k: int = Field(default=1000, ge=2, le=10_000, description="How many quantiles are learned, least and largest too.")
    to: Literal["uniform", "normal"] = Field(
        default="uniform", description="Evenly from 0 to 1, or the standard normal distribution."
    )


class QuantileMapState(State):
    """The column's distribution at fit."""

    quantiles: Annotated[tuple[FiniteFloat, ...], Field(min_length=2, max_length=10_000)] = Field(
        description="Quantiles 0, 1/(k - 1), 2/(k - 1), …, 1; none is below the one before it."
    )
    n: RowCount = None

    @model_validator(mode="after")
    def _ascends(self) -> QuantileMapState:
        if any(before > after for before, after in itertools.pairwise(self.quantiles)):
            message = "quantiles ascend, none is below the one before it"
            raise ValueError(message)
        distance(self.quantiles[0], self.quantiles[-1])
        need_values(self.n, *self.quantiles)
        return self


class QuantileMap(NumberStep, FittedStep[QuantileMapState]):
    """Where x lies in the column's distribution at fit, from 0.0 to 1.0 in float64: 0.0 at the least value at fit and
    below it, 1.0 at the largest and above it, ±inf too, and between by the k quantiles, of which number i, from 0,
    stands for i ÷ (k − 1). A value that several quantiles have stands for the mean of the first and the last of them.
    Between two different ones x is (x − q) ÷ (q′ − q) × (b − a) + a, but not more than b, where the last quantile q
    below x stands for a, and the first one q′ above it for b. A column that was constant at fit becomes 0.0, and 1.0
    above. Missing stays missing, −0.0 equals 0.0.

    To normal it is the standard normal quantile of that number, by algorithm AS 241, kept from 1e-7 to 1 − 1e-7: so it
    is ±5.199 at the ends. This is transcendental, to uniform is not.

    Quantile i is the least value with at least the share i ÷ (k − 1) of the n rows that have a value at or below it
    (`inverted_cdf`): number ⌈n·i ÷ (k − 1)⌉ in ascending order, in exact arithmetic. The map is that of scikit-learn's
    QuantileTransformer; its quantiles lie between values of the column, and may be given as state.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["quantile_map"]
    params: QuantileMapParams = QuantileMapParams()
    state: QuantileMapState | None = Field(default=None, description="Quantiles; absent in a recipe.")

    @model_validator(mode="after")
    def _state_fits(self) -> QuantileMap:
        if self.state is not None and len(self.state.quantiles) != self.params.k:
            message = f"state has k = {self.params.k} quantiles, found {len(self.state.quantiles)}"
            raise ValueError(message)
        return self

    @property
    def transcendental(self) -> bool:  # type: ignore[override]
        """Only to normal, where a logarithm is taken."""
        return self.params.to == "normal"

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """By binary search among the different quantiles, not by numpy's interp, which compilers may fuse."""
        shares = _Grid.of(self.learned.quantiles).shares(frame.float64(self.inputs[0]))
        return (_normal_quantiles(shares) if self.params.to == "normal" else shares,)

    def accumulator(self) -> QuantileGrid:
        """All quantiles of the grid."""
        return QuantileGrid(self.inputs[0], tuple(Fraction(i, self.params.k - 1) for i in range(self.params.k)))


class QuantileGrid(QuantilesAccumulator[QuantileMapState]):
    """Quantiles at equal steps."""

    def _state(self) -> QuantileMapState:
        quantiles = self._quantiles()
        distance(quantiles[0], quantiles[-1])
        return QuantileMapState(quantiles=tuple(quantiles), n=self.partial.n)


class _Grid(NamedTuple):
    """The different quantiles, and what each stands for; one element each."""

    values: npt.NDArray[np.float64]
    level: npt.NDArray[np.float64]
    """Share of the value itself."""
    above: npt.NDArray[np.float64]
    """Share just above it."""
    gap: npt.NDArray[np.float64]
    """To the next value; 1 behind the last."""
    below_next: npt.NDArray[np.float64]
    """Share just below the next value; 1 behind the last."""

    @classmethod
    def of(cls, quantiles: tuple[float, ...]) -> _Grid:
        values, first, counts = np.unique(np.array(quantiles), return_index=True, return_counts=True)
        below, above = first / (len(quantiles) - 1), (first + counts - 1) / (len(quantiles) - 1)
        level = (below + above) / 2
        level[-1], level[0] = 1.0, 0.0
        return cls(values, level, above, np.append(np.diff(values), 1.0), np.append(below[1:], 1.0))

    def shares(self, column: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        # NaN is sorted behind all values, and stays NaN.
        bounded = np.clip(column, self.values[0], self.values[-1])
        at = np.maximum(np.searchsorted(self.values, bounded, side="right") - 1, 0)
        start = self.values[at]
        between = (bounded - start) / self.gap[at] * (self.below_next - self.above)[at] + self.above[at]
        # Rounded up, a share could be one unit in the last place above that of the next value.
        shares = np.where(bounded == start, self.level[at], np.minimum(between, self.below_next[at]))
        shares[column > self.values[-1]] = 1.0
        return shares


_LEAST_SHARE = 1e-7

_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
"""Numerator and denominator of a rational function, the constant first, as published."""


def _normal_quantiles(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """M. J. Wichura, Algorithm AS 241: The percentage points of the normal distribution (1988), PPND16."""
    away = shares - 0.5
    squared = 0.180625 - away * away
    result = away * horner(_CENTRE[0], squared) / horner(_CENTRE[1], squared)
    tails = np.flatnonzero(np.abs(away) > 0.425)  # noqa: PLR2004  of the algorithm
    rest = np.maximum(np.minimum(shares[tails], 1 - shares[tails]), _LEAST_SHARE)
    root = np.sqrt(-np.log(rest)) - 1.6
    result[tails] = np.copysign(horner(_TAIL[0], root) / horner(_TAIL[1], root), away[tails])
    return result


BinningStep: TypeAlias = Bucketize | QuantileMap
