"""Settling a run: every row went to exactly one place, or it is told which split is wrong."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.errors import AccountError, InputChanged
from etl.runs.account import counting_rows, settle
from etl.runs.local import LocalStorage
from etl.runs.read import RangeReader
from etl.runs.splits import Split, cut_splits
from tests.spine.builders import STORE, pin, receipt_of, tally, write_groups

if TYPE_CHECKING:
    from etl.runs.receipt import Receipt
    from etl.runs.splits import InputFile

ROWS = 25


@pytest.fixture
def splits(tmp_path: Path) -> tuple[Split, ...]:
    """Splits of two files with four row groups each, some of them empty."""
    paths = [tmp_path / f"part-{number}.parquet" for number in range(2)]
    for path in paths:
        write_groups(path, [ROWS, ROWS, 0, ROWS])
    files = tuple(pin(path) for path in paths)
    return cut_splits(files, files[0].bytes // 5)


def rows_of(split: Split) -> list[int]:
    """Indexes of a split's rows in its file."""
    groups = RangeReader(STORE, split.ranges[0]).row_groups
    return [row for group in groups for row in range(group.first_row, group.first_row + group.rows)]


def good_receipts(splits: tuple[Split, ...]) -> dict[int, Receipt]:
    """Receipts by split that account for every row: scored, a few quarantined, a few filtered."""
    receipts = {}
    for split in splits:
        rows = rows_of(split)
        receipts[split.index] = receipt_of(split, scored=rows[5:], quarantined=rows[:3], filtered=rows[3:5])
    return receipts


def full(splits: tuple[Split, ...]) -> Split:
    """The first split that has rows."""
    return next(split for split in splits if rows_of(split))


def refused(splits: tuple[Split, ...], receipts: dict[int, Receipt]) -> str:
    """What `settle` says of receipts that it refuses."""
    with pytest.raises(AccountError, match=r"^The row account does not add up, nothing was published: ") as caught:
        settle(splits, receipts.values())
    return str(caught.value)


def test_a_whole_account_is_settled(splits: tuple[Split, ...]) -> None:
    """Receipts that account for every row give the account of the run, in whatever order they come."""
    receipts = list(good_receipts(splits).values())
    total = settle(splits, receipts[::-1])
    assert total.adds_up
    assert total.rows_in.rows == 2 * 3 * ROWS
    groups = [len(rows_of(split)) for split in splits if rows_of(split)]
    assert total.quarantined.rows == 3 * len(groups)
    assert total.filtered.rows == 2 * len(groups)


def test_no_splits_have_an_empty_account() -> None:
    """A run without splits settles with no rows."""
    assert settle((), []).rows_in.rows == 0


def test_a_missing_receipt_is_found(splits: tuple[Split, ...]) -> None:
    """A split without a receipt is named with its file, also one without rows."""
    for missing in (full(splits), next(split for split in splits if not rows_of(split))):
        receipts = good_receipts(splits)
        del receipts[missing.index]
        assert f"split {missing.name} of {missing.where} has no receipt" in refused(splits, receipts)


def test_a_lost_row_is_found(splits: tuple[Split, ...]) -> None:
    """A row that was read and went nowhere is found by the count."""
    split = full(splits)
    rows = rows_of(split)
    receipts = good_receipts(splits) | {split.index: receipt_of(split, scored=rows[1:], rows_in=rows)}
    message = refused(splits, receipts)
    assert f"split {split.name}: {ROWS} rows in, {ROWS - 1} scored + 0 quarantined + 0 filtered" in message
    assert "footer" not in message


def test_a_row_that_was_not_read_is_found(splits: tuple[Split, ...]) -> None:
    """A row that the footer has and the worker did not read is found, although the receipt adds up in itself."""
    split = full(splits)
    receipts = good_receipts(splits) | {split.index: receipt_of(split, scored=rows_of(split)[:-1])}
    message = refused(splits, receipts)
    assert re.search(rf"split {split.name} read {ROWS - 1} rows \(digest \w+\), its footer has {ROWS} rows", message)


def test_a_doubled_row_is_found(splits: tuple[Split, ...]) -> None:
    """A row that went to two places is found."""
    split = full(splits)
    rows = rows_of(split)
    receipts = good_receipts(splits) | {split.index: receipt_of(split, scored=rows, quarantined=rows[:1], rows_in=rows)}
    assert f"{ROWS} rows in, {ROWS} scored + 1 quarantined + 0 filtered" in refused(splits, receipts)


def test_a_lost_row_behind_a_doubled_one_is_found(splits: tuple[Split, ...]) -> None:
    """A lost row that is balanced by a doubled one is found by the digest, although every count is right."""
    split = full(splits)
    rows = rows_of(split)
    receipt = receipt_of(split, scored=[*rows[1:], rows[1]], rows_in=rows)
    assert receipt.account.rows_in.rows == receipt.account.scored.rows
    message = refused(splits, good_receipts(splits) | {split.index: receipt})
    assert f"{ROWS} scored + 0 quarantined + 0 filtered, which are not the same rows by their digests" in message


def test_rows_read_twice_are_found(splits: tuple[Split, ...]) -> None:
    """A receipt that adds up in itself over other rows than the split's is found, although every count is right."""
    split = full(splits)
    rows = rows_of(split)
    receipts = good_receipts(splits) | {split.index: receipt_of(split, scored=[*rows[1:], rows[1]])}
    assert f"split {split.name} read {ROWS} rows" in refused(splits, receipts)


