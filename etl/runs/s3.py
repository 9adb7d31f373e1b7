"""S3, and what speaks its protocol, as a store.

Small objects and multipart uploads go through boto3, whose credentials are those of every other tool; bulk reads
through Arrow's own client, which asks for several ranges at once and holds no lock of the interpreter.
"""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from etl.errors import PendingLost, PendingTaken, StorageError
from etl.runs.globs import has_magic, matcher, stem_of
from etl.runs.hidden import prove_conditions
from etl.runs.s3_client import S3Client, S3Path
from etl.runs.s3_upload import MARK, S3PendingWriter
from etl.runs.splits import InputFile
from etl.runs.storage import PART_BYTES
from etl.runs.store_settings import settings_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pyarrow.fs import FileSystem
    from typing_extensions import Buffer

    from etl.runs.storage import Pending
    from etl.runs.store_settings import StoreSettings

__all__ = ["S3Storage", "check_encryption"]

_THREADS = 16
_FEW = 8
"""Objects of one folder that are asked for one by one."""


class S3Storage:
    """A bucket with what is configured for it. Paths are `s3://bucket/key`."""

    def __init__(self, settings: StoreSettings) -> None:
        """Nothing is asked of the store yet."""
        self._client = S3Client(settings)

    @classmethod
    @functools.cache
    def of(cls, settings: StoreSettings) -> S3Storage:
        """One of each, since its clients keep connections."""
        return cls(settings)

    @staticmethod
    def normalise(uri: str) -> str:
        """One name for `s3a://bucket/a//b/` and `s3://bucket/a/b`.

        Raises:
            StorageError: there is no bucket, or a part of the key is `.` or `..`, which S3 takes as they are.
        """
        bucket, _, key = uri.partition("://")[2].partition("/")
        parts = [part for part in key.split("/") if part]
        if not bucket or not set(parts).isdisjoint({".", ".."}):
            message = f"{uri}: names no bucket, or has `.` or `..` in its path. Write s3://bucket/folder."
            raise StorageError(message)
        return "/".join(("s3:/", bucket, *parts))

    def prove(self, folder: str) -> None:
        """See `Storage.prove`."""
        told = "Use one that has conditional writes (If-None-Match: *), or a newer release of this one."
        prove_conditions(self, folder, told)

    def list_files(self, pattern: str) -> Iterator[InputFile]:
        """See `Storage.list_files`."""
        pattern = self.normalise(pattern)
        place = S3Path.of(pattern)
        if has_magic(place.key) and not self._is_there(place):
            stem, matches = stem_of(place.key), matcher(place.key)
        else:
            stem, matches = place.key, matcher(place.key, is_literal=True)
        files = [
            InputFile(path=f"s3://{place.bucket}/{found['Key']}", bytes=found["Size"], etag=found["ETag"].strip('"'))
            for found in self._objects(place.bucket, stem)
            if matches(found["Key"])
        ]
        yield from sorted(files, key=lambda file: file.path)

    def _is_there(self, place: S3Path) -> bool:
        """Whether an object or a folder has just this name, whatever signs are in it."""
        if self._client.head(place) is not None:
            return True
        found = self._client.call("list_objects_v2", place, Bucket=place.bucket, Prefix=f"{place.key}/", MaxKeys=1)
        return bool(found.get("Contents"))

    def _objects(self, bucket: str, prefix: str, *, after: str = "") -> Iterator[dict[str, Any]]:
        """All objects whose keys begin so; a key that ends in a slash marks a folder and is none."""
        asked = {"Bucket": bucket, "Prefix": prefix, **({"StartAfter": after} if after else {})}
        for page in self._client.pages("list_objects_v2", S3Path(bucket, prefix), **asked):
            yield from (item for item in page.get("Contents", ()) if not item["Key"].endswith("/"))

    def stat(self, path: str) -> InputFile | None:
        """See `Storage.stat`."""
        head = self._client.head(S3Path.of(path))
        if head is None:
            return None
        return InputFile(path=path, bytes=head["ContentLength"], etag=head["ETag"].strip('"'))

    def stats(self, paths: Sequence[str]) -> dict[str, InputFile]:
        """See `Storage.stats`: a listing tells of a thousand objects at once."""
        found: dict[str, InputFile] = {}
        for _, some in itertools.groupby(sorted(paths), key=lambda path: path.rpartition("/")[0]):
            names = list(some)
            if len(names) < _FEW:
                found.update({name: file for name in names if (file := self.stat(name)) is not None})
            else:
                found.update(self._listed(names))
        return found

    def _listed(self, paths: list[str]) -> dict[str, InputFile]:
        """Those of one folder, in order; the listing ends behind the last one."""
        first, last = S3Path.of(paths[0]), S3Path.of(paths[-1])
        wanted = set(paths)
        prefix = f"{first.key.rpartition('/')[0]}/" if "/" in first.key else ""
        found: dict[str, InputFile] = {}
        for item in self._objects(first.bucket, prefix, after=first.key[:-1]):
            path = f"s3://{first.bucket}/{item['Key']}"
            if path in wanted:
                found[path] = InputFile(path=path, bytes=item["Size"], etag=item["ETag"].strip('"'))
            if item["Key"] >= last.key:
                break
        return found

    def read_pinned(self, file: InputFile) -> pa.Buffer | None:
        """See `Storage.read_pinned`: `If-Match` is the condition."""
        data = self._client.get(S3Path.of(file.path), etag=file.etag)
        return pa.py_buffer(data) if data is not None and len(data) == file.bytes else None

    def names(self, folder: str) -> list[str]:
        """See `Storage.names`."""
        place = S3Path.of(folder)
        prefix = f"{place.key}/" if place.key else ""
        names = set[str]()
        for page in self._client.pages("list_objects_v2", place, Bucket=place.bucket, Prefix=prefix, Delimiter="/"):
            names.update(item["Key"].removeprefix(prefix) for item in page.get("Contents", ()))
            names.update(item["Prefix"].removeprefix(prefix).rstrip("/") for item in page.get("CommonPrefixes", ()))
        return sorted(name for name in names if name and not name.startswith("."))

    def open_input(self, path: str) -> pa.NativeFile:
        """See `Storage.open_input`."""
        place = S3Path.of(path)
        with self._client.explained(place, "read"):
            return self._client.files().open_input_file(f"{place.bucket}/{place.key}")

    def read_bytes(self, path: str) -> bytes | None:
        """See `Storage.read_bytes`."""
        return self._client.get(S3Path.of(path))

    def arrow_paths(self, paths: Iterable[str]) -> tuple[FileSystem, list[str]]:
        """See `Storage.arrow_paths`."""
        return self._client.files(), [path.partition("://")[2] for path in paths]

    def local_path(self, path: str) -> None:
        """See `Storage.local_path`: nowhere."""

    def create_if_absent(self, path: str, data: Buffer) -> bool:
        """See `Storage.create_if_absent`. `If-None-Match: *` is the condition.

        A client tries again by itself where an answer was lost, and is then told that the name is taken: by its own
        bytes, which are read back.
        """
        place = S3Path.of(path)
        if memoryview(data).nbytes > PART_BYTES:
            return self._create_in_parts(path, data)
        taken = self._client.put(place, data, is_new=True)
        return not taken or (taken.is_repeated and self.read_bytes(path) == bytes(data))

    def _create_in_parts(self, path: str, data: Buffer) -> bool:
        writer = self.begin(path)
        try:
            writer.write(data)
            pending = writer.finish()
        except BaseException:
            writer.abort()
            raise
        try:
            self.complete(pending)
        except PendingTaken:
            self.abort(pending)
            return False
        return True

    def replace(self, path: str, data: Buffer) -> None:
        """See `Storage.replace`."""
        self._client.put(S3Path.of(path), data, is_new=False)

    def begin(self, path: str) -> S3PendingWriter:
        """See `Storage.begin`."""
        return S3PendingWriter(self._client, S3Path.of(path))

    def check(self, pending: Pending) -> None:
        """See `Storage.check`."""
        place = S3Path.of(pending.path)
        found = self._client.upload_bytes(place, _upload(pending))
        if found is None:
            if not self._is_mine(pending):
                raise _lost(pending)
        elif found != pending.bytes:
            message = (
                f"{pending.path}: its upload has {found} bytes, its receipt says {pending.bytes}, so the receipt is "
                "void. Run the same id again."
            )
            raise PendingLost(message)

    def _is_mine(self, pending: Pending) -> bool:
        """Whether the final name has the bytes of this upload.

        Raises:
            PendingTaken: it has others.
        """
        head = self._client.head(S3Path.of(pending.path))
        if head is None:
            return False
        if head["Metadata"].get(MARK) == _mark(pending) and head["ContentLength"] == pending.bytes:
            return True
        message = f"{pending.path}: other bytes have this name. Nothing was overwritten; use another run id."
        raise PendingTaken(message)

    def complete(self, pending: Pending) -> None:
        """See `Storage.complete`. Whoever is late finds the upload gone, and the object with its mark."""
        place = S3Path.of(pending.path)
        if self._client.complete(place, _upload(pending), pending.parts) or self._is_mine(pending):
            return
        is_gone = self._client.upload_bytes(place, _upload(pending)) is None
        # Another publisher may have completed it between the two looks.
        if self._is_mine(pending):
            return
        if is_gone:
            raise _lost(pending)
        message = f"{pending.path}: the store did not complete its upload. Run the same id again."
        raise StorageError(message)

    def abort(self, pending: Pending) -> None:
        """See `Storage.abort`."""
        self._client.abort(S3Path.of(pending.path), _upload(pending))

    def sweep(self, folder: str) -> None:
        """See `Storage.sweep`."""
        bucket = S3Path.of(folder).bucket
        for key, upload in self._uploads(folder):
            self._client.abort(S3Path(bucket, key), upload)

    def leftovers(self, folder: str) -> list[str]:
        """See `Storage.leftovers`."""
        return [f"{key} {upload}" for key, upload in self._uploads(folder)]

    def _uploads(self, folder: str) -> list[tuple[str, str]]:
        place = S3Path.of(f"{folder}/")
        pages = self._client.pages("list_multipart_uploads", place, Bucket=place.bucket, Prefix=place.key)
        return [(found["Key"], found["UploadId"]) for page in pages for found in page.get("Uploads", ())]

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        place = S3Path.of(path)
        self._client.call("delete_object", place, Bucket=place.bucket, Key=place.key)

    def remove(self, folder: str) -> None:
        """See `Storage.remove`."""
        place = S3Path.of(f"{folder}/")
        self.sweep(folder)
        pages = self._client.pages("list_objects_v2", place, Bucket=place.bucket, Prefix=place.key)
        for key in [found["Key"] for page in pages for found in page.get("Contents", ())]:
            self.delete(f"s3://{place.bucket}/{key}")


