"""Who is fed by Spark through the JVM: its own UDFs, MLflow's, and our functions for DataFrames. Spark reads and writes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd  # noqa: TC002  Spark reads the UDFs' annotations
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.functions import arrow_udf, pandas_udf, struct
from pyspark.sql.types import ArrayType, DataType, FloatType

from tests.bench.contender import CORES, CannotError
from tests.bench.inference import Scoring, arrow_scores, scores
from tests.bench.ours import model_config
from tests.bench.workload import BUCKETS, PIXELS, Task

if TYPE_CHECKING:
    from scoring.bundles.bundle import AuditedBundle

__all__ = ["ArrowUdf", "MlflowUdf", "OurScore", "OurUdf", "PandasUdf", "PredictBatchUdf"]

Scored = Callable[..., Column]

_ARROW_ROWS = 10_000
"""Rows of an Arrow batch, Spark's default: from 2,000 to 64,000 nothing was quicker on columns of numbers."""


class SparkPeer:
    """Spark reads the files, one a task as for everybody, and writes the result."""

    def start(self) -> None:
        """Start Spark, or take the session that another one has started."""
        os.environ["PYSPARK_PYTHON"] = sys.executable
        settings = {
            "spark.driver.memory": "3g",
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.execution.arrow.pyspark.enabled": "true",
            "spark.sql.parquet.compression.codec": "zstd",
        }
        builder = SparkSession.builder.appName("bench").master(f"local[{CORES},4]")
        for key, value in settings.items():
            builder = builder.config(key, value)
        self._spark = builder.getOrCreate()
        self._made: dict[str, Any] = {}

    def score(self, task: Task) -> dict[str, float]:
        """Read, score, write."""
        largest = max(path.stat().st_size for path in task.files)
        small = task.is_of_small_files
        self._spark.conf.set("spark.sql.files.maxPartitionBytes", str(128 << 20 if small else largest))
        # By itself Spark reckons 4 MB for opening a file, and makes 65 tasks of the 2,000.
        self._spark.conf.set("spark.sql.files.openCostInBytes", str(largest if small else 4 << 20))
        self._spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(_ARROW_ROWS))
        if task.workload not in self._made:
            self._made[task.workload] = self.make(task)
        frame = self._spark.read.parquet(str(task.source))
        self.scored(frame, self._made[task.workload], task).write.parquet(str(task.out))
        return {}

    def make(self, task: Task) -> Any:
        """What scores, made once a workload.

        Raises:
            CannotError: it has no way to score such rows.
        """
        raise NotImplementedError

    def scored(self, frame: DataFrame, made: Any, task: Task) -> DataFrame:
        """The rows as `id` and `score`."""
        return frame.select("id", self.column(made, task).alias("score"))

    def column(self, made: Any, task: Task) -> Column:
        """The score."""
        found: Column = made(*task.kind.columns)
        return found

    def stop(self) -> None:
        """End Spark."""
        self._spark.stop()


def _type(task: Task) -> DataType:
    return FloatType() if task.kind.width == 1 else ArrayType(FloatType())


