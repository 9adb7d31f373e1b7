"""Files of key digests (`etl.keys`), and how many rows of a whole run repeat the key of another.

A worker writes the digests of a split in parts of some 500,000 rows, each cut by its leading bits into 2^b record
batches, empty ones too: batch `i` of a file is range `i` modulo 2^b, and the file's metadata say b. So one range can be
read from all files without the rest, and a run is counted range by range. Nothing is sorted before: that would cost a
worker four times as much, and save the driver little.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from etl.errors import AccountError, StorageError
from etl.runs.receipt import Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from etl.runs.storage import PendingWriter, Storage

__all__ = ["KEYS_HELD", "KEY_BYTES", "KeyWriter", "count_repeats"]

KEYS_HELD = 1 << 19
"""Digests that a worker holds before it writes them."""

KEY_BYTES = 16

_KEYS_AT_ONCE = 1 << 20
"""Digests that are counted together, about; with their temporaries they take at most 100 MiB."""

_THREADS = 4
"""Ranges that are counted at a time."""

_OPENED = 16
"""Files that are looked at at a time."""

_MOST_BITS = 8
_FEW_KEYS = 1 << 11
"""A record batch holds about so many or more, because to read fewer costs as much."""

_BITS = b"leading_bits"
_COLUMNS = ("high", "low")
_WORD = 64

_Keys: TypeAlias = "npt.NDArray[np.uint64]"
"""Digests; shape (2, keys)."""


class KeyWriter:
    """A pending Arrow IPC file of digests that begins with its first part, so that a split without rows leaves none."""

    def __init__(self, storage: Storage, path: str) -> None:
        """Nothing is created yet."""
        self._storage = storage
        self._path = path
        self._sink: PendingWriter | None = None
        self._writer: pa.RecordBatchFileWriter | None = None
        self._bits = 0
        self._buffer: list[_Keys] = []
        self._buffered = 0
        self.rows = 0

    def write(self, digests: _Keys) -> None:
        """Append the digests of some rows."""
        if not digests.shape[1]:
            return
        self._buffer.append(digests)
        self._buffered += digests.shape[1]
        self.rows += digests.shape[1]
        if self._buffered >= KEYS_HELD:
            self._flush()

    def _flush(self) -> None:
        keys = np.concatenate(self._buffer, axis=1)
        self._buffer, self._buffered = [], 0
        if self._writer is None:
            self._bits = min(_MOST_BITS, max(0, (keys.shape[1] // _FEW_KEYS).bit_length() - 1))
            schema = pa.schema(dict.fromkeys(_COLUMNS, pa.uint64()), {_BITS: str(self._bits)})
            self._sink = self._storage.begin(self._path)
            self._writer = pa.ipc.new_file(self._sink, schema)
        for words in _cut(keys, self._bits):
            self._writer.write_batch(pa.record_batch(words, names=_COLUMNS))

    def finish(self) -> Written | None:
        """Make the file durable; None when there was no row."""
        if self._buffered:
            self._flush()
        if self._writer is None or self._sink is None:
            return None
        self._writer.close()
        return Written(pending=self._sink.finish(), rows=self.rows)

    def abort(self) -> None:
        """Throw the file away."""
        if self._sink is not None:
            self._sink.abort()


def _cut(keys: _Keys, bits: int) -> Iterator[list[pa.Array]]:
    """Both words of the keys of each range."""
    # A shift by all 64 bits leaves nothing, in numpy.
    ranges = (keys[0] >> np.uint64(_WORD - bits)).astype(np.uint8)
    order = np.argsort(ranges, kind="stable")  # Of 8 bits that is by radix, and costs a tenth.
    sizes = np.bincount(ranges, minlength=1 << bits).tolist()
    words = [pa.array(half.take(order)) for half in keys]
    start = 0
    for size in sizes:
        yield [half.slice(start, size) for half in words]
        start += size


def count_repeats(storage: Storage, files: Sequence[Written], *, keys_at_once: int = _KEYS_AT_ONCE) -> int:
    """How many keys of these files together equal one before them: all of them less the distinct ones. Exact.

    It holds about `keys_at_once` distinct keys in each of a few threads, however many there are.

    Raises:
        PendingLost: a file is gone.
        StorageError: a file cannot be read now.
        AccountError: a file does not hold the keys that its receipt says.
    """
    with ThreadPoolExecutor(_OPENED) as threads:
        list(threads.map(lambda written: storage.check(written.pending), files))
    total = sum(written.rows for written in files)
    bits = (max(0, total - 1) // keys_at_once).bit_length()
    ranges = [_Range(number, bits) for number in range(1 << bits)]
    with ThreadPoolExecutor(_THREADS) as threads:
        counted = threads.map(lambda one: _count(_read(storage, files, one), keys_at_once), ranges)
        seen, distinct = (sum(numbers) for numbers in zip(*counted, strict=True))
    if seen != total:
        message = f"the files of keys hold {seen} rows, their receipts say {total}. Score under a new run id."
        raise AccountError(message)
    return int(total - distinct)


class _Range(NamedTuple):
    """All keys whose leading `bits` are `number`."""

    number: int
    bits: int

    def meets(self, other: _Range) -> bool:
        """Whether one holds the other."""
        shared = min(self.bits, other.bits)
        return self.number >> (self.bits - shared) == other.number >> (other.bits - shared)


def _read(storage: Storage, files: Sequence[Written], wanted: _Range) -> Iterator[_Keys]:
    """The keys of a range, in pieces."""
    for written in files:
        path = written.pending.path
        try:
            with storage.open_input(path) as source:
                file = pa.ipc.open_file(source)
                bits = int(file.schema.metadata[_BITS])
                for index in range(file.num_record_batches):
                    if wanted.meets(_Range(index % (1 << bits), bits)):
                        keys = np.stack([column.to_numpy() for column in file.get_batch(index).columns])
                        if bits < wanted.bits:
                            keys = keys[:, keys[0] >> np.uint64(_WORD - wanted.bits) == wanted.number]
                        yield keys
        except OSError as error:
            message = f"{path}: the keys of rows cannot be read: {error}. Run the same id again."
            raise StorageError(message) from error
        except pa.ArrowException as error:
            message = f"{path}: the keys of rows cannot be read back: {error}. Score under a new run id."
            raise AccountError(message) from error


def _count(pieces: Iterator[_Keys], most: int) -> tuple[int, int]:
    """How many keys there are, and how many distinct ones; repeats are dropped where there are well above `most`."""
    held: list[_Keys] = [np.empty((2, 0), dtype=np.uint64)]
    seen = count = 0
    for piece in pieces:
        held.append(piece)
        seen += piece.shape[1]
        count += piece.shape[1]
        if 4 * count > 5 * most:
            held = [_distinct(np.concatenate(held, axis=1))]
            count = held[0].shape[1]
            most = max(most, 2 * count)
    return seen, _distinct(np.concatenate(held, axis=1)).shape[1]


def _distinct(keys: _Keys) -> _Keys:
    """The keys, each once."""
    words = np.sort(keys[0])
    if (words[1:] != words[:-1]).all():
        # So it mostly is, and to sort them with their second words takes thrice as long.
        return keys
    del words
    order = np.argsort(keys[0])
    ordered = keys[:, order]
    again, alike = ordered[:, 1:] == ordered[:, :-1]
    if (again & ~alike).any():
        # Some differ in their second words alone, and may stand between others that do not.
        ordered = keys[:, np.lexsort(keys)]
        again = (ordered[:, 1:] == ordered[:, :-1]).all(axis=0)
    return ordered[:, np.concatenate([[True], ~again])]
