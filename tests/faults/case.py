"""A job in a store, its oracle, and the runs of it that a test disturbs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

from jobs.config.job import read_config
from jobs.run import RunRequest, run
from tests.faults.watch import Watch
from tests.numbers_job import FEATURES, logistic_scores, write_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.record import RunRecord
    from tests.stores.places import Place

__all__ = ["Case", "Stopped", "workers"]

RUN_ID = "r"


class Stopped(BaseException):
    """Leaves a run where a death at this border would, so that a test need not start Spark for it."""


@dataclass
class Case:
    """Rows in a place, a model, and what it makes of them."""

    place: Place
    folder: Path
    """On this machine, for configs."""
    model: Path
    scores: dict[int, float] = field(default_factory=dict)
    """By id, of numpy."""

    def fill(self, *, files: int, rows: int) -> None:
        """Write the input, a split a file."""
        table = write_numbers(self.folder / "made", files=files, rows=rows, row_group=rows)
        for path in sorted((self.folder / "made").iterdir()):
            self.place.put(f"in/{path.name}", path.read_bytes())
        self.scores = logistic_scores(table)

    def job(self, name: str = "job", *, uri: str | None = None, **sections: Any) -> Path:
        """The config; keyword arguments replace its sections, and `uri` is the place by another way."""
        out = uri or self.place.uri
        job = {
            "api_version": "batchscore/1",
            "name": "numbers",
            "input": {"files": f"{out}/in"},
            "model": {"onnx": str(self.model), "inputs": {"X": list(FEATURES)}},
            "output": {"uri": f"{out}/out", "passthrough": ["id"]},
            "splits": {"target_bytes": "1MB", "task_bytes": 1},
            "storage": [one.model_dump(exclude_defaults=True) | {"uri": one.uri} for one in self.place.settings],
            "spark": {"master": "local[2,4]", "conf": {"spark.sql.shuffle.partitions": "2"}},
            **sections,
        }
        path = self.folder / f"{name}.yaml"
        beside = path.with_suffix(".written")
        beside.write_text(yaml.safe_dump(job), encoding="utf-8")
        beside.replace(path)  # a driver may be reading it
        return path

    def watch(self, *run_ids: str) -> Watch:
        """A reader for the time of the test."""
        return Watch(self.place, dict.fromkeys(run_ids or (RUN_ID,), self.scores))

    def again(self, job: Path, run_id: str = RUN_ID) -> RunRecord:
        """The same command, in this process, whose Spark is up."""
        return run(RunRequest(config=read_config(str(job)), run_id=run_id))

    def stop_before(self, phase: str, job: Path, run_id: str = RUN_ID) -> None:
        """Leave the run where a death at the border of this phase would."""

        def stop(name: str) -> None:
            if name == phase:
                raise Stopped

        with pytest.raises(Stopped):
            run(RunRequest(config=read_config(str(job)), run_id=run_id), stop)

    def receipts(self, run_id: str = RUN_ID) -> dict[str, bytes]:
        """Bytes of every receipt by name."""
        folder = f"out/_batchscore/runs/{run_id}/receipts"
        return {name: self.place.get(f"{folder}/{name}") for name in self.receipt_names(run_id)}

    def receipt_names(self, run_id: str = RUN_ID) -> list[str]:
        """The receipts that are there."""
        found = self.place.sizes(f"out/_batchscore/runs/{run_id}/receipts")
        return sorted(name for name in found if name.endswith(".json") and not name.startswith("."))


def workers(below: int | psutil.Process) -> list[psutil.Process]:
    """Spark's workers in Python that a process has started: what its daemons have forked."""
    process = psutil.Process(below) if isinstance(below, int) else below
    found = [one for one in process.children(recursive=True) if "pyspark.daemon" in _line(one)]
    pids = {one.pid for one in found}
    return [one for one in found if _parent(one) in pids]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _parent(process: psutil.Process) -> int:
    try:
        found: int = process.ppid()
    except psutil.Error:
        return 0
    return found
