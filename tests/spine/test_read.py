"""Reading splits: every row once with its place, and what is said of a file that is not as it was."""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import InputChanged, ReadError
from etl.runs.read import ROW, RangeReader
from etl.runs.splits import SPLIT, cut_splits
from tests.spine.builders import STORE, pin, whole, write_groups

if TYPE_CHECKING:
    from etl.runs.storage import Storage

REPOSITORY = Path(__file__).parents[2]
COLUMNS = ["id", "name", "vector"]


def read_all(path: Path, *, target: int = 1 << 30, batch_rows: int = 1000, columns: list[str] = COLUMNS) -> pa.Table:
    """All rows of all splits, in the order of the splits."""
    batches = []
    for split in cut_splits((pin(path),), target):
        found = list(RangeReader(STORE, split.ranges[0]).batches(columns, batch_rows))
        assert all(batch.num_rows <= batch_rows for batch in found)
        batches += found
    return pa.Table.from_batches(batches) if batches else pa.table({})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=8), st.integers(20, 6000), st.integers(1, 50))
def test_splits_read_every_row_once(sizes: list[int], target: int, batch_rows: int) -> None:
    """The splits of a file, in any cut and any batches, are the file's rows with each row's index in the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.parquet")
        write_groups(path, sizes)
        found = read_all(path, target=target, batch_rows=batch_rows)
        expected = pq.read_table(path)
        if not expected.num_rows:
            assert found.num_rows == 0
            return
        assert found.column(ROW).to_pylist() == list(range(expected.num_rows))
        assert found.drop_columns([ROW]).equals(expected)


def test_views_are_read_as_the_strings_that_they_are(tmp_path: Path) -> None:
    """A column of string or binary views, of which Arrow can take no rows, is read as strings or bytes."""
    values = pa.array(["a", None, "b" * 40])
    table = pa.table({"s": values.cast(pa.string_view()), "b": values.cast(pa.binary_view())})
    pq.write_table(table, tmp_path / "part.parquet")
    found = read_all(tmp_path / "part.parquet", columns=["s", "b"])
    assert [field.type for field in found.schema][:2] == [pa.string(), pa.binary()]
    assert found.column("s").combine_chunks().equals(values)


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    """A batch has the columns that were asked for and the row's index, and the bytes read are those of their chunks.

    A small file may be read at once.
    """
    write_groups(tmp_path / "part.parquet", [10, 10])
    file = pin(tmp_path / "part.parquet")
    readers = [RangeReader(STORE, split.ranges[0]) for split in cut_splits((file,), file.bytes - 1)]
    assert {tuple(batch.schema.names) for reader in readers for batch in reader.batches(["id"], 9)} == {("id", ROW)}
    metadata = pq.read_metadata(tmp_path / "part.parquet")
    sizes = {
        name: sum(
            metadata.row_group(group).column(number).total_compressed_size
            for group in range(metadata.num_row_groups)
            for number in range(metadata.num_columns)
            if metadata.row_group(group).column(number).path_in_schema.split(".")[0] == name
        )
        for name in COLUMNS
    }
    assert sum(reader.bytes_of(["id"]) for reader in readers) == sizes["id"]
    assert sum(reader.bytes_of(COLUMNS) for reader in readers) == sum(sizes.values())
    small = RangeReader(STORE, whole(tmp_path / "part.parquet").ranges[0], at_once=True)
    assert small.bytes_of(["id"]) == file.bytes


def test_a_split_without_row_groups_has_no_rows(tmp_path: Path) -> None:
    """A split that no row group begins in has no rows and no bytes to read."""
    write_groups(tmp_path / "part.parquet", [1000])
    splits = cut_splits((pin(tmp_path / "part.parquet"),), 100)
    readers = [RangeReader(STORE, split.ranges[0]) for split in splits]
    assert [reader.rows for reader in readers] == [1000] + [0] * (len(splits) - 1)
    assert list(readers[1].batches(COLUMNS, 10)) == []
    assert readers[1].bytes_of(COLUMNS) == 0


def test_a_file_without_columns_has_no_row_groups_lost(tmp_path: Path) -> None:
    """A file without columns is opened like any other, so that its schema can be refused."""
    pq.write_table(pa.table({}), tmp_path / "part.parquet")
    reader = RangeReader(STORE, whole(tmp_path / "part.parquet").ranges[0])
    assert reader.schema.names == []
    assert reader.rows == 0


def test_a_column_with_a_dot_is_not_read_as_its_neighbour(tmp_path: Path) -> None:
    """A column whose name is the beginning of another's, up to a dot, keeps its own values."""
    pq.write_table(pa.table({"a.b": [1, 2], "a": [3, 4]}), tmp_path / "part.parquet")
    [batch] = RangeReader(STORE, whole(tmp_path / "part.parquet").ranges[0]).batches(["a"], 10)
    assert batch.column("a").to_pylist() == [3, 4]


