"""Pinned input files, cut into splits by byte ranges from the listing alone.

A row group belongs to the split whose range holds its first byte, so a split is a fixed set of rows whatever the
cluster does, and planning 10,000 files opens none of them. (A DataFrame partition is not: with receipts keyed by
partition, a resume on other cores lost 299,853 rows and doubled as many while the count was exact.)
"""

from __future__ import annotations

import heapq
import itertools

from pydantic import Field

from etl.documents import Strict

__all__ = ["InputFile", "Split", "cut_splits", "group_splits"]


class InputFile(Strict):
    """One file of the input snapshot, pinned when the plan was made."""

    path: str = Field(description="Where the file is, in its store's own naming.")
    bytes: int = Field(ge=0, description="Size in bytes.")
    etag: str = Field(description="The store's token that changes when the bytes change.")


class Split(Strict):
    """A byte range of one pinned file: the unit of work, of receipts and of the row account."""

    index: int = Field(ge=0, description="Number of the split in the run, from 0; names its receipt.")
    file: InputFile = Field(description="The pinned file.")
    start: int = Field(ge=0, description="First byte of the range.")
    end: int = Field(ge=0, description="One past the last byte of the range.")

    @property
    def bytes(self) -> int:
        """Length of the range in bytes."""
        return self.end - self.start

    @property
    def name(self) -> str:
        """The split's number as file names carry it."""
        return f"{self.index:06d}"


def cut_splits(files: tuple[InputFile, ...], target_bytes: int) -> tuple[Split, ...]:
    """Cut each file into equal ranges of about `target_bytes`; a small file is one split, an empty listing none."""
    splits: list[Split] = []
    for file in files:
        pieces = max(1, -(-file.bytes // target_bytes))
        borders = [file.bytes * piece // pieces for piece in range(pieces + 1)]
        for start, end in itertools.pairwise(borders):
            splits.append(Split(index=len(splits), file=file, start=start, end=end))
    return tuple(splits)


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
