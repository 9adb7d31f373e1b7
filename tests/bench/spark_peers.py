"""Peers that Spark feeds through the JVM: its own UDFs and MLflow's. Spark reads and writes, the UDF scores."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd  # noqa: TC002  Spark reads the UDFs' annotations
import pyarrow as pa  # noqa: TC002  as above
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column, SparkSession
from pyspark.sql.functions import arrow_udf, pandas_udf, struct
from pyspark.sql.types import FloatType

from tests.bench.contender import CORES
from tests.bench.inference import arrow_scores, scores
from tests.bench.workload import FEATURES, Workload

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ArrowUdf", "MlflowUdf", "PandasUdf", "PredictBatchUdf"]

Scored = Callable[..., Column]

_ARROW_ROWS = 10_000
"""Rows of an Arrow batch, Spark's default: from 2,000 to 64,000 nothing was quicker."""


class SparkPeer:
    """Spark reads the files, one a task as for everybody, and writes the result."""

    conf: ClassVar[dict[str, str]] = {}
    """What this peer is better with."""

    def start(self) -> None:
        """Start Spark."""
        os.environ["PYSPARK_PYTHON"] = sys.executable
        settings = {
            "spark.driver.memory": "2g",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            "spark.sql.parquet.compression.codec": "zstd",
            **self.conf,
        }
        builder = SparkSession.builder.appName("bench").master(f"local[{CORES},4]")
        for key, value in settings.items():
            builder = builder.config(key, value)
        self._spark = builder.getOrCreate()
        self._udfs: dict[Path, Scored] = {}

    def score(self, work: Workload) -> dict[str, float]:
        """Read, score, write."""
        largest = max(path.stat().st_size for path in work.files)
        self._spark.conf.set("spark.sql.files.maxPartitionBytes", str(largest))
        if work.onnx not in self._udfs:
            self._udfs[work.onnx] = self.udf(work.onnx)
        frame = self._spark.read.parquet(str(work.source))
        frame.select("id", self.scored(self._udfs[work.onnx])).write.parquet(str(work.out))
        return {}

    def udf(self, onnx: Path) -> Scored:
        """The UDF over a model, made once."""
        raise NotImplementedError

    def scored(self, udf: Scored) -> Column:
        """The column `score`."""
        return udf(*FEATURES).alias("score")

    def stop(self) -> None:
        """End Spark."""
        self._spark.stop()


class PandasUdf(SparkPeer):
    """`pandas_udf`, from an iterator of series to an iterator of series."""

    def udf(self, onnx: Path) -> Scored:
        """See `SparkPeer.udf`."""
        path = str(onnx)

        def score(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
            for columns in batches:
                yield arrow_scores(path, columns).to_pandas()

        made: Scored = pandas_udf(score, FloatType())
        return made


class ArrowUdf(SparkPeer):
    """`arrow_udf`, from an iterator of arrays to an iterator of arrays."""

    def udf(self, onnx: Path) -> Scored:
        """See `SparkPeer.udf`."""
        path = str(onnx)

        def score(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
            for columns in batches:
                yield arrow_scores(path, columns)

        made: Scored = arrow_udf(score, FloatType())
        return made


class PredictBatchUdf(SparkPeer):
    """`predict_batch_udf` over one struct, which it makes a matrix of; an array of the columns was slower."""

    def udf(self, onnx: Path) -> Scored:
        """See `SparkPeer.udf`."""
        path = str(onnx)

        def make() -> Callable[[np.ndarray], np.ndarray]:
            def predict(matrix: np.ndarray) -> np.ndarray:
                return scores(path, np.ascontiguousarray(matrix, dtype=np.float32))

            return predict

        made: Scored = predict_batch_udf(make, return_type=FloatType(), batch_size=_ARROW_ROWS)
        return made

    def scored(self, udf: Scored) -> Column:
        """One struct: it takes several columns for several inputs of the model."""
        return udf(struct(*FEATURES)).alias("score")


class MlflowUdf(SparkPeer):
    """`mlflow.pyfunc.spark_udf` over a saved ONNX model, in the same environment.

    With columns as its signature: under a tensor signature MLflow gives (n, 1) arrays, which it then cannot turn into
    a float column.
    """

    def udf(self, onnx: Path) -> Scored:
        """See `SparkPeer.udf`."""
        import mlflow.onnx
        import onnx as onnx_package
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        folder = onnx.with_name(f"{onnx.stem}.mlflow")
        shutil.rmtree(folder, ignore_errors=True)
        mlflow.onnx.save_model(
            onnx_package.load(str(onnx)),
            str(folder),
            signature=ModelSignature(
                inputs=Schema([ColSpec("float", name) for name in FEATURES]),
                outputs=Schema([ColSpec("float", "score")]),
            ),
            onnx_execution_providers=["CPUExecutionProvider"],
            onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
            pip_requirements=["onnxruntime"],
        )
        made: Scored = mlflow.pyfunc.spark_udf(self._spark, str(folder), result_type="float", env_manager="local")
        return made
