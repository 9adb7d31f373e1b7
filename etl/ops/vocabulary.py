"""The categories of a column, as several ops learn them, and the rows that have none of these."""

from __future__ import annotations

import copy
import functools
import itertools
import math
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, Self, TypeAlias, TypeVar

from pydantic import Field, NonNegativeInt, model_validator

from etl.ops.base import Accumulator, AsNumber, State
from etl.ops.codes import TextCodes
from etl.partials.counts import Counts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from etl.frame import Frame, RejectionCode

__all__ = [
    "MOST_CATEGORIES",
    "Gap",
    "Instead",
    "TextCounter",
    "VocabularyAccumulator",
    "VocabularyState",
    "need_kept",
    "need_rows",
]

StateT = TypeVar("StateT", bound=State)

MOST_CATEGORIES = 10_000_000
"""Categories that a state may have."""

Instead: TypeAlias = Literal["as_missing", "reject"] | AsNumber
"""What a row gets that has no category, or none that is known: nothing, a place in quarantine, or a number."""


class VocabularyState(State):
    """The categories of a column, most frequent first, ties by UTF-8 bytes."""

    vocab: tuple[str, ...] = Field(min_length=1, description="The categories; their order is the order of codes.")
    counts: tuple[NonNegativeInt, ...] = Field(
        description="Rows of each category at fit; 0 of all where that is not known, and then any order will do."
    )

    @model_validator(mode="after")
    def _entries_match(self) -> Self:
        if len(self.vocab) != len(self.counts) or len(set(self.vocab)) != len(self.vocab):
            message = "vocab and counts have equal length, and no category stands twice"
            raise ValueError(message)
        if any(self.counts):
            _need_ranked(self.vocab, self.counts)
        return self

    @functools.cached_property
    def codes(self) -> TextCodes:
        """The look-up, made once."""
        return TextCodes(self.vocab)


def _need_ranked(vocab: tuple[str, ...], counts: tuple[int, ...]) -> None:
    """Refuse categories that are not in the order that a fit gives them, or of which no row was.

    Raises:
        ValueError: with the first that is out of place.
    """
    if 0 in counts:
        message = f"counts are of rows that there were, 1 or more; number {counts.index(0)}, from 0, is 0"
        raise ValueError(message)
    for place, ((before, more), (text, count)) in enumerate(itertools.pairwise(zip(vocab, counts, strict=True)), 1):
        if count > more or (count == more and text < before):
            message = f"categories stand by falling counts, equal ones by UTF-8 bytes; number {place}, from 0, does not"
            raise ValueError(message)


def need_rows(counts: tuple[int, ...], n: int) -> None:
    """Refuse more rows of the categories than there were.

    Raises:
        ValueError: with both numbers.
    """
    if sum(counts) > n:
        message = f"counts add up to {sum(counts)}, more than the n = {n} rows there were"
        raise ValueError(message)


def need_kept(state: VocabularyState | None, most: tuple[str, int], min_count: int = 1) -> None:
    """Refuse a state that has what the params would not have kept; `most` is the parameter that limits it, by name.

    Raises:
        ValueError: with the parameter.
    """
    if state is None:
        return
    name, limit = most
    if len(state.vocab) > limit:
        message = f"state has {len(state.vocab)} entries, and {name} keeps {limit}"
        raise ValueError(message)
    if 0 < state.counts[-1] < min_count:
        message = f"state has an entry of count {state.counts[-1]}, and min_count is {min_count}"
        raise ValueError(message)


class TextCounter(Accumulator[StateT], Generic[StateT]):
    """Rows of each text of a column; addition, so the order of merging does not matter."""

    def __init__(self, column: str) -> None:
        """Start empty for one column."""
        self.column = column
        self.counts = Counts()

    def fresh(self) -> Self:
        """An empty one that learns the same."""
        other = copy.copy(self)
        other.counts = self.counts.fresh()
        return other

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        self.counts.update_texts(frame.arrow(self.column))

    def merge(self, later: Self) -> None:
        """Take in later rows."""
        self.counts.merge(later.counts)


class VocabularyAccumulator(TextCounter[VocabularyState]):
    """The categories of a column of texts that have rows enough."""

    def __init__(self, column: str, min_count: int, max_categories: int, *, min_share: float = 0.0) -> None:
        """Start empty for one column; `min_share` is of the rows that have a category."""
        super().__init__(column)
        self.min_count = min_count
        self.max_categories = max_categories
        self.min_share = min_share

    def finish(self) -> VocabularyState:
        """Most frequent first, ties by UTF-8 bytes."""
        ranked, n = self.counts.ordered(), self.counts.n
        # By the quotient: its rounding is the same everywhere.
        kept = [pair for pair in ranked if pair[1] >= self.min_count and pair[1] / n >= self.min_share]
        kept = kept[: self.max_categories]
        if not kept:
            share = f" and a share of {self.min_share:g}" if self.min_share else ""
            message = f"column {self.column!r} has no category with {self.min_count} rows{share} or more"
            raise ValueError(message)
        return VocabularyState(vocab=tuple(text for text, _ in kept), counts=tuple(count for _, count in kept))


class Gap(NamedTuple):
    """Rows for which an op knows no category."""

    rows: npt.NDArray[np.bool_]
    """Which they are; shape (rows,)."""
    column: str
    """The column that was looked up."""
    pointer: str
    """The parameter that says what they get."""
    code: RejectionCode
    """Why they are rejected, if they are."""
    reason: str
    """What is wrong, to be put behind the column's name."""

    @classmethod
    def unknown(cls, rows: npt.NDArray[np.bool_], column: str, pointer: str) -> Gap:
        """Rows whose category was not learned; `pointer` is the step's."""
        reason = "is a category that was not seen at fit"
        return cls(rows, column, f"{pointer}/params/unknown", "UNKNOWN_CATEGORY", reason)

    @classmethod
    def missing(cls, rows: npt.NDArray[np.bool_], column: str, pointer: str) -> Gap:
        """Rows without a category; `pointer` is the step's."""
        return cls(rows, column, f"{pointer}/params/missing", "MISSING", "has no value")

    def reject(self, frame: Frame) -> None:
        """Send the rows to quarantine."""
        message = f"{self.column} {self.reason}"
        frame.reject(self.rows, code=self.code, pointer=self.pointer, column=self.column, message=message)

    def settle(self, values: npt.NDArray[np.float64], instead: Instead | float, frame: Frame) -> None:
        """Give the rows what they get instead of a value, NaN being missing; rejected ones get it too."""
        if instead == "reject":
            self.reject(frame)
        if isinstance(instead, AsNumber):
            instead = instead.as_value
        values[self.rows] = instead if isinstance(instead, float) else math.nan
