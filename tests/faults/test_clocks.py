"""Drivers whose clocks are years off, from each other and from their workers'."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.config.job import read_config
from jobs.history.runs import history
from jobs.record import RunState
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.numbers_job import logistic_scores, published_scores, write_numbers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from tests.numbers_job import JobWriter

REPOSITORY = Path(__file__).parents[2]
YEARS = 10 * 365.25 * 86_400


def drive(job: Path, *drives: str) -> subprocess.CompletedProcess[str]:
    """Run a job on a machine whose clock is wrong; see `tests.faults.skewed`."""
    command = [sys.executable, "-m", "tests.faults.skewed", str(job), *drives]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY, env=environment)


@pytest.mark.servers
@pytest.mark.matrix("Clocks of drivers and workers that are years off", "the run is published: no step compares clocks")
def test_clocks_that_are_years_off_decide_nothing(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """A run of a driver ten years ahead is version 1, ten years before, too; one of a driver ten years behind that
    died, and that another one completed, is version 2 and the newest; every key is in each once, with its score.
    """  # noqa: D205  one sentence
    table = write_numbers(tmp_path / "in", files=2, rows=300, row_group=100)
    job = job_file(splits={"target_bytes": "1MB", "task_bytes": 1})
    year = datetime.now(UTC).year
    ten_ahead = [RunState.SUCCEEDED, str(year + 10)]
    done = drive(job, f"{YEARS}:ahead:", f"{-YEARS}:ahead:", f"{-YEARS}:behind:publish")
    assert done.stdout.split() == [*ten_ahead, *ten_ahead], done.stderr
    assert done.returncode == -signal.SIGKILL
    record = run(RunRequest(config=read_config(str(job)), run_id="behind"))
    assert (record.state, record.manifest, record.splits_scored_now) == (RunState.SUCCEEDED, 2, 0)
    expected = pytest.approx(logistic_scores(table), abs=1e-6)
    for run_id in ("ahead", "behind"):
        assert published_scores(tmp_path / "out" / f"run_id={run_id}") == expected
    results = open_results(str(job))
    assert (results.seq, results.run_ids, results.run().run_ids) == (2, ("ahead", "behind"), ("behind",))
    assert {line.run_id: line.state for line in history(str(job))} == dict.fromkeys(results.run_ids, "SUCCEEDED")
