"""A job whose model takes its worker with it on one row: the job comes to its end, and the row is told."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.config.job import read_config
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.zoo import faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyspark.sql import SparkSession

ROWS, BAD = 400, 250
DIES = platform.machine() in {"x86_64", "AMD64"}
"""Other processors do not trap on the division by which the model dies: there the row is as good as any other."""


@pytest.mark.servers
def test_one_row_costs_a_row_and_not_the_job(
    spark: SparkSession, tmp_path: Path, job_file: Callable[..., Path]
) -> None:
    """Spark tries the task again, which finds the row, sets it aside with the reason, and scores all others."""
    bad = [BAD] * DIES
    (tmp_path / "model.onnx").write_bytes(faults.dies_on(BAD))
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": np.arange(ROWS), "row": np.arange(ROWS)}), tmp_path / "in" / "a.parquet")
    config = read_config(
        str(
            job_file(
                model={"onnx": str(tmp_path / "model.onnx")},
                scoring={"batch_rows": 4},
                budgets={"inference": {"max_rows": 1}},
            )
        )
    )
    record = run(RunRequest(config=config, run_id="r"))
    results = open_results(config.output.uri)
    found = results.arrow().sort_by("id")
    good = [row for row in range(ROWS) if row not in bad]
    assert found["id"].to_pylist() == good
    assert found["p"].to_pylist() == [float(row) for row in good]
    assert results.quarantine()["row"].to_pylist() == bad
    reasons = results.quarantine()["message"].to_pylist()
    assert all("its process ended, killed by SIGFPE" in reason for reason in reasons), reasons
    assert record.engine.contained_rows == 4 * len(bad)
    assert record.account.adds_up
