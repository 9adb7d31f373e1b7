"""What a task was doing when its process died: a small file on the host, written before each call of the model.

A crash of the runtime takes the process with it, and a hang has it killed. The next try of the task finds the file,
knows the rows of the call, and scores these in a process of their own. The write is one `pwrite` into the page cache,
which outlives the process though not the host. While its process lives the file is locked, so that a twin of the task
on the same host does not take it for a dead one's.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, NamedTuple

from etl.errors import StorageError
from scoring.private import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["Breadcrumb", "RowRange", "Suspects"]

_LENGTH = 8192
"""Bytes that the file has at the most."""
_KEPT_SECONDS = 7 * 86_400.0
"""So long a file waits for the next try of its task."""


class RowRange(NamedTuple):
    """Rows of one split that were in a call."""

    split: int
    """The split's number."""
    first: int
    """Place in the split of the first of them; see `etl.runs.read.ROW`."""
    last: int
    """Place in the split of the last of them."""


class Suspects(NamedTuple):
    """Rows that may have ended a process."""

    ranges: tuple[RowRange, ...] = ()
    everything: bool = False
    """Whether all rows are: a try before ended somewhere, and nothing here says where."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.everything or bool(self.ranges)

    def among(self, rows: Iterable[RowRange]) -> bool:
        """Whether one of these is."""
        return self.everything or any(
            found.split == suspect.split and found.first <= suspect.last and suspect.first <= found.last
            for found in rows
            for suspect in self.ranges
        )


class Breadcrumb:
    """The file of one task of a run on this host."""

    def __init__(self, folder: Path, root: str, run_id: str, *, task: int) -> None:
        """Open it, and take over what a try before has left.

        A twin of the task that runs on this host keeps the file to itself. Then, and where the host lets no file be
        made, the task goes without one.
        """
        digest = hashlib.sha256(json.dumps([root, run_id]).encode()).hexdigest()[:24]
        self._path = folder / f"{digest}-{task}"
        self._descriptor = _opened(self._path)
        told = None if self._descriptor is None else _ranges(os.pread(self._descriptor, _LENGTH, 0))
        self.is_known = told is not None
        """Whether a try before was here, and told what it was doing when it ended."""
        self.found: tuple[RowRange, ...] = told or ()
        """The rows that it, and those before it, called the model with when they died."""
        self._before = _text(self.found)

    def calling(self, rows: Sequence[RowRange]) -> None:
        """The model is about to be called with these."""
        if self._descriptor is not None:
            data = _text([*self.found, *rows])
            self._write(data if len(data) <= _LENGTH else _text(_spanned(rows)))

    def returned(self) -> None:
        """The call came back; whatever happens now is not its doing. What was found at the beginning stays."""
        if self._descriptor is not None:
            self._write(self._before)

    def _write(self, data: bytes) -> None:
        """Behind it is what is left of a longer one: who reads takes the first value."""
        assert self._descriptor is not None  # noqa: S101  whoever calls has looked
        try:
            os.pwrite(self._descriptor, data, 0)
        except OSError:
            # A full disk, say. A task goes on without its breadcrumb, and the next try suspects every row.
            os.close(self._descriptor)
            self._descriptor = None
            self._path.unlink(missing_ok=True)

    def close(self, *, is_done: bool) -> None:
        """The task has come to its end, and there is nothing to tell; or to another one that was not the model's doing.

        That is told to the next try, which else would have to suspect every row.
        """
        if self._descriptor is None:
            return
        if is_done:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
        else:
            self.returned()
        # Where the disk is full, to say so has closed it.
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def _opened(path: Path) -> int | None:
    """The file, locked; None where that cannot be. Files that nobody came back for are removed."""
    try:
        for folder in (path.parent.parent, path.parent):  # that of the cache, too, which may not be there yet
            private_folder(folder, instead="")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (OSError, StorageError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    for left in path.parent.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _KEPT_SECONDS:
                left.unlink()
    return descriptor


def _text(rows: Sequence[RowRange]) -> bytes:
    """JSON, put together by hand: it is written before each call."""
    return f"[{','.join([f'[{split},{first},{last}]' for split, first, last in rows])}]".encode()


def _ranges(data: bytes) -> tuple[RowRange, ...] | None:
    """What the file says; None where it is new, or was left half written."""
    try:
        found, _ = json.JSONDecoder().raw_decode(data.decode())
        return tuple(RowRange(*map(int, row)) for row in found)
    except (ValueError, TypeError):
        return None


def _spanned(rows: Sequence[RowRange]) -> list[RowRange]:
    """Of calls with rows of very many splits: the splits as a whole."""
    splits = sorted({row.split for row in rows})
    return [RowRange(split, 0, 2**63 - 1) for split in splits[: _LENGTH // 40]]
