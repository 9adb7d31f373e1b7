"""Anybody can read what is published."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

from jobs.config import read_config
from jobs.errors import SplitsFailed
from jobs.run import RunRequest, run
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
