"""A pending file on S3: a multipart upload, which nobody sees until somebody completes it."""

from __future__ import annotations

import hashlib
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from etl.runs.storage import PART_BYTES, Pending

if TYPE_CHECKING:
    from concurrent.futures import Future

    from typing_extensions import Buffer

    from etl.runs.s3_client import S3Client, S3Path

__all__ = ["MARK", "S3PendingWriter"]

_GROW_AFTER = 2_000
"""Parts of one size, before they are twice as large."""
MARK = "batchscore-mark"
"""Metadata that tells our object from another's under the same name."""
_AT_ONCE = 2
"""Parts on their way while the next one is written."""


class S3PendingWriter:
    """Parts go out as they fill. The digest is taken as bytes pass, so nothing is read twice."""

    def __init__(self, client: S3Client, place: S3Path) -> None:
        """Use `S3Storage.begin`."""
        self.closed = False
        self._client = client
        self._place = place
        self._mark = uuid.uuid4().hex
        self._upload = client.begin(place, {MARK: self._mark})
        self._buffer = bytearray()
        self._sent = 0
        self._going: deque[Future[str]] = deque()
        self._etags: list[str] = []
        self._threads = ThreadPoolExecutor(_AT_ONCE, "batchscore-upload")
        self._bytes = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: Buffer, /) -> int:
        """Append bytes; accepts any buffer."""
        view = memoryview(data).cast("B")
        self._sha256.update(view)
        self._bytes += view.nbytes
        self._buffer += view
        while len(self._buffer) >= self._part_bytes:
            size = self._part_bytes
            with memoryview(self._buffer) as whole:
                part = bytes(whole[:size])
            self._send(part)
            del self._buffer[:size]
        return view.nbytes

    @property
    def _part_bytes(self) -> int:
        return PART_BYTES << (self._sent // _GROW_AFTER)

    def _send(self, part: bytes) -> None:
        self._sent += 1
        self._going.append(self._threads.submit(self._client.send, self._place, self._upload, part, number=self._sent))
        while len(self._going) > _AT_ONCE:
            self._etags.append(self._going.popleft().result())

    def flush(self) -> None:
        """Nothing is promised before `finish`."""

    def close(self) -> None:
        """Nothing is promised before `finish`."""

    def finish(self) -> Pending:
        """Wait until the store has all parts."""
        if self._buffer or not self._sent:
            self._send(bytes(self._buffer))
            self._buffer.clear()
        while self._going:
            self._etags.append(self._going.popleft().result())
        self._threads.shutdown()
        self.closed = True
        return Pending(
            path=str(self._place),
            upload=f"{self._mark} {self._upload}",
            bytes=self._bytes,
            sha256=self._sha256.hexdigest(),
            parts=tuple(self._etags),
        )

    def abort(self) -> None:
        """Wait for the parts that are on their way, and throw the upload away."""
        self.closed = True
        self._threads.shutdown(cancel_futures=True)
        self._client.abort(self._place, self._upload)
