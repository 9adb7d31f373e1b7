"""What Spark tells when a task fails, and what we make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyspark.errors import PySparkException

from etl.spark.causes import cause_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_the_cause_of_a_failed_task_is_one_line_of_python(spark: SparkSession) -> None:
    """Of Spark's message for a task that raised, with its JVM trace, only the Python error remains."""

    def fail(batches):
        for _ in batches:
            message = "row 7 is odd"
            raise ValueError(message)
        yield

    with pytest.raises(PySparkException) as caught:
        spark.range(0, 1, 1, 1).mapInArrow(fail, "id long").collect()
    assert cause_of(str(caught.value)) == "ValueError: row 7 is odd"


def test_the_cause_of_what_py4j_wrapped_is_javas_last() -> None:
    """Of a Java exception that pyspark does not know, the cause at the end of the chain remains."""
    text = (
        "An error occurred while calling o51.parquet.\n: org.apache.spark.SparkException: Job aborted.\n"
        "\tat a.B.c(B.java:1)\nCaused by: a.E: Unable to close.\n\tat a.B.c(B.java:1)\n"
        "Caused by: java.io.IOException: No space left on device\n\tat a.B.c(B.java:1)\n"
    )
    assert cause_of(text) == "java.io.IOException: No space left on device"
    assert cause_of(text.partition("Caused by")[0]) == "org.apache.spark.SparkException: Job aborted"


@pytest.mark.parametrize(("text", "cause"), [("", "it gave no reason"), ("Connection lost.\nmore", "Connection lost")])
def test_the_cause_of_anything_else_is_its_first_line(text: str, cause: str) -> None:
    """A message without a Python traceback is told by its first line."""
    assert cause_of(text) == cause
