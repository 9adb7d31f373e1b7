"""Ops that cut texts into tokens, and make n-grams of these. Tokens are a list of texts for each row."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from etl.ops.base import Params, RowStep, need_list, need_string
from etl.patterns import NonEmptyPattern, parsed
from etl.types import ColumnType, kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = [
    "NGrams",
    "NGramsParams",
    "TokenStep",
    "Tokenize",
    "TokenizeParams",
    "Tokens",
    "between_runs",
    "edges_of",
    "first_of_each",
]

_MARK = b"\xff"
"""A byte that no UTF-8 text has."""

_BLOCK = 1 << 18
"""Bytes of texts that are cut together, so that what is made on the way stays in the cache."""


class Tokens(NamedTuple):
    """Lists of texts as two arrays; a missing list is as an empty one."""

    texts: ArrowArray
    """The elements of all lists, one behind the other."""
    offsets: npt.NDArray[np.int64]
    """Where each list begins among them, and where the last ends; shape (rows + 1,)."""

    @classmethod
    def of(cls, column: ArrowArray) -> Tokens:
        """From a column of lists, of which a null one may have elements in memory."""
        lengths = kernels.list_value_length(column).fill_null(0).to_numpy()
        return cls(column.flatten(), edges_of(lengths))

    def column(self, missing: npt.NDArray[np.bool_]) -> ArrowArray:
        """The lists as a column; those of rows that are missing are empty."""
        offsets: ArrowArray = pa.array(self.offsets.astype(np.int32))
        mask: Any = pa.array(missing) if missing.any() else None
        return pa.ListArray.from_arrays(offsets, self.texts, mask=mask)

    def without(self, dropped: npt.NDArray[np.bool_]) -> Tokens:
        """Without the elements that the mask marks."""
        if not dropped.any():
            return self
        kept = np.concatenate([[0], np.cumsum(~dropped)])
        return Tokens(self.texts.filter(pa.array(~dropped)), kept[self.offsets])


def edges_of(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Where each list begins among the elements of all, and where the last ends; shape (lists + 1,)."""
    edges = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=edges[1:])
    return edges


