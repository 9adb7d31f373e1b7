"""Fixtures that several test packages share: a Spark session, a small model, a writer of job configs."""

from __future__ import annotations

import functools
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import typer.testing
import yaml
from hypothesis import HealthCheck, settings
from onnx import TensorProto, helper, numpy_helper

from tests import spark_classes
from tests.numbers_job import FEATURES, WEIGHTS

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("SPARK_SUBMIT_OPTS", spark_classes.options())

# Its runner makes every command of a program anew for each call, which takes longer than most calls do.
typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]

# How long it takes to draw an example depends on what else the machine does.
settings.register_profile("batchscore", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("batchscore")

HERE = Path(__file__).parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyspark.sql import SparkSession

    from tests.stores.servers import Hdfs


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what touches Spark, before -m chooses: what asks for the session, and what stands in `tests/spark`."""
    for item in items:
        asked = getattr(item, "fixturenames", ())
        if "spark" in asked or item.path.is_relative_to(HERE / "spark"):
            item.add_marker("spark")


def pytest_collection_finish() -> None:
    """Leave what was collected out of Python's searches for garbage: half a million objects, again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """One local session for all tests, with retries as in production."""
    from jobs.config.spark import Spark
    from jobs.session import start_session

    conf = {
        "spark.sql.shuffle.partitions": "2",
        # A worker that has failed is replaced: thousands of imports, each time anew.
        "spark.python.daemon.module": "tests.spark_daemon",
    }
    session = start_session("batchscore tests", Spark(conf=conf))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def logistic_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sigmoid(X · WEIGHTS): input X float32[rows, 4], output p float32[rows, 1]."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["X", "W"], ["z"]), helper.make_node("Sigmoid", ["z"], ["p"])],
        "logistic",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(WEIGHTS, "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path_factory.mktemp("model") / "logistic.onnx"
    onnx.save(model, str(path))
    return path


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """A bucket of a server that keeps all in memory, and the environment in which every client finds it."""
    import boto3

    from tests.stores.servers import CREDENTIALS, moto

    with moto() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL_S3": url, "AWS_ENDPOINT_URL": url}.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="tests")
        yield "tests"


@pytest.fixture(scope="session")
def versitygw_url(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of S3 that keeps all on disk, with the bucket `on-disk`."""
    import boto3

    from tests.stores.servers import versitygw

    with versitygw(tmp_path_factory.mktemp("versitygw")) as url:
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket="on-disk")
        yield url


@pytest.fixture(scope="session")
def google_bucket() -> Iterator[str]:
    """A bucket of an emulator of Google's store."""
    import urllib.request

    from tests.stores.servers import google

    with google() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        # Its client would ask for the kind of a bucket by gRPC, which the emulator does not speak.
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        asked = urllib.request.Request(f"{url}/storage/v1/b", data=b'{"name": "tests"}')  # noqa: S310  it is ours
        with urllib.request.urlopen(asked):  # noqa: S310  as above
            yield "tests"


@pytest.fixture(scope="session")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """HDFS, whose data node can be stopped."""
    from tests.stores import servers

    with servers.hdfs(tmp_path_factory.mktemp("hdfs")) as found:
        yield found


@pytest.fixture(scope="session")
def hdfs_url(hdfs: Hdfs) -> str:
    """HDFS."""
    return hdfs.url


@pytest.fixture
def job_file(tmp_path: Path, logistic_onnx: Path) -> Callable[..., Path]:
    """Write a job config over `tmp_path/in` and `tmp_path/out`; keyword arguments replace its sections."""

    def write(**sections: Any) -> Path:
        job = {
            "api_version": "batchscore/1",
            "name": "numbers",
            "input": {"files": str(tmp_path / "in")},
            "model": {"onnx": str(logistic_onnx), "inputs": {"X": list(FEATURES)}},
            "output": {"uri": str(tmp_path / "out"), "passthrough": ["id"]},
            **sections,
        }
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in job.items() if value is not None}))
        return path

    return write
