"""Pinned input files, cut into splits by byte ranges from the listing alone.

A row group belongs to the range that holds its first byte, so a split is a fixed set of rows whatever the cluster does,
and planning 10,000 files opens none of them. (A DataFrame partition is not: with receipts keyed by partition, a resume
on other cores lost 299,853 rows and doubled as many while the count was exact.)

A split costs some 3 ms whatever is in it: a file of predictions, a receipt, and both forced to disk. Small files
therefore share one.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from etl.documents import STRICT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SPLIT", "FileRange", "InputFile", "Split", "cut_splits", "group_splits"]

_SHARED_BYTES = 4 << 20
"""Size of small files that share a split: what takes so long to read and score that the split itself costs little."""
_FEW_SPLITS = 128
"""So many splits stay where there are so many files: they are what keeps a cluster busy when the model is heavy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file of the input snapshot, pinned when the plan was made.

    It and what is made of it are no pydantic models but read by them: a driver holds one of each for every split, and
    models took 2,400 bytes of it where these take 680.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    path: str
    """Where the file is, in its store's own naming."""
    bytes: Annotated[int, Field(ge=0)]
    """Size in bytes."""
    etag: str
    """The store's token that changes when the bytes change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """A byte range of one pinned file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    file: InputFile
    """The pinned file."""
    start: Annotated[int, Field(ge=0)]
    """First byte of the range."""
    end: Annotated[int, Field(ge=0)]
    """One past the last byte of the range."""

    @property
    def bytes(self) -> int:
        """Length of the range in bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A byte range of one file, or a few small files whole: the unit of work, of receipts and of the row account."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    index: Annotated[int, Field(ge=0)]
    """Number of the split in the run, from 0; names its receipt."""
    ranges: Annotated[tuple[FileRange, ...], Field(min_length=1)]
    """What is read, in this order; each file once."""
    generation: Annotated[int, Field(ge=0)] = 0
    """How many of its receipts became void; see `etl.runs.voids`."""

    def __post_init__(self) -> None:
        """Rows are told apart by their file and their index in it.

        Raises:
            ValueError: a file is there twice.
        """
        if len({one.file.path for one in self.ranges}) < len(self.ranges):
            message = "a file is in a split once"
            raise ValueError(message)

    @property
    def bytes(self) -> int:
        """Length of its ranges in bytes."""
        return sum(one.bytes for one in self.ranges)

    @property
    def name(self) -> str:
        """The split's number, and generation from the second on, as file names carry it."""
        return f"{self.index:06d}.{self.generation}" if self.generation else f"{self.index:06d}"

    @property
    def where(self) -> str:
        """Its file, or its files, for a message."""
        first, more = self.ranges[0].file.path, len(self.ranges) - 1
        return f"{first} and {more} more, up to {self.ranges[-1].file.path}" if more else first


SPLIT = TypeAdapter(Split)
"""Reads and writes a split as JSON."""


def cut_splits(files: tuple[InputFile, ...], target_bytes: int, max_files: int = 1) -> tuple[Split, ...]:
    """Cut each file into equal ranges of about `target_bytes`; an empty listing gives no split.

    Up to `max_files` neighbours share a split where all of them are small, and many: see the constants above.
    """
    together = max(1, min(max_files, len(files) // _FEW_SPLITS))
    found: list[tuple[FileRange, ...]] = []
    for some in _neighbours(files, min(target_bytes, _SHARED_BYTES), together):
        found.extend(_cut(some[0], target_bytes) if len(some) == 1 else [_whole(some)])
    return tuple(Split(index=index, ranges=ranges) for index, ranges in enumerate(found))


def _neighbours(files: tuple[InputFile, ...], most_bytes: int, most_files: int) -> Iterator[list[InputFile]]:
    """Runs of files that are small together; one that is not small is alone."""
    some: list[InputFile] = []
    size = 0
    for file in files:
        if some and (len(some) == most_files or size + file.bytes > most_bytes):
            yield some
            some, size = [], 0
        some.append(file)
        size += file.bytes
    if some:
        yield some


def _whole(files: list[InputFile]) -> tuple[FileRange, ...]:
    return tuple(FileRange(file=file, start=0, end=file.bytes) for file in files)


def _cut(file: InputFile, target_bytes: int) -> Iterator[tuple[FileRange, ...]]:
    pieces = max(1, -(-file.bytes // target_bytes))
    borders = [file.bytes * piece // pieces for piece in range(pieces + 1)]
    for start, end in itertools.pairwise(borders):
        yield (FileRange(file=file, start=start, end=end),)


def group_splits(splits: tuple[Split, ...], *, task_bytes: int, parallelism: int) -> tuple[tuple[Split, ...], ...]:
    """Group splits into tasks: small ones share a task, but no core idles while there is a split for it.

    A PySpark task costs about 0.15 core-seconds whatever it does, so a task should hold `task_bytes` of work. The
    largest split goes first to the emptiest task (longest processing time rule), an empty one counting as one byte so
    that no task stays empty; the result depends on its arguments alone.
    """
    total = sum(split.bytes for split in splits)
    tasks = min(len(splits), max(-(-total // task_bytes), parallelism))
    loads = [(0, task) for task in range(tasks)]
    groups: list[list[Split]] = [[] for _ in range(tasks)]
    for split in sorted(splits, key=lambda split: (-split.bytes, split.index)):
        load, task = heapq.heappop(loads)
        groups[task].append(split)
        heapq.heappush(loads, (load + max(1, split.bytes), task))
    return tuple(tuple(sorted(group, key=lambda split: split.index)) for group in groups)
