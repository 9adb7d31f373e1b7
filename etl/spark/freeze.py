"""Freeze a table or query as Parquet.

A DataFrame partition is not a stable set of rows, so what Spark opens is written once, pinned, and then read natively
like any other file. Freezing costs about what moving the rows from JVM to Python would.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from etl.errors import InputMissing, ReadError
from etl.runs.s3a import hadoop_advice, s3a_options, s3a_uri
from etl.spark.causes import asking, cause_of
from etl.spark.sessions import query_loggers

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyspark.sql import SparkSession

__all__ = ["freeze", "opening", "storing"]

_SETTINGS = {
    # INT96, the default of older releases, cannot hold the year 9999 once it is read as nanoseconds.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    # The hour of an instant, and the instant that a text names, must not depend on where the driver stands.
    "spark.sql.session.timeZone": "UTC",
    # Dates before 1900 are what they are; Spark 3.5 would refuse to write them.
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    # Why files that a query names cannot be opened is said nowhere else.
    "spark.sql.pyspark.jvmStacktrace.enabled": "true",
}


def freeze(spark: SparkSession, *, table: str | None, sql: str | None, folder: str, limit: int | None = None) -> None:
    """Write the rows of a table, or of a query, as Parquet files into a new folder; with `limit`, so many of them.

    Raises:
        InputMissing: Spark cannot resolve the table or query.
        ReadError: Spark cannot give or write its rows. Either message has Spark's own cause.
    """
    what = f"table {table!r}" if table is not None else "the query of `input.sql`"
    with storing(spark, what, folder) as uri:
        rows = spark.table(table) if table is not None else spark.sql(sql or "")
        rows = rows if limit is None else rows.limit(limit)
        rows.write.mode("error").parquet(uri)


@contextlib.contextmanager
def storing(spark: SparkSession, what: str, folder: str) -> Generator[str]:
    """The settings under which rows are stored, the folder as Spark is to be told it, and Spark's failures as ours.

    Raises:
        InputMissing: Spark cannot resolve what it is to store.
        ReadError: Spark cannot give or write its rows. Either message has Spark's own cause.
    """
    from py4j.protocol import Py4JError  # noqa: PLC0415  only jobs over tables need Spark
    from pyspark.errors import AnalysisException, ParseException, PySparkException  # noqa: PLC0415  as above

    # Without a scheme Spark would write to the file system that the cluster has for its default.
    uri = f"file://{folder}" if "://" not in folder else s3a_uri(folder)
    # Hadoop gets what is set for a session under its own names; with `spark.hadoop.` before them only at the start.
    with _set(spark, {**_SETTINGS, **s3a_options(folder)}), _unlogged():
        try:
            with asking():
                yield uri
        except (AnalysisException, ParseException) as error:
            # Spark Connect resolves a query when it is executed, so this may come from any line.
            message = f"{what} cannot be opened by Spark: {_told(spark, error)}."
            raise InputMissing(message) from error
        except (PySparkException, Py4JError) as error:
            message = f"{what} cannot be frozen as Parquet in {uri}: {_told(spark, error)}."
            raise ReadError(message) from error
    if uri.startswith("s3a://"):
        from etl.runs.s3 import check_encryption  # noqa: PLC0415  a store is imported when a URI asks for it

        check_encryption(folder)


@contextlib.contextmanager
def opening(spark: SparkSession, what: str) -> Generator[None]:
    """Files that the caller's session is to read: say what to do where it has no client of S3.

    Raises:
        ReadError: it has none. Spark's other errors pass as they are.
    """
    try:
        yield
    except Exception as error:
        if hadoop_advice(str(error)) is None:
            raise
        message = f"{what} cannot be opened by Spark: {_told(spark, error)}."
        raise ReadError(message) from error


def _told(spark: SparkSession, error: Exception) -> str:
    """Spark's cause, and what to do where it is that Spark has no client of S3."""
    cause, text = cause_of(str(error)), str(error)
    if hadoop_advice(text) is None:
        return cause
    return f"{cause}. {hadoop_advice(text, spark=spark.version, hadoop=_hadoop(spark))}"


def _hadoop(spark: SparkSession) -> str | None:
    """The version of Hadoop, where Spark lets a query ask for it."""
    try:
        [[found]] = spark.sql("SELECT reflect('org.apache.hadoop.util.VersionInfo', 'getVersion')").collect()
    except Exception:  # noqa: BLE001  what is being told is another error
        return None
    return str(found)


@contextlib.contextmanager
def _set(spark: SparkSession, settings: dict[str, str]) -> Generator[None]:
    """The session belongs to the caller too: what was set is put back."""
    before = {key: spark.conf.get(key, None) for key in settings}
    try:
        for key, value in settings.items():
            spark.conf.set(key, value)
        yield
    finally:
        # A JVM that is gone has no settings, and whoever asked it has an error to tell.
        with contextlib.suppress(ConnectionError):
            for key, old in before.items():
                if old is None:
                    spark.conf.unset(key)
                else:
                    spark.conf.set(key, old)


@contextlib.contextmanager
def _unlogged() -> Generator[None]:
    """Keep Spark from printing a failed query's whole trace: it is the cause of the error that is raised for it."""
    before = [(logger, logger.disabled) for logger in query_loggers()]
    for logger, _ in before:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was_disabled in before:
            logger.disabled = was_disabled
