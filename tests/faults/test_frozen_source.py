"""A table or query that is frozen, and a driver that dies on the way: what is scored is what was frozen whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.config.job import read_config
from jobs.history.runs import find_run
from jobs.planning.plan import load_plan
from jobs.record import RunState
from jobs.run import RunRequest, run
from tests.numbers_job import logistic_scores, published_scores, write_numbers

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

    from tests.numbers_job import JobWriter

REPOSITORY = Path(__file__).parents[2]


class Died(BaseException):
    """Leaves a run where a death at a border would."""


def die_before(phase: str, job: Path) -> None:
    """Leave the run there."""

    def die(name: str) -> None:
        if name == phase:
            raise Died

    with pytest.raises(Died):
        run(RunRequest(config=read_config(str(job)), run_id="r"), die)


def start(job: Path, run_id: str = "r") -> Any:
    """Run in this process."""
    return run(RunRequest(config=read_config(str(job)), run_id=run_id))


def change(folder: Path) -> pa.Table:
    """Put other rows, and more of them, in the place of the table's; the rows."""
    shutil.rmtree(folder)
    return write_numbers(folder, files=3, rows=250, row_group=100, seed=99)


@pytest.mark.matrix(
    "The table changes once it is frozen, and the run dies", "the same command publishes what was frozen"
)
@pytest.mark.parametrize("source", ["table", "sql"])
def test_what_was_frozen_is_scored_though_the_table_has_changed(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter, source: str
) -> None:
    """The same id goes on with the rows as they were; another id scores them as they are."""
    live = tmp_path / "live"
    before = write_numbers(live, files=2, rows=300, row_group=100)
    spark.read.parquet(str(live)).createOrReplaceTempView("live_numbers")
    given = {"table": "live_numbers", "sql": f"select * from parquet.`{live}`"}[source]  # noqa: S608  ours
    job = job_file(input={source: given})
    die_before("score", job)
    after = change(live)
    spark.read.parquet(str(live)).createOrReplaceTempView("live_numbers")
    record = start(job)
    assert (record.state, record.resumed) == (RunState.SUCCEEDED, True)
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(logistic_scores(before), abs=1e-6)
    start(job, "s")
    assert published_scores(tmp_path / "out" / "run_id=s") == pytest.approx(logistic_scores(after), abs=1e-6)


@pytest.mark.matrix("The table changes before there is a plan, and the run dies", "the same command freezes it anew")
def test_what_was_frozen_before_there_was_a_plan_is_frozen_anew(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """A death between freezing and planning binds nothing: the same id freezes and scores the rows as they are now."""
    live = tmp_path / "live"
    write_numbers(live, files=2, rows=300, row_group=100)
    job = job_file(input={"sql": f"select * from parquet.`{live}`"})  # noqa: S608  ours
    phases: list[str] = []

    def die(name: str) -> None:
        phases.append(name)
        if name == "plan" and "freeze" in phases:
            raise Died

    with pytest.raises(Died):
        run(RunRequest(config=read_config(str(job)), run_id="r"), die)
    after = change(live)
    spark.catalog.clearCache()
    spark.catalog.refreshByPath(str(live))
    assert start(job).state is RunState.SUCCEEDED
    assert len(list((tmp_path / "out.scratch" / "run_id=r").iterdir())) == 2
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(logistic_scores(after), abs=1e-6)


def half_written(folder: Path) -> list[Path]:
    """Data files of what is being frozen; folders that Spark takes away meanwhile hold none."""
    found = []
    for parent, _, names in os.walk(folder):
        for path in (Path(parent) / name for name in names if name.startswith("part-") and name.endswith(".parquet")):
            with contextlib.suppress(FileNotFoundError):
                found += [path] if path.stat().st_size else []
    return found


@pytest.mark.matrix(
    "The run dies while the table is frozen", "the half is never read; the same command freezes it anew"
)
def test_a_half_that_was_frozen_is_never_read(spark: SparkSession, tmp_path: Path, job_file: JobWriter) -> None:
    """SIGKILL while Spark writes leaves some files of the rows; the next try freezes all rows into another folder."""
    live = tmp_path / "live"
    table = write_numbers(live, files=60, rows=300, row_group=100)
    master = {"master": "local[1]", "conf": {"spark.sql.files.maxPartitionBytes": "1000"}}
    job = job_file(input={"sql": f"select * from parquet.`{live}`"}, spark=master)  # noqa: S608  ours
    scratch = tmp_path / "out.scratch" / "run_id=r"
    command = [sys.executable, "-m", "jobs.main", "run", str(job), "--run-id", "r"]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=quiet, stderr=quiet) as driver:
        while len(half_written(scratch)) < 2 and driver.poll() is None:
            time.sleep(0.005)
        driver.kill()
    [half] = scratch.iterdir()
    assert not (half / "_SUCCESS").exists()
    assert half_written(half)
    # Even what looks whole is not: nothing says that all of its files are there.
    shutil.copy(live / "part-0.parquet", half / "part-00000.parquet")
    assert start(job).state is RunState.SUCCEEDED
    plan = load_plan(find_run(str(job), "r"))
    assert plan is not None
    assert not any(file.path.startswith(f"{half}/") for file in plan.inputs)
    assert published_scores(tmp_path / "out" / "run_id=r") == pytest.approx(logistic_scores(table), abs=1e-6)
