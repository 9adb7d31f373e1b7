"""Spark and S3: what S3A is told, and that it reads and writes by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from etl.errors import StorageError
from etl.runs import store_settings
from etl.runs.s3a import hadoop_advice, s3a_options
from etl.runs.store_settings import StoreSettings, configure
from etl.spark.freeze import freeze
from jobs.config.job import read_config
from jobs.record import RunState
from jobs.results import open_results
from jobs.run import RunRequest, run
from tests.numbers_job import JobWriter, logistic_scores, write_numbers
from tests.stores.places import PLACES
from tests.stores.proxy import Asked, proxied
from tests.stores.servers import CREDENTIALS, S3A

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was told of no store."""
    monkeypatch.setattr(store_settings, "_CONFIGURED", [])
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def own_bucket(bucket: str) -> str:
    """A bucket that Spark has not opened yet."""
    name = f"own-{uuid.uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def encryption_of(bucket: str) -> dict[str, tuple[str | None, str | None]]:
    """How the server says that each object of a bucket is encrypted."""
    s3 = boto3.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    heads = {item["Key"]: s3.head_object(Bucket=bucket, Key=item["Key"]) for page in pages for item in page["Contents"]}
    return {key: (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")) for key, head in heads.items()}


@pytest.mark.usefixtures("nothing_said")
def test_nothing_is_said_where_nothing_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without settings the cluster's own stay; an endpoint and a region of the environment are told to S3A too."""
    assert s3a_options() == {}
    configure([StoreSettings(uri="s3://plain")])
    assert s3a_options() == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://there:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    general = {name: value for name, value in s3a_options().items() if ".bucket." not in name}
    assert general == {
        "fs.s3a.endpoint": "http://there:1",
        "fs.s3a.endpoint.region": "eu-west-1",
        "fs.s3a.path.style.access": "true",
    }


@pytest.mark.usefixtures("nothing_said")
def test_each_bucket_is_told_its_own() -> None:
    """A bucket has what is said for it, and not what is said for all; a folder's settings are those of its bucket."""
    configure(
        [
            StoreSettings(uri="s3://", encryption="aws:kms", kms_key=KEY),
            StoreSettings(uri="s3a://lab", endpoint="http://lab:9000", attempts=3, connect_timeout=1.5, read_timeout=7),
            StoreSettings(uri="s3://lab/in", region="r1"),
            StoreSettings(uri="s3://far/b/c", region="r2"),
            StoreSettings(uri="s3://far/b", region="r3"),
        ]
    )
    assert s3a_options() == {
        "fs.s3a.encryption.algorithm": "SSE-KMS",
        "fs.s3a.encryption.key": KEY,
        "fs.s3a.bucket.lab.endpoint": "http://lab:9000",
        "fs.s3a.bucket.lab.path.style.access": "true",
        "fs.s3a.bucket.lab.encryption.algorithm": "",
        "fs.s3a.bucket.lab.encryption.key": "",
        "fs.s3a.bucket.lab.connection.establish.timeout": "1500",
        "fs.s3a.bucket.lab.connection.timeout": "7000",
        "fs.s3a.bucket.lab.attempts.maximum": "3",
        "fs.s3a.bucket.lab.retry.limit": "3",
        "fs.s3a.bucket.far.endpoint.region": "r3",
        "fs.s3a.bucket.far.encryption.algorithm": "",
        "fs.s3a.bucket.far.encryption.key": "",
    }
    assert s3a_options("s3://lab/in/x")["fs.s3a.bucket.lab.endpoint.region"] == "r1"
    assert "fs.s3a.bucket.lab.endpoint" not in s3a_options("s3a://lab/in/x")
    assert s3a_options("s3://far/b/c/d")["fs.s3a.bucket.far.endpoint.region"] == "r2"


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        ("java.lang.ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found", "aws:3.3.4 "),
        ('org.apache.hadoop.fs.UnsupportedFileSystemException: No FileSystem for scheme "s3"', "aws:3.3.4 "),
        ("java.lang.NoClassDefFoundError: software/amazon/awssdk/core/exception/SdkException", "aws:3.3.4 "),
        ("java.lang.NoClassDefFoundError: com/amazonaws/AmazonClientException", "aws:3.3.4 "),
        ("Class org.apache.hadoop.fs.s3a.auth.ProfileAWSCredentialsProvider not found", "Hadoop 3.4.2"),
        ("java.lang.ClassNotFoundException: Class com.example.Mine not found", None),
    ],
)
def test_a_spark_without_s3a_is_told_what_to_add(error: str, wanted: str | None) -> None:
    """Where S3A is missing, or is another Hadoop's, the advice has the package; other errors have no advice."""
    found = hadoop_advice(error, spark="3.5.8", hadoop=None)
    assert (found is None) if wanted is None else (found is not None and wanted in found)
    if wanted == "aws:3.3.4 ":
        assert "hadoop-aws:3.4.1 " in str(hadoop_advice(error, spark="3.5.6", hadoop="3.4.1"))


