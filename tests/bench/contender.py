"""Contenders run in processes apart from the bench, so that its memory, threads and imports are not theirs.

Each has one of its own but for those that Spark feeds: they are functions of one session, which is as warm for one as
for the others.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
import traceback
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tests.bench.workload import Task

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

__all__ = ["CONTENDERS", "CORES", "JVM_FED", "Answer", "CannotError", "Contender", "Remote", "home_of"]

CORES = 2
"""What each contender may use."""

CONTENDERS = {
    "bare": "tests.bench.bare:Bare",
    "ours": "tests.bench.ours:Ours",
    "ours, frozen table": "tests.bench.ours:OursFrozen",
    "ours, score_udf": "tests.bench.spark_peers:OurUdf",
    "ours, score(df)": "tests.bench.spark_peers:OurScore",
    "pandas_udf": "tests.bench.spark_peers:PandasUdf",
    "arrow_udf": "tests.bench.spark_peers:ArrowUdf",
    "predict_batch_udf": "tests.bench.spark_peers:PredictBatchUdf",
    "mlflow spark_udf": "tests.bench.spark_peers:MlflowUdf",
    "Daft": "tests.bench.daft_peer:Daft",
    "Ray Data": "tests.bench.ray_peer:RayData",
}
"""Where each contender's class is. Imported in its own process only: one must not need another's packages."""

JVM_FED = ("pandas_udf", "arrow_udf", "predict_batch_udf", "mlflow spark_udf")
"""Peers whose rows pass through the JVM."""


def home_of(name: str) -> str:
    """The process that a contender runs in."""
    return "spark" if CONTENDERS[name].startswith("tests.bench.spark_peers") else name


class CannotError(Exception):
    """A contender has no way to do a workload. The message says why."""


class Contender(Protocol):
    """Something that reads a task's files, scores them and writes `id` and `score` as Parquet."""

    def start(self) -> None:
        """Bring the session up; not on the clock."""

    def score(self, task: Task) -> dict[str, float]:
        """Do the work; on the clock. What it gives back is facts for the report.

        Raises:
            CannotError: it cannot.
        """

    def stop(self) -> None:
        """Take the session down; not on the clock."""


class Answer(NamedTuple):
    """What a contender's process says."""

    seconds: float
    """On the clock."""
    facts: dict[str, float]
    """What the contender adds."""
    error: str | None
    """Why it failed, or why it cannot."""


class Remote:
    """The process of one contender or of several, seen from the bench."""

    def __init__(self, home: str, log: Path) -> None:
        """Start the process."""
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, str(log)), name=home)
        self._process.start()
        theirs.close()

    def start(self, name: str) -> Answer:
        """Bring a contender's session up."""
        return self._asked((name, None))

    def score(self, name: str, task: Task) -> Answer:
        """Let a contender do the work."""
        return self._asked((name, task.to_json()))

    def stop(self) -> None:
        """Let its contenders take their sessions down, and the process end."""
        self._pipe.close()
        self._process.join()

    def _asked(self, question: tuple[str, str | None]) -> Answer:
        try:
            self._pipe.send(question)
            answer: Answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            return Answer(0, {}, f"its process ended with exit code {self._process.exitcode}")
        return answer


def _serve(pipe: Connection, log: str) -> None:
    """Runs in the contender's process until the pipe is closed."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    contenders: dict[str, Contender] = {}
    while True:
        try:
            name, text = pipe.recv()
        except EOFError:
            break
        if name not in contenders:
            module, _, kind = CONTENDERS[name].partition(":")
            contenders[name] = getattr(importlib.import_module(module), kind)()
            contenders[name].start()
        pipe.send(Answer(0, {}, None) if text is None else _timed(contenders[name], Task.from_json(text)))
    for contender in contenders.values():
        contender.stop()


def _timed(contender: Contender, task: Task) -> Answer:
    start = time.perf_counter()
    try:
        facts = contender.score(task)
    except CannotError as error:
        return Answer(0, {}, f"cannot: {error}")
    except Exception as error:  # noqa: BLE001  whatever fails becomes a line of the table
        traceback.print_exc()
        return Answer(0, {}, f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
    return Answer(time.perf_counter() - start, facts, None)
