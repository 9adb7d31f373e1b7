"""`token_ids`: lists of tokens as ids of one length, and the part of it that `wordpiece` shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from etl.documents import Strict
from etl.ops.base import Accumulator, FittedStep, Params, RowStep, StateT_co, need_list
from etl.ops.tokens import Tokens, first_of_each
from etl.ops.vocabulary import MOST_CATEGORIES, VocabularyState, need_kept
from etl.partials.counts import Counts
from etl.types import ColumnType
from etl.xxh64 import buckets_of, hash_texts

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = [
    "Buckets",
    "Cut",
    "SequenceParams",
    "SequenceStep",
    "SingleId",
    "TokenAccumulator",
    "TokenCounts",
    "TokenIds",
    "TokenIdsParams",
]

_LARGEST_ID = 2**31 - 1
_LONGEST = 1_000_000


class SequenceParams(Params):
    """The length of the ids, and what is cut off or filled in to reach it."""

    max_len: int = Field(ge=1, le=_LONGEST, description="Ids of each row.")
    pad_id: int = Field(default=0, ge=0, le=_LARGEST_ID, description="Id that fills a row up.")
    truncate: Literal["left", "right"] = Field(
        default="right", description="Which end of too many tokens is cut off: right keeps the first."
    )
    pad: Literal["left", "right"] = Field(
        default="right", description="Where too few tokens are filled up: right is behind them."
    )
    mask: bool = Field(default=False, description="Whether the last output is the mask: 1 for a token, 0 for padding.")


class Cut(NamedTuple):
    """Which of the tokens have a place among the ids."""

    lengths: npt.NDArray[np.int64]
    """Tokens of each row; shape (rows,)."""
    kept: npt.NDArray[np.int64]
    """How many of them have a place; shape (rows,)."""
    keeps_first: bool
    """Whether these are the first ones, or the last."""

    @classmethod
    def of(cls, offsets: npt.NDArray[np.int64], params: SequenceParams, room: int) -> Cut:
        """Of lists with these offsets, of which each has room for so many tokens."""
        lengths = np.diff(offsets)
        return cls(lengths, np.minimum(lengths, room), params.truncate == "right")

    @property
    def is_whole(self) -> bool:
        """Whether every token has a place."""
        return bool((self.lengths == self.kept).all())

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Whether each token has a place; shape (tokens of all rows,)."""
        if self.keeps_first:
            return first_of_each(self.lengths, self.kept)
        return ~first_of_each(self.lengths, self.lengths - self.kept)


class SequenceStep(RowStep):
    """A step that makes ids of one length: `out` names the ids, then, where wanted, the number of tokens, and with
    `mask` the mask as the last.
    """  # noqa: D205  one sentence

    params: SequenceParams
    arity = (1, None)

    def sequence_types(self) -> tuple[ColumnType, ...]:
        """Types of the outputs.

        Raises:
            ValueError: there are too many or too few.
        """
        ids = ColumnType("vector", self.params.max_len, "int64")
        masks = (ids,) if self.params.mask else ()
        counts = (ColumnType("float64"),) * (len(self.outputs) - 1 - len(masks))
        if len(counts) > 1 or len(self.outputs) <= len(masks):
            last = ", and the mask" if masks else ""
            message = f"makes the ids, where wanted the number of tokens{last}; found {len(self.outputs)} names in out"
            raise ValueError(message)
        return (ids, *counts, *masks)

    def sequence_columns(
        self, ids: npt.NDArray[Any], cut: Cut, missing: npt.NDArray[np.bool_], *, used: npt.NDArray[np.int64]
    ) -> tuple[Column, ...]:
        """The outputs, of the ids of all rows one behind the other; `used` tells how many each row has."""
        params, width = self.params, self.params.max_len
        places, behind = np.arange(width), used[:, None]
        filled = places < behind if params.pad == "right" else places >= width - behind
        if ids.size == filled.size:
            matrix = ids.reshape(filled.shape)
        else:
            matrix = np.full(filled.shape, params.pad_id, dtype=np.int64)
            matrix[filled] = ids
        columns: list[Column] = [matrix]
        if len(self.outputs) > 1 + params.mask:
            columns.append(np.where(missing, np.nan, cut.lengths))
        if params.mask:
            columns.append(filled.astype(np.int64))
        return tuple(columns)

    def padding_id(self, output: str) -> int | None:
        """What fills the ids up."""
        return self.params.pad_id if output == self.outputs[0] else None

    def truncation(self, output: str) -> tuple[str, int] | None:
        """The number of tokens, where it is an output."""
        has_count = len(self.outputs) > 1 + self.params.mask
        return (self.outputs[1], self._room) if output == self.outputs[0] and has_count else None

    @property
    def _room(self) -> int:
        """How many tokens have a place."""
        return self.params.max_len


class SingleId(Strict):
    """One id for all unknown tokens."""

    kind: Literal["single"]
    id: int = Field(default=1, ge=0, le=_LARGEST_ID, description="The id.")

    @property
    def ids(self) -> range:
        """Every id of an unknown token."""
        return range(self.id, self.id + 1)


class Buckets(Strict):
    """Several ids for unknown tokens, by the hash of the token."""

    kind: Literal["buckets"]
    n: int = Field(ge=1, le=_LARGEST_ID, description="How many ids.")
    id: int = Field(default=1, ge=0, le=_LARGEST_ID, description="The first of them.")

    @property
    def ids(self) -> range:
        """Every id of an unknown token."""
        return range(self.id, self.id + self.n)


