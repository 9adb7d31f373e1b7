"""How many rows of a run repeat the key of another: counted once, from the digests that its workers wrote, and kept.

The digests are made of values that may be personal data, so they are removed as soon as the counts are stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from etl.documents import Document
from etl.errors import AccountError, EtlError, PendingLost, ReceiptsVoid
from etl.expectations import unique_columns
from etl.runs.keys import count_repeats
from etl.runs.receipt import Tally

if TYPE_CHECKING:
    from collections.abc import Collection

    from etl.runs.receipt import Receipt, Written
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

__all__ = ["Repeats", "count_run", "load_repeats"]

_INFERENCE = "inference/"


class Repeats(Document):
    """What was counted for the `unique` expectations of a run."""

    format: Literal["batchscore.repeats/1"] = "batchscore.repeats/1"
    run_id: str
    tallies: dict[str, Tally]
    """By id: all rows but the first of each key, and all rows."""


def load_repeats(target: Target) -> dict[str, Tally] | None:
    """The stored counts of a run, or None before it has counted."""
    data = target.storage.read_bytes(target.layout.repeats)
    return Repeats.from_bytes(data, where=target.layout.repeats).tallies if data is not None else None


def count_run(target: Target, plan: Plan, receipts: Collection[Receipt]) -> dict[str, Tally]:
    """The tally of each `unique` expectation over all splits of a run, whose receipts are all there.

    Raises:
        ReceiptsVoid: digests are gone, so their splits have to be scored again.
        AccountError: they are not those of the rows that were scored.
    """
    tallies = load_repeats(target)
    if tallies is None:
        tallies = _counted(target, plan, receipts)
        repeats = Repeats(run_id=plan.run_id, tallies=tallies)
        target.storage.create_if_absent(target.layout.repeats, repeats.to_bytes())
    for receipt in receipts:
        for written in receipt.keys.values():
            target.storage.delete(written.pending.path)
    return tallies


def _counted(target: Target, plan: Plan, receipts: Collection[Receipt]) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    try:
        for name in unique_columns(plan.expectations):
            for receipt in receipts:
                _check(name, receipt)
            files = [receipt.keys[name] for receipt in receipts if name in receipt.keys]
            rows = sum(written.rows for written in files)
            tallies[name] = Tally(hits=count_repeats(target.storage, files), rows=rows)
    except EtlError as error:
        # Another driver of this run may have counted, and removed what we read.
        stored = load_repeats(target)
        if stored is None:
            _raise_void(target, receipts, error)
            raise
        return stored
    return tallies


def _raise_void(target: Target, receipts: Collection[Receipt], error: EtlError) -> None:
    """Where digests are gone, the splits that they are of have to be scored again."""
    lost = {receipt.attempt for receipt in receipts for keys in receipt.keys.values() if _is_lost(target, keys)}
    if lost:
        raise ReceiptsVoid.of(lost, str(error)) from error


def _is_lost(target: Target, keys: Written) -> bool:
    try:
        target.storage.check(keys.pending)
    except PendingLost:
        return True
    return False


def _check(name: str, receipt: Receipt) -> None:
    """Every row that reached the model has its key."""
    failed = sum(rows for reason, rows in receipt.reasons.items() if reason.startswith(_INFERENCE))
    wanted, found = receipt.account.scored.rows + failed, receipt.keys[name].rows if name in receipt.keys else 0
    if found != wanted:
        message = (
            f"expectation {name!r}: split {receipt.split:06d} has keys of {found} rows, and {wanted} rows reached its "
            "model. Score under a new run id."
        )
        raise AccountError(message)
