"""An archive of the classes that Spark loads, which the JVMs of the tests map instead of reading 300 jars each.

On a slow machine a job of two files took 15 s without it and 10 s with it. Java takes no archive of another Java or of
other jars, and says nothing: https://docs.oracle.com/en/java/javase/17/vm/class-data-sharing.html
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from pyspark.sql import SparkSession

ARCHIVE = Path(sys.prefix) / f"spark-{version('pyspark')}.jsa"
BRIEF = "-XX:TieredStopAtLevel=1"
"""No JVM of the tests lives long enough for Java's second compiler to pay: it takes half of their processor time."""
QUIET = "-Xlog:cds=off -Xlog:cds+dynamic=off"
"""A JVM with other jars before Spark's would say on its standard output that it does without the archive."""


def options() -> str:
    """Of the JVMs of the tests."""
    return f"{BRIEF} -XX:SharedArchiveFile={ARCHIVE} {QUIET}" if ARCHIVE.exists() else BRIEF


def make() -> None:
    """Start Spark, have it do a little of all that jobs do, and have its JVM write down what it loaded as it ends."""
    from jobs.config.spark import Spark
    from jobs.session import start_session

    made = ARCHIVE.with_suffix(".inprogress")
    os.environ["SPARK_SUBMIT_OPTS"] = f"{BRIEF} -XX:ArchiveClassesAtExit={made} {QUIET}"
    with tempfile.TemporaryDirectory() as folder:
        session = start_session("classes", Spark(master="local[1]"))
        _work(session, f"{folder}/rows")
        jvm = _jvm_of(session)
        session.stop()
        jvm.stdin.close()
        jvm.wait()
    made.rename(ARCHIVE)


def _work(session: SparkSession, folder: str) -> None:
    rows = session.range(100).selectExpr("id", "cast(id % 2 as int) as part", "array(id) as list")
    rows.write.partitionBy("part").parquet(folder)
    read = session.read.parquet(folder).mapInArrow(_as_they_are, "id long, list array<long>, part int")
    read.join(rows, "id").groupBy("id").count().orderBy("id").collect()


def _as_they_are(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    yield from batches


def _jvm_of(session: SparkSession) -> Any:
    context: Any = session.sparkContext
    return context._gateway.proc


if __name__ == "__main__":
    if not ARCHIVE.exists():
        make()
