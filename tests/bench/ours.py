"""batchscore as its users run it: a config and a run id in, a published and recorded run out."""

from __future__ import annotations

from typing import Any

from jobs.config.job import JobConfig
from jobs.config.spark import Spark
from jobs.run import RunRequest, run
from jobs.session import start_session
from tests.bench.contender import CORES
from tests.bench.workload import BUCKETS, FEATURES, Task

__all__ = ["Ours", "OursFrozen", "model_config"]


def model_config(task: Task) -> dict[str, Any]:
    """The config's `model`: a bare file and what feeds it."""
    found: dict[str, Any] = {"onnx": str(task.onnx)}
    if task.kind.shape == "columns":
        found["inputs"] = {"X": list(FEATURES)}
    if task.kind.shape == "ids":
        found["ragged"] = {"ids": {"on_ragged": "pad", "buckets": list(BUCKETS), "mask": {"model_input": "mask"}}}
    return found


class Ours:
    """Files, read natively by Spark tasks."""

    def start(self) -> None:
        """Start Spark; a run adopts the session that it finds."""
        self._spark = start_session("bench", Spark(master=f"local[{CORES},4]", conf={"spark.driver.memory": "2g"}))

    def score(self, task: Task) -> dict[str, float]:
        """From claim to record."""
        largest = max(path.stat().st_size for path in task.files)
        job: dict[str, Any] = {
            "api_version": "batchscore/1",
            "name": "bench",
            "input": self.source(task),
            "model": model_config(task),
            "output": {"uri": str(task.out), "passthrough": ["id"]},
            "scratch": f"{task.out}.scratch",
        }
        if not task.is_of_small_files:  # a task a file, as for everybody; else as it comes
            job["splits"] = {"target_bytes": 2 * largest, "task_bytes": 1}
        record = run(RunRequest(config=JobConfig.model_validate(job), run_id="bench"))
        facts = {f"wall {phase}": seconds for phase, seconds in record.wall_seconds.items()}
        facts |= {f"worker {phase}": seconds for phase, seconds in record.worker_seconds.items()}
        facts |= {f"waiting {phase}": seconds for phase, seconds in record.engine.waiting.items()}
        for name, rows in record.engine.batch_rows.items():
            facts[f"rows a call{f' of {name}' if name else ''}"] = float(max(rows, default=0))
        facts["peak bytes"] = float(record.peak_task_bytes or 0)
        return facts

    def source(self, task: Task) -> dict[str, Any]:
        """The config's `input`."""
        return {"files": str(task.source)}

    def stop(self) -> None:
        """End Spark."""
        self._spark.stop()


class OursFrozen(Ours):
    """A query, frozen as Parquet by Spark before it is read natively; what a table costs."""

    def source(self, task: Task) -> dict[str, Any]:
        """The config's `input`."""
        largest = max(path.stat().st_size for path in task.files)
        self._spark.conf.set("spark.sql.files.maxPartitionBytes", str(128 << 20 if task.is_of_small_files else largest))
        self._spark.conf.set("spark.sql.files.openCostInBytes", str(largest if task.is_of_small_files else 4 << 20))
        return {"sql": f"SELECT id, {', '.join(task.kind.columns)} FROM parquet.`{task.source}`"}
