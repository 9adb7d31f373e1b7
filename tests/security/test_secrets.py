"""No secret is kept or shown: planted wherever somebody may put one, it is looked for in all that was written."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from etl.errors import StorageError
from etl.redaction import has_secret, is_secret_name, redacted
from etl.runs.storage import storage_for
from jobs import cli
from jobs.config.job import read_config
from jobs.errors import SplitsFailed
from jobs.planning.plan import target_of
from jobs.record import load_record
from tests.numbers_job import logistic_scores, published_scores, write_numbers
from tests.security.planting import SECRETS, Planted, found_in
from tests.stores.places import S3Place, scores_of
from tests.stores.servers import CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LITERAL = SECRETS["literal"]
QUOTED = quote(LITERAL, safe="")


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    """A folder of a user who has secrets."""
    return Planted(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        LITERAL,
        QUOTED,
        base64.b64encode(f"user:{LITERAL}".encode()).decode(),
        base64.b64encode(f"me:{LITERAL}:more".encode()).decode(),
    ],
)
def test_the_search_finds_what_it_looks_for(planted: Planted, text: str) -> None:
    """A secret in a file or in what was said is found in each of its forms, and nothing else is."""
    assert planted.leaks(f"… {text} …") == {"literal: said"}
    (planted.folder / "kept").write_text(f"… {text} …")
    assert planted.leaks() == {"literal: kept"}
    assert found_in(b"nothing of the kind") == set()


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a key in the input's URI": (
        {"input": {"files": f"s3://AKID:{LITERAL}@bucket/in"}}, "/input/files", "user or a password"
    ),
    "one of several inputs": (
        {"input": {"files": ["in", f"s3://AKID:{QUOTED}@bucket/in"]}}, "/input/files/1", "user or a password"
    ),
    "a signed URL": (
        {"input": {"files": f"s3://bucket/in?X-Amz-Credential=AKID&X-Amz-Signature={QUOTED}"}},
        "/input/files", "signature, token or key",
    ),
    "a password in a query": (
        {"input": {"sql": f"table read(url 'jdbc:postgresql://h/db', password '{LITERAL}')"}},
        "/input/sql", "password or key",
    ),
    "a password in a URL of JDBC": (
        {"input": {"sql": f"table jdbc('jdbc:postgresql://h/db?user=me&password={QUOTED}')"}},
        "/input/sql", "password or key",
    ),
    "a variable in a query": (
        {"input": {"sql": "select * from jdbc('jdbc:postgresql://h/db?password=${DB_PASSWORD}')"}},
        "/input/sql", "password or key",
    ),
    "the output": ({"output": {"uri": f"s3://AKID:{LITERAL}@bucket/out"}}, "/output/uri", "user or a password"),
    "the scratch": ({"scratch": f"hdfs://me:{QUOTED}@nn/x"}, "/scratch", "user or a password"),
    "the metrics": ({"metrics": {"uri": f"s3a://{QUOTED}@bucket/m"}}, "/metrics/uri", "user or a password"),
    "a reference": ({"references": {"r": f"s3://k:{QUOTED}@b/r"}}, "/references/r", "user or a password"),
    "a model": ({"model": {"bundle": f"s3://k:{QUOTED}@b/m"}}, "/model/bundle", "user or a password"),
    "a model with a token": (
        {"model": {"onnx": f"https://host/m.onnx?token={QUOTED}"}}, "/model/onnx", "signature, token or key"
    ),
    "an endpoint": (
        {"storage": [{"uri": "s3://b", "endpoint": f"http://me:{QUOTED}@host:9000"}]},
        "/storage/0/endpoint", "user or a password",
    ),
    "a key of Spark": (
        {"spark": {"conf": {"spark.hadoop.fs.s3a.secret.key": LITERAL}}},
        "/spark/conf/spark.hadoop.fs.s3a.secret.key", "command line",
    ),
    "a variable as a key of Spark": (
        {"spark": {"conf": {"spark.hadoop.fs.s3a.session.token": "${AWS_SESSION_TOKEN}"}}},
        "/spark/conf/spark.hadoop.fs.s3a.session.token", "command line",
    ),
    "a password in a value of Spark": (
        {"spark": {"conf": {"spark.driver.extraJavaOptions": f"-Djavax.net.ssl.trustStorePassword={QUOTED}"}}},
        "/spark/conf/spark.driver.extraJavaOptions", "command line",
    ),
    "a URL of a catalogue": (
        {"spark": {"conf": {"spark.sql.catalog.pg.url": f"jdbc:postgresql://me:{QUOTED}@h/db"}}},
        "/spark/conf/spark.sql.catalog.pg.url", "command line",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_secret_in_a_config_is_refused_at_its_place(
    planted: Planted, job_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """A secret in a config, be it written there or filled in, is refused before any work with its place and what to do,
    and not shown, whatever else is wrong.
    """  # noqa: D205  one sentence
    for name in ("DB_PASSWORD", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, SECRETS["variable"])
    sections, place, reason = REFUSED[case]
    job = job_file(**sections)
    done = CliRunner().invoke(cli.app, ["run", str(job), "--run-id", "r"])
    assert done.exit_code == 2
    assert f"{place}: " in done.output
    assert reason in done.output
    assert planted.leaks(done.output) == set()
    faulty = CliRunner().invoke(cli.app, ["run", str(job), "--set", f"faulty={LITERAL}", "--set", "output.mode=no"])
    assert faulty.exit_code == 2
    assert not found_in(faulty.output.replace(f"--set faulty={LITERAL}", "").encode())
    assert not (planted.folder / "out").exists()


@pytest.mark.parametrize("uri", [f"s3://k:{LITERAL}@b/x", f"hdfs://u:{QUOTED}@n/x", f"https://h/x?sig={QUOTED}"])
def test_a_secret_in_a_uri_is_refused_by_every_command(uri: str) -> None:
    """A URI that is given to a command or to the library is refused as one of a config is, and not shown."""
    with pytest.raises(StorageError) as caught:
        storage_for(uri)
    assert "***" in str(caught.value)
    for words in (["show", uri], ["results", uri], ["bundle", "inspect", uri], ["etl", "sample", "none.json", uri]):
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code != 0
        assert not found_in(done.output.encode())


def test_names_of_settings_that_are_secrets() -> None:
    """Keys of Spark and variables that hold secrets are known, those that say where one is are not taken for them."""
    secret = [
        "spark.hadoop.fs.s3a.access.key", "spark.hadoop.fs.s3a.bucket.b.secret.key", "spark.authenticate.secret",
        "spark.hadoop.fs.azure.account.key.acc.blob.core.windows.net", "spark.ssl.keyStorePassword", "PGPASSWORD",
        "spark.hadoop.javax.jdo.option.ConnectionPassword", "spark.executorEnv.AWS_SECRET_ACCESS_KEY", "HF_TOKEN",
        "OPENLINEAGE_API_KEY", "BATCHSCORE_SEAL_KEY",
    ]  # fmt: skip
    plain = [
        "spark.authenticate.secret.file", "spark.kubernetes.driver.secretKeyRef.AWS_SECRET_ACCESS_KEY",
        "spark.kubernetes.executor.secrets.keys", "spark.hadoop.hadoop.security.credential.provider.path",
        "spark.hadoop.fs.s3a.aws.credentials.provider", "AWS_SHARED_CREDENTIALS_FILE", "spark.executor.cores", "MONKEY",
    ]  # fmt: skip
    assert [name for name in secret if not is_secret_name(name)] == []
    assert [name for name in plain if is_secret_name(name)] == []


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/account_key=7/token=abc/part-0.parquet",
        "abfss://container@account.dfs.core.windows.net/in",
        "hdfs://nn:8020/in/a@b",
        "http://minio.lab.example:9000",
        "select token, account_key from t where password is null and token = 'abc'",
        "-Dlog4j2.configurationFile=log4j2.properties",
        "/steps/0/params/unk_token: should be text, found 7",
        "models:/late-flights@champion",
    ],
)
def test_what_only_looks_like_a_secret_is_left(text: str) -> None:
    """Folders of partitions, containers of Azure, ports, columns and words of specs are no secrets."""
    assert not has_secret(text)
    assert redacted(text) == text


def run_of(planted: Planted, job: Path, *more: str) -> tuple[int, set[str]]:
    """How a run ends, with all that it can tell, and the secrets that are found then."""
    done = planted.start("--debug", "run", str(job), "--run-id", "r", *more)
    return done.returncode, planted.leaks(done.stdout, done.stderr)


@pytest.mark.servers
def test_a_run_that_is_published_keeps_no_secret(planted: Planted, job_file: Callable[..., Path]) -> None:
    """Of a user with secrets in variables and in files, output, records, metrics, caches, temporary files, Spark's log
    and what is printed hold none; the plan has digests of what was asked.
    """  # noqa: D205  one sentence
    table = write_numbers(planted.folder / "in", files=2, rows=50, row_group=50)
    job = job_file(doc="${DB_PASSWORD}", metrics={"uri": str(planted.folder / "metrics")})
    code, leaks = run_of(planted, job)
    assert (code, leaks) == (0, set())
    assert published_scores(planted.folder / "out" / "run_id=r") == pytest.approx(logistic_scores(table), abs=1e-6)
    asked = json.loads((planted.folder / "out/_batchscore/runs/r/plan.json").read_bytes())["asked"]
    assert {len(digest) for digest in asked.values()} == {64}
    assert {path.suffix for path in (planted.folder / "metrics" / "numbers").glob("*/r.*")} == {".json", ".parquet"}


@pytest.mark.servers
def test_a_run_that_fails_in_a_worker_keeps_no_secret(planted: Planted, job_file: Callable[..., Path]) -> None:
    """A file that a worker cannot read fails the run: the error, the record and Spark's own log name no secret."""
    write_numbers(planted.folder / "in", files=2, rows=5000, row_group=5000)
    damaged = planted.folder / "in" / "part-1.parquet"
    data = bytearray(damaged.read_bytes())
    data[100:2000] = bytes(1900)
    damaged.write_bytes(data)
    job = job_file(output={"uri": str(planted.folder / "out"), "passthrough": ["id"]})
    code, leaks = run_of(planted, job)
    assert (code, leaks) == (1, set())
    record = load_record(*_stored(job))
    assert record is not None
    assert record.error is not None


