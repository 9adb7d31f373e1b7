"""The model is loaded once per worker process, whatever Spark does with tasks and stages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from etl.receipt import Receipt
from jobs.config import read_config
from jobs.run import RunRequest, run
from tests.numbers_job import JobWriter, write_numbers

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REPOSITORY = Path(__file__).parents[2]

SUBMITTED_FROM_MAIN = """
import sys
from jobs.config import Spark, read_config
from jobs.plan import list_inputs, make_plan, store_plan, target_of
from jobs.session import start_session
from scoring.worker import score_split

config = read_config(sys.argv[1])
target = target_of(config, "main", scratch=False)
plan = store_plan(target, make_plan(target, config, list_inputs(config.input.patterns), limit=None, sample=None))
order, splits = plan.order, plan.splits

def score(batches):
    for batch in batches:
        for number in batch.column("id").to_pylist():
            score_split(order, splits[number])
        yield batch

spark = start_session("main", Spark(master="local[2,4]"))
spark.range(0, len(splits), 1, len(splits)).mapInArrow(score, "id long").collect()
spark.stop()
"""


def loads_by_process(out: Path, *run_ids: str) -> dict[int, int]:
    """Largest number of loads that each worker process reports in the receipts of some runs."""
    loads: dict[int, int] = {}
    for run_id in run_ids:
        for path in (out / "_batchscore" / "runs" / run_id / "receipts").glob("*.json"):
            worker = Receipt.from_bytes(path.read_bytes(), where=str(path)).worker
            loads[worker.pid] = max(loads.get(worker.pid, 0), worker.loads)
    return loads


def many_tasks(folder: Path, job_file: JobWriter) -> Path:
    """A job of 20 splits, each a task of its own."""
    write_numbers(folder / "in", files=20, rows=500, row_group=500)
    return job_file(splits={"task_bytes": 1})


def test_forty_tasks_in_two_stages_with_a_gap_load_once_per_process(
    spark: SparkSession, tmp_path: Path, job_file: JobWriter
) -> None:
    """Over two runs of 20 tasks each with a gap between them, every worker process reports one load."""
    job = read_config(str(many_tasks(tmp_path, job_file)))
    already = {pid: count - 1 for pid, count in worker_loads_before(spark).items()}
    run(RunRequest(config=job, run_id="first"))
    time.sleep(3)
    run(RunRequest(config=job, run_id="second"))
    loads = loads_by_process(tmp_path / "out", "first", "second")
    assert loads
    assert all(count - already.get(pid, 0) - 1 <= 1 for pid, count in loads.items())


def worker_loads_before(spark: SparkSession) -> dict[int, int]:
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
    return {row["pid"]: row["loads"] + 1 for row in rows}


def test_a_function_submitted_from_main_loads_once_per_process(tmp_path: Path, job_file: JobWriter) -> None:
    """A function that is defined in `__main__`, and so pickled by value, shares the process's loaded model too."""
    job = many_tasks(tmp_path, job_file)
    script = tmp_path / "script.py"
    script.write_text(SUBMITTED_FROM_MAIN)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYSPARK_PYTHON": sys.executable}
    subprocess.run([sys.executable, script, job], check=True, capture_output=True, env=environment)
    loads = loads_by_process(tmp_path / "out", "main")
    assert 1 <= len(loads) <= 4
    assert set(loads.values()) == {1}
