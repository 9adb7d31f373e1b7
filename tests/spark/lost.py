"""A program: lets an executor, or a worker, of a cluster of its own end, and prints what is told of that."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import psutil
from pyspark.sql import SparkSession

from etl.spark.causes import failure_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow as pa

SETTINGS = {"spark.task.maxFailures": "1", "spark.ui.enabled": "false", "spark.executor.memory": "600m"}


def main(how: str) -> None:
    """`how` is what ends."""

    def end(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if how == "executor":  # its daemon's parent
            os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
        elif how == "worker":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise OSError(28, "No space left on device", "/tmp/shuffle")
        yield from batches

    builder = SparkSession.builder.master("local-cluster[1,1,1024]")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    try:
        spark.range(0, 1, 1, 1).mapInArrow(end, "id long").collect()
    except Exception as error:  # noqa: BLE001  whatever comes is what is looked at
        sys.stdout.write(failure_of(error, spark))
    spark.stop()


main(sys.argv[1])
