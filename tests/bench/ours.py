"""batchscore as its users run it: a config and a run id in, a published and recorded run out."""

from __future__ import annotations

from typing import Any

from jobs.config import JobConfig, Spark
from jobs.run import RunRequest, run
from jobs.session import start_session
from tests.bench.contender import CORES
from tests.bench.workload import FEATURES, Workload

__all__ = ["Ours", "OursFrozen"]


class Ours:
    """Files, read natively by Spark tasks."""

    def start(self) -> None:
        """Start Spark; a run adopts the session that it finds."""
        self._spark = start_session("bench", Spark(master=f"local[{CORES},4]", conf={"spark.driver.memory": "2g"}))

    def score(self, work: Workload) -> dict[str, float]:
        """From claim to record."""
        largest = max(path.stat().st_size for path in work.files)
        job = {
            "api_version": "batchscore/1",
            "name": "bench",
            "input": self.source(work),
            "model": {"onnx": str(work.onnx), "inputs": {"X": list(FEATURES)}},
            "output": {"uri": str(work.out), "passthrough": ["id"]},
            "scratch": f"{work.out}.scratch",
            "splits": {"target_bytes": 2 * largest, "task_bytes": 1},  # a task a file, as for everybody
        }
        record = run(RunRequest(config=JobConfig.model_validate(job), run_id="bench"))
        facts = {f"wall {phase}": seconds for phase, seconds in record.wall_seconds.items()}
        facts |= {f"worker {phase}": seconds for phase, seconds in record.worker_seconds.items()}
        return {**facts, "peak bytes": float(record.peak_task_bytes or 0)}

    def source(self, work: Workload) -> dict[str, Any]:
        """The config's `input`."""
        return {"files": str(work.source)}

    def stop(self) -> None:
        """End Spark."""
        self._spark.stop()


class OursFrozen(Ours):
    """A query, frozen as Parquet by Spark before it is read natively; what a table costs."""

    def source(self, work: Workload) -> dict[str, Any]:
        """The config's `input`."""
        largest = max(path.stat().st_size for path in work.files)
        self._spark.conf.set("spark.sql.files.maxPartitionBytes", str(largest))
        return {"sql": f"SELECT id, {', '.join(FEATURES)} FROM parquet.`{work.source}`"}
