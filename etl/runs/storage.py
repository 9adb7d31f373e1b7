"""The storage interface of the publication protocol, and its first implementation: local disk.

Stores differ in what is atomic. Every one of them has *create if absent*, so that is the only step the protocol
commits by; compare-and-swap and rename-over are not assumed (with rename-over, both racing publishers won).
A *pending* file is written in full but not visible under its name until it is completed: on disk and HDFS a hidden
`.…inprogress` beside the final name, on S3 a multipart upload.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from pydantic import Field

from etl.documents import Strict
from etl.errors import StorageError
from etl.redaction import redacted, uri_problem
from etl.runs.store_settings import settings_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pyarrow as pa
    from pyarrow.fs import FileSystem
    from typing_extensions import Buffer

    from etl.runs.splits import InputFile

__all__ = ["PART_BYTES", "Pending", "PendingWriter", "Storage", "bytes_of_pinned", "stats_of", "storage_for"]

PART_BYTES = 8 << 20
"""S3 takes parts from 5 MiB on, and 10,000 of them: 80 GB at this size, more since parts grow."""


class Pending(Strict):
    """A file written in full and not yet visible; travels in a receipt from the worker to the publisher."""

    path: str = Field(description="The final name.")
    upload: str = Field(description="The store's handle: a hidden file's path, or a multipart upload's id.")
    bytes: int = Field(ge=0, description="Size in bytes.")
    sha256: str = Field(description="SHA-256 of the bytes, hexadecimal.")
    parts: tuple[str, ...] = Field(default=(), description="Etags of an upload's parts, in order; none on disks.")


class PendingWriter(Protocol):
    """A write-only binary file. Exactly one of `finish` and `abort` ends it."""

    closed: bool

    def write(self, data: bytes, /) -> int:
        """Append bytes; accepts any buffer."""

    def flush(self) -> None:
        """Nothing is promised before `finish`."""

    def close(self) -> None:
        """Called by writers that own the file; ends nothing."""

    def finish(self) -> Pending:
        """Make the bytes durable and hand out the handle."""

    def abort(self) -> None:
        """Throw the bytes away."""


class Storage(Protocol):
    """What a store must do. Paths are strings in the store's own naming; folders need not exist to be written to."""

    def prove(self, folder: str) -> None:
        """See that the store does what publication needs, where it may be one that does not.

        Raises:
            StorageError: it creates a name that is taken.
        """

    def list_files(self, pattern: str) -> Iterator[InputFile]:
        """All files under a folder, or that match a glob, by path order; names that begin with `_` or `.` are not."""

    def stat(self, path: str) -> InputFile | None:
        """The file as it is now, or None."""

    def stats(self, paths: Sequence[str]) -> dict[str, InputFile]:
        """Those of many files that are there, as they are now, by path; asked for together where that takes less."""

    def read_pinned(self, file: InputFile) -> pa.Buffer | None:
        """All bytes of a file, for one that is small; None where it is not as it was pinned, before or meanwhile."""

    def names(self, folder: str) -> list[str]:
        """Names directly in a folder, sorted; empty where there is none."""

    def open_input(self, path: str) -> pa.NativeFile:
        """Random access for reading."""

    def read_bytes(self, path: str) -> bytes | None:
        """The whole file, or None where there is none."""

    def arrow_paths(self, paths: Iterable[str]) -> tuple[FileSystem | None, list[str]]:
        """The same files for Arrow's datasets: its file system, or None where that is this machine's, and its paths."""

    def local_path(self, path: str) -> str | None:
        """Where the file would be on a disk of this host, to be mapped there; None where it has to be fetched."""

    def create_if_absent(self, path: str, data: Buffer) -> bool:
        """Create the file with these bytes, all or nothing; False when the name was taken.

        They may be a map of a file above what memory holds: a store takes them piece by piece.
        """

    def replace(self, path: str, data: Buffer) -> None:
        """Create or replace, for hints and records that no promise rests on."""

    def begin(self, path: str) -> PendingWriter:
        """Start a pending file that will have this final name."""

    def check(self, pending: Pending) -> None:
        """See that a pending file is whole, or was completed.

        Raises:
            PendingLost: neither the pending nor the final file exists, or the pending one has another size.
        """

    def complete(self, pending: Pending) -> None:
        """Make a pending file visible under its name; again is harmless.

        Raises:
            PendingTaken: other bytes are there.
            PendingLost: neither the pending nor the final file exists.
        """

    def abort(self, pending: Pending) -> None:
        """Throw a pending file away; again is harmless."""

    def leftovers(self, folder: str) -> list[str]:
        """Handles of all pending files below a folder."""

    def sweep(self, folder: str) -> None:
        """Throw away every pending file below a folder: what was begun by who died, or whose answer was lost."""

    def delete(self, path: str) -> None:
        """Remove a file; a missing one is fine."""

    def remove(self, folder: str) -> None:
        """Remove everything below a folder, pending and hidden files too; a missing one is fine."""


