"""The policies of docs/iam are enough for a whole job and for no more, on a server of S3 that enforces them.

The server knows actions and resources, and no conditions: these are judged here, on the requests that were made.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from botocore.exceptions import ClientError

from tests.numbers_job import FEATURES, logistic_scores, write_numbers
from tests.stores.places import scores_of
from tests.stores.proxy import Asked, proxied
from tests.stores.servers import CREDENTIALS, moto

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stores

REPOSITORY = Path(__file__).parents[2]
POLICIES = {path.stem: json.loads(path.read_text()) for path in sorted((REPOSITORY / "docs" / "iam").glob("*.json"))}
ROLES = {
    "driver": ["driver"],
    "worker": ["worker"],
    "reader": ["reader"],
    "keeper": ["driver", "keeper"],
    "stranger": [],
}
"""Who has which of them."""
_ACTIONS = {
    "HEAD": "s3:GetObject",
    "GET": "s3:GetObject",
    "PUT": "s3:PutObject",
    "POST": "s3:PutObject",
    "DELETE": "s3:DeleteObject",
}


class Request(NamedTuple):
    """What a policy judges."""

    action: str
    resource: str
    context: dict[str, str]

    @classmethod
    def of(cls, asked: Asked) -> Request:
        """Of a request to a server that has buckets in its paths."""
        parts = urlsplit(asked.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        if not key:
            action = "s3:ListBucketMultipartUploads" if "uploads" in query else "s3:ListBucket"
            return cls(action, f"arn:aws:s3:::{bucket}", {"s3:prefix": query.get("prefix", [""])[0]})
        action, is_upload = _ACTIONS[asked.method], "uploadId" in query
        action = {"DELETE": "s3:AbortMultipartUpload", "GET": "s3:ListMultipartUploadParts"}.get(
            asked.method if is_upload else "", action
        )
        creates = asked.method in {"PUT", "POST"} and "uploads" not in query and "partNumber" not in query
        context = {"s3:ObjectCreationOperation": str(creates).lower(), "aws:SecureTransport": "true"}
        context |= {"s3:if-none-match": asked.condition} if asked.condition else {}
        return cls(action, f"arn:aws:s3:::{bucket}/{key}", context)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _concerns(statement: dict[str, Any], request: Request) -> bool:
    def meets(patterns: str | list[str], value: str) -> bool:
        return any(fnmatch.fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in _listed(patterns))

    conditions = statement.get("Condition", {})
    judges = {
        "StringLike": lambda key, wanted: key in request.context and meets(wanted, request.context[key]),
        "Bool": lambda key, wanted: request.context.get(key) == wanted,
        "Null": lambda key, wanted: (key not in request.context) == (wanted == "true"),
    }
    return (
        meets(statement["Action"], request.action)
        and meets(statement["Resource"], request.resource)
        and all(judges[kind](key, wanted) for kind, told in conditions.items() for key, wanted in told.items())
    )


def allowed(request: Request, *policies: str) -> bool:
    """Whether a request is, as AWS judges: by a statement that allows it, and by none that denies it."""
    found = [one for name in policies for one in POLICIES[name]["Statement"] if _concerns(one, request)]
    return {one["Effect"] for one in found} == {"Allow"}


class Cloud(NamedTuple):
    """A server with two buckets, users with the policies, and what was asked of it."""

    url: str
    direct: str
    folder: Path
    rows: pa.Table
    asked: list[Asked]

    def run(self, role: str, *words: str, worker: str = "worker") -> subprocess.CompletedProcess[str]:
        """A command of a user with a role; the workers that it starts have another."""
        job = yaml.safe_load((self.folder / "job.yaml").read_text())
        job["spark"] = {"master": "local[1]", "conf": {"spark.executorEnv.AWS_PROFILE": worker}}
        (self.folder / "job.yaml").write_text(yaml.safe_dump(job))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        own = {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "credentials"),
            "AWS_PROFILE": role,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PYTHONPATH": str(REPOSITORY),
            "BATCHSCORE_CACHE": str(self.folder / "cache"),
        }
        command = [sys.executable, "-m", "jobs.main", *words]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env={**kept, **own}, cwd=self.folder
        )

    def client(self, role: str) -> Any:
        """boto3 as a user with a role."""
        key, secret = self.keys(role)
        return boto3.client(
            "s3",
            endpoint_url=self.direct,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )

    def keys(self, role: str) -> tuple[str, str]:
        """The access key of a user with a role, and its secret."""
        told = (self.folder / "credentials").read_text().partition(f"[{role}]")[2].split("[")[0].split()
        return told[2], told[5]

    def published(self, run_id: str) -> dict[int, float]:
        """Scores by id, as the reader finds them in the folder of a run."""
        s3 = self.client("reader")
        prefix = f"late/run_id={run_id}/"
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket="scores", Prefix=prefix).get("Contents", ())]
        return scores_of(
            {key.removeprefix(prefix): s3.get_object(Bucket="scores", Key=key)["Body"].read() for key in keys}
        )


def _without_conditions(policy: dict[str, Any]) -> str:
    plain = [{key: part for key, part in one.items() if key != "Condition"} for one in policy["Statement"]]
    return json.dumps({**policy, "Statement": plain})


def _make_users(iam: Any, credentials: Path) -> None:
    lines = []
    for role, names in ROLES.items():
        iam.create_user(UserName=role)
        for name in names:
            document = _without_conditions(POLICIES[name])
            iam.put_user_policy(UserName=role, PolicyName=name, PolicyDocument=document)
        key = iam.create_access_key(UserName=role)["AccessKey"]
        lines += [f"[{role}]", f"aws_access_key_id = {key['AccessKeyId']}"]
        lines += [f"aws_secret_access_key = {key['SecretAccessKey']}"]
    credentials.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, logistic_onnx: Path) -> Iterator[Cloud]:
    """Input, a model and a job are there; from then on each request needs a right."""
    folder, asked = tmp_path_factory.mktemp("cloud"), list[Asked]()
    rows = write_numbers(folder / "in", files=2, rows=100, row_group=50)
    job = {
        "api_version": "batchscore/1",
        "name": "late",
        "input": {"files": "s3://history/flights/good"},
        "model": {"onnx": "s3://history/models/late.onnx", "inputs": {"X": list(FEATURES)}},
        "output": {"uri": "s3://scores/late", "passthrough": ["id"]},
        "metrics": {"uri": "s3://scores/metrics"},
        "splits": {"target_bytes": "1kB", "task_bytes": 1},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    with moto() as direct, proxied(direct, asked.append) as url:
        keys = dict(zip(("aws_access_key_id", "aws_secret_access_key"), list(CREDENTIALS.values())[:2], strict=True))
        known = {"endpoint_url": direct, "region_name": "us-east-1", **keys}
        s3: Any = boto3.client("s3", **known)
        for bucket in ("history", "scores"):
            s3.create_bucket(Bucket=bucket)
        bad = rows.slice(0, 3).set_column(1, "f0", pa.array([None, 1.0, 2.0], pa.float32()))
        pq.write_table(bad, folder / "bad.parquet")
        s3.upload_file(str(folder / "bad.parquet"), "history", "flights/bad/part.parquet")
        for path in (folder / "in").iterdir():
            s3.upload_file(str(path), "history", f"flights/good/{path.name}")
        s3.upload_file(str(logistic_onnx), "history", "models/late.onnx")
        s3.put_object(Bucket="history", Key="salaries/all.csv", Body=b"1")
        _make_users(boto3.client("iam", **known), folder / "credentials")
        enforce = urllib.request.Request(  # noqa: S310  it is ours
            f"{direct}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}, method="POST"
        )
        urllib.request.urlopen(enforce).close()  # noqa: S310  as above
        yield Cloud(url, direct, folder, rows, asked)


@pytest.mark.timeout(300)
def test_a_whole_job_passes_with_these_policies(cloud: Cloud) -> None:
    """A job whose driver and workers have their policies and no more is published, and a reader reads it with his; each
    request that was made is allowed, its prefix and condition too.
    """  # noqa: D205  one sentence
    cloud.asked.clear()
    done = cloud.run("driver", "run", "job.yaml", "--run-id", "r")
    assert done.returncode == 0, done.stderr
    assert cloud.published("r") == pytest.approx(logistic_scores(cloud.rows), abs=1e-6)
    requests = [Request.of(asked) for asked in cloud.asked]
    assert {request.action for request in requests} >= {
        "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListMultipartUploadParts",
        "s3:ListBucketMultipartUploads",
    }  # fmt: skip
    refused = [one for one in requests if not (allowed(one, "driver", "bucket") or allowed(one, "worker", "bucket"))]
    assert not refused
    cloud.asked.clear()
    shown = cloud.run("reader", "results", "s3://scores/late", "-n", "3")
    assert shown.returncode == 0, shown.stderr
    assert cloud.run("reader", "history", "s3://scores/late").returncode == 0
    assert cloud.asked
    assert not [asked for asked in cloud.asked if not allowed(Request.of(asked), "reader", "bucket")]


@pytest.mark.timeout(300)
def test_workers_need_the_rights_of_workers(cloud: Cloud) -> None:
    """Workers that have a reader's policy fail the run, so what workers do is done with the policy of workers."""
    done = cloud.run("driver", "run", "job.yaml", "--run-id", "denied", worker="reader")
    assert done.returncode == 1
    assert "AccessDenied" in done.stderr
    assert cloud.published("denied") == {}
    assert re.search(r"StorageError: s3://scores/late/\S+: cannot ", done.stderr), done.stderr
    key, secret = cloud.keys("reader")
    told = (
        f"The access key …{key[-4:]} of the profile reader (shared-credentials-file) has no right to it, which is s3:"
    )
    assert told in done.stderr
    assert re.search(r"\n  split \d+, s3://history/flights/good/part-\d\.parquet, on \S+ by \S+", done.stderr)
    assert secret not in done.stderr
    assert "docs/iam" in done.stderr


