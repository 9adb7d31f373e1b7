"""Read a split: the row groups of a pinned Parquet file whose first byte lies in the split's range."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.errors import InputChanged, ReadError
from etl.types import without_views

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy.typing as npt

    from etl.runs.splits import InputFile, Split
    from etl.runs.storage import Storage

__all__ = ["ROW", "RowGroup", "SplitReader", "open_parquet", "read_row_group", "read_whole"]

ROW = "__batchscore_row"
"""Name of the column that carries a row's index in its file through filters and batching."""


_STREAM_BYTES = 1 << 18
"""Read-ahead of each column chunk."""


_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What pyarrow raises over bytes that are no Parquet, but see `_is_damage`; the last where a name is no text."""


class RowGroup(NamedTuple):
    """A row group of a split."""

    number: int
    """Position in the file, from 0."""
    first_row: int
    """Index in the file of its first row."""
    rows: int
    """How many."""


class SplitReader:
    """The rows of a split, in file order, with the columns that are asked for."""

    def __init__(self, storage: Storage, split: Split) -> None:
        """Open the file and find the split's row groups; reads the footer only.

        Raises:
            InputChanged: the file is not the one that was pinned.
            ReadError: it is no Parquet file, or a damaged one.
        """
        self.path = split.file.path
        self._file = open_parquet(storage, split.file)
        self.schema: pa.Schema = self._file.schema_arrow
        self.row_groups = tuple(_row_groups(self._file.metadata, split))

    @property
    def rows(self) -> int:
        """Rows of the split, from the footer."""
        return sum(group.rows for group in self.row_groups)

    def row_groups_of(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Number and first row of the row group of each of these rows of the split, given by index in the file."""
        starts = np.array([group.first_row for group in self.row_groups], dtype=np.int64)
        numbers = np.array([group.number for group in self.row_groups], dtype=np.int32)
        found = np.searchsorted(starts, rows, side="right") - 1
        return numbers[found], starts[found]

    def compressed_bytes(self, columns: list[str]) -> int:
        """Size in the file of the chunks of these columns."""
        total = 0
        for group in self.row_groups:
            facts = self._file.metadata.row_group(group.number)
            chunks = [facts.column(number) for number in range(facts.num_columns)]
            total += sum(c.total_compressed_size for c in chunks if c.path_in_schema.split(".")[0] in columns)
        return total

    def batches(self, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Batches of at most `batch_rows` rows of one row group, with the row's index in the file as column `ROW`.

        Raises:
            ReadError: a page is damaged; names the file and the row group.
        """
        for group in self.row_groups:
            row = group.first_row
            with _decoding(self.path, group.number):
                for batch in self._file.iter_batches(
                    batch_rows, row_groups=[group.number], columns=columns, use_threads=False
                ):
                    index = pa.array(np.arange(row, row + batch.num_rows, dtype=np.int64))
                    row += batch.num_rows
                    yield without_views(batch.append_column(ROW, index))
            if row != group.first_row + group.rows:
                gave = row - group.first_row
                message = f"{self.path}: row group {group.number} gave {gave} rows, its footer says {group.rows}."
                raise ReadError(message)


def open_parquet(storage: Storage, file: InputFile) -> pq.ParquetFile:
    """Open a pinned file.

    Raises:
        InputChanged: it is not the one that was pinned.
        ReadError: it is no Parquet file, or a damaged one. What the system refuses for other reasons stays an OSError,
            which Spark tries again.
    """
    now = storage.stat(file.path)
    if now is None or now.etag != file.etag:
        what = "was removed" if now is None else f"was replaced ({file.bytes} bytes then, {now.bytes} now)"
        message = f"{file.path}: {what} after the run was planned. Put it back, or score under a new run id."
        raise InputChanged(message)
    try:
        # Streaming column chunks took 0.9 s where pre-buffering took 3.4 s (200 columns, 0.5 GB, local disk), and holds
        # pages instead of whole row groups.
        return pq.ParquetFile(storage.open_input(file.path), pre_buffer=False, buffer_size=_STREAM_BYTES)
    except _DAMAGE as error:
        if not _is_damage(error):
            raise
        message = f"{file.path}: not a Parquet file, or a damaged one: {_said(error)}. Replace or remove it."
        raise ReadError(message) from error


def read_row_group(storage: Storage, file: InputFile, number: int, *, columns: Sequence[str]) -> list[pa.RecordBatch]:
    """Some columns of a row group of a pinned file.

    Raises:
        InputChanged: the file is not the one that was pinned.
        ReadError: it is damaged; names the file and the row group.
    """
    parquet = open_parquet(storage, file)
    with _decoding(file.path, number):
        batches: list[pa.RecordBatch] = (
            parquet.read_row_group(number, columns=list(columns)).combine_chunks().to_batches()
        )
        return batches


@contextlib.contextmanager
def _decoding(path: str, group: int) -> Generator[None]:
    """Say which row group of which file is damaged."""
    try:
        yield
    except _DAMAGE as error:
        if not _is_damage(error):
            raise
        message = f"{path}: row group {group} cannot be decoded: {_said(error)}. Replace the file."
        raise ReadError(message) from error


def read_whole(storage: Storage, file: InputFile) -> pa.Table:
    """All rows and columns of a pinned file; errors are those of `open_parquet`."""
    parquet = open_parquet(storage, file)
    try:
        return parquet.read()
    except _DAMAGE as error:
        if not _is_damage(error):
            raise
        message = f"{file.path}: a damaged Parquet file: {_said(error)}. Replace or remove it."
        raise ReadError(message) from error


def _is_damage(error: Exception) -> bool:
    """Whether the bytes are at fault. Where the machine is (its memory, its disk), trying again may help."""
    if isinstance(error, OSError):
        return error.errno is None  # Parquet's own: it says OSError of corrupt thrift, and asked no system.
    return not isinstance(error, pa.ArrowMemoryError | pa.ArrowCancelled)


def _said(error: Exception) -> str:
    """An error of Arrow's in one line and without a full stop."""
    return " ".join(str(error).split()).rstrip(". ")


def _row_groups(metadata: pq.FileMetaData, split: Split) -> Iterator[RowGroup]:
    first_row = 0
    for index in range(metadata.num_row_groups):
        facts = metadata.row_group(index)
        first_byte = _first_byte(facts)
        if not 0 <= first_byte < split.file.bytes:
            # It would belong to no split, and nobody would miss its rows.
            where = f"row group {index} begins at byte {first_byte} of {split.file.bytes}"
            message = f"{split.file.path}: a damaged footer says that {where}. Replace the file."
            raise ReadError(message)
        if split.start <= first_byte < split.end:
            yield RowGroup(index, first_row, facts.num_rows)
        first_row += facts.num_rows
    if first_row != metadata.num_rows:
        found = f"{metadata.num_rows} rows, in row groups {first_row}"
        message = f"{split.file.path}: a damaged footer says that the file has {found}. Replace the file."
        raise ReadError(message)


def _first_byte(facts: pq.RowGroupMetaData) -> int:
    """Where the row group begins. Several writers leave `file_offset` 0, so the first chunk's page is asked."""
    if not facts.num_columns:
        return 0
    chunk = facts.column(0)
    offset: int = chunk.dictionary_page_offset or chunk.data_page_offset
    return offset