@pytest.mark.parametrize("other_file", [False, True])
def test_swapped_splits_are_found(splits: tuple[Split, ...], *, other_file: bool) -> None:
    """Two receipts of equal counts under each other's numbers are found, in one file and across files."""
    left = full(splits)
    right = next(
        split for split in splits if rows_of(split) and (split.where != left.where) == other_file and split != left
    )
    receipts = good_receipts(splits)
    receipts[left.index], receipts[right.index] = (
        receipts[right.index].model_copy(update={"split": left.index}),
        receipts[left.index].model_copy(update={"split": right.index}),
    )
    message = refused(splits, receipts)
    assert f"split {left.name} read" in message
    assert f"split {right.name} read" in message


def test_a_receipt_too_many_is_found(splits: tuple[Split, ...]) -> None:
    """A second receipt of a split, or one of a split that is not in the plan, is found: its file would be published."""
    receipts = list(good_receipts(splits).values())
    stray = receipts[0].model_copy(update={"split": 999})
    with pytest.raises(AccountError, match="split 000999 has a receipt, but is not in the plan"):
        settle(splits, [*receipts, stray])
    with pytest.raises(AccountError, match=f"split {full(splits).name} has 2 receipts"):
        settle(splits, [*receipts, receipts[full(splits).index]])


@pytest.mark.parametrize("what", ["predictions", "quarantine"])
@pytest.mark.parametrize("change", [-1, 1, None])
def test_a_file_of_other_rows_than_the_tally_is_found(splits: tuple[Split, ...], what: str, change: int | None) -> None:
    """A file with more or fewer rows than were counted, or that is not there, is found."""
    split = full(splits)
    receipt = good_receipts(splits)[split.index]
    written = receipt.predictions[0] if what == "predictions" else receipt.quarantine
    assert written is not None
    other = None if change is None else written.model_copy(update={"rows": written.rows + change})
    rows = other.rows if other else 0
    found = tuple(filter(None, [other])) if what == "predictions" else other
    message = refused(splits, good_receipts(splits) | {split.index: receipt.model_copy(update={what: found})})
    kind = {"predictions": "scored", "quarantine": "quarantined"}[what]
    assert f"split {split.name}: {written.rows} rows {kind}, its file has {rows}" in message


def test_many_problems_are_counted(splits: tuple[Split, ...]) -> None:
    """Of many problems the first few are told, and how many more there are."""
    message = refused(splits, {})
    assert message.count("has no receipt") == 5
    assert message.endswith(f" and {len(splits) - 5} more.")


def test_an_input_that_changed_after_scoring_is_told(splits: tuple[Split, ...]) -> None:
    """A run whose input was replaced after it was scored is not settled."""
    receipts = good_receipts(splits)
    write_groups(Path(splits[0].where), [1])
    with pytest.raises(InputChanged, match=splits[0].where):
        settle(splits, receipts.values())


def test_rows_that_were_counted_while_tasks_ran_settle_alike(splits: tuple[Split, ...]) -> None:
    """Rows counted beforehand are what the receipts are compared with, and the pins are looked at again."""
    receipts = good_receipts(splits)
    counted = {split.index: tally(split.where, rows_of(split)) for split in splits}
    assert settle(splits, receipts.values(), counted=counted) == settle(splits, receipts.values())
    wrong = counted | {full(splits).index: tally(full(splits).where, [1])}
    with pytest.raises(AccountError, match=f"split {full(splits).name} read {ROWS} rows"):
        settle(splits, receipts.values(), counted=wrong)
    write_groups(Path(splits[0].where), [1])
    with pytest.raises(InputChanged, match=splits[0].where):
        settle(splits, receipts.values(), counted=counted)


def test_what_cannot_be_counted_is_told_when_it_is_settled(splits: tuple[Split, ...]) -> None:
    """A file that is gone while rows are counted hinders nobody who scores; settling names it."""
    receipts = good_receipts(splits)
    Path(splits[0].where).unlink()
    with counting_rows(splits) as counted:
        pass
    assert counted.keys() <= {split.index for split in splits if split.where != splits[0].where}
    with pytest.raises(InputChanged, match=f"{splits[0].where}: was removed"):
        settle(splits, receipts.values(), counted=counted)


def test_nothing_is_waited_for_when_counting_ends(splits: tuple[Split, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not counted when the block ends is left to `settle`, but for the footer that is being read."""
    looked: list[str] = []
    go_on = threading.Event()

    at_once = LocalStorage.stat

    def slowly(store: LocalStorage, path: str) -> InputFile | None:
        looked.append(path)
        go_on.wait(60)
        return at_once(store, path)

    monkeypatch.setattr(LocalStorage, "stat", slowly)
    with counting_rows(splits) as counted:
        threading.Timer(0.5, go_on.set).start()
    assert len(looked) <= 1
    assert len(counted) <= 1
    receipts = good_receipts(splits)
    assert settle(splits, receipts.values(), counted=counted) == settle(splits, receipts.values())


def test_counting_ends_with_what_fails_beside_it(splits: tuple[Split, ...]) -> None:
    """An error beside the counting comes out as it is."""
    with pytest.raises(ZeroDivisionError), counting_rows(splits):
        raise ZeroDivisionError


def test_the_oracle_is_another_implementation(splits: tuple[Split, ...]) -> None:
    """The digests of these tests come from the xxhash library, and a tally of no rows is empty."""
    assert tally(splits[0].where, []).digest == "0" * 16