@pytest.mark.parametrize(
    ("role", "changed", "place", "right"),
    [
        ("driver", "input.files=s3://history/salaries", "s3://history/salaries/all.csv: ", "s3:GetObject"),
        ("driver", "model.onnx=s3://history/salaries/all.csv", "s3://history/salaries/all.csv", "s3:GetObject"),
        ("reader", "name=late", "s3://scores/late/_batchscore/runs/refused/claim.json: ", "s3:PutObject"),
        ("stranger", "name=late", "s3://scores/late/_batchscore/runs/refused/plan.json: ", "s3:GetObject"),
    ],
)
def test_a_driver_without_a_right_is_told_which(cloud: Cloud, role: str, changed: str, place: str, right: str) -> None:
    """To read input or model, or to write the output: object, right, and who was refused, before anything is scored."""
    done = cloud.run(role, "run", "job.yaml", "--run-id", "refused", "--set", changed)
    assert done.returncode == 2, done.stderr
    assert place in done.stderr
    assert f"of the profile {role} (shared-credentials-file) has no right to it, which is {right}." in done.stderr
    assert cloud.keys(role)[1] not in done.stderr


@pytest.mark.timeout(300)
def test_a_run_that_is_held_back_is_thrown_away_by_its_keeper(cloud: Cloud) -> None:
    """Rows in quarantine are written with a worker's policy and are no reader's; a keeper alone throws the run away."""
    bad = ("--set", "input.files=s3://history/flights/bad", "--run-id", "held")
    held = cloud.run("driver", "run", "job.yaml", *bad)
    assert held.returncode == 4, held.stderr
    assert cloud.run("driver", "results", "s3://scores/late", "held", "--quarantine").returncode == 0
    denied = cloud.run("reader", "results", "s3://scores/late", "held", "--quarantine")
    assert denied.returncode != 0
    assert "ACCESS_DENIED" in denied.stderr.upper().replace("ACCESSDENIED", "ACCESS_DENIED")
    cloud.asked.clear()
    discard = ("discard", "s3://scores/late", "held", "--reason", "a test")
    done = cloud.run("keeper", *discard)
    assert done.returncode == 0, done.stderr
    assert not [asked for asked in cloud.asked if not allowed(Request.of(asked), "driver", "keeper", "bucket")]


