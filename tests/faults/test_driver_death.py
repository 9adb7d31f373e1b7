"""SIGKILL of the driver, anywhere, then the same command again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jobs.config import read_config
from jobs.record import RunState
from jobs.run import RunRequest, run
from tests.numbers_job import JobWriter, logistic_scores, published_scores, write_numbers

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

REPOSITORY = Path(__file__).parents[2]
RUN_ID = "nightly"
BEFORE_SCORING = ("claim", "list", "plan", "start_spark", "score")
AFTER_SCORING = ("settle", "publish", "complete", "commit", "mark", "record")
FILES = 3
SPLITS = FILES * 8


class SimulatedStop(BaseException):
    """Leaves a run where a death at this border would, so that a test need not start Spark for it."""


@pytest.fixture
def job(tmp_path: Path, job_file: JobWriter) -> Path:
    """A job of 24 splits."""
    write_numbers(tmp_path / "in", files=FILES, rows=40_000, row_group=5_000)
    largest = max(path.stat().st_size for path in (tmp_path / "in").iterdir())
    return job_file(splits={"target_bytes": -(-largest // 8)})


def start(job: Path, phase: str) -> subprocess.Popen[bytes]:
    """Start the job in a process of its own that dies at a phase; `-` for one that lives."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.die_at", str(job), RUN_ID, phase],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYSPARK_PYTHON": sys.executable},
    )


def receipts(job: Path) -> dict[str, bytes]:
    """Bytes of every receipt by name."""
    folder = job.parent / "out" / "_batchscore" / "runs" / RUN_ID / "receipts"
    return {path.name: path.read_bytes() for path in folder.glob("[0-9]*.json")} if folder.exists() else {}


def check_as_if_nothing_happened(job: Path, table: pa.Table) -> None:
    """Keys and scores equal the oracle's, none twice, and nothing but the published files can be seen."""
    folder = job.parent / "out" / f"run_id={RUN_ID}"
    found = published_scores(folder)
    expected = logistic_scores(table)
    assert found.keys() == expected.keys()
    assert max(abs(found[key] - expected[key]) for key in expected) <= 1e-6
    parts = {path.name.split("-")[1] for path in folder.glob("*.parquet")}
    assert len(parts) == len(list(folder.glob("*.parquet"))), "a split is published twice"


def input_table(job: Path) -> pa.Table:
    """All input rows."""
    import pyarrow.dataset as ds

    return ds.dataset(job.parent / "in", format="parquet").to_table()


@pytest.mark.parametrize("phase", BEFORE_SCORING)
def test_death_before_scoring_is_made_good_by_the_same_command(spark: SparkSession, job: Path, phase: str) -> None:
    """A driver killed at a border before scoring leaves nothing that the same command does not complete."""
    assert start(job, phase).wait(60) == -signal.SIGKILL
    record = run(RunRequest(config=read_config(str(job)), run_id=RUN_ID))
    assert record.state is RunState.SUCCEEDED
    check_as_if_nothing_happened(job, input_table(job))


@pytest.mark.parametrize("phase", AFTER_SCORING)
def test_death_after_scoring_is_made_good_without_scoring_again(spark: SparkSession, job: Path, phase: str) -> None:
    """A driver killed at a border after scoring is completed by the same command from the receipts that are there."""

    def stop(name: str) -> None:
        if name == "settle":
            raise SimulatedStop

    with pytest.raises(SimulatedStop):
        run(RunRequest(config=read_config(str(job)), run_id=RUN_ID), stop)
    before = receipts(job)
    assert len(before) == SPLITS
    assert start(job, phase).wait(60) == -signal.SIGKILL
    assert start(job, "-").wait(60) == 0
    assert receipts(job) == before
    check_as_if_nothing_happened(job, input_table(job))


@pytest.mark.parametrize("moment", range(10))
def test_death_at_a_random_moment_is_made_good(spark: SparkSession, job: Path, moment: int) -> None:
    """A driver killed at any moment is completed by the same command, and no split that has a receipt is scored again.

    The moments are spread over planning, the start of Spark, and scoring up to its last split.
    """
    driver = start(job, "-")
    plan = job.parent / "out" / "_batchscore" / "runs" / RUN_ID / "plan.json"
    deadline = time.monotonic() + 120
    generator = random.Random(moment)  # noqa: S311  the moments are the same in every run of the tests
    wanted = generator.randint(1, SPLITS - 1) if moment >= 2 else 0
    while driver.poll() is None and time.monotonic() < deadline:
        if plan.exists() if wanted == 0 else len(receipts(job)) >= wanted:
            break
        time.sleep(0.001)
    if wanted == 0:
        time.sleep(generator.uniform(0.0, 2.0))
    driver.kill()
    driver.wait()
    before = receipts(job)
    assert len(before) >= wanted
    record = run(RunRequest(config=read_config(str(job)), run_id=RUN_ID))
    after = receipts(job)
    assert len(after) == SPLITS
    assert {name: after[name] for name in before} == before
    assert record.splits_scored_now <= SPLITS - len(before)
    check_as_if_nothing_happened(job, input_table(job))
