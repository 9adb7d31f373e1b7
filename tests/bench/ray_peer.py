"""Ray Data on a local cluster of two cores."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa

from tests.bench.contender import CORES
from tests.bench.inference import Scoring, arrow_scores
from tests.bench.workload import TASKS, Task

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

__all__ = ["RayData"]


class RayData:
    """`map_batches` with a function, so that reading, scoring and writing become one task."""

    def start(self) -> None:
        """Start the cluster."""
        ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # The new Parquet source starts new worker processes for every dataset: ten times the seconds at these sizes.
        context.use_datasource_v2 = False

    def score(self, task: Task) -> dict[str, float]:
        """Read, score, write."""
        scoring, names = Scoring.of(task), list(task.kind.columns)

        def score(batch: pa.Table) -> pa.Table:
            arrays = [batch.column(name) for name in names]
            return pa.table({"id": batch.column("id"), "score": arrow_scores(scoring, arrays)})

        options: dict[str, Any] = {"compression": "zstd"}
        rows = ray.data.read_parquet(str(task.source), columns=["id", *names], override_num_blocks=TASKS)
        rows.map_batches(score, batch_format="pyarrow", batch_size=None).write_parquet(str(task.out), **options)
        return {}

    def stop(self) -> None:
        """Stop the cluster."""
        ray.shutdown()
