"""A job over many small files: a few files of predictions, and every row accounted for by its own file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs.record import RunState
from jobs.results import open_results
from tests.jobs.outputs import run_job, write_job
from tests.numbers_job import FEATURES, logistic_scores, published_scores

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

FILES = 520
BAD_EVERY = 37
"""Of all rows each so-manieth lacks a feature."""


def write_small_files(folder: Path) -> pa.Table:
    """Files of 0 to 6 rows, and one larger than all that may share a split; all rows, with the file and its index."""
    folder.mkdir()
    rng = np.random.default_rng(11)
    tables = []
    first = 0
    for number in range(FILES):
        rows = 300_000 if number == FILES // 2 else int(rng.integers(0, 7))
        columns = {name: rng.normal(size=rows).astype(np.float32) for name in FEATURES}
        ids = np.arange(first, first + rows)
        columns["f1"] = pa.array(columns["f1"], mask=ids % BAD_EVERY == 0)
        table = pa.table({"id": ids, **columns})
        path = folder / f"part-{number:04d}.parquet"
        pq.write_table(table, path)
        tables.append(table.append_column("file", pa.array([str(path)] * rows, pa.string())))
        tables[-1] = tables[-1].append_column("row", pa.array(np.arange(rows)))
        first += rows
    return pa.concat_tables(tables)


@pytest.mark.parametrize("max_files", [1, 16])
def test_every_row_of_many_small_files_is_scored_or_set_aside(
    spark: SparkSession, tmp_path: Path, logistic_onnx: Path, max_files: int
) -> None:
    """The same scores and the same rows in quarantine, by file and index, whether files share splits or not."""
    table = write_small_files(tmp_path / "in")
    budgets = {"contract": {"max_ratio": 1}}
    job = write_job(tmp_path, logistic_onnx, splits={"max_files": max_files}, budgets=budgets)
    record = run_job(job, "small")
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    assert record.splits == (FILES if max_files == 1 else 131)
    is_bad = table.column("f1").is_null()
    assert published_scores(tmp_path / "out" / "run_id=small") == pytest.approx(
        logistic_scores(table.filter(pc.invert(is_bad))), abs=1e-6
    )
    aside = open_results(str(tmp_path / "out")).quarantine("small").select(["file", "row"])
    wanted = table.filter(is_bad).select(["file", "row"])
    assert aside.sort_by([("file", "ascending"), ("row", "ascending")]).to_pylist() == wanted.to_pylist()
    published = ds.dataset(tmp_path / "out" / "run_id=small", format="parquet").files
    assert len(published) <= record.splits
