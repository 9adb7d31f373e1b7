"""The stores that the contract is tried on. Another store joins by one more parameter of `site`."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from etl.runs.storage import storage_for
from etl.runs.store_settings import StoreSettings, configure
from tests.stores.places import PLACES
from tests.stores.servers import S3A
from tests.stores.site import Site, read_by_duckdb, read_by_pandas, read_by_polars, read_by_pyarrow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.stores.places import Place


@pytest.fixture(scope="session")
def spark(bucket: str) -> Iterator[SparkSession]:
    """A local session whose workers find the credentials, since it is started behind them."""
    from jobs.config.spark import Spark
    from jobs.session import start_session

    session = start_session("batchscore tests", Spark(conf={"spark.sql.shuffle.partitions": "2", **S3A}))
    yield session
    session.stop()


def local_site(request: pytest.FixtureRequest) -> Site:
    """A folder of this machine."""
    folder: Path = request.getfixturevalue("tmp_path")
    readers = (read_by_pyarrow, read_by_duckdb, read_by_polars, read_by_pandas)
    storage, root = storage_for(str(folder))
    return Site(storage=storage, root=root, uri=f"file://{root}", readers=readers)


def s3_site(request: pytest.FixtureRequest) -> Site:
    """A folder in a bucket of a server that keeps all in memory."""
    bucket = request.getfixturevalue("bucket")
    storage, root = storage_for(f"s3a://{bucket}/{uuid.uuid4().hex}")
    return Site(storage=storage, root=root, uri=root, readers=(read_by_pyarrow, read_by_polars))


def versitygw_site(request: pytest.FixtureRequest) -> Site:
    """A folder in a bucket of a server that keeps all on disk, and checks signatures."""
    url = request.getfixturevalue("versitygw_url")
    configure([StoreSettings(uri="s3://on-disk", endpoint=url)])
    storage, root = storage_for(f"s3://on-disk/{uuid.uuid4().hex}")
    return Site(storage=storage, root=root, uri=root, readers=())


def google_site(request: pytest.FixtureRequest) -> Site:
    """A folder in a bucket of an emulator of Google's store."""
    storage, root = storage_for(f"gs://{request.getfixturevalue('google_bucket')}/{uuid.uuid4().hex}")
    return Site(storage=storage, root=root, uri=root, readers=())


def hdfs_site(request: pytest.FixtureRequest) -> Site:
    """A folder in HDFS."""
    storage, root = storage_for(f"{request.getfixturevalue('hdfs_url')}/{uuid.uuid4().hex}")
    return Site(storage=storage, root=root, uri=root, readers=())


STORES = (
    pytest.param(local_site, id="local"),
    pytest.param(s3_site, id="moto", marks=pytest.mark.stores),
    pytest.param(versitygw_site, id="versitygw", marks=pytest.mark.stores),
    pytest.param(google_site, id="google", marks=pytest.mark.stores),
    pytest.param(hdfs_site, id="hdfs", marks=pytest.mark.stores),
)


@pytest.fixture(params=STORES)
def site(request: pytest.FixtureRequest) -> Site:
    """A store with a folder of the test's own."""
    found: Site = request.param(request)
    return found


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest) -> Place:
    """A folder in each store, as clients that are not ours see it."""
    return PLACES[request.param](request)
