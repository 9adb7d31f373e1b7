"""Spark's daemon of Python workers in the session that tests share: it has imported what each worker would import."""

from __future__ import annotations

import importlib

from pyspark.daemon import manager

for name in ("pandas", "etl.spark.causes", "scoring.spark.udf", "scoring.worker"):
    importlib.import_module(name)

if __name__ == "__main__":
    manager()