def _stored(job: Path) -> tuple[Any, str]:
    target = target_of(read_config(str(job)), "r", scratch=False)
    return target.storage, target.layout.record


@pytest.mark.servers
def test_a_query_that_spark_refuses_keeps_no_secret(planted: Planted, job_file: Callable[..., Path]) -> None:
    """Spark tells which column of a query is not there, and a variable's value stands in its place: it is taken out."""
    job = job_file(input={"sql": "select `${DB_PASSWORD}` from range(1)"})
    done = planted.start("run", str(job), "--run-id", "r", "--set", "spark.master=local[1]")
    assert done.returncode == 2, done.stderr
    assert "cannot be opened by Spark" in done.stderr
    assert planted.leaks(done.stdout, done.stderr) == set()


@pytest.mark.servers
def test_a_registry_that_does_not_answer_is_told_without_its_password(
    planted: Planted, job_file: Callable[..., Path]
) -> None:
    """MLflow names the address that it asked, and its address has a password: the message has none."""
    write_numbers(planted.folder / "in", files=1, rows=10, row_group=10)
    job = job_file(model={"bundle": "models:/late@champion"})
    code, leaks = run_of(planted, job)
    assert (code, leaks) == (2, set())


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"},
        {"AWS_ENDPOINT_URL_S3": f"http://me:{QUOTED}@127.0.0.1:9"},
        {"AWS_PROFILE": "other", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "HTTP_PROXY": ""},
    ],
    ids=["by a proxy", "an endpoint with a password", "a profile"],
)
def test_a_store_that_is_not_reached_is_told_without_secrets(
    planted: Planted, job_file: Callable[..., Path], variables: dict[str, str]
) -> None:
    """What clients say of a server or a proxy that is not there is told without the passwords in its address."""
    job = job_file(input={"files": "s3://bucket/in"}, storage=[{"uri": "s3://bucket", "attempts": 1}])
    done = planted.start("--debug", "run", str(job), "--run-id", "r", **variables)
    assert done.returncode in {1, 2}
    assert "s3" in done.stderr.lower()
    assert planted.leaks(done.stdout, done.stderr) == set()


