"""Tables: storage, splits, contract, spec, ops, fit, write, publish. Knows nothing of models and imports no Spark.

What a data scientist needs is here: `read_spec` a recipe, `fit` it to data, and its `transform`. Spark verbs live in
`etl.spark`, and nothing here imports it, so that a worker starts without pyspark.
"""

from __future__ import annotations

from etl.fitting import fit
from etl.spec import Spec, read_spec

__all__ = ["Spec", "fit", "read_spec"]

__version__ = "0.1.0"
