"""A contender runs in a process of its own, so that its memory, threads and imports are nobody else's."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
import traceback
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tests.bench.workload import Workload

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

__all__ = ["CONTENDERS", "CORES", "Answer", "Contender", "Remote"]

CORES = 2
"""What each contender may use."""

CONTENDERS = {
    "bare": "tests.bench.bare:Bare",
    "ours": "tests.bench.ours:Ours",
    "ours, frozen table": "tests.bench.ours:OursFrozen",
    "pandas_udf": "tests.bench.spark_peers:PandasUdf",
    "arrow_udf": "tests.bench.spark_peers:ArrowUdf",
    "predict_batch_udf": "tests.bench.spark_peers:PredictBatchUdf",
    "mlflow spark_udf": "tests.bench.spark_peers:MlflowUdf",
    "Daft": "tests.bench.daft_peer:Daft",
    "Ray Data": "tests.bench.ray_peer:RayData",
}
"""Where each contender's class is. Imported in its own process only: one must not need another's packages."""


class Contender(Protocol):
    """Something that reads a workload's files, scores them and writes `id` and `score` as Parquet."""

    def start(self) -> None:
        """Bring the session up; not on the clock."""

    def score(self, work: Workload) -> dict[str, float]:
        """Do the work; on the clock. What it gives back is facts for the report."""

    def stop(self) -> None:
        """Take the session down; not on the clock."""


class Answer(NamedTuple):
    """What a contender's process says."""

    seconds: float
    """On the clock."""
    facts: dict[str, float]
    """What the contender adds."""
    error: str | None
    """Why it failed."""


class Remote:
    """A contender's process, seen from the bench."""

    def __init__(self, name: str, log: Path) -> None:
        """Start the process and its session."""
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(CONTENDERS[name], theirs, str(log)), name=name)
        self._process.start()
        theirs.close()
        self._receive()

    def score(self, work: Workload) -> Answer:
        """Let it do the work."""
        try:
            self._pipe.send(work.to_json())
        except OSError:
            return Answer(0, {}, f"its process ended with exit code {self._process.exitcode}")
        return self._receive()

    def stop(self) -> None:
        """Let it take its session down and end."""
        self._pipe.close()
        self._process.join()

    def _receive(self) -> Answer:
        try:
            answer: Answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            return Answer(0, {}, f"its process ended with exit code {self._process.exitcode}")
        return answer


def _serve(where: str, pipe: Connection, log: str) -> None:
    """Runs in the contender's process until the pipe is closed."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    module, _, name = where.partition(":")
    contender: Contender = getattr(importlib.import_module(module), name)()
    contender.start()
    pipe.send(Answer(0, {}, None))
    while True:
        try:
            work = Workload.from_json(pipe.recv())
        except EOFError:
            break
        pipe.send(_timed(contender, work))
    contender.stop()


def _timed(contender: Contender, work: Workload) -> Answer:
    start = time.perf_counter()
    try:
        facts = contender.score(work)
    except Exception as error:  # noqa: BLE001  whatever fails becomes a line of the table
        traceback.print_exc()
        return Answer(0, {}, f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
    return Answer(time.perf_counter() - start, facts, None)
