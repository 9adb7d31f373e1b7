"""Files of a store that is no local disk, fetched once per host: workers of all jobs of a user share them.

A folder of files named by their SHA-256. What is in it is a copy of what lies elsewhere, so it may be removed at any
time, while workers run too. Locks are the system's own (`flock`): they end with the process that holds them,
so one that was killed blocks nobody, and what it left half done has a fixed name and is written anew. A file that a
worker has mapped is held by a shared lock as long as the map lives; who makes room passes over it.

The folder has to be on a disk of the host, which network file systems are not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from etl.documents import sha256_hex
from etl.errors import StorageError
from scoring.bundles.files import MAP_ABOVE, WINDOW, FileDigest, MappedFile, read_file, sha256_of
from scoring.private import private_folder

if TYPE_CHECKING:
    import mmap
    from collections.abc import Generator, Mapping

    from etl.runs.storage import Storage

__all__ = ["HostCache", "content_of", "host_cache"]

FOLDER, BUDGET = "BATCHSCORE_CACHE", "BATCHSCORE_CACHE_BYTES"
"""Variables of the worker's environment."""
INSTEAD = f"So models are not kept here: remove it, or set {FOLDER} to another folder."
"""What is said of a folder that others may write in."""
DEFAULT_BUDGET = 20 << 30
"""Bytes that the cache may take of the disk."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


class HostCache(NamedTuple):
    """Where fetched files lie on this host, and how many bytes of them."""

    folder: Path
    budget: int = DEFAULT_BUDGET

    def content(self, storage: Storage, path: str, expected: FileDigest) -> bytes | mmap.mmap | None:
        """What a file of a store holds; None where the store's file is not the expected one.

        The store is read only if no process of this host has done so before. What the cache has is hashed like any
        other file: a damaged copy is thrown away and fetched again, once.

        Raises:
            StorageError: the cache cannot be used, or has no room.
            OSError: the store's own.
        """
        with self._explained():
            self._prepare()
            for _ in range(2):
                with self._locked(self._lock_of(expected.sha256)):
                    descriptor = self._opened(expected)
                    if descriptor is None:
                        if not self._fetch(storage, path, expected):
                            return None
                        descriptor = self._opened(expected)
                # Hashed outside the lock: others need not wait, and a lock shared on the file itself keeps it here.
                found = self._checked(descriptor, expected)
                if found is not None:
                    return found
        message = f"{self._place(expected)}: is damaged again as soon as it is written. Check the disk."
        raise StorageError(message)

    def _place(self, expected: FileDigest) -> Path:
        return self.folder / "files" / expected.sha256

    def _lock_of(self, name: str) -> str:
        """One of 256 locks: there are no more of them however many files come and go."""
        return sha256_hex(name.encode())[:2]

    def _prepare(self) -> None:
        """Make the folder, the user's own."""
        private_folder(self.folder, instead=INSTEAD)
        for name in ("files", "partial", "locks"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Generator[None]:
        descriptor = os.open(self.folder / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            # A child that was forked meanwhile has the lock too: to close it here would not be enough.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _opened(self, expected: FileDigest) -> int | None:
        """The file, open and held against removal, and noted as used now; None where it is not here."""
        try:
            descriptor = os.open(self._place(expected), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        now = time.time_ns()
        with contextlib.suppress(OSError):
            os.utime(descriptor, ns=(now, now))
        return descriptor

    def _checked(self, descriptor: int | None, expected: FileDigest) -> bytes | mmap.mmap | None:
        """The content of an open file, which is closed; a map goes on to hold it. None where it is damaged."""
        if descriptor is None:
            return None
        content: bytes | mmap.mmap = b""
        with os.fdopen(descriptor, "rb") as file:
            is_whole = os.fstat(descriptor).st_size == expected.bytes
            if is_whole:
                is_large = expected.bytes > MAP_ABOVE
                content = MappedFile.of(descriptor, str(self._place(expected))) if is_large else file.read()
            if is_whole and sha256_of(content) == expected.sha256:
                return content
            here = _facts(self._place(expected))
            if here is not None and here.st_ino == os.fstat(descriptor).st_ino:
                self._place(expected).unlink(missing_ok=True)
        return None

    def _fetch(self, storage: Storage, path: str, expected: FileDigest) -> bool:
        """Copy a file and give it its name once it is whole; False where it is not the expected one."""
        partial = self.folder / "partial" / expected.sha256
        try:
            self._reserve(partial, expected)
            total = hashlib.sha256()
            size = 0
            with partial.open("r+b") as file:
                for piece in _pieces(storage, path):
                    size += len(piece)
                    if size > expected.bytes:
                        return False
                    total.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            if size != expected.bytes or total.hexdigest() != expected.sha256:
                return False
            partial.chmod(0o400)
            partial.rename(self._place(expected))
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _reserve(self, partial: Path, expected: FileDigest) -> None:
        """Make room for a file, and take the room."""
        with self._locked("room"):
            self._make_room(expected)
            partial.unlink(missing_ok=True)
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                # At once, so that others reckon with it, and a full disk is known before hours of copying.
                if expected.bytes:
                    os.posix_fallocate(descriptor, 0, expected.bytes)
            except OSError as error:
                if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
                    raise
                os.truncate(descriptor, expected.bytes)
            finally:
                os.close(descriptor)

    def _make_room(self, expected: FileDigest) -> None:
        """Remove what was used longest ago and is not in use, until the file fits."""
        self._sweep()
        used = {path: facts for path in self._files() if (facts := _facts(path)) is not None}
        total = expected.bytes + sum(facts.st_size for facts in used.values())
        for path in sorted(used, key=lambda path: used[path].st_mtime_ns):
            if total <= self.budget:
                return
            if path.parent.name == "files" and _removed(path):
                total -= used[path].st_size
        if total > self.budget:
            message = (
                f"{self.folder}: a file of {expected.bytes:,} bytes does not fit: {total - expected.bytes:,} bytes of "
                f"models are in use, and {self.budget:,} are allowed. Set {BUDGET} higher, or run fewer models at once."
            )
            raise StorageError(message)

    def _sweep(self) -> None:
        """Remove what killed processes left half done: nobody holds its lock."""
        for partial in (self.folder / "partial").iterdir():
            lock = self.folder / "locks" / self._lock_of(partial.name)
            with contextlib.suppress(FileNotFoundError), lock.open("rb") as file, contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                partial.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [path for name in ("files", "partial") for path in (self.folder / name).iterdir()]

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        """Turn the refusals of the cache's own folder into errors that say what to do; a store's are left alone."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                message = f"{self.folder}: no space left for models. Free some, or set {FOLDER} to another disk."
                raise StorageError(message) from error
            if isinstance(error, (PermissionError, NotADirectoryError, FileExistsError)) or error.errno == errno.EROFS:
                message = (
                    f"{self.folder}: models cannot be kept here: {error.strerror}. Set {FOLDER} to another folder."
                )
                raise StorageError(message) from error
            raise


def _pieces(storage: Storage, path: str) -> Generator[bytes]:
    """A file of a store; what the store refuses is not taken for a refusal of the cache's folder."""
    try:
        with storage.open_input(path) as source:
            while piece := source.read(WINDOW):
                yield piece
    except OSError as error:
        message = f"{path}: cannot be fetched: {error}."
        raise StorageError(message) from error


def _facts(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _removed(path: Path) -> bool:
    """Remove a file that no process holds."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


def content_of(storage: Storage, path: str, expected: FileDigest) -> bytes | mmap.mmap | None:
    """What a file holds, which was looked at before and has the expected size; None where it has another digest.

    A large file is mapped: where it lies if that is a disk of this host, else in the cache.

    Raises:
        OSError: it cannot be read; of a missing one FileNotFoundError.
        StorageError: it cannot be read, or the cache cannot be used.
    """
    place = storage.local_path(path)
    if place is None:
        return host_cache().content(storage, path, expected)
    content = read_file(place) if expected.bytes > MAP_ABOVE else storage.read_bytes(path)
    if content is None:
        raise FileNotFoundError(path)
    return content if sha256_of(content) == expected.sha256 else None


def host_cache(environment: Mapping[str, str] | None = None) -> HostCache:
    """The user's cache on this host, as the environment says.

    In `BATCHSCORE_CACHE`, else in the user's folder for caches (`XDG_CACHE_HOME`, `~/.cache`), or in the folder for
    temporary files where the user has none that can be written to, as in many containers.

    Raises:
        StorageError: the budget is no number of bytes.
    """
    given = os.environ if environment is None else environment
    budget = given.get(BUDGET, str(DEFAULT_BUDGET))
    if not budget.isdecimal() or not int(budget):
        message = f"{BUDGET} is {budget!r}, and should be a number of bytes, e.g. {DEFAULT_BUDGET}."
        raise StorageError(message)
    return HostCache(_parent(given) / f"batchscore-{os.geteuid()}", int(budget))


def _parent(given: Mapping[str, str]) -> Path:
    if named := given.get(FOLDER):
        return Path(named).absolute()
    usual = [Path(given["XDG_CACHE_HOME"])] if given.get("XDG_CACHE_HOME") else []
    usual += [Path(given["HOME"]) / ".cache"] if given.get("HOME") else []
    return next((folder for folder in usual if _may_be_made(folder)), Path(tempfile.gettempdir()))


def _may_be_made(folder: Path) -> bool:
    """Whether the folder is there and can be written to, or its parent is and can."""
    nearest = folder if folder.exists() else folder.parent
    return folder.is_absolute() and nearest.is_dir() and os.access(nearest, os.W_OK)
