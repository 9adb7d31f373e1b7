"""Tables: storage, splits, contract, spec, ops, fit, write, publish. Knows nothing of models and imports no Spark.

Spark verbs live in `etl.tables` alone, and nothing here imports it, so that a worker starts without pyspark.
"""

from __future__ import annotations

__all__: list[str] = []

__version__ = "0.1.0"
