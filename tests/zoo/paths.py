"""The ways from rows to scores. Each is one function: models in, for each a table of `id` and scores out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import yaml

from etl.spec import read_spec
from jobs.config.job import read_config
from jobs.run import RunRequest, run
from scoring.bundles.create import BundleParts, create_bundle
from scoring.bundles.weights import weights_beside
from scoring.outputs.columns import OutputColumn
from scoring.spark.frames import score
from scoring.spark.udf import score_udf
from tests.scoring.workshop import STORE, Work, predictions
from tests.spark.frames import arrow_of
from tests.zoo.zoo import whole_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from scoring.bundles.bundle import AuditedBundle
    from tests.zoo.zoo import ZooModel

Way: TypeAlias = "Callable[[Sequence[ZooModel], Path, SparkSession], dict[str, pa.Table]]"
"""Models, a folder to work in and a session to what each model gives its rows."""


def bundle_of(model: ZooModel, folder: Path) -> AuditedBundle:
    """A bundle with some golden rows."""
    parts = BundleParts(
        name=model.name,
        version="1",
        model=model.onnx.read_bytes(),
        spec=read_spec(model.spec, f"{model.name}.yaml"),
        columns=tuple(OutputColumn.model_validate(column) for column in model.columns),
        golden_rows=whole_rows(model).slice(0, 4),
        references={},
        facts={},
        weights=weights_beside(model.onnx),
    )
    return create_bundle(STORE, str(folder), parts)


def worker(model: ZooModel, folder: Path, *, pieces: int, batch_rows: int, row_group: int = 60) -> pa.Table:
    """The worker in this process, over a file cut into some splits."""
    work = Work(
        folder,
        pq.read_table(model.rows),
        bundle=lambda place: bundle_of(model, place),
        row_group=row_group,
        pieces=pieces,
    )
    return predictions(work.score(batch_rows=batch_rows))


def _job(model: ZooModel, folder: Path, source: dict[str, Any], changes: dict[str, Any] | None = None) -> pa.Table:
    """What a job publishes of a source."""
    folder.mkdir(parents=True)
    bundle = folder / "bundle"
    bundle_of(model, bundle)
    config = {
        "api_version": "batchscore/1",
        "name": "zoo",
        "input": source,
        "model": {"bundle": str(bundle)},
        "output": {"uri": str(folder / "out"), "passthrough": ["id"]},
        "scoring": {"batch_rows": 70},
        "budgets": {"contract": {"max_rows": 10}, "transform": {"max_rows": 10}},
        **(changes or {}),
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    run(RunRequest(config=read_config(str(path)), run_id="zoo"))
    published = folder / "out" / "run_id=zoo"
    return ds.dataset(sorted(map(str, published.glob("*.parquet"))), format="parquet").to_table()


def _together(score: Callable[[ZooModel], pa.Table], models: Sequence[ZooModel]) -> dict[str, pa.Table]:
    """The same for each model, some at a time: a job of few rows mostly waits."""
    with ThreadPoolExecutor(3) as pool:
        return dict(zip((model.name for model in models), pool.map(score, models), strict=True))


def job_over_files(models: Sequence[ZooModel], folder: Path, spark: SparkSession) -> dict[str, pa.Table]:
    """A job a model, over its file cut into two."""

    def score(model: ZooModel) -> pa.Table:
        size = model.rows.stat().st_size
        splits = {"splits": {"target_bytes": size // 2 + 1}}
        return _job(model, folder / model.name, {"files": str(model.rows)}, splits)

    return _together(score, models)


def job_over_tables(models: Sequence[ZooModel], folder: Path, spark: SparkSession) -> dict[str, pa.Table]:
    """A job a model, over a table that Spark freezes."""

    def score(model: ZooModel) -> pa.Table:
        view = f"zoo_{model.name}"
        spark.read.parquet(str(model.rows)).createOrReplaceTempView(view)
        try:
            return _job(model, folder / model.name, {"table": view})
        finally:
            spark.catalog.dropTempView(view)

    return _together(score, models)


def score_of_frames(models: Sequence[ZooModel], folder: Path, spark: SparkSession) -> dict[str, pa.Table]:
    """`score(df)`, a DataFrame a model; rows that a bundle refuses are left out."""

    def score_one(model: ZooModel) -> pa.Table:
        bundle_of(model, folder / model.name)
        df = spark.read.parquet(str(model.rows))
        return arrow_of(score(df, str(folder / model.name), passthrough=["id"], on_bad_row="drop"))

    return _together(score_one, models)


def score_of_columns(models: Sequence[ZooModel], folder: Path, spark: SparkSession) -> dict[str, pa.Table]:
    """`score_udf`, a query a model; rows that a bundle refuses are filtered out behind it."""

    def score_one(model: ZooModel) -> pa.Table:
        bundle_of(model, folder / model.name)
        scored = score_udf(str(folder / model.name), on_bad_row="reason", spark=spark)
        df = spark.read.parquet(str(model.rows)).select("id", scored().alias("found"))
        return arrow_of(df.where("found.rejected is null").select("id", "found.*"))

    return _together(score_one, models)
