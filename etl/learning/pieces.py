"""What a fit may be given, as pieces that each pass reads anew, in one order; and that they stay what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import pyarrow as pa

from etl.errors import InputChanged, ReadError
from etl.given import as_table, is_pandas
from etl.learning.checksum import checksum

__all__ = ["Piece", "is_in_memory", "pieces_of", "watched"]


class Piece(NamedTuple):
    """Rows that are learned together, such as a row group."""

    name: str
    """For errors; where it is empty, a batch is named by its number."""
    batches: Callable[[], Iterable[pa.RecordBatch]]
    """Gives the same batches in the same order each time, since each pass reads them anew."""


def pieces_of(data: Any) -> Sequence[Piece]:
    """Pieces in canonical order: of an Arrow table or batch, a `pyarrow.dataset`, a pandas frame, a sequence of pieces,
    or a function that gives the same batches each time it is called.

    Raises:
        TypeError: it is none of these.
    """  # noqa: D205  the kinds are one sentence
    if isinstance(data, pa.RecordBatch):
        return [Piece("", lambda: [data])]
    if isinstance(data, pa.Table):
        return [Piece("", lambda: data.combine_chunks().to_batches())]
    if _is_dataset(data):
        return _pieces_of_dataset(data)
    if callable(data):
        return [Piece("", data)]
    if isinstance(data, Sequence) and not isinstance(data, str) and all(isinstance(part, Piece) for part in data):
        return data
    if is_pandas(data):
        return pieces_of(as_table(data))
    raise TypeError(_unlearnable(data))


def _pieces_of_dataset(data: Any) -> list[Piece]:
    """A piece a row group of Parquet, a file of another format, a batch in memory; one where rows are filtered."""
    try:
        fragments = list(data.get_fragments())
    except ValueError:
        # Arrow tells the fragments of no dataset that is filtered; its scan is in their order.
        return [Piece("", data.to_batches)]
    pieces = []
    for fragment in fragments:
        for part in fragment.split_by_row_group() if hasattr(fragment, "split_by_row_group") else [fragment]:
            groups = f" row groups {[group.id for group in part.row_groups]}" if hasattr(part, "row_groups") else ""
            pieces.append(Piece(f"{getattr(part, 'path', '')}{groups}", partial(_scanned, data.schema, part)))
    return pieces


def _scanned(schema: pa.Schema, fragment: Any) -> Iterator[pa.RecordBatch]:
    """Rows as the schema of their dataset has them, with the keys of their folder. A column that the file lacks is not
    there, where Arrow would fill it with null.
    """  # noqa: D205  one sentence each
    from pyarrow.dataset import get_partition_keys  # noqa: PLC0415  it imports pandas

    own = fragment.physical_schema
    there = {*own.names, *get_partition_keys(fragment.partition_expression)}
    # The mark of prepared rows is each file's own.
    wanted = pa.schema([field for field in schema if field.name in there], own.metadata)
    found: Iterator[pa.RecordBatch] = fragment.to_batches(schema=wanted)
    return found


def _unlearnable(data: Any) -> str:
    message = f"cannot learn from {type(data).__name__}; give an Arrow table or dataset, or a pandas frame"
    if isinstance(data, str | PathLike):
        message += f": files are read by pyarrow.dataset.dataset({str(data)!r:.90}), tables of Spark by etl.spark.fit"
    return message


def is_in_memory(data: Any) -> bool:
    """Whether it is an Arrow table or batch, or a pandas frame."""
    return isinstance(data, pa.Table | pa.RecordBatch) or is_pandas(data)


def _is_dataset(data: Any) -> bool:
    """Told by its name, since pyarrow.dataset imports pandas."""
    return type(data).__module__ == "pyarrow._dataset"


def watched(data: Any, names: Sequence[str]) -> Sequence[Piece]:
    """The pieces of the data. That it changes while these columns of it are learned from is noticed, where it may: of a
    function and a dataset.
    """  # noqa: D205  one sentence
    pieces = pieces_of(data)
    if not callable(data) and not _is_dataset(data):
        return pieces
    return [piece._replace(batches=_Steady(piece, names).batches) for piece in pieces]


class _Steady:
    """A piece of data that may change while it is learned from: a function, or files that nothing has pinned."""

    def __init__(self, piece: Piece, names: Sequence[str]) -> None:
        """`names` are the columns that are learned from."""
        self._piece = piece
        self._names = names
        self._found: int | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches of the piece.

        Raises:
            InputChanged: behind the last one, where they are others than the last time.
            ReadError: they cannot be read.
        """
        where, found = self._piece.name or "the data", 0
        try:
            for batch in self._piece.batches():
                found = checksum(batch, self._names, found)
                yield batch
        except (pa.ArrowException, OSError) as error:
            said = " ".join(str(error).split()).rstrip(". ")
            message = f"{where}: cannot be read: {said}. Put it back, or fit again without it."
            raise ReadError(message) from error
        if self._found not in {None, found}:
            message = f"{where}: is not what it was in the pass before. Fit again, from data that nothing changes."
            raise InputChanged(message)
        self._found = found
