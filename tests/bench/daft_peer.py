"""Daft on its native runner: one process, a thread a core."""

from __future__ import annotations

import os

from tests.bench.inference import Scoring, arrow_scores

os.environ["DAFT_ANALYTICS_ENABLED"] = "0"
os.environ["DAFT_PROGRESS_BAR"] = "0"

from typing import TYPE_CHECKING

import daft

if TYPE_CHECKING:
    from tests.bench.workload import Task

__all__ = ["Daft"]


class Daft:
    """A batch function over columns between Daft's own reader and writer."""

    def start(self) -> None:
        """Choose the runner."""
        daft.set_runner_native()

    def score(self, task: Task) -> dict[str, float]:
        """Read, score, write."""
        scoring = Scoring.of(task)
        number = daft.DataType.float32()

        @daft.func.batch(return_dtype=number if task.kind.width == 1 else daft.DataType.list(number), use_process=False)
        def score(*columns: daft.Series) -> daft.Series:
            arrays = [column.to_arrow() for column in columns]
            return daft.Series.from_arrow(arrow_scores(scoring, arrays))

        frame = daft.read_parquet(f"{task.source}/*.parquet")
        scored = frame.select("id", score(*(daft.col(name) for name in task.kind.columns)).alias("score"))
        scored.write_parquet(str(task.out), compression="zstd")
        return {}

    def stop(self) -> None:
        """Nothing is up."""
