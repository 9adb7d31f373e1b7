"""Google's and Azure's object stores, through fsspec. Neither was tested against the real service; see docs/STORAGE.md.

Both have create-if-absent, and no upload that another process could complete. So a pending file is a hidden object,
which the publisher copies to its final name, where that is free, and deletes: in Google's store the server copies it,
elsewhere the publisher reads and writes it, since no client of fsspec copies under a condition.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import posixpath
import uuid
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa

from etl.errors import StorageError
from etl.runs.globs import has_magic, matcher, stem_of
from etl.runs.hidden import check_hidden, complete_hidden, prove_conditions
from etl.runs.splits import InputFile
from etl.runs.storage import Pending, bytes_of_pinned, stats_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from pyarrow.fs import FileSystem
    from typing_extensions import Buffer

__all__ = ["BlobPendingWriter", "BlobStorage"]

_PENDING = ".inprogress"
"""How the names of pending files end."""
_VERSIONS = ("generation", "etag", "created")
"""What a store calls what changes with an object's bytes, the exactest first."""
_REFUSED = ("Forbidden", "AuthorizationFailure", "AuthorizationPermissionMismatch", "Anonymous caller", "Invalid Cred")


@functools.cache
def _client(scheme: str, account: str, _process: int) -> Any:
    """Clients are safe for threads, not for forks. Listings are asked for anew each time."""
    options: dict[str, Any] = {"account_name": account} if account else {}
    # Azure's client asks for no credentials unless it is told to.
    options |= {"anon": False} if scheme in {"abfs", "abfss"} else {}
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options)


@contextlib.contextmanager
def _explained(path: str, verb: str) -> Generator[None]:
    """Turn refusals into errors that say what to do, and all else into an OSError, to be tried again."""
    try:
        yield
    except (FileNotFoundError, FileExistsError, StorageError):
        raise
    except Exception as error:  # each client has its own classes, and few are OSErrors
        told = f"{path}: cannot {verb}: {error}"
        if isinstance(error, PermissionError) or any(word in str(error) for word in _REFUSED):
            raise StorageError(f"{told}. Give the job's identity that right on the bucket.") from error
        raise ConnectionError(told) from error


class BlobPendingWriter:
    """A hidden object, which is there once it is written whole. The digest is taken as bytes pass."""

    def __init__(self, storage: BlobStorage, path: str) -> None:
        """Use `BlobStorage.begin`."""
        self.closed = False
        self._storage = storage
        self._path = path
        folder, name = posixpath.split(path)
        self._upload = f"{folder}/.{name}.{uuid.uuid4().hex}{_PENDING}"
        self._file = storage.created(self._upload)
        self._bytes = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: Buffer, /) -> int:
        """Append bytes; accepts any buffer."""
        taken = bytes(data)
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
        """Wait until the store has the object."""
        with _explained(self._upload, "write"):
            self._file.close()
        self.closed = True
        return Pending(path=self._path, upload=self._upload, bytes=self._bytes, sha256=self._sha256.hexdigest())

    def abort(self) -> None:
        """End the upload, and remove what came of it."""
        if not self.closed:
            with contextlib.suppress(Exception):
                self._file.close()
        self.closed = True
        self._storage.delete(self._upload)


