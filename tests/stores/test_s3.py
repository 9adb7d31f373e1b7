"""What is S3's own: settings, encryption, roles, refusals, and answers that are lost on the way."""

from __future__ import annotations

import io
import os
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from etl.errors import BatchscoreError, StorageError
from etl.runs.read import read_whole
from etl.runs.s3 import S3Storage
from etl.runs.s3_client import S3Path
from etl.runs.storage import PART_BYTES
from etl.runs.store_settings import StoreSettings, configure, settings_for
from tests.stores.proxy import Asked, Fault, proxied
from tests.stores.servers import CREDENTIALS, free_port

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.stores


@pytest.fixture
def root(bucket: str) -> str:
    """A folder of the test's own."""
    return f"s3://{bucket}/{uuid.uuid4().hex}"


def store(**settings: Any) -> S3Storage:
    """A store with settings."""
    return S3Storage(StoreSettings(uri="s3://", **settings))


def keys_of(root: str) -> list[str]:
    """All keys under a folder, as boto3 lists them."""
    place = S3Path.of(root)
    found = boto3.client("s3").list_objects_v2(Bucket=place.bucket, Prefix=place.key)
    return [item["Key"] for item in found.get("Contents", ())]


def faulty(fault: Callable[[Asked], Fault | None]) -> Any:
    """A proxy before the server of the tests."""
    return proxied(os.environ["AWS_ENDPOINT_URL_S3"], fault)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("s3://b/x", "s3://b/x"),
        ("s3a://b/x/", "s3://b/x"),
        ("s3a://b//x//y", "s3://b/x/y"),
        ("s3://b", "s3://b"),
    ],
)
def test_an_object_has_one_name(uri: str, path: str) -> None:
    """However a URI is written, a place in a bucket has one name; one that could leave its folder is refused."""
    assert S3Storage.normalise(uri) == path
    for wrong in ("s3://", "s3:///x", "s3://b/../x", "s3://b/./x"):
        with pytest.raises(StorageError, match=r"names no bucket, or has `\.` or `\.\.`"):
            S3Storage.normalise(wrong)


def test_the_longest_beginning_of_a_uri_has_its_settings() -> None:
    """Settings of a folder go before those of its bucket and of the scheme; said again, they are said anew."""
    configure([StoreSettings(uri="s3://set", region="a"), StoreSettings(uri="s3a://set/in", region="b")])
    with pytest.raises(ValidationError, match="uri"):
        StoreSettings(uri="hdfs://set", encryption="AES256")
    configure([StoreSettings(uri="s3://set/in/deep", region="c"), StoreSettings(uri="s3://set", region="d")])
    found = [settings_for(f"s3://set{rest}").region for rest in ("", "/x", "/in/x", "/inner", "/in/deep/x", "2/in")]
    assert found == ["d", "d", "b", "d", "c", None]


def test_every_object_is_encrypted_as_was_said(root: str) -> None:
    """Small objects, replaced ones, parts and large ones are written with the key that the settings name."""
    storage = store(encryption="aws:kms", kms_key="alias/ours")
    storage.create_if_absent(f"{root}/small", b"1")
    storage.replace(f"{root}/hint", b"2")
    storage.create_if_absent(f"{root}/large", bytes(PART_BYTES + 1))
    writer = storage.begin(f"{root}/part")
    writer.write(b"3")
    storage.complete(writer.finish())
    s3 = boto3.client("s3")
    found = [s3.head_object(Bucket=S3Path.of(root).bucket, Key=key) for key in keys_of(root)]
    assert [(one["ServerSideEncryption"], one["SSEKMSKeyId"]) for one in found] == [("aws:kms", "alias/ours")] * 4


def test_a_large_object_is_created_once(root: str) -> None:
    """An object above the size of a part is created whole where the name is free, and no upload is left behind."""
    storage, data = store(), os.urandom(3 * PART_BYTES + 5)
    assert storage.create_if_absent(f"{root}/large", data) is True
    assert storage.create_if_absent(f"{root}/large", data[::-1]) is False
    assert storage.read_bytes(f"{root}/large") == data
    assert "Uploads" not in boto3.client("s3").list_multipart_uploads(Bucket=S3Path.of(root).bucket)


def test_a_role_is_assumed(root: str) -> None:
    """With a role, requests of boto3 and of Arrow are signed with its credentials, and not with the user's."""
    storage = store(role="arn:aws:iam::123456789012:role/scorer", external_id="x1")
    storage.create_if_absent(f"{root}/a", b"abc")
    with storage.open_input(f"{root}/a") as source:
        assert source.read() == b"abc"
    session = storage._client._session()
    key = session.get_credentials().get_frozen_credentials()
    assert key.access_key != CREDENTIALS["AWS_ACCESS_KEY_ID"]
    assert key.token
    assert storage._client._files is not None
    assert ("access_key", key.access_key) in storage._client._files[0][1]


def test_a_store_that_is_not_there_is_no_refusal() -> None:
    """Where nobody answers that is an OSError, which Spark tries again, with the place and what was tried."""
    storage = store(endpoint=f"http://127.0.0.1:{free_port()}", attempts=2, connect_timeout=1)
    with pytest.raises(ConnectionError, match=r"s3://gone/x/a: cannot write: Could not connect"):
        storage.create_if_absent("s3://gone/x/a", b"")
    with pytest.raises(OSError, match="gone/x/a"):
        storage.open_input("s3://gone/x/a")