class PandasUdf(SparkPeer):
    """`pandas_udf`, from an iterator of series to an iterator of series."""

    def make(self, task: Task) -> Scored:
        """See `SparkPeer.make`."""
        scoring = Scoring.of(task)

        def score(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:
            for columns in batches:
                yield arrow_scores(scoring, columns).to_pandas()

        def score_one(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
            for column in batches:
                yield arrow_scores(scoring, [column]).to_pandas()

        made: Scored = pandas_udf(score if len(task.kind.columns) > 1 else score_one, _type(task))
        return made


class ArrowUdf(SparkPeer):
    """`arrow_udf`, from an iterator of arrays to an iterator of arrays."""

    def make(self, task: Task) -> Scored:
        """See `SparkPeer.make`."""
        scoring = Scoring.of(task)

        def score(batches: Iterator[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
            for columns in batches:
                yield arrow_scores(scoring, columns)

        def score_one(batches: Iterator[pa.Array]) -> Iterator[pa.Array]:
            for column in batches:
                yield arrow_scores(scoring, [column])

        made: Scored = arrow_udf(score if len(task.kind.columns) > 1 else score_one, _type(task))
        return made


class PredictBatchUdf(SparkPeer):
    """`predict_batch_udf`: over one struct, which it makes a matrix of (an array of the columns was slower); over a list
    column; over ids and a mask that Spark pads, since it takes rows of one length only.
    """  # noqa: D205  one sentence

    def make(self, task: Task) -> Scored:
        """See `SparkPeer.make`."""
        scoring = Scoring.of(task)
        shapes = {"columns": None, "list": [[PIXELS]], "ids": [[BUCKETS[-1]]] * 2}[task.kind.shape]
        is_wide = task.kind.width > 1

        def make_one() -> Callable[[np.ndarray], np.ndarray]:
            def predict(matrix: np.ndarray) -> np.ndarray:
                found = scores(scoring, {"X": np.ascontiguousarray(matrix, dtype=np.float32)})
                return found if is_wide else found[:, 0]

            return predict

        def make_ids() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
            def predict(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
                return scores(scoring, {"ids": ids.astype(np.int64), "mask": mask.astype(np.int64)})[:, 0]

            return predict

        made: Scored = predict_batch_udf(
            make_ids if task.kind.shape == "ids" else make_one,
            return_type=_type(task),
            batch_size=_ARROW_ROWS,
            input_tensor_shapes=shapes,
        )
        return made

    def column(self, made: Any, task: Task) -> Column:
        """One struct: it takes several columns for several inputs of the model."""
        if task.kind.shape == "columns":
            found: Column = made(struct(*task.kind.columns))
        elif task.kind.shape == "list":
            found = made(*task.kind.columns)
        else:
            length, ids = BUCKETS[-1], sf.col("ids")
            zeros, ones = sf.array_repeat(sf.lit(0).cast("long"), length), sf.lit(1).cast("long")
            padded = sf.slice(sf.concat(ids, zeros), 1, length)
            mask = sf.slice(sf.concat(sf.transform(ids, lambda _: ones), zeros), 1, length)
            found = made(padded, mask)
        return found


class MlflowUdf(SparkPeer):
    """`mlflow.pyfunc.spark_udf` over a saved ONNX model, in the same environment.

    With columns as its signature: under a tensor signature MLflow gives (n, 1) arrays, which it then cannot turn into
    a float column. That is also why it has no way to lists, whichever of the two signatures is used and whether a
    float or an array is asked for (tried with MLflow 3.17).
    """

    def make(self, task: Task) -> Scored:
        """See `SparkPeer.make`."""
        import mlflow.onnx
        import onnx as onnx_package
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        if task.kind.shape == "ids":
            message = "its ONNX flavour has no way to pad rows of several lengths, nor to make a mask of them"
            raise CannotError(message)
        if task.kind.shape == "list" or task.kind.width > 1:
            message = "its ONNX flavour has no way from a list column to a tensor, nor from an (n, k) output to one value or list a row"
            raise CannotError(message)
        folder = task.onnx.with_name(f"{task.onnx.stem}.mlflow")
        shutil.rmtree(folder, ignore_errors=True)
        mlflow.onnx.save_model(
            onnx_package.load(str(task.onnx)),
            str(folder),
            signature=ModelSignature(
                inputs=Schema([ColSpec("float", name) for name in task.kind.columns]),
                outputs=Schema([ColSpec("float", "score")]),
            ),
            onnx_execution_providers=["CPUExecutionProvider"],
            onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
            pip_requirements=["onnxruntime"],
        )
        made: Scored = mlflow.pyfunc.spark_udf(self._spark, str(folder), result_type="float", env_manager="local")
        return made


def _bundle(task: Task) -> AuditedBundle:
    """A bundle of the bare model, as a job makes it."""
    from jobs.config.job import Model
    from jobs.planning.model import resolve_model

    return resolve_model(Model.model_validate(model_config(task)), pq.read_schema(task.files[0]))


class OurUdf(SparkPeer):
    """`scoring.spark.udf.score_udf`."""

    def make(self, task: Task) -> Scored:
        """See `SparkPeer.make`."""
        from scoring.spark.udf import score_udf

        return score_udf(_bundle(task), spark=self._spark)


class OurScore(SparkPeer):
    """`scoring.spark.frames.score`."""

    def make(self, task: Task) -> AuditedBundle:
        """See `SparkPeer.make`."""
        return _bundle(task)

    def scored(self, frame: DataFrame, made: Any, task: Task) -> DataFrame:
        """See `SparkPeer.scored`."""
        from scoring.spark.frames import score

        return score(frame, made, passthrough=["id"]).select("id", "score")
