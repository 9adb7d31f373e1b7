"""The contenders. Each is given the rows once, off the clock, and makes the 54 features of all of them, on the clock."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.pipeline import Pipeline
from tests.bench.etl.workload import BINNED, NUMBERS, TEXTS, categories, fitted_spec

if TYPE_CHECKING:
    import pandas as pd

    from etl.spec import Spec

__all__ = ["BATCH_ROWS", "CONTENDERS", "Contender"]

BATCH_ROWS = 16_384
"""Rows that batchscore and scikit-learn are given at a time: those of the worker."""


class Contender(Protocol):
    """Something that makes features."""

    def start(self, table: pa.Table) -> None:
        """Learn or take the state, and hold the rows ready; not on the clock."""

    def make(self) -> None:
        """Make the features of all rows and drop them; on the clock."""

    def features(self, count: int) -> np.ndarray:
        """The features of the first rows, float32 (count, 54), to be compared; not on the clock."""


class Ours:
    """Contract, steps and tensor of a spec, as the worker runs them."""

    def start(self, table: pa.Table) -> None:
        """Fit, and cut the rows into batches."""
        self._pipeline = Pipeline(fitted_spec(table), {})
        self._batches = table.to_batches(BATCH_ROWS)

    def make(self) -> None:
        """Batch by batch."""
        for batch in self._batches:
            self._pipeline.transform(self._pipeline.contract(batch, "bench"))

    def features(self, count: int) -> np.ndarray:
        """The tensor."""
        batch = pa.Table.from_batches(self._batches).slice(0, count)
        return self._pipeline.transform(self._pipeline.contract(batch, "bench")).tensors["features"]


class ScikitLearn:
    """A ColumnTransformer on pandas frames of the same batches."""

    def start(self, table: pa.Table) -> None:
        """Fit scikit-learn's own, and cut the rows into frames."""
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import MissingIndicator, SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, OneHotEncoder, StandardScaler

        clip = FunctionTransformer(np.clip, kw_args={"a_min": -3.0, "a_max": 3.0})
        bins = KBinsDiscretizer(
            5, encode="ordinal", strategy="quantile", quantile_method="inverted_cdf", subsample=None
        )
        hot = OneHotEncoder(
            categories=[_by_count(table, name) for name in TEXTS], handle_unknown="ignore", sparse_output=False
        )
        numbers, texts = list(NUMBERS), list(TEXTS)
        self._made = ColumnTransformer(
            [
                ("scaled", make_pipeline(SimpleImputer(), StandardScaler(), clip), numbers),
                ("missing", MissingIndicator(features="all"), numbers),
                ("bins", make_pipeline(SimpleImputer(), bins), list(BINNED)),
                ("hot", hot, texts),
            ]
        )
        frame = table.to_pandas()
        self._made.fit(frame)
        self._frames: list[pd.DataFrame] = [
            frame.iloc[start : start + BATCH_ROWS] for start in range(0, len(frame), BATCH_ROWS)
        ]

    def make(self) -> None:
        """Batch by batch, with the cast that a model's input needs."""
        for frame in self._frames:
            self._made.transform(frame).astype(np.float32)

    def features(self, count: int) -> np.ndarray:
        """In the order of our tensor."""
        made: np.ndarray = self._made.transform(self._frames[0].iloc[:count]).astype(np.float32)
        return made


class _SparkContender:
    """What both Spark contenders share: one core, and the rows cached in the session's memory."""

    def start(self, table: pa.Table) -> None:
        """Bring the session up and cache the rows."""
        from pyspark.sql import SparkSession

        self._spec: Spec = fitted_spec(table)
        builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
        settings = {
            "spark.driver.memory": "4g",
            "spark.sql.shuffle.partitions": "1",
            # Without it one generated method is too long for the JVM to compile, and the columns take ten times as long.
            "spark.sql.codegen.wholeStage": "false",
        }
        for key, value in settings.items():
            builder = builder.config(key, value)
        self._spark = builder.getOrCreate()
        self._spark.sparkContext.setLogLevel("ERROR")
        folder = Path(tempfile.mkdtemp())
        pq.write_table(table, folder / "rows.parquet")
        self._rows = self._spark.read.parquet(f"file://{folder}").cache()
        self._rows.count()
        self._plan()

    def _plan(self) -> None:
        """Make `self._made`, the features as a DataFrame."""
        raise NotImplementedError

    def make(self) -> None:
        """Into Spark's sink that keeps nothing."""
        self._made.write.format("noop").mode("overwrite").save()

    def features(self, count: int) -> np.ndarray:
        """Collected."""
        taken = self._made.limit(count).collect()
        return np.array([list(row[0]) for row in taken], dtype=np.float32)

    def _state(self, step: str) -> Any:
        return next(found.state for found in self._spec.steps if found.id == step)