def test_a_bucket_that_is_not_there_is_named(bucket: str) -> None:
    """A bucket that does not exist is an error with its place and what to do, and no empty listing."""
    for call in (
        lambda: store().create_if_absent("s3://no-such-bucket/a", b""),
        lambda: list(store().list_files("s3://no-such-bucket/in")),
        lambda: store().begin("s3://no-such-bucket/a"),
        lambda: store().names("s3://no-such-bucket/in"),
    ):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket/.*NoSuchBucket.*Make the bucket"):
            call()


def test_a_store_without_conditional_writes_is_refused(root: str) -> None:
    """A server that does not mind the condition is found by a probe, and told to be unfit; a fit one keeps no trace."""
    store().prove(root)
    assert keys_of(root) == []
    storage = store(read_timeout=61)
    events = storage._client._boto().meta.events
    events.register("before-sign.s3.PutObject", lambda request, **_: request.headers.__delitem__("If-None-Match"))
    with pytest.raises(StorageError, match=r"creates an object whose name is taken.*conditional writes"):
        storage.prove(root)
    assert keys_of(root) == []


@pytest.mark.parametrize("fault", ["lost", "busy", "error", "racing", "reset"])
def test_a_create_whose_answer_is_lost_is_ours(root: str, fault: Fault) -> None:
    """A create that was applied and whose answer was lost is ours, once; busy servers are asked again."""
    with faulty(lambda asked: fault if asked.method == "PUT" and asked.number == 0 else None) as url:
        storage = store(endpoint=url)
        assert storage.create_if_absent(f"{root}/receipt", b"mine") is True
        assert storage.create_if_absent(f"{root}/receipt", b"another's") is False
    assert store().read_bytes(f"{root}/receipt") == b"mine"


@pytest.mark.parametrize("fault", ["lost", "cut", "busy", "error", "reset"])
def test_a_completion_whose_answer_is_lost_is_complete(root: str, fault: Fault) -> None:
    """Each request of a pending file's life may fail once, before or after the server did it: the file is whole."""
    with faulty(lambda asked: fault if asked.number == 0 else None) as url:
        storage = store(endpoint=url)
        writer = storage.begin(f"{root}/part")
        writer.write(b"bytes")
        pending = writer.finish()
        storage.check(pending)
        storage.complete(pending)
        storage.complete(pending)
    assert store().read_bytes(f"{root}/part") == b"bytes"


@pytest.mark.parametrize("fault", ["lost", "cut", "busy", "error", "reset"])
def test_reads_and_listings_are_tried_again(root: str, fault: Fault) -> None:
    """A listing of several pages, a stat and reads by boto3 and Arrow give all, though each fails the first time."""
    plain = store()
    for number in range(3):
        # Arrow does not try again where the answer that tells an error is longer than what was asked for.
        plain.create_if_absent(f"{root}/in/{number}", bytes([number]) * 1000)
    with faulty(lambda asked: fault if asked.number == 0 else None) as url:
        storage = store(endpoint=url)
        files = list(storage.list_files(f"{root}/in"))
        assert files == list(plain.list_files(f"{root}/in"))
        assert storage.names(f"{root}/in") == ["0", "1", "2"]
        assert storage.stat(files[2].path) == files[2]
        assert storage.read_bytes(files[1].path) == b"\x01" * 1000
        with storage.open_input(files[2].path) as source:
            assert source.read() == b"\x02" * 1000


def test_a_server_that_stays_busy_is_told(root: str) -> None:
    """Where a server says that it is busy as often as it is asked, that is an OSError, to be tried again later."""
    with (
        faulty(lambda _: "busy") as url,
        pytest.raises(ConnectionError, match=r"SlowDown.*The store was asked several times"),
    ):
        store(endpoint=url, attempts=2).read_bytes(f"{root}/a")


@pytest.mark.parametrize("at", range(4))
def test_a_read_that_breaks_off_is_no_damaged_file(root: str, at: int) -> None:
    """Whichever request fails, a Parquet file is read whole, or the error is one that is tried again: no bad file."""
    table = pa.table({"x": np.arange(100_000)})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=40_000)
    plain = store()
    plain.create_if_absent(f"{root}/in/x.parquet", sink.getvalue())
    [file] = plain.list_files(f"{root}/in")
    asked: list[str] = []

    def fault(request: Asked) -> Fault | None:
        asked.append(request.path)
        return "reset" if len(asked) - 1 >= at else None

    with faulty(fault) as url:
        storage = store(endpoint=url, attempts=1)
        with pytest.raises(OSError, match=r"x\.parquet|AWS Error") as caught:
            read_whole(storage, file)
        assert not isinstance(caught.value, BatchscoreError)
    assert read_whole(plain, file).equals(table)


def test_a_create_that_always_meets_another_is_no_taken_name(root: str) -> None:
    """Where the store says each time that somebody writes at the same time, that is an error, and no lost race."""
    with faulty(lambda _: "racing") as url, pytest.raises(StorageError, match="ConditionalRequestConflict"):
        store(endpoint=url, attempts=3).create_if_absent(f"{root}/receipt", b"mine")
