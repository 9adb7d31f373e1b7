"""Anybody can read what is published."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from etl.runs.local import LocalStorage
from etl.runs.write import ParquetWriter
from jobs.config.job import read_config
from jobs.errors import SplitsFailed
from jobs.run import RunRequest, run
from scoring.outputs.columns import OutputColumn
from scoring.outputs.mapping import map_outputs
from scoring.signature import Signature, TensorSpec
from tests.numbers_job import JobWriter, logistic_scores, write_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

Rows = list[tuple[int, float]]


def read_spark(spark: SparkSession, folder: Path) -> Rows:
    """As plain Spark reads a folder."""
    return [(row["id"], row["p"]) for row in spark.read.parquet(str(folder)).select("id", "p").collect()]


def read_pyarrow(folder: Path) -> Rows:
    """As pyarrow reads a folder."""
    table = ds.dataset(folder, format="parquet").to_table(columns=["id", "p"])
    return list(zip(table.column("id").to_pylist(), table.column("p").to_pylist(), strict=True))


def read_pandas(folder: Path) -> Rows:
    """As pandas reads a folder."""
    frame = pd.read_parquet(folder, columns=["id", "p"])
    return list(frame.itertuples(index=False, name=None))


def read_duckdb(folder: Path) -> Rows:
    """As DuckDB reads every Parquet file below a folder, hidden ones too."""
    with contextlib.closing(duckdb.connect()) as database:
        return database.read_parquet(f"{folder}/**/*.parquet").select("id", "p").fetchall()


def read_polars(folder: Path) -> Rows:
    """As Polars reads every Parquet file below a folder, hidden ones too."""
    return pl.read_parquet(f"{folder}/**/*.parquet", columns=["id", "p"], hive_partitioning=False).rows()


@pytest.mark.parametrize("level", ["run", "root"])
def test_five_readers_see_exactly_the_scored_rows(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, level: str
) -> None:
    """Spark, pyarrow, pandas, DuckDB and Polars read the scored rows of a run's folder, and of a root with one run.

    The root also holds an unfinished run, whose pending files nobody may see.
    """
    table = write_numbers(tmp_path / "in", files=2, rows=2_000, row_group=500)
    job = read_config(str(job_file(splits={"target_bytes": 20_000})))
    run(RunRequest(config=job, run_id="whole"))
    write_numbers(tmp_path / "in", files=2, rows=2_000, row_group=500, seed=8)
    (tmp_path / "in" / "part-9.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(SplitsFailed):
        run(RunRequest(config=job, run_id="unfinished"))
    assert list((tmp_path / "out" / "run_id=unfinished").iterdir())
    folder = tmp_path / "out" / "run_id=whole" if level == "run" else tmp_path / "out"
    expected = logistic_scores(table)
    readings = {
        "spark": read_spark(spark, folder),
        "pyarrow": read_pyarrow(folder),
        "pandas": read_pandas(folder),
        "duckdb": read_duckdb(folder),
        "polars": read_polars(folder),
    }
    for reader, rows in readings.items():
        assert len(rows) == len(expected), reader
        assert dict(rows) == pytest.approx(expected, abs=1e-6), reader


SHAPES: dict[str, tuple[int | None, ...]] = {
    "scalar": (None,),
    "one": (None, 1),
    "fixed": (None, 3),
    "deep": (None, 2, 3),
    "free": (None, None),
    "part": (None, None, 2),
}
APPLIED: dict[str, list[Any]] = {
    "best": ["softmax", {"top_k": 2}, {"labels": ["a", "b", "ç"]}],
    "label": ["argmax", {"labels": ["a", "b", "ç"]}],
    "sure": ["softmax", {"element": 1}, {"threshold": 0.4}],
}
NARROW: tuple[Any, ...] = ("int8", "int16", "int32", "int64", "float64")


def write_outputs(path: Path) -> tuple[list[str], list[list[Any]]]:
    """A file with columns of each shape, of steps and of types; their names, and by column what should stand there."""
    rng = np.random.default_rng(3)
    outputs: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        outputs[name] = rng.normal(size=[size or 4 for size in shape]).astype(np.float32)
        outputs[name][1] = math.nan
    outputs["whole"] = np.arange(4)
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in SHAPES.items()]
    specs.append(TensorSpec(name="whole", dtype="int64", shape=(None,)))
    columns = [OutputColumn(column=name, tensor=name, non_finite="null") for name in SHAPES]
    columns += [OutputColumn(column=type_, tensor="whole", type=type_) for type_ in NARROW]
    documents = [{"column": name, "tensor": "fixed", "apply": apply} for name, apply in APPLIED.items()]
    columns += [OutputColumn.model_validate({**document, "non_finite": "null"}) for document in documents]
    arrays = map_outputs(columns, Signature(inputs=(), outputs=tuple(specs)), outputs, rows=4).arrays
    batch = pa.RecordBatch.from_arrays(arrays, [column.column for column in columns])
    writer = ParquetWriter(LocalStorage(), str(path), batch.schema)
    writer.write(batch)
    written = writer.finish()
    assert written is not None
    LocalStorage().complete(written.pending)
    expected = [[None if row == 1 else outputs[name][row].tolist() for row in range(4)] for name in SHAPES]
    expected[1] = [None if value is None else value[0] for value in expected[1]]
    logits = outputs["fixed"].astype(np.float64)
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ranked = [sorted(((float(np.float32(p)), "abç"[k]) for k, p in enumerate(row)), reverse=True)[:2] for row in odds]
    best: list[Any] = [[{"label": label, "score": score} for score, label in row] for row in ranked]
    label: list[Any] = [row[0][1] for row in ranked]
    sure: list[Any] = (odds[:, 1] >= 0.4).tolist()
    steps = [[None if row == 1 else value for row, value in enumerate(column)] for column in (best, label, sure)]
    return batch.schema.names, [*expected, *[list(range(4))] * len(NARROW), *steps]


def plain(value: Any) -> Any:
    """Lists, mappings and None, whatever a reader makes of nested values."""
    if hasattr(value, "asDict"):
        return {name: plain(part) for name, part in value.asDict().items()}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(part) for part in value]
    return None if value is None or (isinstance(value, float) and math.isnan(value)) else value


def test_five_readers_see_each_kind_of_column(spark: SparkSession, tmp_path: Path) -> None:
    """Nested lists, fixed or not, pairs, labels, truths and whole numbers are the same to every reader, nulls too."""
    path = tmp_path / "part.parquet"
    names, expected = write_outputs(path)
    with contextlib.closing(duckdb.connect()) as database:
        by_duckdb = database.read_parquet(str(path)).fetchall()
    frame = pd.read_parquet(path)
    readings: dict[str, list[list[Any]]] = {
        "spark": [list(column) for column in zip(*spark.read.parquet(str(path)).collect(), strict=True)],
        "pyarrow": ds.dataset(path, format="parquet").to_table().to_pydict().values(),
        "pandas": [frame[name].tolist() for name in names],
        "duckdb": [list(column) for column in zip(*by_duckdb, strict=True)],
        "polars": [pl.read_parquet(path)[name].to_list() for name in names],
    }
    for reader, columns in readings.items():
        found = dict(zip(names, map(plain, columns), strict=True))
        assert found == dict(zip(names, expected, strict=True)), reader
