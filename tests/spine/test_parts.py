"""Predictions in folders, sorted, and of some size: every row is in one file, where other engines look for it."""

from __future__ import annotations

import datetime as dt
import tempfile
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import etl.runs.parts
from etl.errors import StorageError
from etl.runs.layout import Layout
from etl.runs.partitions import Partitioning, partition_columns, partition_values
from etl.runs.parts import PartsWriter
from etl.runs.shape import Shape
from tests.spine.builders import STORE

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from etl.runs.receipt import Written

SCHEMA = pa.schema(
    [
        ("day", pa.date32()),
        ("id", pa.int64()),
        ("country", pa.string()),
        ("p", pa.float32()),
        ("is_new", pa.bool_()),
        ("zone", pa.int16()),
    ]
)
DAYS = [dt.date(2026, 1, 1), dt.date(1969, 12, 31), None]
COUNTRIES = ["de", "CÔTE D'IVOIRE", "a/b=c%d", "100%", "x y", "{*?}", "é", "2026-01-01", "007", None]


def rows_of(count: int, first: int = 0) -> pa.RecordBatch:
    """Rows with a number of their own."""
    numbers = range(first, first + count)
    columns = [
        [DAYS[number % 3] for number in numbers],
        list(numbers),
        [COUNTRIES[number % 10] for number in numbers],
        [1 / (number % 7 + 1) for number in numbers],
        [None if number % 5 == 0 else number % 2 == 0 for number in numbers],
        [number % 3 - 1 for number in numbers],
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def write(folder: str, batches: list[pa.RecordBatch], shape: Shape) -> tuple[Written, ...]:
    """The files that batches become, completed."""
    layout = Layout(folder, "run")
    writer = PartsWriter(
        STORE,
        lambda *, partition, number: layout.part("000000", "abc", partition=partition, number=number),
        schema=SCHEMA,
        shape=shape,
    )
    for batch in batches:
        writer.write(batch)
    found = writer.finish()
    for written in found:
        STORE.complete(written.pending)
    return found


def row_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row as something to compare."""
    return tuple(row[name] for name in SCHEMA.names)


def read_back(found: tuple[Written, ...]) -> list[tuple[Any, ...]]:
    """All rows, with what the folders say; fails where a file is in another folder than its receipt says."""
    rows = []
    for written in found:
        assert f"/{written.partition}/part-" in written.pending.path or not written.partition
        values = partition_values(written.partition, SCHEMA)
        table = pq.ParquetFile(written.pending.path).read()
        assert table.num_rows == written.rows
        assert values.keys() == partition_columns(written.partition)
        assert not values.keys() & set(table.schema.names)
        told = {name: value.as_py() for name, value in values.items()}
        rows += [row_of({**row, **told}) for row in table.to_pylist()]
    return rows


SHAPES = st.builds(
    Shape,
    partition_by=st.sampled_from([(), ("country",), ("day", "zone"), ("is_new", "country", "day")]),
    sort_by=st.sampled_from([(), ("p", "id")]),
    file_bytes=st.sampled_from([1, 3_000, 1 << 20]),
    open_files=st.sampled_from([1, 2, 100]),
)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 60), max_size=6), shape=SHAPES, group=st.sampled_from([1, 900, 1 << 20]))
def test_every_row_is_in_one_file_of_its_folder(sizes: list[int], shape: Shape, group: int) -> None:
    """However rows come, and whatever is asked for, each is in one file, below the folder that its values name; what
    is sorted is in order in each file.
    """  # noqa: D205  one sentence
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(etl.runs.parts, "ROW_GROUP_BYTES", group)
        batches = [rows_of(size + 1, sum(sizes[:number])).slice(0, size) for number, size in enumerate(sizes)]
        found = write(folder, batches, shape)
        wanted = [row_of(row) for batch in batches for row in batch.to_pylist()]
        assert sorted(read_back(found), key=lambda row: row[1]) == sorted(wanted, key=lambda row: row[1])
        assert len({written.pending.path for written in found}) == len(found)
        if shape.sort_by:
            for written in found:
                keys = [(row["p"], row["id"]) for row in pq.ParquetFile(written.pending.path).read().to_pylist()]
                assert keys == sorted(keys)


def test_a_file_ends_where_it_is_large_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a split are ended at the size that was asked for, and not long after; the last may be smaller."""
    monkeypatch.setattr(etl.runs.parts, "ROW_GROUP_BYTES", 20_000)
    found = write(str(tmp_path), [rows_of(1_000, first) for first in range(0, 50_000, 1_000)], Shape(file_bytes=40_000))
    assert len(found) > 3
    sizes = [written.pending.bytes for written in found]
    assert all(40_000 <= size < 70_000 for size in sizes[:-1])
    assert sizes[-1] < 70_000


def test_files_are_open_as_few_as_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows go to ten folders, no more files are begun and not ended than may be open."""
    monkeypatch.setattr(etl.runs.parts, "ROW_GROUP_BYTES", 1)
    layout, seen = Layout(str(tmp_path), "run"), []
    shape = Shape(partition_by=("country",), open_files=3)
    writer = PartsWriter(
        STORE,
        lambda *, partition, number: layout.part("000000", "abc", partition=partition, number=number),
        schema=SCHEMA,
        shape=shape,
    )
    for first in range(30):
        writer.write(rows_of(1, first))
        seen.append(len(list(tmp_path.rglob("*.inprogress"))) - len(writer._done))
    assert max(seen) == 3
    writer.abort()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_column_of_keys_is_told_apart_from_one_of_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A split that would become too many files is an error that names the setting, before the disk is full of them."""
    monkeypatch.setattr(etl.runs.parts, "_MOST_FILES", 20)
    with pytest.raises(StorageError, match=r"one split makes more than 20 files.*output\.partition_by"):
        write(str(tmp_path), [rows_of(30)], Shape(partition_by=("id",)))


def test_texts_that_no_folder_can_say_are_found() -> None:
    """An empty text, Hive's word for null and a text that is too long are told by row; null, é and a slash are not."""
    texts = ["", None, "__HIVE_DEFAULT_PARTITION__", "é", "x" * 300, "a/b", "%" * 70, "%" * 60]
    schema = pa.schema([("key", pa.string()), ("p", pa.float32())])
    batch = pa.RecordBatch.from_arrays([pa.array(texts), pa.array([0.5] * len(texts), pa.float32())], schema=schema)
    [(name, bad)] = Partitioning(schema, ["key"]).unplaceable(batch)
    assert name == "key"
    assert bad.tolist() == [True, False, True, False, True, False, True, False]
    assert list(Partitioning(schema, ["key"]).unplaceable(batch.filter(pa.array(~bad)))) == []


@pytest.mark.parametrize("columns", [("country",), ("day", "is_new"), ("zone", "country")])
def test_other_engines_find_the_rows_in_the_folders(
    spark: SparkSession, tmp_path: Path, columns: tuple[str, ...]
) -> None:
    """Spark, pyarrow, DuckDB and Polars read every row of a folder once, with the columns that the folders name."""
    batch = rows_of(60)
    write(str(tmp_path), [batch], Shape(partition_by=columns))
    folder = f"{tmp_path}/run_id=run"
    wanted = {row["id"]: tuple(row[name] for name in columns) for row in batch.to_pylist()}
    partitions = pa.schema([SCHEMA.field(name) for name in columns])
    arrow = ds.dataset(folder, format="parquet", partitioning=ds.partitioning(partitions, flavor="hive")).to_table()
    by_engine = {"pyarrow": arrow.to_pylist()}
    types = {"int64": "bigint", "string": "string", "date32[day]": "date", "bool": "boolean", "int16": "smallint"}
    ddl = ", ".join(f"{field.name} {types.get(str(field.type), 'float')}" for field in SCHEMA)
    by_engine["spark"] = [row.asDict() for row in spark.read.schema(ddl).parquet(f"file://{folder}").collect()]
    hive = {"date32[day]": "date", "bool": "boolean", "int16": "smallint", "string": "varchar"}
    told = ", ".join(f"'{field.name}': {hive[str(field.type)]}" for field in partitions)
    query = f"select * from read_parquet('{folder}/**/*.parquet', hive_partitioning=true, hive_types={{{told}}})"  # noqa: S608  ours
    with duckdb.connect() as connection:
        by_duckdb: Any = connection.sql(query)
        by_engine["duckdb"] = by_duckdb.to_arrow_table().to_pylist()
    schema = pl.Schema(pl.DataFrame(pa.schema([("run_id", pa.string()), *partitions]).empty_table()).schema)
    by_polars = pl.read_parquet(f"{folder}/**/*.parquet", hive_partitioning=True, hive_schema=schema)
    by_engine["polars"] = by_polars.to_dicts()
    for engine, rows in by_engine.items():
        assert len(rows) == 60, engine
        assert {row["id"]: tuple(row[name] for name in columns) for row in rows} == wanted, engine
