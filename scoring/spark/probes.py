"""Ask every worker of a cluster what it has to score with."""

from __future__ import annotations

import functools
import json
import time
from typing import TYPE_CHECKING

import pyarrow as pa

from etl.runs.store_settings import bound
from etl.spark.causes import asking, failure_of
from etl.spark.shipping import bring_code
from scoring.code import CODE
from scoring.errors import TasksFailed
from scoring.probing import Probe, probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyspark.sql import SparkSession

    from scoring.probing import Asked

__all__ = ["probe_workers"]

_ANSWER = pa.schema([pa.field("probe", pa.string())])
_AT_ONCE = 1.0
"""Seconds that a task takes at least, so that one worker does not answer for all."""


def probe_workers(spark: SparkSession, asked: Asked, tasks: int) -> list[Probe]:
    """An answer of each task, `tasks` of them: as many as run at once, so that each executor has one.

    Raises:
        TasksFailed: no worker can run our code at all.
    """
    from py4j.protocol import Py4JError  # noqa: PLC0415  half a second that commands without Spark need not pay
    from pyspark.errors import PySparkException  # noqa: PLC0415  as above

    try:
        with asking():
            bring_code(spark, *CODE)
            numbers = spark.range(0, tasks, 1, tasks)
            answers = numbers.mapInArrow(bound(functools.partial(_run, asked=asked)), "probe string").collect()
    except (PySparkException, Py4JError) as error:
        raise TasksFailed(f"no worker could be asked: {failure_of(error, spark)}") from error
    return [Probe(**json.loads(answer["probe"])) for answer in answers]


def _run(batches: Iterable[pa.RecordBatch], *, asked: Asked) -> Iterator[pa.RecordBatch]:
    until = time.monotonic() + _AT_ONCE
    for _ in batches:
        found = probe(asked)
        time.sleep(max(0.0, until - time.monotonic()))
        yield pa.record_batch([pa.array([json.dumps(found._asdict())])], schema=_ANSWER)
