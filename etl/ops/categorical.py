"""Categories as ids, and as vectors of zeros and ones."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from etl.ops.base import FittedStep, Params, need_list, need_string
from etl.ops.vocabulary import MOST_CATEGORIES, Gap, VocabularyAccumulator, VocabularyState, need_kept
from etl.types import ColumnType, kernels
from etl.xxh64 import buckets_of, hash_texts

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = [
    "CategoricalStep",
    "IndexLayout",
    "MultiHot",
    "MultiHotParams",
    "OneHot",
    "OneHotParams",
    "StringIndex",
    "StringIndexParams",
    "VocabularyAccumulator",
    "VocabularyState",
]


class OneHotParams(Params):
    """What happens to categories that were not seen at fit, and how many are kept."""

    unknown: Literal["zeros", "bucket", "reject"] = Field(
        default="zeros", description="All zeros, a column of its own after the vocabulary, or the row is quarantined."
    )
    missing: Literal["zeros", "bucket", "reject"] = Field(
        default="zeros", description="All zeros, a column of its own behind all others, or the row is quarantined."
    )
    min_count: int = Field(default=1, ge=1, description="Categories with fewer rows at fit are unknown.")
    max_categories: int = Field(default=1000, ge=1, le=1000, description="Most frequent categories kept.")

    @property
    def buckets(self) -> int:
        """Columns that stand for no category."""
        return (self.unknown == "bucket") + (self.missing == "bucket")


class OneHot(FittedStep[VocabularyState]):
    """A vector of float32 zeros with a 1 at the category: one column for each category of the vocabulary, in its order.

    With `unknown: bucket` a column follows that is 1 where the category was not learned, and with `missing: bucket` a
    last one that is 1 where there is none; without, such a row is all zeros, or rejected. Empty text is a category.
    """

    op: Literal["one_hot"]
    params: OneHotParams = OneHotParams()
    state: VocabularyState | None = Field(default=None, description="Categories; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_these_params(self) -> OneHot:
        need_kept(self.state, ("max_categories", self.params.max_categories), self.params.min_count)
        return self

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String in, vector out. Its width is known behind the fit."""
        need_string(types)
        return (_vector(self.state, self.params),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """A look-up for the whole batch, then a copy of each row's line of the table."""
        name, known = self.inputs[0], self.learned
        codes, missing = known.codes.codes(frame.arrow(name)), frame.missing(name)
        unknown = (codes < 0) & ~missing
        if self.params.unknown == "reject":
            Gap.unknown(unknown, name, pointer).reject(frame)
        if self.params.missing == "reject":
            Gap.missing(missing, name, pointer).reject(frame)
        return (self._lines.of(np.where(unknown, np.int32(len(known.vocab)), codes)),)

    @functools.cached_property
    def _lines(self) -> _Lines:
        return _Lines(len(self.learned.vocab), self.params)

    def element_names(self, output: str) -> tuple[str, ...] | None:  # noqa: ARG002  there is one output
        """Categories, and buckets in brackets."""
        return _element_names(self.state, self.params)

    def accumulator(self) -> VocabularyAccumulator:
        """Counts by category."""
        return VocabularyAccumulator(self.inputs[0], self.params.min_count, self.params.max_categories)


class _Lines:
    """One line a category, then that of unknown ones, and last, where −1 leads, that of missing ones.

    An object of its own, because an array that is kept in a step makes steps that cannot be compared.
    """

    def __init__(self, categories: int, params: OneHotParams) -> None:
        self._table = np.zeros((categories + 2, categories + params.buckets), dtype=np.float32)
        np.fill_diagonal(self._table[:categories], 1.0)
        if params.unknown == "bucket":
            self._table[categories, categories] = 1.0
        if params.missing == "bucket":
            self._table[-1, -1] = 1.0

    def of(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """The line of each row."""
        return self._table[codes]


class MultiHotParams(OneHotParams):
    """What is told of each category, what happens to those that were not seen at fit, and how many are kept."""

    values: Literal["presence", "count"] = Field(
        default="presence", description="1 where the list has the category, or how many times it has it."
    )
    unknown: Literal["zeros", "bucket", "reject"] = Field(
        default="zeros",
        description="Elements that are not counted, counted in a column of their own after the vocabulary, or the row "
        "is quarantined.",
    )
    min_count: int = Field(default=1, ge=1, description="Categories that fewer lists have at fit are unknown.")


class MultiHot(FittedStep[VocabularyState]):
    """A vector of float32: for each category of the vocabulary, in its order, 1 where the list has it and 0 where not,
    or with `values: count` how many times it has it.

    With `unknown: bucket` a column follows for elements that were not learned, and with `missing: bucket` a last one
    that is 1 where there is no list. A list without elements is all zeros; an element that is null is none. Empty text
    is a category. What is learned is how many lists have each category.
    """  # noqa: D205  the first sentence is long

    op: Literal["multi_hot"]
    params: MultiHotParams = MultiHotParams()
    state: VocabularyState | None = Field(default=None, description="Categories; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_these_params(self) -> MultiHot:
        need_kept(self.state, ("max_categories", self.params.max_categories), self.params.min_count)
        return self

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Lists of strings in, vector out. Its width is known behind the fit."""
        need_list(types, "string")
        return (_vector(self.state, self.params),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """A look-up for all elements of the batch, each of which then marks its place."""
        name, known = self.inputs[0], self.learned
        missing = frame.missing(name)
        elements, rows = _elements(frame.arrow(name))
        codes = known.codes.codes(elements).astype(np.int64)
        is_unknown = codes < 0
        vectors = np.zeros((frame.rows, len(known.vocab) + self.params.buckets), dtype=np.float32)
        if self.params.unknown == "bucket":
            codes[is_unknown] = len(known.vocab)
        elif is_unknown.any():
            if self.params.unknown == "reject":
                unknown = np.zeros(frame.rows, dtype=bool)
                unknown[rows[is_unknown]] = True
                Gap.unknown(unknown, name, pointer)._replace(reason=_HAS_UNKNOWN).reject(frame)
            codes, rows = codes[~is_unknown], rows[~is_unknown]
        if self.params.values == "count":
            np.add.at(vectors, (rows, codes), np.float32(1.0))
        else:
            vectors[rows, codes] = 1.0
        if self.params.missing == "bucket":
            vectors[missing, -1] = 1.0
        elif self.params.missing == "reject":
            Gap.missing(missing, name, pointer).reject(frame)
        return (vectors,)

    def element_names(self, output: str) -> tuple[str, ...] | None:  # noqa: ARG002  there is one output
        """Categories, and buckets in brackets."""
        return _element_names(self.state, self.params)

    def accumulator(self) -> ListAccumulator:
        """Counts by category."""
        return ListAccumulator(self.inputs[0], self.params.min_count, self.params.max_categories)


_HAS_UNKNOWN = "has a category that was not seen at fit"


class ListAccumulator(VocabularyAccumulator):
    """How many lists have each text."""

    def update(self, frame: Frame) -> None:
        """Take in one batch; a list that has a text twice has it once."""
        elements, rows = _elements(frame.arrow(self.column))
        encoded = elements.dictionary_encode()
        pairs = rows * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy()
        _, first = np.unique(pairs, return_index=True)
        self.counts.update_texts(elements.take(pa.array(first)))


def _vector(state: VocabularyState | None, params: OneHotParams) -> ColumnType:
    return ColumnType("vector", len(state.vocab) + params.buckets if state else 0)


def _element_names(state: VocabularyState | None, params: OneHotParams) -> tuple[str, ...] | None:
    if state is None:
        return None
    buckets = {"(unknown)": params.unknown, "(missing)": params.missing}
    return (*state.vocab, *(name for name, treatment in buckets.items() if treatment == "bucket"))


def _elements(column: ArrowArray) -> tuple[ArrowArray, npt.NDArray[np.int64]]:
    """The elements of all lists that are not null, and the row of each."""
    elements = column.flatten()
    lengths = kernels.list_value_length(column).fill_null(0).to_numpy()
    rows = np.repeat(np.arange(len(column)), lengths)
    if elements.null_count:
        is_there = elements.is_valid()
        return elements.filter(is_there), rows[is_there.to_numpy(zero_copy_only=False)]
    return elements, rows


class IndexLayout(Params):
    """Which ids mean what; a spec states it because a model's embedding depends on it."""

    pad: Literal[0] = Field(default=0, description="Id that no row gets: padding.")
    missing: Literal[1] = Field(default=1, description="Id of a missing value.")
    oov_buckets: int = Field(
        default=1, ge=1, le=1_000_000, description="How many ids, from 2, unknown categories share."
    )

    @property
    def unknown(self) -> range:
        """Ids of unknown categories."""
        return range(self.missing + 1, self.first)

    @property
    def first(self) -> int:
        """Id of the first category of the vocabulary."""
        return self.missing + 1 + self.oov_buckets


class StringIndexParams(Params):
    """The layout of ids, and how many categories are kept."""

    layout: IndexLayout = Field(default=IndexLayout(), description="Which ids mean what.")
    min_count: int = Field(default=1, ge=1, description="Categories with fewer rows at fit are unknown.")
    max_size: int = Field(default=1_000_000, ge=1, le=MOST_CATEGORIES, description="Most frequent categories kept.")


class StringIndex(FittedStep[VocabularyState]):
    """An int64 id: 0 is padding and given to no row, 1 a missing value, then come the ids of unknown categories,
    `oov_buckets` of them, then those of the vocabulary in its order. An embedding has 2 + `oov_buckets` + the
    vocabulary's length rows.

    An unknown category has id 2 + pmod(h, `oov_buckets`), where h is the XXH64 with seed 42 of its UTF-8 bytes, read as
    a signed number: Spark's `xxhash64`. Empty text is a category.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["string_index"]
    params: StringIndexParams = StringIndexParams()
    state: VocabularyState | None = Field(default=None, description="Categories; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_these_params(self) -> StringIndex:
        need_kept(self.state, ("max_size", self.params.max_size), self.params.min_count)
        return self

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String in, int64 out."""
        need_string(types)
        return (ColumnType("int64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A look-up for the whole batch; −1 is one below the vocabulary, where the last id of unknown ones is."""
        name, layout = self.inputs[0], self.params.layout
        column, missing = frame.arrow(name), frame.missing(name)
        codes = self.learned.codes.codes(column)
        ids = codes.astype(np.int64) + layout.first
        if layout.oov_buckets > 1:
            unknown = np.flatnonzero(codes < 0)
            hashes = hash_texts(column.take(pa.array(unknown)))
            ids[unknown] = buckets_of(hashes, layout.oov_buckets) + layout.unknown.start
        ids[missing] = layout.missing
        return (ids,)

    def unknown_ids(self, output: str) -> range:  # noqa: ARG002  there is one output
        """Those of unknown categories."""
        return self.params.layout.unknown

    def padding_id(self, output: str) -> int:  # noqa: ARG002  there is one output
        """The layout's; no row has it."""
        return self.params.layout.pad

    def accumulator(self) -> VocabularyAccumulator:
        """Counts by category."""
        return VocabularyAccumulator(self.inputs[0], self.params.min_count, self.params.max_size)


CategoricalStep: TypeAlias = MultiHot | OneHot | StringIndex
