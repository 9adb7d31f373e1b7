"""The row account of a run, checked split by split against footers that are read again from the pinned input."""

from __future__ import annotations

import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from types import MappingProxyType
from typing import TYPE_CHECKING

from etl.errors import AccountError
from etl.runs.digest import digest_of_ranges, file_seed
from etl.runs.read import RangeReader, check_all_pinned
from etl.runs.receipt import RowTally, SplitAccount
from etl.runs.storage import storage_for

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from concurrent.futures import Future

    from etl.runs.read import RowGroup
    from etl.runs.receipt import Receipt
    from etl.runs.splits import FileRange, Split

__all__ = ["counting_rows", "rows_by_footers", "settle"]

_THREADS = 16
_SHOWN = 5


@contextlib.contextmanager
def counting_rows(splits: tuple[Split, ...]) -> Generator[dict[int, RowTally]]:
    """Count the rows of splits by their footers while something else goes on; those that were counted by its end.

    Nothing is waited for, and no error comes out: `settle` counts what is not there, and says why it cannot.
    """
    found: dict[int, RowTally] = {}
    threads = _threads(splits)
    counted: dict[int, Future[RowTally]] = {}
    try:
        for split in splits:
            counted[split.index] = threads.submit(rows_by_footers, split.ranges)
        yield found
    finally:
        # Not `wait=True`: a signal may have come before a thread was started, and such a one cannot be joined.
        threads.shutdown(wait=False, cancel_futures=True)
        wait([one for one in counted.values() if not one.cancelled()])
        done = {index: one for index, one in counted.items() if not one.cancelled() and one.exception() is None}
        found.update((index, one.result()) for index, one in done.items())


def settle(
    splits: tuple[Split, ...],
    receipts: Iterable[Receipt],
    *,
    counted: Mapping[int, RowTally] = MappingProxyType({}),
) -> SplitAccount:
    """Check that every row of every split went to exactly one place; the account of the whole run.

    `counted` are rows of splits as `counting_rows` found them: of these only the pins are looked at again.

    Raises:
        AccountError: a split has no receipt or several, or its rows do not add up; names the splits.
        InputChanged, FileDamaged: see `etl.runs.read.open_parquet`.
    """
    check_all_pinned(part.file for split in splits if split.index in counted for part in split.ranges)
    with _threads(splits) as threads:
        counts = threads.map(lambda split: counted.get(split.index) or rows_by_footers(split.ranges), splits)
        expected = {split.index: (split, rows_in) for split, rows_in in zip(splits, counts, strict=True)}
    problems: list[str] = []
    seen: Counter[int] = Counter()
    total = SplitAccount()
    for receipt in receipts:
        seen[receipt.split] += 1
        if receipt.split in expected:
            problems.extend(_problems(*expected[receipt.split], receipt))
            total += receipt.account
    problems = [*_strays(splits, seen), *problems]
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        message = f"The row account does not add up, nothing was published: {'; '.join(problems[:_SHOWN])}{more}."
        raise AccountError(message)
    return total


def _threads(splits: tuple[Split, ...]) -> ThreadPoolExecutor:
    """What is on a local disk is there at once: 16 threads wait for each other, and take twice as long as one."""
    paths = [split.ranges[0].file.path for split in splits[:1]]
    is_near = all(storage_for(path)[0].local_path(path) is not None for path in paths)
    return ThreadPoolExecutor(1 if is_near else _THREADS, "batchscore-account")


def _strays(splits: tuple[Split, ...], seen: Counter[int]) -> list[str]:
    """Receipts whose rows would be published beside the ones that are accounted for, and splits that have none."""
    known = {split.index for split in splits}
    found = [f"split {index:06d} has a receipt, but is not in the plan" for index in sorted(seen.keys() - known)]
    found.extend(f"split {index:06d} has {count} receipts" for index, count in sorted(seen.items()) if count > 1)
    found.extend(f"split {split.name} of {split.where} has no receipt" for split in splits if not seen[split.index])
    return found


def rows_by_footers(ranges: Iterable[FileRange]) -> RowTally:
    """The rows of ranges of pinned files, by their footers.

    Raises:
        InputChanged, FileDamaged: see `etl.runs.read.open_parquet`.
    """
    runs = [(file_seed(part.file.path), group.first_row, group.rows) for part in ranges for group in _row_groups(part)]
    return RowTally.of(sum(rows for _, _, rows in runs), digest_of_ranges(runs))


def _row_groups(part: FileRange) -> tuple[RowGroup, ...]:
    """On another machine a small file costs one request, and its footer alone three."""
    storage, path = storage_for(part.file.path)
    return RangeReader(storage, part, at_once=storage.local_path(path) is None).row_groups


def _problems(split: Split, rows_in: RowTally, receipt: Receipt) -> list[str]:
    account = receipt.account
    found = []
    if account.rows_in != rows_in:
        read, there = (f"{tally.rows} rows (digest {tally.digest})" for tally in (account.rows_in, rows_in))
        found.append(f"split {split.name} read {read}, its footer has {there}")
    if not account.adds_up:
        scored, quarantined, filtered = account.scored, account.quarantined, account.filtered
        parts = f"{scored.rows} scored + {quarantined.rows} quarantined + {filtered.rows} filtered"
        gone = scored + quarantined + filtered
        same = ", which are not the same rows by their digests" if gone.rows == account.rows_in.rows else ""
        found.append(f"split {split.name}: {account.rows_in.rows} rows in, {parts}{same}")
    by_model = sum(tally.rows for tally in receipt.by_model.values())
    aside = (receipt.quarantine,) if receipt.quarantine else ()
    for what, files, rows in (
        ("scored", receipt.predictions, by_model if receipt.by_variant else account.scored.rows),
        ("quarantined", aside, account.quarantined.rows),
    ):
        written = sum(file.rows for file in files)
        if written != rows:
            found.append(f"split {split.name}: {rows} rows {what}, its file has {written}")
    return found