@pytest.mark.stores
@pytest.mark.parametrize("store", ["moto", "versitygw"])
@pytest.mark.parametrize("scheme", ["s3", "s3a"])
def test_a_table_in_the_store_is_scored(
    spark: SparkSession,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    job_file: JobWriter,
    store: str,
    scheme: str,
) -> None:
    """Parquet that Spark opens in the store is frozen and scored; Spark reads the predictions there, each key once."""
    place = PLACES[store](request)
    table = write_numbers(tmp_path / "made", files=2, rows=300, row_group=100)
    for path in (tmp_path / "made").iterdir():
        place.put(f"a table/{path.name}", path.read_bytes())
    uri = place.uri.replace("s3://", f"{scheme}://")
    job = job_file(
        input={"sql": f"select * from parquet.`{uri}/a table`"},  # noqa: S608  ours
        output={"uri": f"{uri}/out", "passthrough": ["id"]},
        storage=[one.model_dump(exclude_defaults=True) | {"uri": one.uri} for one in place.settings],
    )
    assert run(RunRequest(config=read_config(str(job)), run_id="r")).state is RunState.SUCCEEDED
    rows = open_results(str(job)).spark(spark).collect()
    assert len(rows) == table.num_rows
    assert {row.id: row.p for row in rows} == pytest.approx(logistic_scores(table), abs=1e-6)


@pytest.mark.stores
def test_every_object_of_a_run_is_encrypted_as_was_said(
    spark: SparkSession, own_bucket: str, tmp_path: Path, job_file: JobWriter
) -> None:
    """Frozen by Spark, scored by workers, or written by the driver: each object has the key, the report's too."""
    write_numbers(tmp_path / "in", files=2, rows=300, row_group=100)
    job = job_file(
        input={"sql": f"select *, if(id = 7, null, f0) as f from parquet.`{tmp_path}/in`"},  # noqa: S608  ours
        output={"uri": f"s3://{own_bucket}/out", "passthrough": ["id"]},
        metrics={"uri": f"s3://{own_bucket}/metrics"},
        storage=[{"uri": f"s3://{own_bucket}", "encryption": "aws:kms", "kms_key": KEY}],
    )
    assert run(RunRequest(config=read_config(str(job)), run_id="r")).state is RunState.SUCCEEDED
    found = encryption_of(own_bucket)
    beginnings = {key.partition("/")[0] for key in found}
    assert beginnings == {"out", "out.scratch", "metrics"}
    assert any("frozen-" in key and key.endswith(".parquet") for key in found)
    assert set(found.values()) == {("aws:kms", KEY)}