class BlobStorage:
    """A bucket, or a container of an account. Paths are `gs://bucket/key`, `abfs://container@account.host/key`."""

    def __init__(self, scheme: str, authority: str) -> None:
        """Nothing is asked yet."""
        self._root = f"{scheme}://{authority}"
        self._scheme = scheme
        self._bucket, _, host = authority.partition("@")
        self._account = host.partition(".")[0]

    @classmethod
    @functools.cache
    def of(cls, scheme: str, authority: str) -> BlobStorage:
        """One of each.

        Raises:
            ModuleNotFoundError: the scheme's client is not installed.
        """
        try:
            fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            raise ModuleNotFoundError(str(error), name={"gs": "gcsfs"}.get(scheme, "adlfs")) from error
        return cls(scheme, authority)

    @staticmethod
    def normalise(uri: str) -> tuple[str, str, str]:
        """Scheme, authority, and one name for `gs://bucket/a//b/` and `gs://bucket/a/b`.

        Raises:
            StorageError: there is no bucket, or a part of the path is `.` or `..`.
        """
        scheme, _, rest = uri.partition("://")
        authority, _, path = rest.partition("/")
        parts = [part for part in path.split("/") if part]
        if not authority.partition("@")[0] or not set(parts).isdisjoint({".", ".."}):
            message = f"{uri}: names no bucket, or has `.` or `..` in its path. Write {scheme}://bucket/folder."
            raise StorageError(message)
        return scheme, authority, "/".join((f"{scheme}://{authority}", *parts))

    @property
    def _asked(self) -> Any:
        client = _client(self._scheme, self._account, os.getpid())
        # Azure's keeps listings all the same.
        client.invalidate_cache()
        return client

    def _inside(self, path: str) -> str:
        """As the client calls it."""
        return self._bucket + path.removeprefix(self._root)

    def _outside(self, inside: str) -> str:
        return self._root + inside.lstrip("/").removeprefix(self._bucket)

    def prove(self, folder: str) -> None:
        """See `Storage.prove`. An emulator, or a client of another release, may take the condition and not mind it."""
        prove_conditions(self, folder, "Use a newer release of the store, or of its fsspec client.")

    def list_files(self, pattern: str) -> Iterator[InputFile]:
        """See `Storage.list_files`."""
        key = self._key(self.normalise(pattern)[2])
        is_literal = not has_magic(key) or self._is_there(key)
        folder = key if is_literal else posixpath.dirname(stem_of(key))
        matches = matcher(key, is_literal=is_literal)
        found = [file for file in self._below(f"{self._root}/{folder}") if matches(self._key(file.path))]
        yield from sorted(found, key=lambda file: file.path)

    def _key(self, path: str) -> str:
        return path.removeprefix(self._root).lstrip("/")

    def _is_there(self, key: str) -> bool:
        """Whether an object or a folder has just this name, whatever signs are in it."""
        with _explained(f"{self._root}/{key}", "look at"):
            return bool(self._asked.exists(f"{self._bucket}/{key}"))

    def _below(self, folder: str) -> list[InputFile]:
        """All objects below a folder, or the one that has its name; a key that ends in a slash marks a folder."""
        with _explained(folder, "list"):
            try:
                found = self._asked.find(self._inside(folder).rstrip("/"), detail=True)
            except FileNotFoundError:
                return []
        infos = [info for info in found.values() if info["type"] == "file" and not info["name"].endswith("/")]
        return [self._described(info) for info in infos]

    def _described(self, info: dict[str, Any]) -> InputFile:
        etag = next(str(info[name]) for name in _VERSIONS if info.get(name))
        return InputFile(path=self._outside(info["name"]), bytes=info["size"], etag=etag.strip('"'))

    def stat(self, path: str) -> InputFile | None:
        """See `Storage.stat`."""
        with _explained(path, "look at"):
            try:
                info = self._asked.info(self._inside(path))
            except FileNotFoundError:
                return None
        return self._described(info) if info["type"] == "file" else None

    def stats(self, paths: Sequence[str]) -> dict[str, InputFile]:
        """See `Storage.stats`."""
        return stats_of(self, paths, 16)

    def read_pinned(self, file: InputFile) -> pa.Buffer | None:
        """See `Storage.read_pinned`."""
        return bytes_of_pinned(self, file)

    def names(self, folder: str) -> list[str]:
        """See `Storage.names`."""
        with _explained(folder, "list"):
            try:
                found = self._asked.ls(self._inside(folder), detail=False)
            except FileNotFoundError:
                return []
        names = {posixpath.basename(name.rstrip("/")) for name in found if self._outside(name).rstrip("/") != folder}
        return sorted(name for name in names if not name.startswith("."))

    def open_input(self, path: str) -> pa.NativeFile:
        """See `Storage.open_input`."""
        with _explained(path, "read"):
            return pa.PythonFile(self._asked.open(self._inside(path), "rb"), mode="r")

    def read_bytes(self, path: str) -> bytes | None:
        """See `Storage.read_bytes`."""
        with _explained(path, "read"):
            try:
                data: bytes = self._asked.cat_file(self._inside(path))
            except FileNotFoundError:
                return None
        return data

    def arrow_paths(self, paths: Iterable[str]) -> tuple[FileSystem, list[str]]:
        """See `Storage.arrow_paths`."""
        from pyarrow.fs import FSSpecHandler, PyFileSystem  # noqa: PLC0415  only datasets need it

        return PyFileSystem(FSSpecHandler(self._asked)), [self._inside(path) for path in paths]

    def local_path(self, path: str) -> None:
        """See `Storage.local_path`: nowhere."""

    def created(self, path: str) -> Any:
        """A new object, open for writing, which is there when it is closed and the name is free."""
        with _explained(path, "write"):
            return self._asked.open(self._inside(path), "xb")

    def create_if_absent(self, path: str, data: Buffer) -> bool:
        """See `Storage.create_if_absent`. A client whose first answer was lost is told that its own bytes are there."""
        given = bytes(data)
        with _explained(path, "create"):
            try:
                self._asked.pipe_file(self._inside(path), given, mode="create")
            except FileExistsError:
                return self.read_bytes(path) == given
            except FileNotFoundError as error:
                raise StorageError(
                    f"{path}: cannot create: there is no such bucket. Make it, or mend its name."
                ) from error
        return True

    def replace(self, path: str, data: Buffer) -> None:
        """See `Storage.replace`."""
        with _explained(path, "write"):
            self._asked.pipe_file(self._inside(path), bytes(data))

    def begin(self, path: str) -> BlobPendingWriter:
        """See `Storage.begin`."""
        return BlobPendingWriter(self, path)

    def check(self, pending: Pending) -> None:
        """See `Storage.check`."""
        check_hidden(self, pending)

    def complete(self, pending: Pending) -> None:
        """See `Storage.complete`."""

        def move() -> None:
            with _explained(pending.path, "publish"):
                self._copy(pending)
            self.delete(pending.upload)

        complete_hidden(self, pending, move)

    def _copy(self, pending: Pending) -> None:
        """Copy to the final name, where that is free."""
        source, target = self._inside(pending.upload), self._inside(pending.path)
        if self._scheme == "gs":
            _copy_by_google(self._asked, source, target)
            return
        # In one piece: a file of fsspec that is left while it is written is closed, and what there is of it published.
        self._asked.pipe_file(target, self._asked.cat_file(source), mode="create")

    def abort(self, pending: Pending) -> None:
        """See `Storage.abort`."""
        self.delete(pending.upload)

    def sweep(self, folder: str) -> None:
        """See `Storage.sweep`. What was begun and not finished nobody sees, and the store forgets it in a week."""
        for path in self.leftovers(folder):
            self.delete(path)

    def leftovers(self, folder: str) -> list[str]:
        """See `Storage.leftovers`."""
        names = [(file.path, posixpath.basename(file.path)) for file in self._below(folder)]
        return [path for path, name in names if name.startswith(".") and name.endswith(_PENDING)]

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        with _explained(path, "delete"), contextlib.suppress(FileNotFoundError):
            self._asked.rm_file(self._inside(path))

    def remove(self, folder: str) -> None:
        """See `Storage.remove`."""
        for file in self._below(folder):
            self.delete(file.path)


def _copy_by_google(client: Any, source: str, target: str) -> None:
    """A copy that the server makes, in several steps where the object is large, under the condition of a free name."""
    [bucket, key], [to_bucket, to_key] = (client.split_path(path)[:2] for path in (source, target))
    step: dict[str, str] = {}
    while True:
        done = client.call(
            *("POST", "b/{}/o/{}/rewriteTo/b/{}/o/{}", bucket, key, to_bucket, to_key),
            headers={"Content-Type": "application/json"},
            json_out=True,
            ifGenerationMatch="0",
            **step,
        )
        if done["done"]:
            return
        step = {"rewriteToken": done["rewriteToken"]}