PREDICTION, MANIFEST = "late/run_id=r/part-000000-x.parquet", "late/_batchscore/manifests/000000000009.json"
OUTSIDE = [
    ("driver", "get_object", "history", "salaries/all.csv"),
    ("driver", "put_object", "history", "flights/new.parquet"),
    ("driver", "put_object", "scores", "others/x"),
    ("driver", "delete_object", "scores", PREDICTION),
    ("driver", "delete_object", "scores", MANIFEST),
    ("worker", "put_object", "scores", MANIFEST),
    ("worker", "put_object", "scores", "late/_batchscore/models/x/model.onnx"),
    ("worker", "put_object", "scores", "late/_batchscore/runs/r/plan.json"),
    ("worker", "delete_object", "scores", PREDICTION),
    ("worker", "get_object", "history", "models/late.onnx"),
    ("worker", "list_objects_v2", "scores", ""),
    ("reader", "put_object", "scores", PREDICTION),
    ("reader", "get_object", "scores", "late/_batchscore/runs/r/quarantine/000000-x.arrow"),
    ("reader", "get_object", "scores", "metrics/late/r.json"),
    ("stranger", "get_object", "scores", PREDICTION),
    ("stranger", "list_objects_v2", "history", ""),
]


@pytest.mark.parametrize(("role", "call", "bucket", "key"), OUTSIDE)
def test_what_is_outside_is_denied(cloud: Cloud, role: str, call: str, bucket: str, key: str) -> None:
    """A request that no policy of the user names is denied by the server, and by the judge of the other tests."""
    named = {"Key": key} if key else {}
    body = {"Body": b"x"} if call == "put_object" else {}
    with pytest.raises(ClientError, match=r"AccessDenied|Forbidden"):
        getattr(cloud.client(role), call)(Bucket=bucket, **named, **body)
    method = {"get": "GET", "put": "PUT", "del": "DELETE", "lis": "GET"}[call[:3]]
    assert not allowed(Request.of(Asked(method, f"/{bucket}/{key}", 0)), *ROLES[role])


