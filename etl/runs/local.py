"""Local disk as a store."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import glob
import hashlib
import os
import shutil
import stat
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from etl.errors import StorageError
from etl.runs.globs import is_hidden
from etl.runs.hidden import check_hidden, complete_hidden
from etl.runs.splits import InputFile
from etl.runs.storage import Pending, bytes_of_pinned

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from typing_extensions import Buffer

__all__ = ["LocalPendingWriter", "LocalStorage"]

_MISPLACED = {errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG}
"""What the operating system says of a path that will never do."""

_PENDING = ".inprogress"
"""How the names of pending files end."""
_ANY_FOLDERS = "**"
"""As a part of a glob: any number of folders, none too."""


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
            remedy = "Free some; what is finished stays, and the same run id goes on."
            message = f"{path}: no space left to {verb}. {remedy}"
            raise StorageError(message) from error
        if error.errno == errno.EISDIR:
            remedy = "A folder has the name of this file. Move it away."
            message = f"{path}: cannot {verb}: {os.strerror(error.errno)}. {remedy}"
            raise StorageError(message) from error
        if error.errno in _MISPLACED:
            message = f"{path}: cannot {verb}: {os.strerror(error.errno)}. Choose another folder."
            raise StorageError(message) from error
        raise


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _matches(pattern: str) -> list[str]:
    """What is there under a path or glob. `glob.glob` passes over folders that may not be read; rows would be lost."""
    if not glob.has_magic(pattern) or _is_there(pattern):
        return [pattern] if _is_there(pattern) else []
    found = [""]
    for part in pattern.split("/")[1:]:
        if part == _ANY_FOLDERS:
            found = [below for folder in found if Path(folder or "/").is_dir() for below in _folders(folder)]
        elif glob.has_magic(part):
            folders = [folder for folder in found if Path(folder or "/").is_dir()]
            below = [(folder, name) for folder in folders for name in os.listdir(folder or "/")]  # noqa: PTH208  names only
            chosen = [(folder, name) for folder, name in below if is_hidden(part) or not is_hidden(name)]
            found = [f"{folder}/{name}" for folder, name in chosen if fnmatch.fnmatchcase(name, part)]
        else:
            found = [path for folder in found if _is_there(path := f"{folder}/{part}")]
    return found


def _walk(path: str, above: tuple[str, ...] = ()) -> Iterator[InputFile]:
    """The files under a path. Links are followed, and what cannot be read is an error: its rows would be lost."""
    with _explained(path, "list"):
        if not Path(path).is_dir():
            yield _listed(path)
            return
        inside, above = _entered(path, above)
    for below in inside:
        yield from _walk(below, above)


def _folders(folder: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """A folder and all below it: what `**` stands for."""
    yield folder
    inside, above = _entered(folder, above)
    for below in inside:
        if Path(below).is_dir():
            yield from _folders(below, above)


def _entered(folder: str, above: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """What is directly in a folder and not hidden, and the real folders above that."""
    real = os.path.realpath(folder or "/")
    if real in above:
        message = f"{folder}: is a link that leads back into a folder above it. Remove it."
        raise StorageError(message)
    names = os.listdir(folder or "/")  # noqa: PTH208  names only
    return [f"{folder}/{name}" for name in names if not is_hidden(name)], (*above, real)


def _listed(path: str) -> InputFile:
    try:
        return _describe(path, os.stat(path))  # noqa: PTH116  the path is text already
    except FileNotFoundError:
        message = f"{path}: is a link to nothing, or was removed while it was listed. Remove it, or try again."
        raise StorageError(message) from None


def _describe(path: str, facts: os.stat_result) -> InputFile:
    if not stat.S_ISREG(facts.st_mode):
        message = f"{path}: is neither a file nor a folder. Remove it, or give it a name that begins with a dot."
        raise StorageError(message)
    try:
        path.encode()
    except UnicodeEncodeError:
        message = f"{path!a}: the name is not UTF-8, so no plan can hold it. Rename it."
        raise StorageError(message) from None
    return InputFile(path=path, bytes=facts.st_size, etag=f"{facts.st_mtime_ns:x}-{facts.st_size:x}")


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        # A file has the folder's name. Not to be taken for a name that another process has created.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    except FileNotFoundError as error:
        # As under /proc. Not to be taken for a file that is not there.
        message = f"{path}: no folder can be made here. Choose another place."
        raise StorageError(message) from error


def _link(source: Path | str, target: str) -> None:
    """The atomic step of this store: give a whole file a name that nobody has."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
            reason = "the file system has none, so a commit would not be atomic, or the file belongs to another user"
            message = f"{target}: cannot make a hard link: {reason}. Use another file system, or the workers' user."
            raise StorageError(message) from error
        raise


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

    @classmethod
    @functools.cache
    def of(cls) -> LocalStorage:
        """The one of this host, so that files can be told by their store."""
        return cls()

    @staticmethod
    def normalise(path: str) -> str:
        """Absolute and without `..`, so that one file has one name in every document. Symbolic links stay."""
        return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  Path.resolve would follow links

    def prove(self, folder: str) -> None:
        """See `Storage.prove`. A file system without hard links says so at the first commit."""

    def list_files(self, pattern: str) -> Iterator[InputFile]:
        """See `Storage.list_files`."""
        with _explained(pattern, "list"):
            # By path: `**` may match a folder and what is in it.
            files = {file.path: file for match in _matches(self.normalise(pattern)) for file in _walk(match)}
        yield from (files[path] for path in sorted(files))

    def stat(self, path: str) -> InputFile | None:
        """See `Storage.stat`."""
        with _explained(path, "look at"):
            try:
                facts = os.stat(path)  # noqa: PTH116  to make a Path takes as long as to look
            except (FileNotFoundError, NotADirectoryError):
                return None
            return _describe(path, facts) if stat.S_ISREG(facts.st_mode) else None

    def stats(self, paths: Sequence[str]) -> dict[str, InputFile]:
        """See `Storage.stats`."""
        return {path: file for path in paths if (file := self.stat(path)) is not None}

    def read_pinned(self, file: InputFile) -> pa.Buffer | None:
        """See `Storage.read_pinned`."""
        return bytes_of_pinned(self, file)

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

    def arrow_paths(self, paths: Iterable[str]) -> tuple[None, list[str]]:
        """See `Storage.arrow_paths`."""
        return None, list(paths)

    def local_path(self, path: str) -> str:
        """See `Storage.local_path`."""
        return path

    def _temporary(self, path: Path, data: Buffer) -> Path:
        with _explained(path, "write"):
            _make_folder(path.parent)
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

    def create_if_absent(self, path: str, data: Buffer) -> bool:
        """See `Storage.create_if_absent`. `link` is atomic and refuses a taken name; O_EXCL alone shows half a file."""
        temporary = self._temporary(Path(path), data)
        try:
            with _explained(path, "create"):
                _link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def replace(self, path: str, data: Buffer) -> None:
        """See `Storage.replace`."""
        temporary = self._temporary(Path(path), data)
        try:
            with _explained(path, "write"):
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def begin(self, path: str) -> LocalPendingWriter:
        """See `Storage.begin`.

        The leading dot hides the file from Spark, pyarrow and pandas, the ending from globs for `*.parquet`.
        """
        final = Path(path)
        upload = final.with_name(f".{final.name}{_PENDING}")
        with _explained(path, "write"):
            _make_folder(final.parent)
            return LocalPendingWriter(path, upload, upload.open("xb"))

    def check(self, pending: Pending) -> None:
        """See `Storage.check`."""
        check_hidden(self, pending)

    def complete(self, pending: Pending) -> None:
        """See `Storage.complete`."""

        def move() -> None:
            with _explained(pending.path, "publish"):
                _link(pending.upload, pending.path)
                Path(pending.upload).unlink(missing_ok=True)

        complete_hidden(self, pending, move)

    def abort(self, pending: Pending) -> None:
        """See `Storage.abort`."""
        with _explained(pending.upload, "delete"):
            Path(pending.upload).unlink(missing_ok=True)

    def sweep(self, folder: str) -> None:
        """See `Storage.sweep`."""
        with _explained(folder, "delete"):
            for path in self.leftovers(folder):
                Path(path).unlink(missing_ok=True)

    def leftovers(self, folder: str) -> list[str]:
        """See `Storage.leftovers`."""
        with _explained(folder, "list"):
            return [str(path) for path in Path(folder).rglob(f".*{_PENDING}")]

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        with _explained(path, "delete"):
            Path(path).unlink(missing_ok=True)

    def remove(self, folder: str) -> None:
        """See `Storage.remove`."""
        with _explained(folder, "delete"):
            # It ends where somebody else removes something in it at the same time, and the rest would stay.
            while Path(folder).exists():
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(folder)
