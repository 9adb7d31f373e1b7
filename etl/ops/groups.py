"""Rows of a table by group and in order: what steps that look at other rows share.

Groups are rows of equal keys; a row with a missing key is in none. The order of rows is total and does not depend on
where they stand, for in Spark they stand nowhere: rows that are equal in everything that they are ordered by are
ordered by their other columns, and rows that are equal in all columns are the same row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etl.ops.time import DAY_MICROSECONDS, integers_of
from etl.partials.histogram import keys_of
from etl.types import decoded, kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.frame import Column, Frame
    from etl.types import ArrowArray

__all__ = ["KEY_KINDS", "Integers", "Ordered", "Ties", "group_codes", "instants", "ordered", "sort_keys"]

KEY_KINDS = ("bool", "int32", "int64", "string", "date", "timestamp")
"""Types of columns by which rows are grouped: those with one form for each value."""

Integers: TypeAlias = "npt.NDArray[np.int64]"

Ties: TypeAlias = Callable[[Integers], "list[npt.NDArray[Any]]"]
"""Gives, for rows of the table by their position, what breaks ties between them: arrays to sort by, the most important
first."""

_DAYS = 2**63 // DAY_MICROSECONDS

_NULL, _NAN, _VALUE = 0, 1, 2
"""Missing comes first, null before NaN."""


class Ordered(NamedTuple):
    """Rows by group, and in a group in order. Each field but `row` is a number a place in that order."""

    row: Integers
    """Position in the table."""
    start: Integers
    """First place of the row's group."""
    end: Integers
    """One past the last place of the row's group."""
    peer: Integers
    """First place of the row's peers: those of its group that are equal in what comes first in the order."""
    peer_end: Integers
    """One past the last place of the row's peers."""


def ordered(
    rows: Integers, codes: Integers, by: Sequence[npt.NDArray[Any]], *, peers: int, ties: Ties | None
) -> Ordered:
    """These rows of a table by their group's code, and in it by the arrays `by`, the most important first, which are as
    long as `rows`. The first `peers` of those arrays make peers. Without `ties`, rows that are equal in `by` may stand
    in any order.
    """  # noqa: D205  one sentence
    place = np.lexsort((*reversed(by), codes))
    if ties is not None:
        _break(place, [codes, *by], rows, ties=ties)
    sorted_codes = codes[place]
    start, end = _runs([sorted_codes])
    peer, peer_end = _runs([sorted_codes, *(key[place] for key in by[:peers])])
    return Ordered(rows[place], start, end, peer, peer_end)


def _runs(keys: Sequence[npt.NDArray[Any]]) -> tuple[Integers, Integers]:
    """Begin and end of the run of equal keys that each place is in."""
    size = keys[0].size
    if not size:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    begins = np.zeros(size, dtype=bool)
    begins[0] = True
    for key in keys:
        begins[1:] |= key[1:] != key[:-1]
    first = np.flatnonzero(begins)
    run = np.cumsum(begins) - 1
    return first[run], np.append(first[1:], size)[run]


def _break(place: Integers, keys: Sequence[npt.NDArray[Any]], rows: Integers, *, ties: Ties) -> None:
    """Sort the places of each run of equal keys by what breaks ties, in place."""
    start, end = _runs([key[place] for key in keys])
    tied = np.flatnonzero(end - start > 1)
    if tied.size:
        among = place[tied]
        place[tied] = among[np.lexsort((*reversed(ties(rows[among])), start[tied]))]


def group_codes(frame: Frame, names: Sequence[str]) -> Integers:
    """A number for each row that is equal for rows of equal keys; −1 where a key is missing."""
    first, *others = names
    codes: Integers = _codes(frame, first)
    for name in others:
        more = _codes(frame, name)
        pairs = codes * (int(more.max(initial=0)) + 1) + more
        pairs[(codes < 0) | (more < 0)] = -1
        # Coded anew, no product of two numbers of rows overflows.
        distinct, codes = np.unique(pairs, return_inverse=True)
        codes -= int(distinct[0] < 0) if distinct.size else 0
    return codes