def test_a_removed_file_is_told(tmp_path: Path) -> None:
    """A pinned file that was removed is InputChanged with its path and the ways on."""
    path = tmp_path / "part.parquet"
    write_groups(path, [10])
    split = whole(path)
    path.unlink()
    told = f"{path}: was removed after the run was planned. Put the planned one back, with its time of modification"
    with pytest.raises(InputChanged, match=re.escape(told)):
        RangeReader(STORE, split.ranges[0])


@pytest.mark.parametrize("sizes", [[20], [5, 5], [10]])
def test_a_replaced_file_is_told(tmp_path: Path, sizes: list[int]) -> None:
    """A pinned file that was replaced is InputChanged with its path and both sizes, also by one of equal size."""
    path = tmp_path / "part.parquet"
    write_groups(path, [10])
    split = whole(path)
    os.utime(path, ns=(0, 0))
    write_groups(path, sizes)
    message = f"{path}: was replaced ({split.bytes} bytes then, {path.stat().st_size} now) after the run was planned"
    with pytest.raises(InputChanged, match=re.escape(message)):
        RangeReader(STORE, split.ranges[0])


def test_a_file_replaced_between_splits_is_told(tmp_path: Path) -> None:
    """A file that is replaced after some of its splits were read is InputChanged for the next one."""
    path = tmp_path / "part.parquet"
    write_groups(path, [50, 50])
    first, second = cut_splits((pin(path),), -(-path.stat().st_size // 2))
    assert list(RangeReader(STORE, first.ranges[0]).batches(["id"], 100))
    os.utime(path, ns=(0, 0))
    with pytest.raises(InputChanged, match="was replaced"):
        RangeReader(STORE, second.ranges[0])


@pytest.mark.parametrize("keep", [0, 3, 4, 100, -1, -4, -8])
def test_a_truncated_file_is_told(tmp_path: Path, keep: int) -> None:
    """A file that was pinned without its end is a ReadError with its path and a remedy."""
    path = tmp_path / "part.parquet"
    write_groups(path, [100])
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    message = re.escape(f"{path}: not a Parquet file, or a damaged one: ") + ".*Replace or remove it"
    with pytest.raises(ReadError, match=message):
        RangeReader(STORE, whole(path).ranges[0])


def test_another_kind_of_file_is_told(tmp_path: Path) -> None:
    """A file that is no Parquet is a ReadError with its path."""
    (tmp_path / "part.csv").write_text("id,name\n" * 100)
    with pytest.raises(ReadError, match=re.escape(f"{tmp_path / 'part.csv'}: not a Parquet file")):
        RangeReader(STORE, whole(tmp_path / "part.csv").ranges[0])


def test_a_row_group_outside_of_the_file_is_told(tmp_path: Path) -> None:
    """A row group that would begin outside of the pinned bytes, and so in no split, is a ReadError."""
    path = tmp_path / "part.parquet"
    write_groups(path, [10, 10])
    file = replace(pin(path), bytes=20)
    with pytest.raises(ReadError, match=rf"{path}: a damaged footer says that row group 1 begins at byte \d+ of 20"):
        [RangeReader(STORE, split.ranges[0]) for split in cut_splits((file,), 10)]


@pytest.mark.parametrize("group", [0, 1, 2])
def test_a_damaged_page_is_told_with_its_row_group(tmp_path: Path, group: int) -> None:
    """A page that cannot be decoded is a ReadError with the path and the row group; the ones before it are read."""
    path = tmp_path / "part.parquet"
    write_groups(path, [1000, 1000, 1000])
    chunk = pq.read_metadata(path).row_group(group).column(0)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    read: list[pa.RecordBatch] = []
    with pytest.raises(ReadError, match=f"{path}: row group {group} cannot be decoded: .*Replace the file"):
        read.extend(RangeReader(STORE, whole(path).ranges[0]).batches(["id"], 1000))
    assert sum(batch.num_rows for batch in read) == 1000 * group


def test_a_process_out_of_files_is_no_damaged_file(tmp_path: Path) -> None:
    """Where the process may open no more files the system's own error comes through, so that Spark tries again."""
    path = tmp_path / "part.parquet"
    write_groups(path, [10])
    split = whole(path)
    program = f"""
import resource
from etl.runs.splits import SPLIT
from tests.spine.test_read import *
split = SPLIT.validate_json({SPLIT.dump_json(split)!r})
RangeReader(STORE, split.ranges[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    RangeReader(STORE, split.ranges[0])
except OSError as error:
    print(error.errno)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
    )
    assert int(done.stdout) == errno.EMFILE


class BrokenStore:
    """A store whose files fail from some byte on, as they do on a broken disk."""

    def __init__(self, error: Exception):
        self.error = error
        self.is_broken = False

    def __getattr__(self, name):
        return getattr(STORE, name)

    def open_input(self, path):
        """See `etl.runs.storage.Storage.open_input`."""
        store = self

        class Broken(io.FileIO):
            def read(self, size=-1):
                if store.is_broken:
                    raise store.error
                return super().read(size)

        return pa.PythonFile(Broken(path), mode="r")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), pa.ArrowMemoryError("malloc failed")])
def test_a_machine_at_fault_is_no_damaged_file(tmp_path: Path, error: Exception) -> None:
    """A disk that cannot be read, or memory that is not there, is told as itself and not as a file to be replaced."""
    path = tmp_path / "part.parquet"
    write_groups(path, [10])
    store = BrokenStore(error)
    first = cut_splits((pin(path),), path.stat().st_size - 1)[0].ranges[0]  # so that it is not read at once
    reader = RangeReader(cast("Storage", store), first)
    store.is_broken = True
    for read in (
        lambda: list(reader.batches(COLUMNS, 10)),
        lambda: RangeReader(cast("Storage", store), whole(path).ranges[0]),
    ):
        with pytest.raises(type(error)) as caught:
            read()
        assert not isinstance(caught.value, ReadError)
        assert getattr(caught.value, "errno", None) == getattr(error, "errno", None)


def spoil_every_part(path: Path) -> None:
    """Read a file with one wrong byte, at many places; anything but all its rows and a ReadError is an error here."""
    data = path.read_bytes()
    for place in range(3, len(data), 17):
        spoiled = bytearray(data)
        spoiled[place] ^= 0xFF
        path.write_bytes(spoiled)
        try:
            found = read_all(path)
        except ReadError as error:
            if str(path) not in str(error):
                raise
        else:
            assert found.column(ROW).to_pylist() == list(range(60))


def test_no_damage_to_a_file_is_a_defect_of_ours(tmp_path: Path) -> None:
    """Any byte of a file may be wrong: its rows are read in their number and place, or a ReadError names the file.

    In a process of its own, for pyarrow may abort.
    """
    path = tmp_path / "part.parquet"
    write_groups(path, [30, 30])
    program = f"import pathlib; from tests.spine.test_read import *; spoil_every_part(pathlib.Path({str(path)!r}))"
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=REPOSITORY, check=True)


def write_with_footer(path: Path, *, file_rows: int, group_rows: int) -> None:
    """A file of 20 and 33 rows whose footer says another number of rows of the file, and of its second row group."""
    write_groups(path, [20, 33])
    data = path.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = bytearray(data[start:-8])
    # A number as thrift writes it behind the number of its field: doubled. The group's stands behind its columns'.
    of_file, of_group = footer.index(bytes([0x16, 2 * 53])), footer.rindex(bytes([0x16, 2 * 33]))
    footer[of_file + 1], footer[of_group + 1] = 2 * file_rows, 2 * group_rows
    path.write_bytes(data[:start] + footer + data[-8:])
    metadata = pq.read_metadata(path)
    assert (metadata.num_rows, metadata.row_group(1).num_rows) == (file_rows, group_rows)


def test_a_footer_that_contradicts_itself_is_told(tmp_path: Path) -> None:
    """A footer whose row groups do not have the file's number of rows is a ReadError, for rows would be lost."""
    path = tmp_path / "part.parquet"
    write_with_footer(path, file_rows=52, group_rows=33)
    with pytest.raises(ReadError, match=f"{path}: a damaged footer says that the file has 52 rows, in row groups 53"):
        RangeReader(STORE, whole(path).ranges[0])


def test_a_row_group_of_fewer_rows_than_its_footer_says_is_told(tmp_path: Path) -> None:
    """A row group that ends before the footer's number of rows is a ReadError with both numbers."""
    path = tmp_path / "part.parquet"
    write_with_footer(path, file_rows=54, group_rows=34)
    with pytest.raises(ReadError, match=f"{path}: row group 1 gave 33 rows, its footer says 34"):
        read_all(path)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (pa.table({"a": [[1]]}), pa.table({"a": [[1, 2]]}), True),
        (pa.table({"a": [[1]]}), pa.table({"b": [[1]]}), False),
        (pa.table({"a": [{"x": 1}]}), pa.table({"b": [{"x": 1}]}), False),
        (pa.table({"a": [1]}), pa.table({"a": pa.array([1], pa.int32())}), False),
        (pa.table({"a": [1], "b": [2]}), pa.table({"b": [1], "a": [2]}), False),
    ],
)
def test_files_of_one_form_have_one_schema(tmp_path: Path, one: pa.Table, other: pa.Table, *, alike: bool) -> None:
    """The form of a file tells its columns apart though its writer was not Arrow, also where their leaves are alike."""
    readers = []
    for name, table in (("one", one), ("other", other)):
        pq.write_table(table, tmp_path / name, store_schema=False)
        readers.append(RangeReader(STORE, whole(tmp_path / name).ranges[0]))
    assert (readers[0].form == readers[1].form) == alike
    assert readers[0].schema.equals(readers[1].schema) == alike
