"""Categories as the mean of a target: what is learned from the answers must not be learned carelessly."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from etl.ops.base import Accumulator, FittedStep, Name, Params, need_string
from etl.ops.encoding import Numbers
from etl.ops.vocabulary import MOST_CATEGORIES, Gap, VocabularyState, need_kept, need_rows
from etl.partials import KeyedSums, Moments
from etl.types import ColumnType

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = ["TargetAccumulator", "TargetEncode", "TargetEncodeParams", "TargetState"]


class TargetEncodeParams(Params):
    """What is averaged, how far it is drawn to the mean of all, and what is said of leakage."""

    target: Name = Field(
        description="The column that holds the answers, a number or bool; only a fit reads it. A row where it is "
        "missing teaches nothing."
    )
    leak: Literal["acknowledged", "out_of_fold"] = Field(
        description="The answers of the rows that teach go into the feature. `out_of_fold` declares that the model is "
        "trained on other rows than these; `acknowledged`, that it may not be, and that its author knows what that "
        "does to it. It changes no value."
    )
    smoothing: FiniteFloat = Field(
        ge=0, description="How many rows of the mean of all are added to each category; 0 is the category's own mean."
    )
    min_count: int = Field(default=1, ge=1, description="Categories with fewer rows at fit are unknown.")
    max_size: int = Field(default=1_000_000, ge=1, le=MOST_CATEGORIES, description="Most frequent categories kept.")
    unknown: Literal["prior", "as_missing", "reject"] = Field(
        default="prior",
        description="What a category gets that was not learned: the mean of all, missing, or the row is quarantined.",
    )
    missing: Literal["prior", "as_missing", "reject"] = Field(
        default="prior", description="What a missing category gets: as for `unknown`."
    )


class TargetState(VocabularyState):
    """Categories, most frequent first, ties by UTF-8 bytes, with what is known of the target in each."""

    counts: tuple[PositiveInt, ...] = Field(description="Rows of each category at fit that had a target.")
    sums: tuple[FiniteFloat, ...] = Field(description="Sum of the target over the rows of each category.")
    prior: FiniteFloat = Field(description="Mean of the target over all rows that had one.")
    n: int = Field(ge=1, description="Rows that had a target.")

    @model_validator(mode="after")
    def _sums_match(self) -> Self:
        if len(self.sums) != len(self.vocab):
            message = "vocab and sums have equal length"
            raise ValueError(message)
        need_rows(self.counts, self.n)
        return self

    def means(self, smoothing: float) -> npt.NDArray[np.float64]:
        """(sum + m · prior) ÷ (count + m) of each category: what Micci-Barreca (2001) calls an empirical Bayes estimate
        with the weight n ÷ (n + m), as scikit-learn's `TargetEncoder` has it.
        """  # noqa: D205  one sentence
        with np.errstate(over="ignore", invalid="ignore"):
            return (np.array(self.sums) + smoothing * self.prior) / (np.array(self.counts) + smoothing)


class TargetEncode(FittedStep[TargetState]):
    """The mean of the target in the category at fit, drawn to the mean of all: (sum + m · prior) ÷ (count + m) in
    float64, where m is `smoothing`, sum and count are of the category's rows, and prior is the mean over all rows that
    had a target. An unknown category and a missing one get prior unless `unknown` and `missing` say otherwise. Empty
    text is a category.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["target_encode"]
    params: TargetEncodeParams
    state: TargetState | None = Field(default=None, description="What is known of the target; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_these_params(self) -> TargetEncode:
        need_kept(self.state, ("max_size", self.params.max_size), self.params.min_count)
        return self

    @property
    def learns_from(self) -> tuple[str, ...]:
        """The target: read by a fit, and by nothing else."""
        return (self.params.target,)

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String in, float64 out."""
        need_string(types)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """A look-up for the whole batch."""
        name, params = self.inputs[0], self.params
        codes, missing = self.learned.codes.codes(frame.arrow(name)), frame.missing(name)
        values = self._numbers.of(codes)
        for gap, instead in (
            (Gap.unknown((codes < 0) & ~missing, name, pointer), params.unknown),
            (Gap.missing(missing, name, pointer), params.missing),
        ):
            gap.settle(values, self.learned.prior if instead == "prior" else instead, frame)
        return (values,)

    @functools.cached_property
    def _numbers(self) -> Numbers:
        return Numbers(self.learned.means(self.params.smoothing))

    def accumulator(self) -> TargetAccumulator:
        """Exact sums by category, and over all rows."""
        return TargetAccumulator(self.inputs[0], self.params)


class TargetAccumulator(Accumulator[TargetState]):
    """Rows and exact sum of the target by category, and over all rows."""

    def __init__(self, column: str, params: TargetEncodeParams) -> None:
        """Start empty for one column of categories and its target."""
        self.column = column
        self.target = params.target
        self.smoothing = params.smoothing
        self.min_count = params.min_count
        self.max_size = params.max_size
        self.sums = KeyedSums()
        self.all = Moments()

    def fresh(self) -> Self:
        """An empty one that learns the same."""
        other = copy.copy(self)
        other.sums, other.all = self.sums.fresh(), self.all.fresh()
        return other

    def update(self, frame: Frame) -> None:
        """Take in one batch; a row without a target is none."""
        values, texts = frame.float64(self.target), frame.arrow(self.column)
        there = ~np.isnan(values)
        self.all.update(values[there])
        there &= ~frame.missing(self.column)
        self.sums.update(texts.filter(pa.array(there)), values[there])

    def merge(self, later: Self) -> None:
        """Take in later rows."""
        self.sums.merge(later.sums)
        self.all.merge(later.all)

    def finish(self) -> TargetState:
        """Most frequent first, ties by UTF-8 bytes."""
        try:
            prior, totals = self.all.mean(), self.sums.totals()
        except ValueError as error:
            message = f"column {self.target!r} {error}"
            raise ValueError(message) from None
        # Sorting is stable, and the totals come by UTF-8 bytes.
        ranked = sorted(totals.items(), key=lambda entry: -entry[1][0])
        kept = [(text, *total) for text, total in ranked if total[0] >= self.min_count][: self.max_size]
        if not kept:
            message = f"column {self.column!r} has no category with {self.min_count} rows or more that have a target"
            raise ValueError(message)
        vocab, counts, sums = zip(*kept, strict=True)
        state = TargetState(vocab=vocab, counts=counts, sums=sums, prior=prior, n=self.all.n)
        if not np.isfinite(state.means(self.smoothing)).all():
            message = f"column {self.target!r} has sums beyond float64; clip or scale it first"
            raise ValueError(message)
        return state
