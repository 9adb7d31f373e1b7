"""The one place that starts or adopts a SparkSession."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.config import Spark

__all__ = ["parallelism", "start_session"]

_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


def start_session(app: str, config: Spark) -> SparkSession:
    """A session: spark-submit's or the caller's where there is one, else a new one as the config says.

    Workers must run the driver's interpreter: without PYSPARK_PYTHON they start whatever `python3` is.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark.sql import SparkSession  # noqa: PLC0415  half a second that refused configs need not pay

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    builder = SparkSession.builder.appName(app)
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return builder.getOrCreate()
    builder = builder.master(config.master)
    for key, value in {**_DEFAULTS, **config.conf}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def parallelism(spark: SparkSession) -> int:
    """Tasks that run at once."""
    return int(spark.sparkContext.defaultParallelism)
