"""Folders in stores, as clients that are not ours see them."""

from __future__ import annotations

import contextlib
import io
import posixpath
import uuid
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from etl.runs.store_settings import StoreSettings, configure

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

__all__ = ["PLACES", "Place", "scores_of"]


class Place(Protocol):
    """A folder that is a test's own."""

    uri: str
    settings: tuple[StoreSettings, ...]
    """What a job has to say of the store."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file over whatever is there."""

    def files(self, folder: str) -> dict[str, bytes]:
        """All files below a folder, hidden ones too, by their names below it."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of all files below a folder, none where there is none."""

    def get(self, name: str) -> bytes:
        """A file.

        Raises:
            FileNotFoundError: there is none.
        """

    def uploads(self) -> list[str]:
        """Files that were begun, and neither completed nor aborted."""


class S3Place:
    """In a bucket, by boto3."""

    def __init__(self, bucket: str, endpoint: str | None) -> None:
        """The bucket is there."""
        import boto3

        self._s3 = boto3.client("s3", endpoint_url=endpoint)
        self._bucket, self._folder = bucket, uuid.uuid4().hex
        self.uri = f"s3://{bucket}/{self._folder}"
        self.settings: tuple[StoreSettings, ...] = ()
        if endpoint is not None:
            self.settings = (StoreSettings(uri=f"s3://{bucket}", endpoint=endpoint),)

    def put(self, name: str, data: bytes) -> None:
        """See `Place.put`."""
        self._s3.put_object(Bucket=self._bucket, Key=f"{self._folder}/{name}", Body=data)

    def files(self, folder: str) -> dict[str, bytes]:
        """See `Place.files`."""
        return {name: self.get(f"{folder}/{name}") for name in self.sizes(folder)}

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Place.sizes`."""
        prefix = f"{self._folder}/{folder}/"
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return {item["Key"].removeprefix(prefix): item["Size"] for page in pages for item in page.get("Contents", ())}

    def get(self, name: str) -> bytes:
        """See `Place.get`."""
        try:
            data: bytes = self._s3.get_object(Bucket=self._bucket, Key=f"{self._folder}/{name}")["Body"].read()
        except self._s3.exceptions.NoSuchKey as error:
            raise FileNotFoundError(name) from error
        return data

    def uploads(self) -> list[str]:
        """See `Place.uploads`."""
        found = self._s3.list_multipart_uploads(Bucket=self._bucket).get("Uploads", ())
        return [item["Key"] for item in found if item["Key"].startswith(self._folder)]


class HdfsPlace:
    """In HDFS, by hdfs-native's own client."""

    def __init__(self, url: str) -> None:
        """The cluster is up."""
        from hdfs_native import Client

        self._client = Client(url)
        self._folder = f"/{uuid.uuid4().hex}"
        self.uri = f"{url}{self._folder}"
        self.settings: tuple[StoreSettings, ...] = ()

    def put(self, name: str, data: bytes) -> None:
        """See `Place.put`."""
        from hdfs_native import WriteOptions

        with self._client.create(f"{self._folder}/{name}", WriteOptions(overwrite=True)) as file:
            file.write(data)

    def files(self, folder: str) -> dict[str, bytes]:
        """See `Place.files`."""
        return {name: self.get(f"{folder}/{name}") for name in self.sizes(folder)}

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Place.sizes`."""
        root = f"{self._folder}/{folder}"
        try:
            found = list(self._client.list_status(root, recursive=True))
        except FileNotFoundError:
            return {}
        return {posixpath.relpath(one.path, root): one.length for one in found if not one.isdir}

    def get(self, name: str) -> bytes:
        """See `Place.get`."""
        with self._client.read(f"{self._folder}/{name}") as file:
            data: bytes = file.read()
        return data

    def uploads(self) -> list[str]:
        """See `Place.uploads`."""
        paths = [status.path for status in self._client.list_status(self._folder, recursive=True)]
        return [path for path in paths if path.endswith(".inprogress")]


class LocalPlace:
    """On a disk, by pathlib."""

    def __init__(self, folder: Path) -> None:
        """The folder is there."""
        self._folder = folder
        self.uri = f"file://{folder}"
        self.settings: tuple[StoreSettings, ...] = ()

    def put(self, name: str, data: bytes) -> None:
        """See `Place.put`."""
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / name).write_bytes(data)

    def files(self, folder: str) -> dict[str, bytes]:
        """See `Place.files`."""
        return {name: self.get(f"{folder}/{name}") for name in self.sizes(folder)}

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Place.sizes`."""
        found, root = {}, self._folder / folder
        for path in root.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # it was listed and is gone
                if path.is_file():
                    found[str(path.relative_to(root))] = path.stat().st_size
        return found

    def get(self, name: str) -> bytes:
        """See `Place.get`."""
        return (self._folder / name).read_bytes()

    def uploads(self) -> list[str]:
        """See `Place.uploads`."""
        return [str(path) for path in self._folder.rglob("*.inprogress")]


def _local(request: pytest.FixtureRequest) -> Place:
    folder = request.getfixturevalue("tmp_path") / "place"
    folder.mkdir()
    return LocalPlace(folder)


def _moto(request: pytest.FixtureRequest) -> Place:
    return S3Place(request.getfixturevalue("bucket"), None)


def _versitygw(request: pytest.FixtureRequest) -> Place:
    place = S3Place("on-disk", request.getfixturevalue("versitygw_url"))
    configure(place.settings)
    return place


def _hdfs(request: pytest.FixtureRequest) -> Place:
    return HdfsPlace(request.getfixturevalue("hdfs_url"))


PLACES = {"local": _local, "moto": _moto, "versitygw": _versitygw, "hdfs": _hdfs}


def scores_of(files: dict[str, bytes], column: str = "p") -> dict[int, float]:
    """Scores by id in all Parquet files that plain readers see; fails on an id that is there twice."""
    names = [name for name in files if not any(part.startswith(("_", ".")) for part in name.split("/"))]
    tables = [pq.read_table(io.BytesIO(files[name])) for name in sorted(names) if name.endswith(".parquet")]
    if not tables:
        return {}
    rows = pa.concat_tables(tables)
    ids = rows.column("id").to_pylist()
    assert len(ids) == len(set(ids)), "an id is published twice"
    return dict(zip(ids, rows.column(column).to_pylist(), strict=True))
