"""The model is loaded once per worker process, whatever Spark does with tasks and stages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.runs.receipt import Receipt
from jobs.config.job import read_config
from jobs.run import RunRequest, run
from tests.lookup_job import write_lookup_job

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.servers

REPOSITORY = Path(__file__).parents[2]
TASKS = 20
"""Of each of two stages."""
GAP_SECONDS = 1.0

SUBMITTED_FROM_MAIN = """
import sys, time
from jobs.config.job import read_config
from jobs.config.spark import Spark
from jobs.planning.plan import target_of
from jobs.planning.resolving import list_inputs, make_plan, store_plan
from jobs.session import start_session
from scoring.worker import score_split

config = read_config(sys.argv[1])
target = target_of(config, "main", scratch=False)
plan = store_plan(target, make_plan(target, config, list_inputs(config.input.patterns), latest=None))
order, splits = plan.order, plan.splits

def score(batches):
    for batch in batches:
        for number in batch.column("id").to_pylist():
            score_split(order, splits[number])
        yield batch

spark = start_session("main", Spark(master="local[2,4]"))
half = len(splits) // 2
spark.range(0, half, 1, half).mapInArrow(score, "id long").collect()
time.sleep(float(sys.argv[2]))
spark.range(half, 2 * half, 1, half).mapInArrow(score, "id long").collect()
spark.stop()
"""


def loads_by_process(out: Path, *run_ids: str) -> dict[int, set[int]]:
    """What each worker process says of its loads in the receipts of some runs."""
    loads: dict[int, set[int]] = defaultdict(set)
    for run_id in run_ids:
        paths = list((out / "_batchscore" / "runs" / run_id / "receipts").glob("*.json"))
        assert paths
        for path in paths:
            worker = Receipt.from_bytes(path.read_bytes(), where=str(path)).worker
            loads[worker.pid].add(worker.loads)
    return loads


def many_tasks(folder: Path, model: Path, files: int) -> Path:
    """A job with a reference table whose every split is a task of its own; its model is no other test's."""
    return write_lookup_job(folder, model, files=files, rows=500, row_group=500, splits={"task_bytes": 1})


def worker_loads(spark: SparkSession) -> dict[int, int]:
    """Loads of the worker processes that earlier tests left alive; asked of the workers themselves."""
    import pyarrow as pa

    def report(batches):
        from scoring.scorer import loads_so_far

        for batch in batches:
            time.sleep(0.05)
            yield pa.RecordBatch.from_pydict(
                {"pid": [os.getpid()] * len(batch), "loads": [loads_so_far()] * len(batch)}
            )

    rows = spark.range(0, 16, 1, 16).mapInArrow(report, "pid long, loads long").collect()
    return {row["pid"]: row["loads"] for row in rows}


def test_forty_tasks_in_two_stages_with_a_gap_load_once_per_process(
    spark: SparkSession, tmp_path: Path, logistic_onnx: Path
) -> None:
    """Over two runs of 20 tasks with a gap between them each process loads once: a new one, and one of earlier tests.

    Every receipt of a process tells the same number: what it had loaded in earlier tests, and this model.
    """
    job = read_config(str(many_tasks(tmp_path, logistic_onnx, TASKS)))
    before = worker_loads(spark)
    first = run(RunRequest(config=job, run_id="first"))
    time.sleep(GAP_SECONDS)
    second = run(RunRequest(config=job, run_id="second"))
    assert first.splits_scored_now == second.splits_scored_now == TASKS
    loads = loads_by_process(tmp_path / "out", "first", "second")
    assert loads == {pid: {before.get(pid, 0) + 1} for pid in loads}


def test_a_function_submitted_from_main_loads_once_per_process(tmp_path: Path, logistic_onnx: Path) -> None:
    """A function of `__main__`, pickled by value, loads as often as there are processes: 40 tasks, 2 stages, a gap."""
    job = many_tasks(tmp_path, logistic_onnx, 2 * TASKS)
    script = tmp_path / "script.py"
    script.write_text(SUBMITTED_FROM_MAIN)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, str(script), str(job), str(GAP_SECONDS)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    loads = loads_by_process(tmp_path / "out", "main")
    assert 1 <= len(loads) <= 4
    assert loads == {pid: {1} for pid in loads}
