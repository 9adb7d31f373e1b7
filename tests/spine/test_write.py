"""Writing predictions and quarantined rows: what was written is read back, and what was not written is not there."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import etl.runs.write
from etl.errors import StorageError
from etl.runs.write import ArrowWriter, ParquetWriter
from tests.spine.builders import STORE
from tests.stores.site import sha256

if TYPE_CHECKING:
    from etl.runs.storage import Storage

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64()),
        pa.field("p", pa.float32()),
        pa.field("name", pa.string()),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("classes", pa.list_(pa.float32())),
    ]
)
WRITERS = pytest.mark.parametrize("kind", [ParquetWriter, ArrowWriter])
Writer = type[ParquetWriter] | type[ArrowWriter]


def batch_of(rows: int, first: int = 0) -> pa.RecordBatch:
    """Rows with a number of their own, some values missing; NaN, which is no missing value."""
    numbers = range(first, first + rows)
    columns = [
        pa.array(numbers, pa.int64()),
        pa.array([float("nan") if number % 3 == 0 else number / 7 for number in numbers], pa.float32()),
        pa.array([None if number % 4 == 0 else f"é{number}" for number in numbers], pa.string()),
        pa.array(numbers, pa.timestamp("us", "UTC")),
        pa.array([[number, 0.5][: number % 3] for number in numbers], pa.list_(pa.float32())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def read_back(kind: Writer, path: str) -> pa.Table:
    """All rows of a file."""
    return pq.read_table(path) if kind is ParquetWriter else pa.ipc.open_file(path).read_all()


def same(left: pa.Table, right: pa.Table) -> bool:
    """Whether two tables have equal schemas and rows; NaN equals NaN."""
    return left.schema.equals(right.schema) and left.to_pandas().equals(right.to_pandas())


@WRITERS
@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(0, 30), max_size=6), buffer=st.sampled_from([1, 2000, 1 << 20]))
def test_what_was_written_is_read_back(kind: Writer, sizes: list[int], buffer: int) -> None:
    """A file has the rows of all batches in their order and the writer's schema; it says truly how large it is."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(etl.runs.write, "ROW_GROUP_BYTES", buffer)
        path = f"{folder}/new/part"
        writer = kind(STORE, path, SCHEMA)
        batches = [batch_of(size + 2, sum(sizes[:number]) - 1).slice(1, size) for number, size in enumerate(sizes)]
        for batch in batches:
            writer.write(batch)
        written = writer.finish()
        if not sum(sizes):
            assert written is None
            assert list(Path(folder).rglob("*")) == []
            return
        assert written is not None
        assert written.rows == writer.rows == sum(sizes)
        STORE.complete(written.pending)
        data = Path(path).read_bytes()
        assert (written.pending.bytes, written.pending.sha256) == (len(data), sha256(data))
        assert same(read_back(kind, path), pa.Table.from_batches(batches, SCHEMA))


def test_row_groups_are_not_tiny(tmp_path: Path) -> None:
    """Many small batches become few row groups."""
    writer = ParquetWriter(STORE, str(tmp_path / "part"), SCHEMA)
    for number in range(50):
        writer.write(batch_of(10, number * 10))
    written = writer.finish()
    assert written is not None
    STORE.complete(written.pending)
    assert pq.read_metadata(tmp_path / "part").num_row_groups == 1


def test_scores_are_written_without_a_dictionary(tmp_path: Path) -> None:
    """Columns of floats, at whatever depth of lists and structs, have no dictionary; all others have one."""
    pairs = pa.struct({"label": pa.string(), "score": pa.float32()})
    others = {
        "labels": pa.array([["a", "b"]] * 100, pa.list_(pa.string())),
        "fixed": pa.array([[0.5, 1.5]] * 100, pa.list_(pa.float32(), 2)),
        "deep": pa.array([[[0.5], [1.5]]] * 100, pa.list_(pa.list_(pa.float64(), 1), 2)),
        "masks": pa.array([[[1], [0]]] * 100, pa.list_(pa.list_(pa.int16()), 2)),
        "best": pa.array([[{"label": "a", "score": 0.5}]] * 100, pa.list_(pairs, 1)),
    }
    schema = pa.schema([*SCHEMA, *(pa.field(name, array.type) for name, array in others.items())])
    writer = ParquetWriter(STORE, str(tmp_path / "part"), schema)
    writer.write(pa.RecordBatch.from_arrays([*batch_of(100).columns, *others.values()], schema=schema))
    written = writer.finish()
    assert written is not None
    STORE.complete(written.pending)
    group = pq.read_metadata(tmp_path / "part").row_group(0)
    chunks = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    found = {path: chunk.has_dictionary_page for path, chunk in chunks.items()}
    floats = {"fixed.list.element", "deep.list.element.list.element", "best.list.element.score"}
    without = {"p", "classes.list.element"} | floats
    assert floats <= found.keys()
    assert found == {path: path not in without for path in chunks}


@WRITERS
@pytest.mark.parametrize("buffer", [1, 1 << 20])
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_aborted_file_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, kind: Writer, buffer: int, batches: int
) -> None:
    """A writer that is aborted before or after its first row group leaves no file, and nothing to be said later."""
    monkeypatch.setattr(etl.runs.write, "ROW_GROUP_BYTES", buffer)
    writer = kind(STORE, str(tmp_path / "part"), SCHEMA)
    for _ in range(batches):
        writer.write(batch_of(5))
    writer.abort()
    del writer
    gc.collect()  # pyarrow's writer would end its file now; a warning is an error here
    assert list(tmp_path.iterdir()) == []


@WRITERS
def test_an_aborted_finished_file_leaves_nothing(tmp_path: Path, kind: Writer) -> None:
    """A file that was finished can still be thrown away."""
    writer = kind(STORE, str(tmp_path / "part"), SCHEMA)
    writer.write(batch_of(5))
    assert writer.finish() is not None
    writer.abort()
    assert list(tmp_path.iterdir()) == []


class FullDisk:
    """A sink that refuses everything after its first bytes, as a full disk does."""

    def __init__(self):
        self.closed = False
        self.room = 10

    def write(self, data, /):
        """See `etl.runs.storage.PendingWriter.write`."""
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise StorageError("/out/part: no space left to write.")
        return memoryview(data).nbytes

    def flush(self):
        """See `etl.runs.storage.PendingWriter.flush`."""

    close = flush

    def abort(self):
        """See `etl.runs.storage.PendingWriter.abort`."""
        self.closed = True


class FullStore:
    """A store whose only operation ends in a full disk."""

    def begin(self, _):
        """See `etl.runs.storage.Storage.begin`."""
        return FullDisk()


@WRITERS
def test_a_refusal_of_the_store_is_told_once(kind: Writer) -> None:
    """What the store says when it refuses bytes comes out as it is, and aborting afterwards says nothing more."""
    writer = kind(cast("Storage", FullStore()), "/out/part", SCHEMA)
    with pytest.raises(StorageError, match="no space left"):  # noqa: PT012  which of the two writes is the writer's own
        for number in range(100):
            writer.write(batch_of(1000, number))
        writer.finish()
    writer.abort()
    del writer
    gc.collect()