@pytest.mark.parametrize(
    ("path", "condition", "is_allowed"),
    [
        (f"/scores/{MANIFEST}", "*", True),
        (f"/scores/{MANIFEST}", "", False),
        ("/scores/late/_batchscore/runs/r/receipts/000000.json", "", False),
        (f"/scores/{PREDICTION}", "", False),
        (f"/scores/{PREDICTION}?partNumber=1&uploadId=x", "", True),
        ("/scores/late/_batchscore/current.json", "", True),
    ],
)
def test_the_bucket_can_insist_on_conditions(path: str, condition: str, *, is_allowed: bool) -> None:
    """With the bucket's policy nobody overwrites a commit, a receipt or a prediction; parts of uploads are none."""
    assert allowed(Request.of(Asked("PUT", path, 0, condition)), "driver", "worker", "bucket") == is_allowed
    assert allowed(Request.of(Asked("PUT", path, 0, condition)), "driver", "worker")


@pytest.mark.parametrize(
    ("bucket", "prefix", "is_allowed"),
    [("history", "flights", True), ("history", "salaries/", False), ("scores", "late/x", True), ("scores", "", False)],
)
def test_only_own_folders_are_listed(bucket: str, prefix: str, *, is_allowed: bool) -> None:
    """Conditions of listing name the folders of the job: no other can be listed."""
    asked = Asked("GET", f"/{bucket}?list-type=2&prefix={prefix}", 0)
    assert allowed(Request.of(asked), "driver") == is_allowed


def test_uploads_may_wait_for_a_week() -> None:
    """The rule that aborts uploads leaves them for as long as an unfinished run is kept: 7 days."""
    [rule] = POLICIES["lifecycle"]["Rules"]
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] >= 7
