"""HDFS as a store, by its own protocol: no JVM and no libhdfs. Name services are those of `HADOOP_CONF_DIR`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import posixpath
import random
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from xml.etree import ElementTree as ET

import pyarrow as pa
from hdfs_native import Client, WriteOptions

from etl.errors import StorageError
from etl.runs.globs import has_magic, matcher, stem_of
from etl.runs.hidden import check_hidden, complete_hidden
from etl.runs.splits import InputFile
from etl.runs.storage import Pending, bytes_of_pinned, stats_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from pyarrow.fs import FileSystem
    from typing_extensions import Buffer

__all__ = ["HdfsPendingWriter", "HdfsStorage"]

_T = TypeVar("_T")
_CHUNK = 4 << 20
_WAITS = (0.1, 0.4, 1.6)
"""Seconds before the further tries of a call, at most; half of it at least."""
_LONG = 5.0
"""Seconds after which a call that failed is not tried again: its client has done so all the time."""
_PENDING = ".inprogress"
"""How the names of pending files end."""
_REFUSED = {
    "AccessControlException": "Give the user that runs the job that right on the folder.",
    "ParentNotDirectoryException": "A file has the name of a folder. Choose another folder.",
    "QuotaExceededException": "Free some, or ask for a larger quota; the same run id then goes on.",
    "InvalidPathException": "Choose another name.",
}
"""What the name node refuses, by the class of its exception, and what to do. Anything else may be over in a while."""


@contextlib.contextmanager
def _explained(path: str, verb: str) -> Generator[None]:
    """Turn the name node's refusals into errors that say what to do, and its troubles into an OSError."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except (OSError, RuntimeError) as error:
        said = str(error).partition("\\n")[0].partition("\n")[0]
        told = f"{path}: cannot {verb}: {said}"
        for name, remedy in _REFUSED.items():
            if name in str(error) or (name == "AccessControlException" and isinstance(error, PermissionError)):
                raise StorageError(f"{told}. {remedy}") from error
        raise ConnectionError(told) from error


def _patiently(ask: Callable[[], _T]) -> _T:
    """Ask again where the name node hung up: its client does so only where a name service has several of them.

    What is asked must bear to be asked twice, since an earlier try may have been heard.
    """
    for wait in _WAITS:
        began = time.monotonic()
        try:
            return ask()
        except ConnectionError:
            if time.monotonic() - began > _LONG:
                raise
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  no secret
    return ask()


@functools.cache
def _client(authority: str, _process: int) -> Client:
    """Clients are safe for threads, not for forks."""
    return Client(f"hdfs://{authority}" if authority else None)


@functools.cache
def _arrow_files(authority: str, _process: int) -> FileSystem:
    """HDFS for Arrow's datasets.

    Kept here and not by fsspec, which throws away what it keeps in the child of a fork: there a client waits without
    end for threads that only the parent has, and a JVM or a worker that was to be started never is.
    """
    from hdfs_native.fsspec import HdfsFileSystem  # noqa: PLC0415  only datasets need fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem  # noqa: PLC0415  as above

    host, _, port = authority.partition(":")
    made = HdfsFileSystem(host or None, int(port) if port else None, skip_instance_cache=True)
    return PyFileSystem(FSSpecHandler(made))


class _Input:
    """A file to read from. Data nodes that do not answer, or whose block is damaged, are no fault of the file's."""

    def __init__(self, path: str, file: Any) -> None:
        self._path = path
        self._file = file

    def read(self, size: int = -1) -> bytes:
        with _explained(self._path, "read"):
            data: bytes = self._file.read(size)
            return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class HdfsPendingWriter:
    """A hidden file beside its final name. The digest is taken as bytes pass, so nothing is read twice."""

    def __init__(self, storage: HdfsStorage, path: str) -> None:
        """Use `HdfsStorage.begin`."""
        self.closed = False
        self._storage = storage
        self._path = path
        self._upload = beside(path, _PENDING)
        self._file = storage.created(self._upload)
        self._bytes = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: Buffer, /) -> int:
        """Append bytes; accepts any buffer."""
        taken = data if isinstance(data, bytes) else bytes(data)
        with _explained(self._upload, "write"):
            self._file.write(taken)
        self._sha256.update(taken)
        self._bytes += len(taken)
        return len(taken)

    def flush(self) -> None:
        """Nothing is promised before `finish`."""

    def close(self) -> None:
        """Nothing is promised before `finish`."""

    def finish(self) -> Pending:
        """Wait until the data nodes have all blocks, and give up the lease."""
        with _explained(self._upload, "write"):
            self._file.close()
        self.closed = True
        return Pending(path=self._path, upload=self._upload, bytes=self._bytes, sha256=self._sha256.hexdigest())

    def abort(self) -> None:
        """Remove the hidden file."""
        self.closed = True
        with contextlib.suppress(OSError, RuntimeError):
            self._file.close()
        self._storage.delete(self._upload)