def first_of_each(lengths: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which elements of all lists are among so many first ones of theirs; shape (elements,)."""
    runs = np.stack([counts, lengths - counts], axis=1)
    return np.repeat(np.tile([True, False], counts.size), runs.reshape(-1))


class TokenizeParams(Params):
    """Either what stands between tokens, or what a token is."""

    split: NonEmptyPattern | None = Field(
        default=None, description="What stands between tokens: a pattern as in `regex_replace`."
    )
    match: NonEmptyPattern | None = Field(default=None, description="A token: a pattern as in `regex_replace`.")
    drop_empty: bool = Field(
        default=False, description="With `split`: whether the empty texts between two separators, or at an end, go."
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> TokenizeParams:
        if (self.split is None) == (self.match is None):
            message = "takes one of split and match: what stands between tokens, or what a token is"
            raise ValueError(message)
        if self.match is not None and self.drop_empty:
            message = "drop_empty goes with split; what match finds is never empty"
            raise ValueError(message)
        return self


class Tokenize(RowStep):
    """The list of a text's tokens, in their order. With `split`, the parts before, between and behind the matches of a
    pattern: one more than there are matches, of which some may be empty; without a match the whole text, so empty text
    is one empty token. `drop_empty` leaves empty ones out, so empty text is an empty list. With `match`, all matches of
    a pattern, from left to right, each beginning where the one before ends or later; without one the list is empty.
    A missing text is a missing list. No token is missing.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["tokenize"]
    params: TokenizeParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """Text in, list of texts out."""
        need_string(types)
        return (ColumnType("list", item="string"),)

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """Byte by byte where the pattern is a run of ASCII characters of a class, else by RE2."""
        name, params = self.inputs[0], self.params
        column, pattern = frame.arrow(name), params.split or params.match
        assert pattern is not None  # noqa: S101  the parameters have one of both
        run = parsed(pattern).run
        if run is not None:
            tokens = between_runs(column, run if params.split else frozenset(range(256)) - run)
        else:
            tokens = _split(column, pattern) if params.split else _matches(column, pattern)
        if params.drop_empty or (params.match and run is not None):
            tokens = tokens.without(kernels.equal(kernels.binary_length(tokens.texts), 0).to_numpy(False))  # noqa: FBT003  pyarrow's own
        return (tokens.column(frame.missing(name)),)


def _split(column: ArrowArray, pattern: str) -> Tokens:
    """The parts between matches. Arrow's own kernel that splits by a pattern takes each part for a text, at anchors."""
    return _marked(kernels.replace_substring_regex(column, pattern=pattern, replacement=_MARK))


def _matches(column: ArrowArray, pattern: str) -> Tokens:
    """All matches: with a mark at both sides of each, every second part is one."""
    replaced = kernels.replace_substring_regex(column, pattern=pattern, replacement=_MARK + b"\\0" + _MARK)
    parts, edges = _marked(replaced)
    places = np.arange(len(parts)) - np.repeat(edges[:-1], np.diff(edges))
    return Tokens(parts, edges).without(places % 2 == 0)


def _marked(texts: ArrowArray) -> Tokens:
    """The parts between marks; they are UTF-8 again."""
    lists = kernels.split_pattern(texts.view(pa.binary()), pattern=_MARK)
    parts = Tokens.of(lists)
    return parts._replace(texts=parts.texts.view(pa.string()))


def between_runs(column: ArrowArray, separators: frozenset[int]) -> Tokens:
    """The parts of each text between runs of bytes of UTF-8; a null has one empty part."""
    data, edges = _bytes_of(column)
    table = bytes(byte in separators for byte in range(256))
    cuts = np.unique(np.append(np.searchsorted(edges, np.arange(0, data.size, _BLOCK)), [0, edges.size - 1]))
    blocks = [_Parts.of(data, edges[first : last + 1], table) for first, last in itertools.pairwise(cuts)]
    if not blocks:
        return Tokens(column, edges)
    parts, lengths, counts = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    offsets = edges_of(lengths).astype(np.int32)
    texts = pa.StringArray.from_buffers(lengths.size, pa.py_buffer(offsets), pa.py_buffer(parts))
    return Tokens(texts, edges_of(counts))


class _Parts(NamedTuple):
    """What stands between runs of separators in some texts."""

    data: npt.NDArray[np.uint8]
    """All bytes but the separators."""
    lengths: npt.NDArray[np.int64]
    """Bytes of each part; shape (parts,)."""
    counts: npt.NDArray[np.int64]
    """Parts of each text; shape (texts,)."""

    @classmethod
    def of(cls, data: npt.NDArray[np.uint8], edges: npt.NDArray[np.int64], table: bytes) -> _Parts:
        """Of the texts between these edges; the table has 1 for each byte that separates."""
        data, edges = data[edges[0] : edges[-1]], edges - edges[0]
        is_separator = np.frombuffer(data.tobytes().translate(table), dtype=bool)
        begins, ends = is_separator.copy(), is_separator.copy()
        begins[1:] &= ~is_separator[:-1]
        ends[:-1] &= ~is_separator[1:]
        # A run ends where its text ends, though the next text may go on with one.
        inner = edges[(edges > 0) & (edges < data.size)]
        begins[inner] = is_separator[inner]
        ends[inner - 1] = is_separator[inner - 1]
        begin_at, end_at = np.flatnonzero(begins), np.flatnonzero(ends) + 1
        # Each text has a part before each run, and one behind the last.
        offsets = np.searchsorted(begin_at, edges) + np.arange(edges.size)
        starts, stops = np.empty((2, offsets[-1]), dtype=np.int64)
        is_first, is_last = np.zeros((2, offsets[-1]), dtype=bool)
        is_first[offsets[:-1]] = True
        is_last[offsets[1:] - 1] = True
        starts[is_first], starts[~is_first] = edges[:-1], end_at
        stops[is_last], stops[~is_last] = edges[1:], begin_at
        return cls(data.compress(~is_separator), stops - starts, np.diff(offsets))


def _bytes_of(column: ArrowArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes of all texts, none of a null one, and where each begins among them, and the last ends."""
    column = column.fill_null("")
    _, offsets, data = column.buffers()
    if not len(column) or data is None:
        return np.zeros(0, dtype=np.uint8), np.zeros(len(column) + 1, dtype=np.int64)
    edges = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    whole = np.frombuffer(data, dtype=np.uint8)
    return whole[edges[0] : edges[-1]], edges - edges[0]


class NGramsParams(Params):
    """How many tokens, and what stands between them."""

    n: int = Field(ge=1, le=100, description="Tokens that stand beside each other.")
    separator: str = Field(default=" ", description="Between each two of them.")


class NGrams(RowStep):
    """Every `n` tokens that stand beside each other, as one text with `separator` between each two, in their order: a
    list of k tokens has k − n + 1, and one with fewer than n tokens has none. A missing list is missing, and a missing
    token makes the n-grams missing that it is in.
    """  # noqa: D205  the semantics are one sentence each

    op: Literal["ngrams"]
    params: NGramsParams

    def infer(self, types: tuple[ColumnType, ...]) -> tuple[ColumnType, ...]:
        """List of texts in, list of texts out."""
        need_list(types, "string")
        return types

    def apply(self, frame: Frame, pointer: str) -> tuple[Column, ...]:  # noqa: ARG002  rejects no row
        """All tokens with those behind them, then what crosses from a list into the next goes."""
        name, n = self.inputs[0], self.params.n
        texts, offsets = Tokens.of(frame.arrow(name))
        lengths = np.diff(offsets)
        counts = np.maximum(lengths - (n - 1), 0)
        starts = max(len(texts) - (n - 1), 0)
        columns = [texts.slice(behind, starts) for behind in range(n)]
        grams = kernels.binary_join_element_wise(*columns, self.params.separator)
        grams = grams.filter(pa.array(first_of_each(lengths, counts)[:starts]))
        return (Tokens(grams, edges_of(counts)).column(frame.missing(name)),)


TokenStep: TypeAlias = NGrams | Tokenize
