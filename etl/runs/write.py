"""Write predictions (Parquet) and quarantined rows (Arrow IPC) as pending files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from etl.runs.receipt import Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.runs.storage import PendingWriter, Storage

__all__ = ["ArrowWriter", "ParquetWriter"]

ROW_GROUP_BYTES = 32 << 20
"""Output is buffered to row groups of about this size: `write_batch` makes one a call, and tiny ones read slowly."""
_DICTIONARY_BYTES = 1 << 18
"""A column whose dictionary grows above this is written without one: a quarter of Parquet's own limit, because keys are
hardly ever equal, and a million of them took 20 % longer until that was found out."""


class ParquetWriter:
    """A pending Parquet file that begins with its first batch, so that a split without rows leaves none."""

    def __init__(self, storage: Storage, path: str, schema: pa.Schema) -> None:
        """Nothing is created yet."""
        self._storage = storage
        self._path = path
        self._schema = schema
        self._sink: PendingWriter | None = None
        self._writer: pq.ParquetWriter | None = None
        self._stream: pa.NativeFile | None = None
        self._buffer: list[pa.RecordBatch] = []
        self.buffered = 0
        """Bytes of rows that are held until they make a row group."""
        self.rows = 0

    @property
    def bytes(self) -> int:
        """Size of the file so far, without the rows that are held."""
        return self._stream.tell() if self._stream is not None else 0

    @property
    def is_begun(self) -> bool:
        """Whether there is a file yet."""
        return self._writer is not None

    def hold(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the writer's schema; whoever calls this says when rows are written."""
        if batch.num_rows:
            self._buffer.append(batch)
            self.buffered += batch.nbytes
            self.rows += batch.num_rows

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the writer's schema."""
        self.hold(batch)
        if self.buffered >= ROW_GROUP_BYTES:
            self.flush()

    def flush(self, sort_by: Sequence[str] = ()) -> None:
        """Write the rows that are held, in ascending order of some columns where there are any, nulls last."""
        if not self._buffer:
            return
        if self._writer is None:
            self._sink = self._storage.begin(self._path)
            self._stream = pa.PythonFile(self._sink, mode="w")
            columns = _columns_with_dictionary(self._schema)
            self._writer = pq.ParquetWriter(
                self._stream,
                self._schema,
                compression="zstd",
                use_dictionary=columns,
                dictionary_pagesize_limit=_DICTIONARY_BYTES,
            )
        table = pa.Table.from_batches(self._buffer, self._schema)
        if sort_by:
            table = table.sort_by([(name, "ascending") for name in sort_by])
        rows = table.num_rows if not sort_by else max(1, table.num_rows * ROW_GROUP_BYTES // max(1, table.nbytes))
        self._writer.write_table(table, row_group_size=max(1, rows))
        self._buffer, self.buffered = [], 0

    def finish(self, sort_by: Sequence[str] = ()) -> Written | None:
        """Make the file durable; None when there was no row."""
        if self.rows == 0:
            return None
        self.flush(sort_by)
        assert self._writer is not None  # noqa: S101  rows > 0 means that a flush made both
        assert self._sink is not None  # noqa: S101  as above
        self._writer.close()
        return Written(pending=self._sink.finish(), rows=self.rows)

    def abort(self) -> None:
        """Throw the file away."""
        if self._writer is not None:
            self._writer.is_open = False  # Or it would write its footer into the sink when it is collected.
        if self._sink is not None:
            self._sink.abort()


def _columns_with_dictionary(schema: pa.Schema) -> list[str]:
    """Paths of all columns but floats.

    Scores are hardly ever equal, so a dictionary of them is given up when it has grown: writing took three times as
    long and 15 % more bytes with one than without (a million float32).
    """
    return [path for field in schema for path in _dictionary_paths(field.name, field.type)]


def _dictionary_paths(path: str, type_: pa.DataType) -> list[str]:
    """The columns of Parquet that a column becomes, by their paths, without floats."""
    if pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_):
        return _dictionary_paths(f"{path}.list.element", type_.value_type)
    if pa.types.is_struct(type_):
        return [found for part in type_ for found in _dictionary_paths(f"{path}.{part.name}", part.type)]
    return [] if pa.types.is_floating(type_) else [path]


class ArrowWriter:
    """A pending Arrow IPC file that begins with its first batch."""

    def __init__(self, storage: Storage, path: str, schema: pa.Schema) -> None:
        """Nothing is created yet."""
        self._storage = storage
        self._path = path
        self._schema = schema
        self._sink: PendingWriter | None = None
        self._writer: pa.RecordBatchFileWriter | None = None
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the writer's schema."""
        if not batch.num_rows:
            return
        if self._writer is None:
            self._sink = self._storage.begin(self._path)
            self._writer = pa.ipc.new_file(self._sink, self._schema)
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def finish(self) -> Written | None:
        """Make the file durable; None when there was no row."""
        if self._writer is None or self._sink is None:
            return None
        self._writer.close()
        return Written(pending=self._sink.finish(), rows=self.rows)

    def abort(self) -> None:
        """Throw the file away."""
        if self._sink is not None:
            self._sink.abort()
