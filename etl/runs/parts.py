"""Write the predictions of a split as pending files: in folders, sorted, of some size, as the run asks for.

A split's rows are in files of its own, since it is what an attempt commits; so files are as large as asked for only
where a split's predictions are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from etl.errors import StorageError
from etl.runs.partitions import Partitioning
from etl.runs.write import ROW_GROUP_BYTES, ParquetWriter

if TYPE_CHECKING:
    import pyarrow as pa

    from etl.runs.receipt import Written
    from etl.runs.shape import Shape
    from etl.runs.storage import Storage

__all__ = ["PartsWriter", "Place"]

_MOST_FILES = 10_000
"""Of a split: more are a column of keys that was taken for one of groups."""


class Place(Protocol):
    """Where a file goes."""

    def __call__(self, *, partition: str, number: int) -> str:
        """Path of the file of this number among those of the split, in the folder of a partition."""


class PartsWriter:
    """The files of a split. Rows of all folders together are held up to a row group's size, or a file's if sorted."""

    def __init__(self, storage: Storage, place: Place, *, schema: pa.Schema, shape: Shape) -> None:
        """Nothing is created yet."""
        self.partitioning = Partitioning(schema, shape.partition_by)
        self._storage = storage
        self._place = place
        self._shape = shape
        self._held = 0
        self._begun = 0
        self._open: dict[str, ParquetWriter] = {}
        """By folder; the one that was written to last is the last."""
        self._done: list[Written] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the predictions' schema."""
        for partition, rows in self.partitioning.divide(batch):
            self._hold(partition, rows)
        most = self._shape.file_bytes if self._shape.sort_by else ROW_GROUP_BYTES
        while self._held >= most:
            self._write_largest()

    def _hold(self, partition: str, rows: pa.RecordBatch) -> None:
        if not rows.num_rows:
            return
        writer = self._open.pop(partition, None) or self._new(partition)
        before = writer.buffered
        writer.hold(rows)
        self._held += writer.buffered - before
        self._open[partition] = writer

    def _new(self, partition: str) -> ParquetWriter:
        path = self._place(partition=partition, number=self._begun)
        if self._begun >= _MOST_FILES:
            message = (
                f"{path}: one split makes more than {_MOST_FILES:,} files. Let output.partition_by name columns with "
                "fewer values, or order the input by them."
            )
            raise StorageError(message)
        self._begun += 1
        return ParquetWriter(self._storage, path, self.partitioning.file_schema)

    def _write_largest(self) -> None:
        partition, writer = max(self._open.items(), key=lambda item: item[1].buffered)
        if self._shape.sort_by:
            # The rows of a file are sorted in memory, so what is held is the file.
            self._end(partition)
            return
        begun = [name for name, one in self._open.items() if one.is_begun]
        if not writer.is_begun and len(begun) >= self._shape.open_files:
            self._end(begun[0])
        self._held -= writer.buffered
        writer.flush()
        if writer.bytes >= self._shape.file_bytes:
            self._end(partition)

    def _end(self, partition: str) -> None:
        writer = self._open[partition]
        self._held -= writer.buffered
        written = writer.finish(self._shape.sort_by)
        del self._open[partition]
        if written is not None:
            self._done.append(written.model_copy(update={"partition": partition}))

    def finish(self) -> tuple[Written, ...]:
        """Make all files durable; none when there was no row."""
        for partition in list(self._open):
            self._end(partition)
        return tuple(self._done)

    def abort(self) -> None:
        """Throw all files away."""
        for writer in self._open.values():
            writer.abort()
        for written in self._done:
            self._storage.abort(written.pending)
