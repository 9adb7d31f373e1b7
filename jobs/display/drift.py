"""What a run's record says of drift, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.display.summary import Facts
    from jobs.record import RunRecord

__all__ = ["drift_facts"]

_SHOWN = 10


def drift_facts(record: RunRecord) -> Facts:
    """How many values are beyond a limit, the worst of them, and what could not be compared."""
    drift = record.drift
    if drift is None:
        return []
    facts: Facts = []
    if drift.cost is not None:
        told = f"{len(drift.beyond):,} of {drift.measured:,} values are beyond their limits"
        facts.append(("drift", f"{told}; took {drift.cost.worker_share:.1%} of the workers' time"))
    facts += [(f"drift, {found.verdict}", str(found)) for found in drift.beyond[:_SHOWN]]
    if len(drift.beyond) > _SHOWN:
        facts.append(("drift", f"and {len(drift.beyond) - _SHOWN:,} more; see `batchscore drift`"))
    return [*facts, *(("drift", note) for note in drift.notes)]
