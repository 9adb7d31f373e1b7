"""Ray Data on a local cluster of two cores."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa

from tests.bench.contender import CORES
from tests.bench.inference import arrow_scores
from tests.bench.workload import FEATURES, FILES, Workload

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

    def score(self, work: Workload) -> dict[str, float]:
        """Read, score, write."""
        path = str(work.onnx)

        def score(batch: pa.Table) -> pa.Table:
            arrays = [batch.column(name) for name in FEATURES]
            return pa.table({"id": batch.column("id"), "score": arrow_scores(path, arrays)})

        options: dict[str, Any] = {"compression": "zstd"}
        rows = ray.data.read_parquet(str(work.source), columns=["id", *FEATURES], override_num_blocks=FILES)
        rows.map_batches(score, batch_format="pyarrow", batch_size=None).write_parquet(str(work.out), **options)
        return {}

    def stop(self) -> None:
        """Stop the cluster."""
        ray.shutdown()