def _codes(frame: Frame, name: str) -> Integers:
    column, missing = frame.arrow(name), frame.missing(name)
    if pa.types.is_string(column.type):
        indices: ArrowArray = column.dictionary_encode().indices
        codes = (indices.fill_null(-1) if indices.null_count else indices).to_numpy().astype(np.int64)
    else:
        codes = np.unique(_integers(column), return_inverse=True)[1].astype(np.int64)
    codes[missing] = -1
    return np.asarray(codes)


def instants(frame: Frame, name: str) -> Integers:
    """A date or timestamp column as µs since 1970, a date as its midnight; 0 where it is missing."""
    column = frame.arrow(name)
    values = integers_of(column)
    # Dates are days in int32; those beyond what int64 holds in µs, the year 292,278, count as the last of these.
    return np.clip(values, -_DAYS, _DAYS) * DAY_MICROSECONDS if pa.types.is_date(column.type) else values


def sort_keys(column: Column, *, zeros_differ: bool = False) -> list[npt.NDArray[Any]]:
    """Arrays by which a column sorts, the most important first: whether there is a value, and which.

    Missing comes first, null before NaN; numbers by size, texts by their UTF-8 bytes, false before true; what has no
    order of its own, a vector or list, by the text that Python writes for it. −0.0 is 0.0 unless `zeros_differ`.
    """
    if isinstance(column, np.ndarray) and column.ndim == 1:
        return _numbers(column, np.zeros(column.size, dtype=bool), zeros_differ=zeros_differ)
    array: ArrowArray = pa.array(list(column)) if isinstance(column, np.ndarray) else column
    null = array.is_null().to_numpy(zero_copy_only=False)
    kind = array.type
    if pa.types.is_floating(kind):
        values = array.fill_null(0).to_numpy().astype(np.float64)
        return _numbers(values, null, zeros_differ=zeros_differ)
    has_value = np.where(null, _NULL, _VALUE).astype(np.int8)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        return [has_value, _integers(array)]
    if pa.types.is_timestamp(kind):
        return [has_value, _integers(array.cast(pa.timestamp("us", kind.tz), safe=False))]
    return [has_value, _ranks(array)]


def _numbers(values: npt.NDArray[Any], null: npt.NDArray[np.bool_], *, zeros_differ: bool) -> list[npt.NDArray[Any]]:
    if values.dtype.kind != "f":
        return [np.full(values.size, _VALUE, dtype=np.int8), values]
    values = values.astype(np.float64)
    nan = np.isnan(values)
    keys = keys_of(np.where(nan, 0.0, values))
    if zeros_differ:
        keys = keys - ((values == 0) & np.signbit(values)).astype(np.uint64)
    return [np.where(null, _NULL, np.where(nan, _NAN, _VALUE)).astype(np.int8), keys]


def _integers(column: ArrowArray) -> npt.NDArray[Any]:
    """Integers, bools, dates and timestamps as integers; 0 where they are null."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if pa.types.is_integer(column.type):
        values: npt.NDArray[Any] = (column.fill_null(0) if column.null_count else column).to_numpy()
        return values
    return integers_of(column)


def _ranks(column: ArrowArray) -> Integers:
    """Where each value's text stands among the distinct ones."""
    if pa.types.is_large_string(column.type) or pa.types.is_string(column.type):
        encoded = column.cast(pa.string()).dictionary_encode()
        texts: ArrowArray = encoded.dictionary
        codes = (encoded.indices.fill_null(0) if encoded.indices.null_count else encoded.indices).to_numpy()
        if not len(texts):
            return np.zeros(len(column), dtype=np.int64)
        rank = np.empty(len(texts), dtype=np.int64)
        rank[kernels.sort_indices(texts).to_numpy()] = np.arange(len(texts))
        return np.asarray(rank[codes])
    if pa.types.is_decimal(column.type):
        ranks = kernels.rank(decoded(column), "ascending", tiebreaker="dense")
        return np.asarray(ranks.to_numpy()).astype(np.int64)
    written = np.array([repr(value) for value in column.to_pylist()], dtype=object)
    return np.unique(written, return_inverse=True)[1].astype(np.int64)
