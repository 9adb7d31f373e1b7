"""The row account of a run, checked split by split against footers that are read again from the pinned input."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from etl.errors import AccountError
from etl.runs.digest import digest_of_range, file_seed
from etl.runs.read import SplitReader
from etl.runs.receipt import EMPTY, RowTally, SplitAccount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etl.runs.receipt import Receipt
    from etl.runs.splits import Split
    from etl.runs.storage import Storage

__all__ = ["settle"]

_THREADS = 16
_SHOWN = 5


def settle(storage: Storage, splits: tuple[Split, ...], receipts: Iterable[Receipt]) -> SplitAccount:
    """Check that every row of every split went to exactly one place; the account of the whole run.

    Raises:
        AccountError: a split has no receipt or several, or its rows do not add up; names the splits.
    """
    receipts = list(receipts)
    by_split = {receipt.split: receipt for receipt in receipts}
    with ThreadPoolExecutor(_THREADS) as threads:
        expected = list(threads.map(lambda split: _rows_in(storage, split), splits))
    problems = _strays(splits, receipts)
    total = SplitAccount()
    for split, rows_in in zip(splits, expected, strict=True):
        receipt = by_split.get(split.index)
        if receipt is None:
            problems.append(f"split {split.name} of {split.file.path} has no receipt")
            continue
        problems.extend(_problems(split, rows_in, receipt))
        total += receipt.account
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        message = f"The row account does not add up, nothing was published: {'; '.join(problems[:_SHOWN])}{more}."
        raise AccountError(message)
    return total


def _strays(splits: tuple[Split, ...], receipts: list[Receipt]) -> list[str]:
    """Receipts whose rows would be published beside the ones that are accounted for."""
    known = {split.index for split in splits}
    counts = Counter(receipt.split for receipt in receipts)
    found = [f"split {index:06d} has a receipt, but is not in the plan" for index in sorted(counts.keys() - known)]
    found.extend(f"split {index:06d} has {count} receipts" for index, count in sorted(counts.items()) if count > 1)
    return found


def _rows_in(storage: Storage, split: Split) -> RowTally:
    seed = file_seed(split.file.path)
    tally = EMPTY
    for group in SplitReader(storage, split).row_groups:
        tally += RowTally.of(group.rows, digest_of_range(seed, group.first_row, group.rows))
    return tally


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
    for what, written, rows in (
        ("scored", receipt.predictions, by_model if receipt.by_variant else account.scored.rows),
        ("quarantined", receipt.quarantine, account.quarantined.rows),
    ):
        if (written.rows if written else 0) != rows:
            found.append(f"split {split.name}: {rows} rows {what}, its file has {written.rows if written else 0}")
    return found