@functools.cache
def _default_authority(folder: str | None) -> str:
    """That of `fs.defaultFS`, so that `hdfs:///a` and `hdfs://service/a` are one file; empty where none is told.

    Raises:
        StorageError: the file that tells it is damaged.
    """
    path = Path(folder) / "core-site.xml" if folder else None
    if path is None or not path.exists():
        return ""
    try:
        properties = list(ET.parse(path).getroot().iter("property"))  # noqa: S314  Hadoop's own, of this host
    except ET.ParseError as error:
        message = f"{path}: is no XML ({error}), so nobody knows what hdfs:/// is. Mend it, or name the service."
        raise StorageError(message) from error
    told = {(found.findtext("name") or "").strip(): (found.findtext("value") or "").strip() for found in properties}
    scheme, _, rest = told.get("fs.defaultFS", told.get("fs.default.name", "")).partition("://")
    return rest.partition("/")[0] if scheme == "hdfs" else ""


def beside(path: str, ending: str) -> str:
    """A hidden name in the same folder, which no reader of tables and no glob for `*.parquet` finds."""
    folder, name = posixpath.split(path)
    return f"{folder}/.{name}{ending}"


class HdfsStorage:
    """A name service. Paths are `hdfs://authority/path`; a rename that may not overwrite is the atomic step."""

    def __init__(self, authority: str) -> None:
        """Nothing is asked yet. Without an authority it is the one of `fs.defaultFS`."""
        self._authority = authority

    @classmethod
    @functools.cache
    def of(cls, authority: str) -> HdfsStorage:
        """One of each."""
        return cls(authority)

    @staticmethod
    def normalise(uri: str) -> tuple[str, str]:
        """Authority, and one name for `hdfs:/a//b/` and `hdfs:///a/b`.

        Raises:
            StorageError: the path is not absolute, or has parts that lead out of their folder.
        """
        rest = uri.partition(":")[2]
        authority, _, path = rest[2:].partition("/") if rest.startswith("//") else ("", "", rest.lstrip("/"))
        parts = [part for part in path.split("/") if part]
        if not rest.startswith("/") or not set(parts).isdisjoint({".", ".."}):
            message = f"{uri}: names no absolute path, or has `.` or `..` in it. Write hdfs://name-service/folder."
            raise StorageError(message)
        authority = authority or _default_authority(os.environ.get("HADOOP_CONF_DIR"))
        return authority, "/".join((f"hdfs://{authority}", *parts))

    @property
    def _asked(self) -> Client:
        return _client(self._authority, os.getpid())

    def _inside(self, path: str) -> str:
        """As the name node calls it."""
        return path.removeprefix(f"hdfs://{self._authority}") or "/"

    def _outside(self, inside: str) -> str:
        return f"hdfs://{self._authority}{inside}"

    def prove(self, folder: str) -> None:
        """See `Storage.prove`. HDFS has exclusive renames."""

    def list_files(self, pattern: str) -> Iterator[InputFile]:
        """See `Storage.list_files`."""
        _, pattern = self.normalise(pattern)
        inside = self._inside(pattern)
        is_literal = not has_magic(inside) or self._info(inside) is not None
        folder = inside if is_literal else posixpath.dirname(stem_of(inside))
        matches = matcher(inside.lstrip("/"), is_literal=is_literal)
        found = [self._described(status) for status in self._below(folder) if matches(status.path.lstrip("/"))]
        yield from sorted(found, key=lambda file: file.path)

    def _below(self, folder: str) -> list[Any]:
        """All files below a folder, or the one that has its name."""
        info = self._info(folder)
        if info is None:
            return []
        if not info.isdir:
            return [info]

        def ask() -> list[Any]:
            with _explained(self._outside(folder), "list"):
                return [status for status in self._asked.list_status(folder, recursive=True) if not status.isdir]

        return _patiently(ask)

    def _info(self, inside: str) -> Any:
        def ask() -> Any:
            with _explained(self._outside(inside), "look at"):
                return self._asked.get_file_info(inside)

        try:
            return _patiently(ask)
        except FileNotFoundError:
            return None

    def _described(self, status: Any) -> InputFile:
        etag = f"{status.modification_time:x}-{status.length:x}"
        return InputFile(path=self._outside(status.path), bytes=status.length, etag=etag)

    def stat(self, path: str) -> InputFile | None:
        """See `Storage.stat`."""
        info = self._info(self._inside(path))
        return None if info is None or info.isdir else self._described(info)

    def stats(self, paths: Sequence[str]) -> dict[str, InputFile]:
        """See `Storage.stats`."""
        return stats_of(self, paths, 16)

    def read_pinned(self, file: InputFile) -> pa.Buffer | None:
        """See `Storage.read_pinned`."""
        return bytes_of_pinned(self, file)

    def names(self, folder: str) -> list[str]:
        """See `Storage.names`. Temporary names of this store are left out."""

        def ask() -> list[str]:
            with _explained(folder, "list"):
                return [posixpath.basename(status.path) for status in self._asked.list_status(self._inside(folder))]

        try:
            return sorted(name for name in _patiently(ask) if not name.startswith("."))
        except FileNotFoundError:
            return []

    def open_input(self, path: str) -> pa.NativeFile:
        """See `Storage.open_input`."""

        def ask() -> Any:
            with _explained(path, "read"):
                return self._asked.read(self._inside(path))

        return pa.PythonFile(_Input(path, _patiently(ask)), mode="r")

    def read_bytes(self, path: str) -> bytes | None:
        """See `Storage.read_bytes`."""

        def ask() -> bytes:
            with _explained(path, "read"), self._asked.read(self._inside(path)) as file:
                data: bytes = file.read()
                return data

        try:
            return _patiently(ask)
        except FileNotFoundError:
            return None

    def arrow_paths(self, paths: Iterable[str]) -> tuple[FileSystem, list[str]]:
        """See `Storage.arrow_paths`."""
        return _arrow_files(self._authority, os.getpid()), [self._inside(path) for path in paths]

    def local_path(self, path: str) -> None:
        """See `Storage.local_path`: nowhere."""

    def created(self, path: str) -> Any:
        """A new file, open for writing; its folder is made. Its name must be one that nobody else takes."""

        def ask() -> Any:
            # Over what an earlier try made, whose answer was lost.
            with _explained(path, "write"):
                return self._asked.create(self._inside(path), WriteOptions(overwrite=True, create_parent=True))

        return _patiently(ask)

    def _temporary(self, path: str, data: Buffer) -> str:
        temporary = beside(path, f".{uuid.uuid4().hex}.tmp")
        view = memoryview(data).cast("B")
        with _explained(path, "write"), self.created(temporary) as file:
            for start in range(0, view.nbytes, _CHUNK):
                file.write(bytes(view[start : start + _CHUNK]))
        return temporary

    def create_if_absent(self, path: str, data: Buffer) -> bool:
        """See `Storage.create_if_absent`. Where an answer was lost, our file has gone to the name."""
        temporary = self._temporary(path, data)

        def move() -> None:
            with _explained(path, "create"):
                self._asked.rename(self._inside(temporary), self._inside(path), overwrite=False)

        try:
            _patiently(move)
        except (FileExistsError, FileNotFoundError):
            return self._info(self._inside(temporary)) is None and self.read_bytes(path) == bytes(data)
        finally:
            self.delete(temporary)
        return True

    def replace(self, path: str, data: Buffer) -> None:
        """See `Storage.replace`."""
        temporary = self._temporary(path, data)

        def move() -> None:
            with _explained(path, "write"):
                self._asked.rename(self._inside(temporary), self._inside(path), overwrite=True)

        try:
            _patiently(move)
        except FileNotFoundError:
            # An earlier try was heard: nobody else takes the temporary file away.
            if self._info(self._inside(path)) is None:
                raise

    def begin(self, path: str) -> HdfsPendingWriter:
        """See `Storage.begin`."""
        return HdfsPendingWriter(self, path)

    def check(self, pending: Pending) -> None:
        """See `Storage.check`."""
        check_hidden(self, pending)

    def complete(self, pending: Pending) -> None:
        """See `Storage.complete`."""

        def move() -> None:
            with _explained(pending.path, "publish"):
                self._asked.rename(self._inside(pending.upload), self._inside(pending.path), overwrite=False)

        # A second try whose first was heard finds nothing to move, and then its own bytes under the name.
        complete_hidden(self, pending, lambda: _patiently(move))

    def abort(self, pending: Pending) -> None:
        """See `Storage.abort`."""
        self.delete(pending.upload)

    def sweep(self, folder: str) -> None:
        """See `Storage.sweep`."""
        for path in self.leftovers(folder):
            self.delete(path)

    def leftovers(self, folder: str) -> list[str]:
        """See `Storage.leftovers`."""
        below = [status.path for status in self._below(self._inside(folder))]
        pending = [path for path in below if posixpath.basename(path).startswith(".") and path.endswith(_PENDING)]
        return [self._outside(path) for path in pending]

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        self._deleted(path, recursive=False)

    def remove(self, folder: str) -> None:
        """See `Storage.remove`."""
        self._deleted(folder, recursive=True)

    def _deleted(self, path: str, *, recursive: bool) -> None:
        def ask() -> None:
            with _explained(path, "delete"), contextlib.suppress(FileNotFoundError):
                self._asked.delete(self._inside(path), recursive=recursive)

        _patiently(ask)
