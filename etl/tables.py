"""Freeze a table or query as Parquet, the one thing that `etl` needs Spark for.

A DataFrame partition is not a stable set of rows, so what Spark opens is written once, pinned, and then read natively
like any other file. Freezing costs about what moving the rows from JVM to Python would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.errors import InputMissing

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

__all__ = ["freeze"]

_TIMESTAMPS = "spark.sql.parquet.outputTimestampType"


def freeze(spark: SparkSession, *, table: str | None, sql: str | None, folder: str) -> None:
    """Write the rows of a table, or of a query, as Parquet files into a new folder.

    Raises:
        InputMissing: Spark cannot resolve the table or query; the message has Spark's own first line.
    """
    before = spark.conf.get(_TIMESTAMPS, None)
    # INT96, the default of older releases, cannot hold the year 9999 once it is read as nanoseconds.
    spark.conf.set(_TIMESTAMPS, "TIMESTAMP_MICROS")
    try:
        _open(spark, table, sql).write.mode("errorifexists").parquet(folder)
    finally:
        if before is None:
            spark.conf.unset(_TIMESTAMPS)
        else:
            spark.conf.set(_TIMESTAMPS, before)


def _open(spark: SparkSession, table: str | None, sql: str | None) -> DataFrame:
    from pyspark.errors import AnalysisException, ParseException  # noqa: PLC0415  only jobs over tables need Spark

    try:
        return spark.table(table) if table is not None else spark.sql(sql or "")
    except (AnalysisException, ParseException) as error:
        what = f"table {table!r}" if table is not None else "the query of `input.sql`"
        message = f"{what} cannot be opened by Spark: {str(error).strip().splitlines()[0]}"
        raise InputMissing(message) from error
