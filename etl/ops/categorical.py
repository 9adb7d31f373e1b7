"""Ops on categories."""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from etl.ops.base import Accumulator, FittedStep, Params, State, need_string
from etl.ops.codes import TextCodes, count_texts
from etl.types import ColumnType

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = [
    "CategoricalStep",
    "IndexLayout",
    "OneHot",
    "OneHotParams",
    "StringIndex",
    "StringIndexParams",
    "VocabularyAccumulator",
    "VocabularyState",
]


class VocabularyState(State):
    """The categories of a column, most frequent first, ties by UTF-8 bytes."""

    vocab: tuple[str, ...] = Field(min_length=1, description="The categories; their order is the order of codes.")
    counts: tuple[int, ...] = Field(description="Rows of each category at fit.")

    @model_validator(mode="after")
    def _entries_match(self) -> VocabularyState:
        if len(self.vocab) != len(self.counts) or len(set(self.vocab)) != len(self.vocab):
            message = "vocab and counts have equal length, and no category stands twice"
            raise ValueError(message)
        return self

    @functools.cached_property
    def codes(self) -> TextCodes:
        """The look-up, made once."""
        return TextCodes(self.vocab)


class OneHotParams(Params):
    """What happens to categories that were not seen at fit, and how many are kept."""

    unknown: Literal["zeros", "bucket", "reject"] = Field(
        default="zeros", description="All zeros, a column of its own after the vocabulary, or the row is quarantined."
    )
    missing: Literal["zeros", "reject"] = Field(default="zeros", description="All zeros, or the row is quarantined.")
    min_count: int = Field(default=1, ge=1, description="Categories with fewer rows at fit are unknown.")
    max_categories: int = Field(default=1000, ge=1, le=1000, description="Most frequent categories kept.")


class OneHot(FittedStep[VocabularyState]):
    """One column of 0/1 for each category in vocabulary order, and one more for unknown ones with `unknown: bucket`."""

    op: Literal["one_hot"]
    params: OneHotParams = OneHotParams()
    state: VocabularyState | None = Field(default=None, description="Categories; absent in a recipe.")

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String in, vector out. A recipe's width is not known before the fit, so it counts as 1."""
        need_string(types)
        width = len(self.state.vocab) if self.state else 1
        return (ColumnType("vector", width + (self.params.unknown == "bucket")),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """A look-up for the whole batch, then a copy of each row's line of the table."""
        name, known = self.inputs[0], self.learned
        codes, missing = known.codes.codes(frame.arrow(name)), frame.missing(name)
        unknown = (codes < 0) & ~missing
        if self.params.unknown == "reject":
            rule, message = f"{pointer}/params/unknown", f"{name} is a category that was not seen at fit"
            frame.reject(unknown, code="UNKNOWN_CATEGORY", pointer=rule, column=name, message=message)
        if self.params.missing == "reject":
            rule, message = f"{pointer}/params/missing", f"{name} has no value"
            frame.reject(missing, code="MISSING", pointer=rule, column=name, message=message)
        return (self._lines.of(np.where(unknown, np.int32(len(known.vocab)), codes)),)

    @functools.cached_property
    def _lines(self) -> _Lines:
        return _Lines(len(self.learned.vocab), with_bucket=self.params.unknown == "bucket")

    def accumulator(self) -> VocabularyAccumulator:
        """Counts by category."""
        return VocabularyAccumulator(self.inputs[0], self.params.min_count, self.params.max_categories)


class _Lines:
    """One line a category, then that of unknown ones, and last, where −1 leads, that of missing ones.

    An object of its own, because an array that is kept in a step makes steps that cannot be compared.
    """

    def __init__(self, categories: int, *, with_bucket: bool) -> None:
        self._table = np.eye(categories + 2, categories + with_bucket, dtype=np.float32)

    def of(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """The line of each row."""
        return self._table[codes]


class IndexLayout(Params):
    """Which ids mean what; a spec states it because a model's embedding depends on it. This release has one layout."""

    pad: Literal[0] = Field(default=0, description="Id that no row gets: padding.")
    missing: Literal[1] = Field(default=1, description="Id of a missing value.")
    oov_buckets: Literal[1] = Field(default=1, description="How many ids, from 2, are for unknown categories.")

    @property
    def first(self) -> int:
        """Id of the first category of the vocabulary."""
        return self.missing + self.oov_buckets + 1


class StringIndexParams(Params):
    """The layout of ids, and how many categories are kept."""

    layout: IndexLayout = Field(default=IndexLayout(), description="Which ids mean what.")
    min_count: int = Field(default=1, ge=1, description="Categories with fewer rows at fit are unknown.")
    max_size: int = Field(default=1_000_000, ge=1, le=10_000_000, description="Most frequent categories kept.")


class StringIndex(FittedStep[VocabularyState]):
    """An int64 id: 0 is padding and given to no row, 1 a missing value, 2 an unknown category, and category k of the
    vocabulary, from 0, is 3 + k; an embedding has 3 + the vocabulary's length rows.
    """  # noqa: D205  the semantics are one sentence

    op: Literal["string_index"]
    params: StringIndexParams = StringIndexParams()
    state: VocabularyState | None = Field(default=None, description="Categories; absent in a recipe.")

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String in, int64 out."""
        need_string(types)
        return (ColumnType("int64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A look-up for the whole batch; −1 is one below the vocabulary, where the unknown ones' only id is."""
        name, layout = self.inputs[0], self.params.layout
        ids = self.learned.codes.codes(frame.arrow(name)).astype(np.int64) + layout.first
        ids[frame.missing(name)] = layout.missing
        return (ids,)

    def accumulator(self) -> VocabularyAccumulator:
        """Counts by category."""
        return VocabularyAccumulator(self.inputs[0], self.params.min_count, self.params.max_size)


class VocabularyAccumulator(Accumulator[VocabularyState]):
    """Counts by category; addition, so the order of merging does not matter."""

    def __init__(self, column: str, min_count: int, max_categories: int) -> None:
        """Start empty for one column."""
        self.column = column
        self.min_count = min_count
        self.max_categories = max_categories
        self.counts: Counter[str] = Counter()

    def fresh(self) -> VocabularyAccumulator:
        """An empty one that learns the same."""
        return VocabularyAccumulator(self.column, self.min_count, self.max_categories)

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        self.counts.update(count_texts(frame.arrow(self.column)))

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


CategoricalStep: TypeAlias = OneHot | StringIndex
