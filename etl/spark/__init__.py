"""What needs Spark of tables: freeze a source as Parquet, and the verbs of specs over Spark DataFrames.

Only public API is used, so all of it works over Spark Connect. Nothing here loads pyspark when it is imported, and
nothing else of `etl` imports it.
"""

from __future__ import annotations

from etl.spark.fitting import fit
from etl.spark.preparing import freeze_prepared, prepare
from etl.spark.transforming import transform

__all__ = ["fit", "freeze_prepared", "prepare", "transform"]
