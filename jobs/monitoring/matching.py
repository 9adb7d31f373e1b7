"""Rows of one table beside those of another that have the same key."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

__all__ = ["Matches", "Side", "Slices", "examples", "keyed_as", "match", "numbers_in", "slices_of"]

Indices: TypeAlias = "npt.NDArray[np.int64]"
Floats: TypeAlias = "npt.NDArray[np.floating]"

_SHOWN = 3
_MOST_SEGMENTS = 10_000
"""A column of more values is a key, or a number."""


class Side(NamedTuple):
    """What became of the rows of a table; the other four numbers add up to `rows`."""

    rows: int
    matched: int
    alone: int
    """Rows whose key the other table does not have."""
    repeated: int
    """Rows whose key stands more than once where it may not, so that nobody knows which row is meant."""
    keyless: int
    """Rows of which a part of the key is null."""


class Matches(NamedTuple):
    """Which rows belong together: row `left[i]` of one table and `right[i]` of the other, in the order of `left`."""

    left: Indices
    right: Indices
    sides: tuple[Side, Side]


class Slices(NamedTuple):
    """Rows by the value of a column, the value with the most rows first."""

    values: list[str | None]
    rows: list[Indices]


def keyed_as(table: pa.Table, other: pa.Table, keys: Sequence[str], *, what: str) -> pa.Table:
    """The table with its key columns in the types of another one's.

    Raises:
        Refused: a value of a key is none of that type.
    """
    for key in keys:
        wanted, column = other.schema.field(key).type, table.column(key)
        if column.type != wanted:
            try:
                table = table.set_column(table.column_names.index(key), key, column.cast(wanted))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                message = f"{what}: key {key!r} is {column.type}, and cannot be read as {wanted}, as it is in the run: "
                raise Refused(f"{message}{error}. Write it as {wanted}.") from error
    return table


def match(left: pa.Table, right: pa.Table, keys: Sequence[str], *, left_repeats: bool = False) -> Matches:
    """Rows that have the same key, of tables whose keys have the same types. A null is equal to nothing.

    A key may stand once in either table; with `left_repeats` as often as it likes in the left one. Rows with other keys
    are left out and counted.
    """
    mine, yours = _codes(left, right, keys)
    size = max(mine.max(initial=-1), yours.max(initial=-1)) + 1
    here, there = (np.bincount(codes[codes >= 0], minlength=size) for codes in (mine, yours))
    if left_repeats:
        here = np.minimum(here, 1)
    is_pair = (here == 1) & (there == 1)
    place = np.full(size, -1, dtype=np.int64)
    known = np.flatnonzero(yours >= 0)
    place[yours[known]] = known
    rows = np.flatnonzero(mine >= 0)
    rows = rows[is_pair[mine[rows]]]
    sides = _side(mine, here, there), _side(yours, there, here)
    return Matches(rows, place[mine[rows]], sides)


def _side(codes: Indices, here: Indices, there: Indices) -> Side:
    known = codes[codes >= 0]
    matched = int(((here == 1) & (there == 1))[known].sum())
    alone = int(((here == 1) & (there == 0))[known].sum())
    return Side(len(codes), matched, alone, len(known) - matched - alone, len(codes) - len(known))


def _codes(left: pa.Table, right: pa.Table, keys: Sequence[str]) -> tuple[Indices, Indices]:
    """A number for each row, the same for equal keys; -1 where a part of the key is null."""
    codes: Indices | None = None
    for key in keys:
        found = _encoded(left.column(key), right.column(key))
        if codes is not None:
            is_known = (codes >= 0) & (found >= 0)
            _, dense = np.unique(codes * (found.max(initial=0) + 1) + found, return_inverse=True)
            found = np.where(is_known, dense, -1)
        codes = found
    assert codes is not None  # noqa: S101  there is a key
    return codes[: left.num_rows], codes[left.num_rows :]


def _encoded(left: pa.ChunkedArray, right: pa.ChunkedArray) -> Indices:
    values = pa.chunked_array([*left.chunks, *right.chunks], left.type)
    if pa.types.is_string(values.type):
        values = values.cast(pa.large_string())  # all texts together may have more bytes than 32 bits count
    chunks = [chunk.indices.fill_null(-1).to_numpy() for chunk in pc.dictionary_encode(values).chunks]
    return np.concatenate([np.empty(0, np.int64), *chunks]).astype(np.int64)


def examples(table: pa.Table, keys: Sequence[str]) -> str:
    """Some keys, for people."""
    rows = table.select(keys).slice(0, _SHOWN).to_pylist()
    more = ", …" if table.num_rows > _SHOWN else ""
    return f"{', '.join('/'.join(map(str, row.values())) for row in rows)}{more}" if rows else "none"


def numbers_in(column: pa.ChunkedArray) -> Floats | None:
    """A column as floats, NaN where it is null or not finite; None where it holds no numbers.

    A column of float32 stays one, for its precision is part of what it says.
    """
    if not (pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type) or _is_number(column.type)):
        return None
    narrow = pa.types.is_float32(column.type) or pa.types.is_float16(column.type)
    values: Floats = column.cast(pa.float32() if narrow else pa.float64(), safe=False).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def slices_of(name: str, column: pa.ChunkedArray) -> Slices:
    """Rows by the value of a column; null is a value.

    Raises:
        Refused: it has too many values to be told one by one.
    """
    if pa.types.is_nested(column.type):
        raise Refused(f"--by {name}: is {column.type}. Name a column of plain values.")
    encoded = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    values = encoded.dictionary.cast(pa.string()).to_pylist() if len(column) else []
    if len(values) > _MOST_SEGMENTS:
        raise Refused(
            f"--by {name}: has {len(values):,} values, and at most {_MOST_SEGMENTS:,} segments are told. "
            "Name a column of fewer."
        )
    codes = encoded.indices.to_numpy()
    counts = np.bincount(codes, minlength=len(values))
    parts = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    order = np.argsort(-counts, kind="stable")
    return Slices([values[at] for at in order], [parts[at] for at in order])
