"""Categories as numbers: by a mapping, by how frequent they are; and rare ones as one."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from etl.ops.base import AsNumber, FittedStep, Params, RowStep, need_string
from etl.ops.codes import IntegerCodes, TextCodes
from etl.ops.time import integers_of
from etl.ops.vocabulary import (
    MOST_CATEGORIES,
    Gap,
    Instead,
    TextCounter,
    VocabularyAccumulator,
    VocabularyState,
    need_kept,
    need_rows,
)
from etl.types import INTEGER_BOUNDS, ColumnType, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = [
    "EncodingStep",
    "FrequencyAccumulator",
    "FrequencyEncode",
    "FrequencyEncodeParams",
    "FrequencyState",
    "Numbers",
    "OrdinalMap",
    "OrdinalMapParams",
    "RareToOther",
    "RareToOtherParams",
]

_WHOLE = re.compile(r"-?[1-9][0-9]{0,18}|0")


class Numbers:
    """The number of each code.

    An object of its own, because an array that is kept in a step makes steps that cannot be compared.
    """

    def __init__(self, numbers: npt.NDArray[np.float64]) -> None:
        """By code."""
        self._numbers = np.append(numbers, np.nan)

    def of(self, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """The number of each code, NaN for −1; a new array."""
        return self._numbers[codes]


class OrdinalMapParams(Params):
    """The mapping, and what the values get that it does not have."""

    mapping: dict[str, FiniteFloat] = Field(
        min_length=1,
        description="Numbers by value: by text, or for a column of integers by the integer in decimal digits, such as "
        '`"-7"`.',
    )
    unknown: Instead = Field(
        default="as_missing", description="What a value gets that the mapping does not have; or the row is quarantined."
    )
    missing: Instead = Field(default="as_missing", description="What a missing value gets; or the row is quarantined.")


class OrdinalMap(RowStep):
    """The number that the mapping has for the value, a text or an integer, as float64. A value that the mapping lacks,
    and a missing one, gets what `unknown` and `missing` say: missing, a number, or its row is rejected. Texts are
    compared by their bytes; empty text is a value like any other. A mapped −0.0 stays −0.0.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["ordinal_map"]
    params: OrdinalMapParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String, int32 or int64 in, float64 out."""
        found = types[0]
        if found.kind != "string" and not found.is_integer:
            message = f"takes string, int32 or int64, found {found}; cast it first"
            raise ValueError(message)
        low, high = INTEGER_BOUNDS["int64"]
        if found.is_integer and not all(
            _WHOLE.fullmatch(key) and low <= int(key) <= high for key in self.params.mapping
        ):
            message = f"has a mapping whose keys are not all int64 in plain digits, found {found}"
            raise ValueError(message)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """A look-up for the whole batch."""
        name, missing = self.inputs[0], frame.missing(self.inputs[0])
        if frame.kind(name) == "string":
            (texts, numbers), column = self._by_text, frame.arrow(name)
            codes = texts.codes(column)
        else:
            integers, numbers = self._by_integer
            codes = integers.codes(integers_of(frame.arrow(name)))
        values = numbers.of(codes)
        unknown = Gap.unknown((codes < 0) & ~missing, name, pointer)._replace(
            reason="is a value that the mapping lacks"
        )
        unknown.settle(values, self.params.unknown, frame)
        Gap.missing(missing, name, pointer).settle(values, self.params.missing, frame)
        return (values,)

    @functools.cached_property
    def _by_text(self) -> tuple[TextCodes, Numbers]:
        mapping = self.params.mapping
        return TextCodes(list(mapping)), Numbers(np.array(list(mapping.values()), dtype=np.float64))

    @functools.cached_property
    def _by_integer(self) -> tuple[IntegerCodes, Numbers]:
        pairs = sorted((int(key), number) for key, number in self.params.mapping.items())
        keys = np.array([key for key, _ in pairs], dtype=np.int64)
        return IntegerCodes(keys), Numbers(np.array([number for _, number in pairs], dtype=np.float64))


class FrequencyState(VocabularyState):
    """The categories of a column with their counts, most frequent first, ties by UTF-8 bytes."""

    counts: tuple[PositiveInt, ...] = Field(description="Rows of each category at fit.")
    n: int = Field(ge=1, description="Rows that had a category at fit.")

    @model_validator(mode="after")
    def _counts_are_of_rows(self) -> FrequencyState:
        need_rows(self.counts, self.n)
        return self


class FrequencyEncodeParams(Params):
    """What is told of a category, and what those get that were not seen at fit."""

    value: Literal["share", "count"] = Field(
        default="share", description="The category's share of the rows that had one at fit, or how many had it."
    )
    unknown: Instead = Field(
        default=AsNumber(as_value=0.0),
        description="What a category gets that was not learned; or the row is quarantined.",
    )
    missing: Instead = Field(default="as_missing", description="What a missing value gets; or the row is quarantined.")
    max_size: int = Field(default=1_000_000, ge=1, le=MOST_CATEGORIES, description="Most frequent categories kept.")


class FrequencyEncode(FittedStep[FrequencyState]):
    """How frequent the category was at fit, as float64: its rows divided by the rows that had a category, or with
    `value: count` its rows. A category that was not learned gets 0 unless `unknown` says otherwise; missing stays
    missing unless `missing` does. Empty text is a category.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["frequency_encode"]
    params: FrequencyEncodeParams = FrequencyEncodeParams()
    state: FrequencyState | None = Field(default=None, description="Categories and counts; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_these_params(self) -> FrequencyEncode:
        need_kept(self.state, ("max_size", self.params.max_size))
        return self

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String in, float64 out."""
        need_string(types)
        return (ColumnType("float64"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:
        """A look-up for the whole batch."""
        name = self.inputs[0]
        codes, missing = self.learned.codes.codes(frame.arrow(name)), frame.missing(name)
        values = self._numbers.of(codes)
        Gap.unknown((codes < 0) & ~missing, name, pointer).settle(values, self.params.unknown, frame)
        Gap.missing(missing, name, pointer).settle(values, self.params.missing, frame)
        return (values,)

    @functools.cached_property
    def _numbers(self) -> Numbers:
        counts = np.array(self.learned.counts, dtype=np.float64)
        return Numbers(counts / self.learned.n if self.params.value == "share" else counts)

    def accumulator(self) -> FrequencyAccumulator:
        """Counts by category."""
        return FrequencyAccumulator(self.inputs[0], self.params.max_size)


class FrequencyAccumulator(TextCounter[FrequencyState]):
    """The categories of a column of texts with their rows."""

    def __init__(self, column: str, max_size: int) -> None:
        """Start empty for one column."""
        super().__init__(column)
        self.max_size = max_size

    def finish(self) -> FrequencyState:
        """Most frequent first, ties by UTF-8 bytes."""
        kept = self.counts.ordered()[: self.max_size]
        if not kept:
            message = f"column {self.column!r} has no value to learn from"
            raise ValueError(message)
        vocab, counts = zip(*kept, strict=True)
        return FrequencyState(vocab=vocab, counts=counts, n=self.counts.n)


class RareToOtherParams(Params):
    """Which categories are kept, and what the others become."""

    min_count: int = Field(default=1, ge=1, description="Categories with fewer rows at fit become `other`.")
    min_share: FiniteFloat = Field(
        default=0.0, ge=0, le=1, description="So do those with a smaller share of the rows that had a category at fit."
    )
    max_categories: int = Field(
        default=1_000_000, ge=1, le=MOST_CATEGORIES, description="Most frequent categories kept of those."
    )
    other: str = Field(default="other", max_length=1000, description="The text that all others become.")


class RareToOther(FittedStep[VocabularyState]):
    """The category where it was frequent enough at fit, and the text `other` where it was not, or was not seen. Missing
    stays missing. Empty text is a category. One that is called as `other` is stays what it is, and the others join it.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["rare_to_other"]
    params: RareToOtherParams = RareToOtherParams()
    state: VocabularyState | None = Field(default=None, description="Categories that are kept; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_these_params(self) -> RareToOther:
        need_kept(self.state, ("max_categories", self.params.max_categories), self.params.min_count)
        return self

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """String in, string out."""
        need_string(types)
        return (ColumnType("string"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A look-up for the whole batch; a batch of kept categories alone is handed on as it is."""
        column = frame.arrow(self.inputs[0])
        rare = (self.learned.codes.codes(column) < 0) & ~frame.missing(self.inputs[0])
        if not rare.any():
            return (column,)
        other: Column = kernels.if_else(pa.array(rare), pa.scalar(self.params.other), column)
        return (other,)

    def accumulator(self) -> VocabularyAccumulator:
        """Counts by category."""
        params = self.params
        return VocabularyAccumulator(
            self.inputs[0], params.min_count, params.max_categories, min_share=params.min_share
        )


EncodingStep: TypeAlias = FrequencyEncode | OrdinalMap | RareToOther
