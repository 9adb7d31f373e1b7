"""Receipts whose files are gone are called void, so that their splits are scored again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from etl.errors import ReceiptsVoid
from etl.runs.manifest import version_of
from etl.runs.voids import call_void
from jobs.settling.receipts import receipts_of, splits_of

if TYPE_CHECKING:
    from jobs.planning.destination import Target
    from jobs.planning.plan import Plan

__all__ = ["void_lost"]

_GENERATIONS = 3
"""How often the files of a split may be lost before somebody has to look at who removes them."""


def void_lost(target: Target, plan: Plan, error: ReceiptsVoid) -> int:
    """Call the receipts void whose files are gone: a rule of the bucket, `gc` or a person removed them; how many.

    Another driver of the run may have done so, and scored their splits again: receipts of other attempts are whole. Or
    it has published the run, and what is gone was replaced by a later one: no receipt of a published run is void, since
    versions hold its other files.

    Raises:
        ReceiptsVoid: that happened again and again.
    """
    if version_of(target.storage, target.layout) is not None:
        return 0
    splits = {split.index: split for split in splits_of(target, plan)}
    receipts = [receipt for receipt in receipts_of(target, plan) if receipt.attempt in error.attempts]
    lost = [(splits[receipt.split], receipt) for receipt in receipts]
    if any(split.generation >= _GENERATIONS for split, _ in lost):
        message = (
            f"{error} That is for the {_GENERATIONS + 1}th time, so the same id is not scored again: find out who "
            "removes pending files, then score under a new run id."
        )
        raise ReceiptsVoid.of(error.attempts, message) from error
    call_void(target.storage, target.layout, lost, reason=str(error), at=datetime.now(UTC))
    return len(lost)
