"""Daft on its native runner: one process, a thread a core."""

from __future__ import annotations

import os

from tests.bench.inference import arrow_scores
from tests.bench.workload import FEATURES, Workload

os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
os.environ["DAFT_PROGRESS_BAR"] = "0"

import daft

__all__ = ["Daft"]


class Daft:
    """A batch function over columns between Daft's own reader and writer."""

    def start(self) -> None:
        """Choose the runner."""
        daft.set_runner_native()

    def score(self, work: Workload) -> dict[str, float]:
        """Read, score, write."""
        path = str(work.onnx)

        @daft.func.batch(return_dtype=daft.DataType.float32(), use_process=False)
        def score(*columns: daft.Series) -> daft.Series:
            arrays = [column.to_arrow() for column in columns]
            return daft.Series.from_arrow(arrow_scores(path, arrays))

        frame = daft.read_parquet(f"{work.source}/*.parquet")
        scored = frame.select("id", score(*(daft.col(name) for name in FEATURES)).alias("score"))
        scored.write_parquet(str(work.out), compression="zstd")
        return {}

    def stop(self) -> None:
        """Nothing is up."""
