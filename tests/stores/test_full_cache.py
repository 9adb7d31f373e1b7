"""A worker whose folder for models is on a disk that is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jobs.config.job import read_config
from jobs.errors import ExitCode
from jobs.record import RunState
from jobs.run import RunRequest, run
from tests.faults.full import batchscore_with_full, worker_folders
from tests.numbers_job import logistic_scores, write_numbers
from tests.stores.places import S3Place, scores_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.numbers_job import JobWriter

pytestmark = pytest.mark.stores


@pytest.mark.matrix(
    "The disk of the workers' cache is full",
    "exits 1 and names the folder; with room the same command publishes",
    store="moto",
)
def test_a_worker_without_room_for_the_model_says_so(
    spark: SparkSession, bucket: str, tmp_path: Path, job_file: JobWriter
) -> None:
    """A model of a store that finds no room on a host fails the run by the folder's name; with room the id goes on."""
    place = S3Place(bucket, None)
    table = write_numbers(tmp_path / "in", files=2, rows=300, row_group=100)
    (tmp_path / "full").mkdir()
    output = {"uri": f"{place.uri}/out", "passthrough": ["id"]}
    job = job_file(output=output, spark=worker_folders(tmp_path / "full"))
    done = batchscore_with_full(tmp_path / "full", "run", str(job), "--run-id", "r")
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert f"{tmp_path}/full/batchscore-0: no space left for models. Free some, or set BATCHSCORE_CACHE" in done.stderr
    assert "Traceback" not in done.stderr
    assert scores_of(place.files("out")) == {}
    record = run(RunRequest(config=read_config(str(job_file(output=output))), run_id="r"))
    assert (record.state, record.resumed) == (RunState.SUCCEEDED, True)
    assert scores_of(place.files("out")) == pytest.approx(logistic_scores(table), abs=1e-6)