def stats_of(storage: Storage, paths: Sequence[str], threads: int) -> dict[str, InputFile]:
    """`Storage.stats` of a store that can be asked for one file at a time."""
    with ThreadPoolExecutor(threads, "batchscore-stat") as pool:
        return {file.path: file for file in pool.map(storage.stat, paths) if file is not None}


def bytes_of_pinned(storage: Storage, file: InputFile) -> pa.Buffer | None:
    """`Storage.read_pinned` of a store that has no conditional reads: it is looked at before and after."""
    if storage.stat(file.path) != file:
        return None
    with storage.open_input(file.path) as source:
        data = source.read_buffer()
    return data if storage.stat(file.path) == file else None


def storage_for(uri: str) -> tuple[Storage, str]:
    """The store that a URI names, and the URI's path in that store's naming. Hadoop writes `file:/x` for `file:///x`.

    Raises:
        StorageError: the scheme is not supported, a `file:` URI names a host or no absolute path, or a secret is in it.
    """
    problem = uri_problem(uri)
    if problem is not None:
        message = f"{redacted(uri)}: {problem}."
        raise StorageError(message)
    from etl.runs.local import LocalStorage  # noqa: PLC0415  a store is imported when a URI asks for it

    scheme, colon, rest = uri.partition(":")
    if not colon or "/" in scheme or not (rest.startswith("/") or scheme == "file"):
        return LocalStorage.of(), LocalStorage.normalise(uri)
    if scheme in {"s3", "s3a"}:
        return _s3(uri)
    if scheme == "hdfs":
        return _hdfs(uri)
    if scheme in {"gs", "abfs", "abfss"}:
        return _blobs(uri)
    if scheme != "file":
        message = (
            f"{uri}: storage scheme {scheme!r} is not supported by this release. Use a local path, file:///path, "
            "s3://bucket/path, hdfs://name-service/path, gs://bucket/path or abfs://container@account/path."
        )
        raise StorageError(message)
    path = rest.removeprefix("//")
    if not path.startswith("/"):
        message = f"{uri}: names a host or a relative path, and files are read from this machine. Use file:///path."
        raise StorageError(message)
    return LocalStorage.of(), LocalStorage.normalise(path)


def _s3(uri: str) -> tuple[Storage, str]:
    try:
        from etl.runs.s3 import S3Storage  # noqa: PLC0415  as above
    except ModuleNotFoundError as error:
        message = f"{uri}: {error.name} is not installed. Install batchscore[s3]."
        raise StorageError(message) from error
    path = S3Storage.normalise(uri)
    return S3Storage.of(settings_for(path)), path


def _hdfs(uri: str) -> tuple[Storage, str]:
    try:
        from etl.runs.hdfs import HdfsStorage  # noqa: PLC0415  as above
    except ModuleNotFoundError as error:
        message = f"{uri}: {error.name} is not installed. Install batchscore[hdfs]."
        raise StorageError(message) from error
    authority, path = HdfsStorage.normalise(uri)
    return HdfsStorage.of(authority), path


def _blobs(uri: str) -> tuple[Storage, str]:
    extra = "gs" if uri.startswith("gs:") else "abfs"
    try:
        from etl.runs.blobs import BlobStorage  # noqa: PLC0415  as above

        scheme, authority, path = BlobStorage.normalise(uri)
        return BlobStorage.of(scheme, authority), path
    except ModuleNotFoundError as error:
        message = f"{uri}: {error.name} is not installed. Install batchscore[{extra}]."
        raise StorageError(message) from error
