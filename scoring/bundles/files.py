"""Files of a bundle on this host: small ones as bytes, large ones as a map of the file, and the digest of either.

A mapped file lies in the system's page cache, once for all processes of a host, and its pages are taken back when
memory is short. What was hashed is what is read later: the map stays on the same file, whatever its name comes to mean.
Only who writes into that very file can change it under a reader, and that is looked for after a model was loaded.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from etl.documents import Strict, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

__all__ = ["MAP_ABOVE", "FileDigest", "MappedFile", "is_safe_name", "read_file", "sha256_of"]

MAP_ABOVE = 16 << 20
"""Bytes above which a file is mapped: below, a copy costs less than the pages and the open file of a map."""

WINDOW = 16 << 20
"""Bytes that are hashed or copied at a time, a multiple of every page size."""


_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class FileDigest(Strict):
    """A file of a bundle."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="The cache of a host names files by it.")


class MappedFile(mmap.mmap):
    """A file that is read through a map of it, and cannot be written through it."""

    path: str
    """Its name when it was mapped."""
    _found: tuple[int, int, int, int]

    @classmethod
    def of(cls, descriptor: int, path: str) -> Self:
        """Map an open file, which may be closed then; it has one byte at least."""
        mapped = cls(descriptor, 0, access=mmap.ACCESS_READ)
        mapped.path = path
        mapped._found = _identity(os.fstat(descriptor))
        return mapped

    def was_written(self) -> bool:
        """Whether somebody wrote into the mapped file since. One that was removed or replaced is whole in the map."""
        try:
            now = _identity(os.stat(self.path))  # noqa: PTH116  the path is text already
        except OSError:
            return False
        return now[:2] == self._found[:2] and now != self._found

    def let_go(self) -> None:
        """Give the pages back to the system's cache; who reads again gets them from there, or from the disk."""
        self.madvise(mmap.MADV_DONTNEED)


def _identity(facts: os.stat_result) -> tuple[int, int, int, int]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def is_safe_name(name: str) -> bool:
    """Whether a file's name stays in its folder, is not hidden, and means the same on every system."""
    return _SAFE_NAME.fullmatch(name) is not None


def read_file(path: str) -> bytes | mmap.mmap:
    """A file of this host: its bytes, or a map of it where it is large.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size > MAP_ABOVE:
            return MappedFile.of(file.fileno(), path)
        return file.read()


def _windows(data: bytes | mmap.mmap) -> Iterator[memoryview]:
    """The content in pieces; pages of a map are let go behind each, so that no more than one of them is resident."""
    with memoryview(data) as whole:
        for start in range(0, len(whole), WINDOW):
            with whole[start : start + WINDOW] as piece:
                yield piece
                if isinstance(data, mmap.mmap):
                    data.madvise(mmap.MADV_DONTNEED, start, piece.nbytes)


def sha256_of(data: bytes | mmap.mmap) -> str:
    """Lower-case hexadecimal SHA-256 of a file's content."""
    if isinstance(data, bytes):
        return sha256_hex(data)
    total = hashlib.sha256()
    for piece in _windows(data):
        total.update(piece)
    return total.hexdigest()
