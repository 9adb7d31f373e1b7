"""What the two kinds of Spark session, classic and Spark Connect, answer differently.

A session of Spark Connect has no SparkContext: what that would tell is asked of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger

    from pyspark.sql import SparkSession

__all__ = ["is_connect", "is_on_one_machine", "parallelism", "query_loggers", "session_id"]

_MORE_THAN_CORES = 1 << 20


def is_connect(spark: SparkSession) -> bool:
    """Whether the session is one of Spark Connect."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def is_on_one_machine(spark: SparkSession) -> bool:
    """Whether the workers surely read this process's disk; those of a server may be anywhere."""
    if is_connect(spark):
        return False
    master = str(spark.sparkContext.master)
    return master == "local" or master.startswith("local[")


def parallelism(spark: SparkSession) -> int:
    """Tasks that run at once.

    A server is asked by a query: a range is cut into as many parts as tasks run at once, unless its settings say else.
    """
    if not is_connect(spark):
        return int(spark.sparkContext.defaultParallelism)
    parts = spark.range(_MORE_THAN_CORES).selectExpr("spark_partition_id() AS part")
    return int(parts.selectExpr("max(part) AS last").collect()[0]["last"]) + 1


def session_id(spark: SparkSession) -> str:
    """What tells this session's workers from those of others."""
    return str(getattr(spark, "session_id") if is_connect(spark) else spark.sparkContext.applicationId)  # noqa: B009  classic sessions have none


def query_loggers() -> list[Logger]:
    """Those by which Spark 4 prints the whole trace of a failed query; Spark 3.5 prints nothing, and has none."""
    try:
        from pyspark.logger import PySparkLogger  # noqa: PLC0415  only who has a session needs Spark
    except ImportError:
        return []
    return [PySparkLogger.getLogger(name) for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger")]