class Catalyst(_SparkContender):
    """Hand-written columns: one projection that ends in an array of float."""

    def _plan(self) -> None:
        from pyspark.sql import functions as sql

        scaled, flags, bins, hot = [], [], [], []
        for name in NUMBERS:
            filled = sql.coalesce(sql.col(name), sql.lit(self._state(f"{name}_i").value))
            state = self._state(f"{name}_z")
            value = (filled - sql.lit(state.mean)) / sql.lit(state.std)
            scaled.append(sql.when(value < -3.0, -3.0).when(value > 3.0, 3.0).otherwise(value))
            flags.append(sql.when(sql.col(name).isNull(), 1.0).otherwise(0.0))
            if name in BINNED:
                edges = self._state(f"{name}_b").splits
                bins.append(sum(sql.when(filled >= edge, 1.0).otherwise(0.0) for edge in edges))
        for name in TEXTS:
            vocab = self._state(f"{name}_h").vocab
            hot += [sql.when(sql.col(name) == text, 1.0).otherwise(0.0) for text in vocab]
        cells = [cell.cast("float") for cell in (*scaled, *flags, *bins, *hot)]
        self._made = self._rows.select(sql.array(*cells).alias("features"))


class SparkMl(_SparkContender):
    """A pipeline of Spark ML's own stages, which ends in a vector as its models take it."""

    def _plan(self) -> None:
        from pyspark.ml import Pipeline as Stages
        from pyspark.ml.feature import (
            Bucketizer,
            Imputer,
            OneHotEncoder,
            SQLTransformer,
            StandardScaler,
            StringIndexer,
            VectorAssembler,
        )

        filled = [f"{name}_i" for name in NUMBERS]
        flags = [f"{name}_na" for name in NUMBERS]
        said = ", ".join(f"CASE WHEN {name} IS NULL THEN 1.0D ELSE 0.0D END AS {name}_na" for name in NUMBERS)
        splits = [[-float("inf"), *self._state(f"{name}_b").splits, float("inf")] for name in BINNED]
        stages = [
            SQLTransformer(statement=f"SELECT *, {said} FROM __THIS__"),
            Imputer(inputCols=list(NUMBERS), outputCols=filled, strategy="mean"),
            VectorAssembler(inputCols=filled, outputCol="numbers"),
            StandardScaler(inputCol="numbers", outputCol="scaled", withMean=True, withStd=True),
            Bucketizer(
                inputCols=[f"{name}_i" for name in BINNED],
                outputCols=[f"{name}_b" for name in BINNED],
                splitsArray=splits,
            ),
            StringIndexer(inputCols=list(TEXTS), outputCols=[f"{name}_x" for name in TEXTS], handleInvalid="keep"),
            OneHotEncoder(
                inputCols=[f"{name}_x" for name in TEXTS], outputCols=[f"{name}_h" for name in TEXTS], dropLast=True
            ),
            VectorAssembler(
                inputCols=["scaled", *flags, *(f"{n}_b" for n in BINNED), *(f"{n}_h" for n in TEXTS)],
                outputCol="features",
            ),
        ]
        self._made = Stages(stages=stages).fit(self._rows).transform(self._rows).select("features")

    def features(self, count: int) -> np.ndarray:
        """Clipped here, since Spark ML has no stage for that; it divides by the sample deviation."""
        made = super().features(count)
        made[:, : len(NUMBERS)] = np.clip(made[:, : len(NUMBERS)], -3, 3)
        return made


def _by_count(table: pa.Table, name: str) -> list[str]:
    """The categories most frequent first, ties by UTF-8 bytes, as a spec orders them."""
    counted = table[name].drop_null().value_counts()
    counts = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    return sorted(categories(name), key=lambda text: (-counts[text], text.encode()))


CONTENDERS: dict[str, type[Contender]] = {
    "batchscore": Ours,
    "scikit-learn ColumnTransformer": ScikitLearn,
    "Spark columns by hand": Catalyst,
    "Spark ML pipeline": SparkMl,
}
