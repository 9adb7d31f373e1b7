"""Ops on categories."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from etl.ops.base import FittedStep, Params, State
from etl.types import ColumnType

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = ["OneHot", "OneHotParams", "VocabularyAccumulator", "VocabularyState"]


class VocabularyState(State):
    """The categories of a column, most frequent first, ties by UTF-8 bytes."""

    vocab: tuple[str, ...] = Field(min_length=1)
    counts: tuple[int, ...] = Field(description="Rows of each category at fit.")

    @model_validator(mode="after")
    def _entries_match(self) -> VocabularyState:
        if len(self.vocab) != len(self.counts) or len(set(self.vocab)) != len(self.vocab):
            message = "vocab and counts have equal length, and no category stands twice"
            raise ValueError(message)
        return self


class OneHotParams(Params):
    """What happens to categories that were not seen at fit, and how many are kept."""

    unknown: Literal["zeros", "bucket", "reject"] = "zeros"
    missing: Literal["zeros", "reject"] = "zeros"
    min_count: int = Field(default=1, ge=1, description="Categories with fewer rows at fit are unknown.")
    max_categories: int = Field(default=1000, ge=1, le=1000, description="Most frequent categories kept.")


class OneHot(FittedStep[VocabularyState]):
    """One column of 0/1 for each category in vocabulary order, and one more for unknown ones with `unknown: bucket`."""

    op: Literal["one_hot"]
    params: OneHotParams = OneHotParams()
    state: VocabularyState | None = None

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String in, vector out. A recipe's width is not known before the fit, so it counts as 1."""
        if types[0].kind != "string":
            message = f"takes string, found {types[0]}; cast it first"
            raise ValueError(message)
        width = len(self.state.vocab) if self.state else 1
        return (ColumnType("vector", width + (self.params.unknown == "bucket")),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """A hash look-up for the whole batch, then one scatter."""
        name = self.inputs[0]
        codes, missing = vocabulary_codes(frame.arrow(name), self.learned.vocab)
        unknown = (codes < 0) & ~missing
        width = len(self.learned.vocab)
        if self.params.unknown == "reject":
            frame.reject(unknown, code="UNKNOWN_CATEGORY", pointer=f"{pointer}/params/unknown", column=name,
                         message=f"{name} is a category that was not seen at fit")
        if self.params.missing == "reject":
            frame.reject(missing, code="MISSING", pointer=f"{pointer}/params/missing", column=name,
                         message=f"{name} has no value")
        if self.params.unknown == "bucket":
            codes = np.where(unknown, width, codes)
            width += 1
        hot = np.zeros((frame.rows, width), dtype=np.float32)
        known = np.flatnonzero(codes >= 0)
        hot[known, codes[known]] = 1.0
        return (hot,)

    def accumulator(self) -> VocabularyAccumulator:
        """Counts by category."""
        return VocabularyAccumulator(self.inputs[0], self.params.min_count, self.params.max_categories)


def vocabulary_codes(
    column: pa.Array, vocab: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Position of each value in the vocabulary, −1 where there is none, and which values are null."""
    codes = pc.index_in(column, value_set=pa.array(vocab, pa.string()))
    missing = pc.is_null(column).to_numpy(zero_copy_only=False)
    return pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int64), missing


class VocabularyAccumulator:
    """Counts by category; addition, so the order of merging does not matter."""

    def __init__(self, column: str, min_count: int, max_categories: int) -> None:
        """Start empty for one column."""
        self.column = column
        self.min_count = min_count
        self.max_categories = max_categories
        self.counts: Counter[str] = Counter()

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        for entry in pc.value_counts(frame.arrow(self.column).drop_null()):
            self.counts[entry["values"].as_py()] += entry["counts"].as_py()

    def merge(self, later: VocabularyAccumulator) -> None:
        """Take in later rows."""
        self.counts.update(later.counts)

    def finish(self) -> VocabularyState:
        """Most frequent first, ties by UTF-8 bytes."""
        kept = [(text, count) for text, count in self.counts.items() if count >= self.min_count]
        kept.sort(key=lambda entry: (-entry[1], entry[0].encode()))
        kept = kept[: self.max_categories]
        if not kept:
            message = f"column {self.column!r} has no category with {self.min_count} rows or more"
            raise ValueError(message)
        return VocabularyState(vocab=tuple(text for text, _ in kept), counts=tuple(count for _, count in kept))
