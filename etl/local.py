"""Local disk as a store."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from etl.errors import PendingLost, PendingTaken, StorageError
from etl.splits import InputFile
from etl.storage import Pending

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["LocalPendingWriter", "LocalStorage"]


@contextlib.contextmanager
def _explained(path: Path | str, verb: str) -> Generator[None]:
    """Turn the operating system's refusals into errors that say what to do."""
    try:
        yield
    except PermissionError as error:
        message = f"{path}: no permission to {verb}. Give the user that runs the job that right on the folder."
        raise StorageError(message) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            message = f"{path}: no space left to {verb}. Free some; what is finished stays, and the same run id goes on."
            raise StorageError(message) from error
        if error.errno in {errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR}:
            message = f"{path}: cannot {verb}: {os.strerror(error.errno)}. Choose another folder."
            raise StorageError(message) from error
        raise


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in path.relative_to(root).parts)


class LocalPendingWriter:
    """A hidden file beside its final name. The digest is taken as bytes pass, so nothing is read twice."""

    def __init__(self, path: str, upload: Path, file: BinaryIO) -> None:
        """Use `LocalStorage.begin`."""
        self.closed = False
        self._path = path
        self._upload = upload
        self._file = file
        self._bytes = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        """Append bytes; accepts any buffer."""
        with _explained(self._upload, "write"):
            self._file.write(data)
        self._sha256.update(data)
        self._bytes += memoryview(data).nbytes
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Nothing is promised before `finish`."""

    def close(self) -> None:
        """Nothing is promised before `finish`."""

    def finish(self) -> Pending:
        """Force the bytes to disk: a receipt must not outlive them in a power cut."""
        with _explained(self._upload, "write"):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self.closed = True
        return Pending(path=self._path, upload=str(self._upload), bytes=self._bytes, sha256=self._sha256.hexdigest())

    def abort(self) -> None:
        """Remove the hidden file."""
        self.closed = True
        with contextlib.suppress(OSError):
            # A full disk refuses the last buffered bytes again; they are being thrown away.
            self._file.close()
        self._upload.unlink(missing_ok=True)


class LocalStorage:
    """Files on a disk that every worker sees. Hard links give create-if-absent whole files, not empty ones."""

    @staticmethod
    def normalise(path: str) -> str:
        """Absolute and without `..`, so that one file has one name in every document. Symbolic links stay."""
        return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  Path.resolve would follow links

    def list_files(self, pattern: str) -> Iterator[InputFile]:
        """See `Storage.list_files`."""
        with _explained(pattern, "list"):
            for match in sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]:  # noqa: PTH207  absolute patterns
                yield from self._walk(Path(match))

    def _walk(self, root: Path) -> Iterator[InputFile]:
        if root.is_file():
            yield self._describe(root)
        elif root.is_dir():
            os.scandir(root).close()  # Path.rglob passes over folders that may not be read; rows would be lost.
            for path in sorted(root.rglob("*")):
                if path.is_dir():
                    os.scandir(path).close()
                elif not _is_hidden(path, root):
                    yield self._describe(path)

    @staticmethod
    def _describe(path: Path) -> InputFile:
        facts = path.stat()
        return InputFile(path=str(path), bytes=facts.st_size, etag=f"{facts.st_mtime_ns:x}-{facts.st_size:x}")

    def stat(self, path: str) -> InputFile | None:
        """See `Storage.stat`."""
        with _explained(path, "look at"):
            return self._describe(Path(path)) if Path(path).is_file() else None

    def names(self, folder: str) -> list[str]:
        """See `Storage.names`. Temporary names of this store are left out."""
        try:
            with _explained(folder, "list"):
                return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208  names only
        except FileNotFoundError:
            return []

    def open_input(self, path: str) -> pa.NativeFile:
        """See `Storage.open_input`."""
        with _explained(path, "read"):
            return pa.OSFile(path, "rb")

    def read_bytes(self, path: str) -> bytes | None:
        """See `Storage.read_bytes`."""
        try:
            with _explained(path, "read"):
                return Path(path).read_bytes()
        except FileNotFoundError:
            return None

    def _temporary(self, path: Path, data: bytes) -> Path:
        with _explained(path, "write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        return temporary

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """See `Storage.create_if_absent`. `link` is atomic and refuses a taken name; O_EXCL alone shows half a file."""
        temporary = self._temporary(Path(path), data)
        try:
            with _explained(path, "create"):
                os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
                message = f"{path}: this file system has no hard links, so a commit would not be atomic. Use another."
                raise StorageError(message) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """See `Storage.replace`."""
        temporary = self._temporary(Path(path), data)
        with _explained(path, "write"):
            temporary.replace(path)

    def begin(self, path: str) -> LocalPendingWriter:
        """See `Storage.begin`.

        The leading dot hides the file from Spark, pyarrow and pandas, the ending from globs for `*.parquet`.
        """
        final = Path(path)
        upload = final.with_name(f".{final.name}.inprogress")
        with _explained(path, "write"):
            final.parent.mkdir(parents=True, exist_ok=True)
            return LocalPendingWriter(path, upload, upload.open("xb"))

    def complete(self, pending: Pending) -> None:
        """See `Storage.complete`. Looks first: a publisher that died after this step finds its own bytes."""
        with _explained(pending.path, "publish"):
            if not Path(pending.path).exists():
                try:
                    os.link(pending.upload, pending.path)
                except FileNotFoundError:
                    message = f"{pending.path}: its pending file is gone, so its receipt is void. Score under a new run id."
                    raise PendingLost(message) from None
                except FileExistsError:
                    pass  # Another publisher of this run was quicker; whose bytes they are is looked at below.
                else:
                    Path(pending.upload).unlink()
                    return
            if self._sha256(pending.path) != pending.sha256:
                message = f"{pending.path}: other bytes have this name. Nothing was overwritten; use another run id."
                raise PendingTaken(message)
            Path(pending.upload).unlink(missing_ok=True)

    @staticmethod
    def _sha256(path: str) -> str:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def abort(self, pending: Pending) -> None:
        """See `Storage.abort`."""
        with _explained(pending.upload, "delete"):
            Path(pending.upload).unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        with _explained(path, "delete"):
            Path(path).unlink(missing_ok=True)