@pytest.mark.stores
def test_a_session_that_keeps_other_settings_is_found_out(spark: SparkSession, own_bucket: str) -> None:
    """A bucket that Spark opened without encryption stays so for the session: rows frozen there are refused."""
    freeze(spark, table=None, sql="select 1 as x", folder=f"s3://{own_bucket}/plain")
    configure([StoreSettings(uri=f"s3://{own_bucket}/in", encryption="aws:kms", kms_key=KEY)])
    with pytest.raises(StorageError, match=rf"s3://{own_bucket}/in/part.*Spark encrypted it with .*start a new one"):
        freeze(spark, table=None, sql="select 1 as x", folder=f"s3://{own_bucket}/in")


@pytest.mark.stores
def test_the_settings_of_the_session_are_put_back(spark: SparkSession, own_bucket: str) -> None:
    """What S3A is told while rows are frozen is not left in the caller's session."""
    key = f"fs.s3a.bucket.{own_bucket}.endpoint.region"
    configure([StoreSettings(uri=f"s3://{own_bucket}", region="us-east-1")])
    freeze(spark, table=None, sql="select 1 as x", folder=f"s3://{own_bucket}/x")
    assert spark.conf.get(key, None) is None


COUNT = """
import json, sys
from pydantic import TypeAdapter
from etl.runs.store_settings import StoreSettings, configure
from jobs.config.spark import Spark
from jobs.session import start_session
uri, said, conf = sys.argv[1:]
configure(TypeAdapter(tuple[StoreSettings, ...]).validate_json(said))
spark = start_session("counting", Spark(master="local[1]", conf=json.loads(conf)))
rows = spark.sql(f"select count(*) from parquet.`{uri}`").collect()[0][0]
known = dict(spark.sparkContext.getConf().getAll()) | {row.key: row.value for row in spark.sql("SET").collect()}
print(json.dumps([rows, known]))
"""


def counted(uri: str, settings: StoreSettings, environment: dict[str, str]) -> tuple[int, dict[str, str]]:
    """Rows of a folder of Parquet as a session of a process of its own finds them, and all of its settings."""
    said = json.dumps([settings.model_dump(exclude_defaults=True) | {"uri": settings.uri}])
    plain = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", COUNT, uri, said, json.dumps(S3A)],
        env=plain | environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        check=True,
    )
    rows, known = json.loads(done.stdout.splitlines()[-1])
    return rows, known


def put_table(place: Any, folder: Path) -> None:
    """Rows in the place."""
    write_numbers(folder, files=1, rows=300, row_group=100)
    place.put("in/part-0.parquet", (folder / "part-0.parquet").read_bytes())


@pytest.mark.stores
def test_a_session_reads_with_a_profile(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A session that we start reads `s3://` with the keys of a profile, and none of its settings holds the secret."""
    place = PLACES["versitygw"](request)
    put_table(place, tmp_path / "made")
    key, secret = CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    (tmp_path / "credentials").write_text(f"[lab]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    settings = place.settings[0].model_copy(update={"profile": "lab", "region": "us-east-1"})
    rows, known = counted(f"{place.uri}/in", settings, {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")})
    assert rows == 300
    assert known["spark.hadoop.fs.s3a.bucket.on-disk.auth.profile.name"] == "lab"
    assert not [name for name, value in known.items() if secret in value]


@pytest.mark.stores
def test_a_session_reads_with_a_role(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A session that we start assumes the role before it reads, and none of its settings holds the secret."""
    place = PLACES["moto"](request)
    put_table(place, tmp_path / "made")
    asked: list[Asked] = []
    settings = StoreSettings(uri="s3://", role="arn:aws:iam::123456789012:role/reads", external_id="x1")
    with proxied(os.environ["AWS_ENDPOINT_URL"], asked.append) as url:
        told = {**CREDENTIALS, "AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}
        rows, known = counted(f"{place.uri}/in", settings, told)
    assert rows == 300
    assert [one.method for one in asked if one.path == "/"] == ["POST"]
    assert asked[0].path == "/"
    assert not [name for name, value in known.items() if CREDENTIALS["AWS_SECRET_ACCESS_KEY"] in value]
