"""A job whose input, output and metrics lie in S3: keys and scores are those of an independent read of the input."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs.config import read_config
from jobs.record import RunState
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.numbers_job import FEATURES, logistic_scores, write_numbers

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.stores


@pytest.fixture
def table(bucket: str, tmp_path: Path) -> pa.Table:
    """Rows in three files, here and in the bucket."""
    rows = write_numbers(tmp_path / "in", files=3, rows=400, row_group=150)
    for path in (tmp_path / "in").iterdir():
        boto3.client("s3").upload_file(str(path), bucket, f"{tmp_path.name}/in/{path.name}")
    return rows


def write_job(folder: Path, model: Path, bucket: str, **sections: Any) -> Path:
    """A job over the bucket."""
    job = {
        "api_version": "batchscore/1",
        "name": "numbers",
        "input": {"files": f"s3a://{bucket}/{folder.name}/in/*.parquet"},
        "model": {"onnx": str(model), "inputs": {"X": list(FEATURES)}},
        "output": {"uri": f"s3://{bucket}/{folder.name}/out", "passthrough": ["id"]},
        "metrics": {"uri": f"s3://{bucket}/{folder.name}/metrics"},
        "splits": {"target_bytes": "1MB", "task_bytes": 1},
        **sections,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def keys_of(bucket: str, prefix: str) -> list[str]:
    """What boto3 lists."""
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


def scores_of(bucket: str, prefix: str) -> dict[int, float]:
    """By id what lies under a prefix, as boto3 and pyarrow read it; fails on an id that is there twice."""
    s3, found = boto3.client("s3"), []
    for key in keys_of(bucket, prefix):
        if key.endswith(".parquet"):
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            found.append(pq.read_table(io.BytesIO(body)))
    rows = pa.concat_tables(found)
    ids = rows.column("id").to_pylist()
    assert len(ids) == len(set(ids)), "an id is published twice"
    return dict(zip(ids, rows.column("p").to_pylist(), strict=True))


def test_a_job_reads_scores_and_publishes_in_s3(
    bucket: str, table: pa.Table, tmp_path: Path, logistic_onnx: Path, spark: SparkSession
) -> None:
    """What is published has each key once with its score, no upload is left, and the same id again changes nothing."""
    job = write_job(tmp_path, logistic_onnx, bucket)
    record = run(RunRequest(config=read_config(str(job)), run_id="r"))
    assert (record.state, record.manifest) == (RunState.SUCCEEDED, 1)
    assert scores_of(bucket, f"{tmp_path.name}/out/run_id=r/") == pytest.approx(logistic_scores(table), abs=1e-6)
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(Bucket=bucket)
    before = keys_of(bucket, f"{tmp_path.name}/out/")
    again = run(RunRequest(config=read_config(str(job)), run_id="r"))
    assert (again.state, again.manifest) == (RunState.SUCCEEDED, 1)
    assert keys_of(bucket, f"{tmp_path.name}/out/") == before
    found = open_results(str(job)).arrow()
    assert dict(zip(found["id"].to_pylist(), found["p"].to_pylist(), strict=True)) == pytest.approx(
        logistic_scores(table), abs=1e-6
    )
    assert keys_of(bucket, f"{tmp_path.name}/metrics/")
