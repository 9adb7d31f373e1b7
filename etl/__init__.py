"""Tables: storage, splits, contract, spec, ops, fit, write, publish. Knows nothing of models and imports no Spark.

What a data scientist needs is here: `load_spec` a recipe, `fit` it to data, `save_spec`, and its `transform`. Spark
verbs live in `etl.spark`, and nothing here imports it, so that a worker starts without pyspark.
"""

from __future__ import annotations

from etl.format.files import load_spec, save_spec
from etl.learning.fitting import fit
from etl.spec import Spec, read_spec

__all__ = ["Spec", "fit", "load_spec", "read_spec", "save_spec"]

__version__ = "0.1.0"
