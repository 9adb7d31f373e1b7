"""Start one Spark task per group of splits. Spark schedules and retries; it carries no rows.

The session is handed in.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from etl.errors import BatchscoreError, StorageError
from etl.runs.storage import storage_for
from etl.runs.store_settings import bound
from etl.spark.causes import asking, failure_of
from etl.spark.shipping import bring_code
from scoring.code import CODE, check_code, code_digest
from scoring.engine.guarding import Situation
from scoring.errors import TasksFailed
from scoring.spark.devices import task_placement, tasks_per_gpu
from scoring.spark.finders import forget_zip_finders
from scoring.worker import Unscored, score_splits

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import SparkSession

    from etl.runs.splits import Split
    from scoring.order import Order

__all__ = ["Failure", "run_tasks"]

_ANSWER = pa.schema([pa.field("failure", pa.string())])


class Failure(NamedTuple):
    """A split that cannot be scored; trying again would not help."""

    split: int
    kind: str
    """Name of the error's class."""
    message: str
    place: str
    """What was to be scored, and where that was tried: file, host and interpreter."""


def run_tasks(spark: SparkSession, order: Order, tasks: tuple[tuple[Split, ...], ...]) -> list[Failure]:
    """Score every split of every task; the failures, by split. What was scored is in the receipts.

    Raises:
        TasksFailed: a task failed on every one of its tries for a reason that is not ours to tell.

    `range(n, numPartitions=n).mapInArrow` starts exactly n tasks, with AQE on or off, classic and Spark Connect.
    """
    from py4j.protocol import Py4JError  # noqa: PLC0415  half a second that commands without Spark need not pay
    from pyspark.errors import PySparkException  # noqa: PLC0415  as above

    if not tasks:
        return []
    try:
        with asking():
            bring_code(spark, *CODE)
            numbers = spark.range(0, len(tasks), 1, len(tasks))
            code, sharing = code_digest(*CODE), tasks_per_gpu(spark)
            task = functools.partial(_run_task, order=order, tasks=tasks, code=code, sharing=sharing)
            answers = numbers.mapInArrow(bound(task), "failure string").collect()
    except (PySparkException, Py4JError) as error:
        message = (
            f"Spark gave up: {failure_of(error, spark)}\n"
            "What is scored is kept; run the same id again to go on. The whole trace is in Spark's log."
        )
        raise TasksFailed(message) from error
    failures = [Failure(*json.loads(answer["failure"])) for answer in answers]
    return sorted(failures)


def _run_task(
    batches: Iterable[pa.RecordBatch],
    *,
    order: Order,
    tasks: tuple[tuple[Split, ...], ...],
    code: str,
    sharing: int,
) -> Iterator[pa.RecordBatch]:
    """Runs on a worker. Errors that a retry would repeat go back as data; any other one lets Spark retry the task."""
    for batch in batches:
        for number in batch.column("id").to_pylist():
            answers = [json.dumps(failure) for failure in _failures(order, tasks[number], code, sharing=sharing)]
            yield pa.RecordBatch.from_arrays([pa.array(answers, pa.string())], schema=_ANSWER)
    forget_zip_finders()


def _failures(order: Order, splits: tuple[Split, ...], code: str, *, sharing: int) -> list[Failure]:
    """The splits that cannot be scored; all of them where the model cannot be loaded."""
    try:
        check_code(code, *CODE)
        scored = score_splits(order, splits, task_placement(sharing), situation=_situation())
        found = [one for one in scored if isinstance(one, Unscored)]
    except BatchscoreError as error:
        found_out = _unseen(order) or error
        return [_failure(split, found_out) for split in splits]
    return [_failure(one.split, one.error) for one in found]


def _unseen(order: Order) -> StorageError | None:
    """What is wrong where this worker sees nothing of the run, of which the driver has written the plan."""
    storage, _ = storage_for(order.root)
    with contextlib.suppress(BatchscoreError, OSError):
        if not storage.names(f"{order.root}/_batchscore"):
            return StorageError(
                f"{order.root}: this worker sees nothing of what the driver wrote there, the model neither. Let "
                "output.uri be in a store, or in a folder that all machines mount."
            )
    return None


def _situation() -> Situation:
    """What Spark says of the task."""
    from pyspark import TaskContext  # noqa: PLC0415  half a second that commands without Spark need not pay

    context = TaskContext.get()
    return Situation(context.attemptNumber() if context is not None else 0, may_end=True)


def _failure(split: Split, error: BatchscoreError) -> Failure:
    place = f"split {split.index}, {split.where}, on {socket.gethostname()} by {sys.executable}"
    return Failure(split.index, type(error).__name__, str(error), place)
