"""Input files that cannot be read: told apart from stores that do not answer, and set aside, each as a whole.

Splits of one file are scored on their own, so a split may have its receipt when another one meets a damaged page. A
file is then set aside by a mark, created if absent: who finds it there (the same run later, another driver of its id)
leaves the file out of every split. Of a split that has other files these are scored; of one that has none, nothing is
expected, and the receipt that it may have is not published. A mark is never taken back, and a damaged file is known by
its path and etag: put right, it is another file, which is no part of this run.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from etl.documents import Document, Strict, sha256_hex
from etl.errors import FileDamaged
from etl.redaction import redacted
from etl.runs.account import rows_by_footers
from etl.runs.read import RangeReader
from etl.runs.receipt import EMPTY, RowTally, SplitAccount
from etl.runs.splits import FileRange, InputFile
from etl.runs.storage import storage_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from etl.runs.layout import Layout
    from etl.runs.splits import Split
    from etl.runs.storage import Storage

__all__ = [
    "DamagedFile",
    "account_of_damaged",
    "damaged_files",
    "first_readable",
    "load_damaged",
    "mark_damaged",
    "without_files",
]

_THREADS = 4
_ROWS = 1 << 13
_NAME_DIGITS = 32
"""Digits of a digest in the name of a mark."""


class DamagedFile(Strict):
    """An input file that cannot be read."""

    file: InputFile = Field(description="Path, size and etag, as it was pinned.")
    rows: RowTally | None = Field(
        description="Rows of it that the run was to score, by its footer; None where nobody can tell."
    )
    reason: Annotated[str, AfterValidator(redacted)] = Field(
        description="What is wrong with it, and in which row group where that is known."
    )

    def __str__(self) -> str:
        """For a message."""
        rows = "rows unknown" if self.rows is None else f"{self.rows.rows:,} rows"
        return f"{self.file.path} ({self.file.bytes:,} bytes, {rows}): {self.reason}"


class DamageMark(Document):
    """Says that a file is no part of a run."""

    format: Literal["batchscore.damaged/1"] = "batchscore.damaged/1"
    run_id: str
    damaged: DamagedFile


def damaged_files(
    suspects: Iterable[Split], splits: Sequence[Split], columns: Sequence[str]
) -> tuple[DamagedFile, ...]:
    """Look again, from here, at the files of splits that a worker could not decode; those that are damaged.

    A host with bad memory would call every file damaged, so what a worker met has to be met a second time. `splits` are
    all of the run, `columns` those that are read.

    Raises:
        InputChanged: a file is not the one that was pinned.
        OSError: a store does not answer, so nobody can tell.
    """
    parts = [part for split in suspects for part in split.ranges]
    with ThreadPoolExecutor(_THREADS, "batchscore-damage") as threads:
        reasons = list(threads.map(partial(_reason, columns=columns), parts))
    found = {part.file.path: (part.file, reason) for part, reason in zip(parts, reasons, strict=True) if reason}
    return tuple(DamagedFile(file=file, rows=_rows(splits, file), reason=reason) for file, reason in found.values())


def _reason(part: FileRange, columns: Sequence[str]) -> str | None:
    """Why a range cannot be read; None where it can."""
    storage, path = storage_for(part.file.path)
    try:
        for _ in RangeReader(storage, part).batches(list(columns), _ROWS):
            pass
    except FileDamaged as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _rows(splits: Sequence[Split], file: InputFile) -> RowTally | None:
    try:
        return rows_by_footers([part for split in splits for part in split.ranges if part.file == file])
    except FileDamaged:
        return None


def mark_damaged(storage: Storage, layout: Layout, damaged: Iterable[DamagedFile]) -> None:
    """Set files aside for good; again is harmless, and the first to mark a file has the say in its reason."""
    for one in damaged:
        mark = DamageMark(run_id=layout.run_id, damaged=one)
        name = sha256_hex(one.file.path.encode())[:_NAME_DIGITS]
        storage.create_if_absent(f"{_folder(layout)}/{name}.json", mark.to_bytes())


def load_damaged(storage: Storage, layout: Layout) -> tuple[DamagedFile, ...]:
    """The files that were set aside, by path."""
    paths = [f"{_folder(layout)}/{name}" for name in storage.names(_folder(layout)) if name.endswith(".json")]
    with ThreadPoolExecutor(_THREADS, "batchscore-damage") as threads:
        marks = list(threads.map(partial(_mark, storage), paths))
    return tuple(sorted((mark.damaged for mark in marks if mark is not None), key=lambda one: one.file.path))


def _mark(storage: Storage, path: str) -> DamageMark | None:
    data = storage.read_bytes(path)
    return DamageMark.from_bytes(data, where=path) if data is not None else None


def _folder(layout: Layout) -> str:
    return f"{layout.state}/damaged"


def without_files(splits: tuple[Split, ...], damaged: Iterable[DamagedFile]) -> tuple[Split, ...]:
    """What is left of splits to score: their other files; a split that has none is not among them."""
    gone = {one.file.path for one in damaged}
    if not gone:
        return splits
    left = [(split, tuple(part for part in split.ranges if part.file.path not in gone)) for split in splits]
    return tuple(replace(split, ranges=ranges) for split, ranges in left if ranges)


def account_of_damaged(damaged: Iterable[DamagedFile]) -> SplitAccount:
    """Where the rows of damaged files went, as far as footers tell: rows in, and all of them quarantined."""
    rows = sum((one.rows for one in damaged if one.rows is not None), start=EMPTY)
    return SplitAccount(rows_in=rows, quarantined=rows)


def first_readable(files: Iterable[InputFile]) -> InputFile:
    """The first file whose footer can be read.

    Raises:
        FileDamaged: there is none; says so of the last one.
        InputChanged: see `etl.runs.read.open_parquet`.
    """
    last: FileDamaged | None = None
    for file in files:
        try:
            RangeReader(storage_for(file.path)[0], FileRange(file=file, start=0, end=file.bytes))
        except FileDamaged as error:
            last = error
        else:
            return file
    assert last is not None  # noqa: S101  a listing is never empty
    raise last
