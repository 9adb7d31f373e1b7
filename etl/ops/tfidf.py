"""`tfidf`: lists of tokens as weights of the terms of a vocabulary."""

from __future__ import annotations

import functools
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, PositiveInt, model_validator

from etl.ops.base import FittedStep, Params, need_list
from etl.ops.token_ids import TokenCounts
from etl.ops.tokens import Tokens
from etl.ops.vocabulary import VocabularyState, need_kept
from etl.types import ColumnType

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame

__all__ = ["TfIdf", "TfIdfAccumulator", "TfIdfParams", "TfIdfState"]

_DIGITS = 40
"""Of a logarithm before it is rounded to float64, so that it is the same on all platforms."""


class TfIdfParams(Params):
    """How weights are made, and how many terms are learned."""

    smooth_idf: bool = Field(default=True, description="Whether one more list, with every term once, is counted in.")
    norm: Literal["l2", "none"] = Field(
        default="l2", description="Whether each row is divided by the square root of the sum of its squares."
    )
    min_count: int = Field(default=1, ge=1, description="Terms that are in fewer lists at fit are left out.")
    max_size: int = Field(default=1000, ge=1, le=100_000, description="Terms kept, of which each makes a column.")


class TfIdfState(VocabularyState):
    """Terms, those of most lists first, ties by UTF-8 bytes, and in how many lists each was."""

    counts: tuple[PositiveInt, ...] = Field(description="Lists at fit that have each term.")
    rows: int = Field(ge=1, description="Lists at fit, empty ones too, missing ones not.")

    @model_validator(mode="after")
    def _counts_are_of_rows(self) -> TfIdfState:
        if max(self.counts, default=0) > self.rows:
            message = f"counts are numbers of lists that have a term: up to rows, which is {self.rows}"
            raise ValueError(message)
        return self


class TfIdf(FittedStep[TfIdfState]):
    """A float32 vector with the weight of each term of the vocabulary, as TfidfVectorizer of scikit-learn has it: how
    often the term stands in the list, times its idf, divided with `norm: l2` by the square root of the sum of the
    squares of the row. The idf is ln((1 + rows) ÷ (1 + lists that have the term)) + 1, without `smooth_idf`
    ln(rows ÷ lists that have the term) + 1, of the lists at fit, rounded once to float64; all else is in float64, and
    rounded once to float32.

    Tokens that are not in the vocabulary do not count, and a missing token is none. A list without a known term is all
    0.0. A missing list is NaN throughout. Terms are ordered by the number of lists that have them, most first, ties by
    UTF-8 bytes.
    """  # noqa: D205  the formula is one sentence

    op: Literal["tfidf"]
    params: TfIdfParams = TfIdfParams()
    state: TfIdfState | None = Field(default=None, description="Terms; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_these_params(self) -> TfIdf:
        need_kept(self.state, ("max_size", self.params.max_size), self.params.min_count)
        return self

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """List of texts in, vector out. Its width is known behind the fit."""
        need_list(types, "string")
        return (ColumnType("vector", len(self.state.vocab) if self.state else 0),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A look-up of all tokens at once, and work on the terms that each row has."""
        name, width = self.inputs[0], len(self.learned.vocab)
        texts, offsets = Tokens.of(frame.arrow(name))
        codes = self.learned.codes.codes(texts)
        rows = np.repeat(np.arange(frame.rows), np.diff(offsets))
        known = codes >= 0
        places, counts = np.unique(rows[known] * width + codes[known], return_counts=True)
        rows, terms = places // width, places % width
        weights = counts * self._idf.of(terms)
        if self.params.norm == "l2":
            # In the order of terms: a sum in any other order may be another number.
            weights /= np.sqrt(np.bincount(rows, weights=weights * weights, minlength=frame.rows))[rows]
        matrix = np.zeros((frame.rows, width), dtype=np.float32)
        matrix.reshape(-1)[places] = weights
        matrix[frame.missing(name)] = np.nan
        return (matrix,)

    @functools.cached_property
    def _idf(self) -> _Idf:
        return _Idf(self.learned, is_smooth=self.params.smooth_idf)

    def element_names(self, output: str) -> tuple[str, ...] | None:  # noqa: ARG002  there is one output
        """The terms."""
        return self.state.vocab if self.state else None

    def accumulator(self) -> TfIdfAccumulator:
        """Lists that have each term."""
        return TfIdfAccumulator(self.inputs[0], self.params.min_count, self.params.max_size)


class _Idf:
    """The idf of each term; an object of its own, because an array in a step makes steps that cannot be compared."""

    def __init__(self, state: TfIdfState, *, is_smooth: bool) -> None:
        self._of_term = np.array([_idf(state.rows, count, is_smooth) for count in state.counts])

    def of(self, terms: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Those of some terms."""
        return self._of_term[terms]


@functools.lru_cache(maxsize=1 << 16)
def _idf(rows: int, count: int, is_smooth: bool) -> float:  # noqa: FBT001  a cache wants its key in order
    with localcontext() as context:
        context.prec = _DIGITS
        return float((Decimal(rows + is_smooth) / Decimal(count + is_smooth)).ln() + 1)


class TfIdfAccumulator(TokenCounts[TfIdfState]):
    """In how many lists each term is; addition, so the order of merging does not matter."""

    def __init__(self, column: str, min_count: int, max_size: int) -> None:
        """Start empty for one column."""
        super().__init__(column, min_count, max_size)
        self.rows = 0

    def update(self, frame: Frame) -> None:
        """Take in one batch: each term once a list."""
        lists = frame.arrow(self.column)
        self.rows += len(lists) - lists.null_count
        texts, offsets = Tokens.of(lists)
        encoded = texts.dictionary_encode()
        if not len(encoded.dictionary):
            return
        rows = np.repeat(np.arange(frame.rows), np.diff(offsets))
        known = encoded.indices.is_valid().to_numpy(zero_copy_only=False)
        codes = encoded.indices.drop_null().to_numpy()
        pairs = np.unique(rows[known] * len(encoded.dictionary) + codes)
        self.counts.update_texts(encoded.dictionary.take(pa.array(pairs % len(encoded.dictionary))))

    def merge(self, later: Self) -> None:
        """Take in later rows."""
        super().merge(later)
        self.rows += later.rows

    def finish(self) -> TfIdfState:
        """Terms of most lists first, ties by UTF-8 bytes."""
        vocab, counts = self.kept()
        return TfIdfState(vocab=vocab, counts=counts, rows=self.rows)
