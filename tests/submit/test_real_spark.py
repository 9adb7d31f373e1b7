"""Jobs on the real Spark: whose code runs, in the driver and in a worker, and what the terminal shows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml

from tests.numbers_job import FEATURES, WEIGHTS
from tests.submit.conftest import ROOT

pytestmark = pytest.mark.servers

JVM = os.environ["SPARK_SUBMIT_OPTS"]
"""Of tests/conftest.py."""
CLI = """
import json, os, sys

def here():
    import scoring
    return {"code": scoring.CODE, "file": scoring.__file__, "path": sys.path, "safe": os.environ["PYTHONSAFEPATH"],
            "python": sys.executable}

def score(batches):
    import pyarrow as pa
    for batch in batches:
        yield pa.record_batch({"place": [json.dumps(here())]})

def main():
    from pyspark.sql import SparkSession

    session = SparkSession.builder.config("spark.ui.enabled", "false").getOrCreate()
    [row] = session.range(1, numPartitions=1).mapInArrow(score, "place string").collect()
    print(json.dumps([sys.argv[1:], here(), json.loads(row.place)]))
    sys.exit(4)
"""


def test_driver_and_worker_run_the_shipped_code(project):
    """Driver and worker import from the zip, though a decoy lies in the working folder; the terminal stays quiet."""
    project.write("scoring/__init__.py", "CODE = 'shipped'\n")
    project.write("jobs/cli.py", CLI)
    decoy = project.cwd / "scoring" / "__init__.py"
    decoy.parent.mkdir()
    decoy.write_text("CODE = 'decoy'\n", encoding="utf-8")
    done = project.submit("a.yaml", "--master", "local[1,4]", "--set", "a=b c", SPARK_HOME=None, SPARK_SUBMIT_OPTS=JVM)
    assert (done.returncode, done.stderr) == (4, "")
    [line] = done.stdout.splitlines()
    arguments, *places = json.loads(line)
    assert arguments == ["run", "a.yaml", "--set", "a=b c"]
    for place in places:
        assert (place["code"], place["safe"], place["python"]) == ("shipped", "1", sys.executable)
        assert ".zip/scoring/" in place["file"]
        assert not {"", str(project.cwd), str(project.root / "jobs")} & set(place["path"])


@pytest.fixture
def query_job(tmp_path, logistic_onnx):
    """A job over a query that reads the hour of an instant, with settings for Spark; its file."""
    instants = [datetime(2024, 7, 1, hour, 30, tzinfo=UTC) for hour in range(24)]
    table = pa.table({"id": list(range(24)), "ts": pa.array(instants, pa.timestamp("us", "UTC"))})
    pq.write_table(table, tmp_path / "instants.parquet")
    columns = "id, cast(hour(ts) as float) as f0, 0f as f1, 0f as f2, 0f as f3"
    query = f"select {columns} from parquet.`{tmp_path}/instants.parquet`"  # noqa: S608  ours
    settings = {"spark.sql.shuffle.partitions": "3", "spark.eventLog.enabled": "false"}
    job = {
        "api_version": "batchscore/1",
        "name": "numbers",
        "input": {"sql": query},
        "model": {"onnx": str(logistic_onnx), "inputs": {"X": list(FEATURES)}},
        "output": {"uri": str(tmp_path / "out"), "passthrough": ["id", "f0"]},
        "spark": {"master": "local[1]", "conf": settings},
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return path


def test_a_host_outside_utc_scores_the_same_rows(query_job):
    """With driver and JVM in New York a query has UTC's hours, and settings of Spark that are not used are told."""
    done = subprocess.run(
        [
            ROOT / "spark-submit.sh",
            query_job,
            "--run-id=r",
            "--master=local[2,4]",
            "--conf=spark.eventLog.enabled=false",
        ],
        cwd=query_job.parent,
        env={
            **os.environ,
            "TZ": "America/New_York",
            "PYSPARK_PYTHON": sys.executable,
            "XDG_CACHE_HOME": str(query_job.parent / "cache"),
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    published = ds.dataset(query_job.parent / "out" / "run_id=r", format="parquet").to_table().to_pylist()
    scores = {row["id"]: (row["f0"], row["p"]) for row in published}
    expected = {hour: (hour, pytest.approx(1 / (1 + np.exp(-WEIGHTS[0, 0] * hour)), abs=1e-6)) for hour in range(24)}
    assert scores == expected
    told = [line for line in done.stderr.splitlines() if "of the config is not used" in line]
    assert told == [
        "spark.master of the config is not used under spark-submit; pass --master.",
        "spark.conf of the config is not used under spark-submit (spark.sql.shuffle.partitions); pass --conf.",
    ]
    assert "state: SUCCEEDED" in done.stdout.splitlines()
    assert "of the config" not in done.stdout