def test_a_command_to_go_on_with_has_no_secret(
    planted: Planted, job_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line that an error tells to type has none of the keys that spark-submit.sh was given."""

    def fail(_: object, on_phase: Callable[[str], None]) -> None:
        on_phase("claim")
        message = "the model failed"
        raise SplitsFailed(message)

    monkeypatch.setattr(cli, "run_job", fail)
    told = f"./spark-submit.sh job.yaml --conf spark.hadoop.fs.s3a.secret.key={LITERAL} --conf a.password='{LITERAL}' "
    monkeypatch.setenv("BATCHSCORE_COMMAND", told)
    done = CliRunner().invoke(cli.app, ["run", str(job_file()), "--run-id", "r"])
    assert done.exit_code == 1
    assert "Go on with: ./spark-submit.sh job.yaml --conf spark.hadoop.fs.s3a.secret.key=***" in done.output
    assert planted.leaks(done.output) == set()


@pytest.mark.stores
def test_a_run_on_s3_keeps_no_secret(planted: Planted, job_file: Callable[..., Path], bucket: str) -> None:
    """With keys and a session token in the environment, no object that a published run leaves in a bucket has them."""
    place = S3Place(bucket, None)
    table = write_numbers(planted.folder / "in", files=2, rows=50, row_group=50)
    for path in (planted.folder / "in").iterdir():
        place.put(f"all/in/{path.name}", path.read_bytes())
    job = job_file(
        input={"files": f"{place.uri}/all/in"},
        output={"uri": f"{place.uri}/all/out", "passthrough": ["id"]},
        metrics={"uri": f"{place.uri}/all/metrics"},
    )
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    done = planted.start("--debug", "run", str(job), "--run-id", "r", AWS_ENDPOINT_URL=endpoint, HTTP_PROXY="")
    assert done.returncode == 0, done.stderr
    objects = place.files("all")
    published = {name: data for name, data in objects.items() if name.startswith("out/run_id=r/")}
    assert scores_of(published) == pytest.approx(logistic_scores(table), abs=1e-6)
    assert any(name.startswith("metrics/numbers/records/r.") for name in objects)
    kept = "\n".join(f"{name}: {data.decode('latin-1')}" for name, data in objects.items())
    assert planted.leaks(done.stdout, done.stderr, kept) == set()


@pytest.mark.stores
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"AWS_SESSION_TOKEN": ""}, "No user exists with the provided access key"),
        ({"AWS_SESSION_TOKEN": "", "AWS_ACCESS_KEY_ID": CREDENTIALS["AWS_ACCESS_KEY_ID"]}, "SignatureDoesNotMatch"),
        ({}, "The provided token is malformed"),
    ],
    ids=["unknown", "not that key's", "a token"],
)
def test_a_store_that_refuses_a_key_is_told_without_it(
    planted: Planted, job_file: Callable[..., Path], versitygw_url: str, given: dict[str, str], said: str
) -> None:
    """What a server says of a key that it does not know, or of a secret that is not that key's, has no secret in it."""
    job = job_file(input={"files": "s3://on-disk/in"}, output={"uri": "s3://on-disk/out"})
    given = {"AWS_ENDPOINT_URL": versitygw_url, "HTTP_PROXY": "", **given}
    done = planted.start("--debug", "run", str(job), "--run-id", "r", **given)
    assert done.returncode == 2
    assert said in done.stderr
    assert planted.leaks(done.stdout, done.stderr) == set()
