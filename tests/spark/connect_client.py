"""What a client of Spark Connect sees, as JSON: python connect_client.py PORT FOLDER, where the bundle and rows lie."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

import etl
import scoring
from etl.errors import SpecError
from etl.spark.causes import cause_of
from etl.spark.fitting import fit
from etl.spark.transforming import transform
from scoring.code import CODE, code_digest
from scoring.spark.frames import score
from scoring.spark.udf import score_udf
from tests.scoring.workshop import LOGISTIC_SPEC, spec_of

port, folder = sys.argv[1:]
bundle = Path(folder) / "bundle"
spark: Any = SparkSession.builder.remote(f"sc://127.0.0.1:{port}").getOrCreate()
rows = spark.read.parquet(f"{folder}/rows.parquet")


def code(batches):
    """Where a worker has our code from, and which."""
    for _ in batches:
        places = [module.__path__[0] for module in (etl, scoring)]
        yield pa.RecordBatch.from_pydict({"digest": [code_digest(*CODE)], "places": [places]})


scored = score(rows, bundle, passthrough=["id"])
function = score_udf(bundle, on_bad_row="reason")
spark.udf.register("batchscore_test", score_udf(bundle))
rows.createOrReplaceTempView("batchscore_rows")
query = spark.sql("SELECT id, batchscore_test(f0, f1, f2, f3, id, name) AS p FROM batchscore_rows")
try:
    score(rows.limit(1), bundle, on_bad_row="fail").collect()
    failure = ""
except PySparkException as error:
    failure = cause_of(str(error))
try:
    fit(rows, spec_of(LOGISTIC_SPEC))
    refusal = ""
except SpecError as error:
    refusal = str(error)
told = {
    "kind": type(spark).__module__,
    "frame": [row.asDict() for row in scored.collect()],
    "function": [row.asDict() for row in rows.select("id", function().alias("s")).select("id", "s.*").collect()],
    "sql": [row.asDict() for row in query.where("p > 0.5").collect()],
    "features": [
        row.asDict()
        for row in transform(rows, spec_of(LOGISTIC_SPEC), passthrough=["id"], on_rejected="keep").collect()
    ],
    "failure": failure,
    "refusal": refusal,
    "code": spark.range(1).mapInArrow(code, "digest string, places array<string>").collect()[0].asDict(),
    "own": code_digest(*CODE),
}
spark.stop()
sys.stdout.write(json.dumps(told))