class TokenIdsParams(SequenceParams):
    """The length of the ids, those of unknown tokens, and how many tokens are learned."""

    oov: Annotated[SingleId | Buckets, Field(discriminator="kind")] = Field(
        default=SingleId(kind="single"), description="Ids of tokens that the vocabulary does not have."
    )
    min_count: int = Field(default=1, ge=1, description="Tokens that stand fewer times in all rows at fit are unknown.")
    max_size: int = Field(default=1_000_000, ge=1, le=MOST_CATEGORIES, description="Most frequent tokens kept.")

    @model_validator(mode="after")
    def _ids_differ(self) -> TokenIdsParams:
        if self.pad_id in self.oov.ids:
            message = f"pad_id {self.pad_id} is also an id of unknown tokens; a model could not tell them apart"
            raise ValueError(message)
        return self

    @property
    def first(self) -> int:
        """Id of the first token of the vocabulary: the one above padding and all ids of unknown tokens."""
        return max(self.pad_id, self.oov.ids[-1]) + 1


class TokenIds(SequenceStep, FittedStep[VocabularyState]):
    """The tokens of a list as `max_len` int64 ids; behind them in `out`, where wanted, the number of tokens before any
    was cut off, as float64, and with `mask` as the last `max_len` times 1 for a token or 0 for padding, int64.

    Ids: `pad_id` (0) is padding; `oov` is the one `id` (1) of unknown tokens, or `n` ids from `id` (1) on, of which a
    token gets the one that XXH64 of it (seed 42, signed) modulo n tells; token k of the vocabulary, from 0, is k more
    than the first id above padding and all these, by default 2 + k. The vocabulary is ordered by count, the most
    frequent first, ties by UTF-8 bytes.

    An empty list is all padding, its number of tokens 0.0. So is a missing list, but its number of tokens is missing. A
    missing token is unknown and has the first of the unknown tokens' ids; an empty token is a token like others.
    """  # noqa: D205  the outputs are one sentence

    op: Literal["token_ids"]
    params: TokenIdsParams
    state: VocabularyState | None = Field(default=None, description="Tokens; absent in a recipe.")

    @model_validator(mode="after")
    def _state_is_of_these_params(self) -> TokenIds:
        need_kept(self.state, ("max_size", self.params.max_size), self.params.min_count)
        return self

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """List of texts in."""
        need_list(types, "string")
        return self.sequence_types()

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """A look-up of all tokens at once; before it, most that have no place are left out where they are many."""
        name = self.inputs[0]
        texts, offsets = Tokens.of(frame.arrow(name))
        cut = Cut.of(offsets, self.params, self._room)
        if cut.is_whole:
            ids = self._ids(texts)
        elif 2 * cut.kept.sum() < len(texts):
            ids = self._ids(texts.filter(pa.array(cut.mask)))
        else:
            ids = self._ids(texts)[cut.mask]
        return self.sequence_columns(ids, cut, frame.missing(name), used=cut.kept)

    def _ids(self, texts: ArrowArray) -> npt.NDArray[np.int64]:
        codes, oov = self.learned.codes.codes(texts), self.params.oov
        # An unknown token's code is −1, which is right where its id is the one below the vocabulary's.
        ids = np.add(codes, self.params.first, dtype=np.int64)
        if isinstance(oov, Buckets):
            unknown = np.flatnonzero(codes < 0)
            tokens = texts.take(pa.array(unknown))
            buckets = buckets_of(hash_texts(tokens), oov.n)
            buckets[tokens.is_null().to_numpy(zero_copy_only=False)] = 0
            ids[unknown] = buckets + oov.id
        elif oov.id != self.params.first - 1:
            ids[codes < 0] = oov.id
        return ids

    def unknown_ids(self, output: str) -> range | None:
        """Those of tokens that the vocabulary does not have."""
        return self.params.oov.ids if output == self.outputs[0] else None

    def accumulator(self) -> TokenAccumulator:
        """Counts by token."""
        return TokenAccumulator(self.inputs[0], self.params.min_count, self.params.max_size)


class TokenCounts(Accumulator[StateT_co]):
    """How often each token is counted; addition, so the order of merging does not matter."""

    def __init__(self, column: str, min_count: int, max_size: int) -> None:
        """Start empty for one column."""
        self.column = column
        self.min_count = min_count
        self.max_size = max_size
        self.counts = Counts()

    def fresh(self) -> Self:
        """An empty one that learns the same."""
        return type(self)(self.column, self.min_count, self.max_size)

    def merge(self, later: Self) -> None:
        """Take in later rows."""
        self.counts.merge(later.counts)

    def kept(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The tokens that are kept, the most frequent first, ties by UTF-8 bytes; and their counts.

        Raises:
            ValueError: there are none.
        """
        pairs = [pair for pair in self.counts.ordered() if pair[1] >= self.min_count][: self.max_size]
        if not pairs:
            message = f"column {self.column!r} has no token that it counts {self.min_count} times or more"
            raise ValueError(message)
        vocab, counts = zip(*pairs, strict=True)
        return vocab, counts


class TokenAccumulator(TokenCounts[VocabularyState]):
    """How many times each token stands in all lists."""

    def update(self, frame: Frame) -> None:
        """Take in one batch."""
        self.counts.update_texts(Tokens.of(frame.arrow(self.column)).texts)

    def finish(self) -> VocabularyState:
        """The tokens and their counts."""
        vocab, counts = self.kept()
        return VocabularyState(vocab=vocab, counts=counts)