def check_encryption(folder: str) -> None:
    """See that all files that another client wrote below a folder are encrypted as is said for it.

    Raises:
        StorageError: one is not.
    """
    settings = settings_for(folder)
    if settings.encryption is None:
        return
    client = S3Client(settings)
    paths = [file.path for file in S3Storage.of(settings).list_files(folder)]
    with ThreadPoolExecutor(_THREADS) as threads:
        heads = list(threads.map(lambda path: client.head(S3Path.of(path)) or {}, paths))
    for path, head in zip(paths, heads, strict=True):
        key = settings.kms_key if settings.kms_key and not settings.kms_key.startswith("alias/") else ""
        is_key = head.get("SSEKMSKeyId", "").endswith(key)
        if head.get("ServerSideEncryption") != settings.encryption or not is_key:
            found = f"{head.get('ServerSideEncryption', 'nothing')} {head.get('SSEKMSKeyId', '')}".rstrip()
            message = (
                f"{path}: Spark encrypted it with {found}, and `storage` says {settings.encryption} {key}".rstrip()
                + ". A session that has used the bucket before keeps its old settings: start a new one, or set "
                "spark.hadoop.fs.s3a.encryption.algorithm and .key when it starts. Remove the folder."
            )
            raise StorageError(message)


def _lost(pending: Pending) -> PendingLost:
    return PendingLost(f"{pending.path}: its upload is gone, so its receipt is void. Run the same id again.")


def _upload(pending: Pending) -> str:
    return pending.upload.partition(" ")[2]


def _mark(pending: Pending) -> str:
    return pending.upload.partition(" ")[0]
