"""What a run's plan and its record say of drift, in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.printable import counted

if TYPE_CHECKING:
    from jobs.display.summary import Facts
    from jobs.monitoring.drift_settings import DriftSettings
    from jobs.record import RunRecord
    from scoring.order import SketchOrder

__all__ = ["NO_REFERENCE", "drift_facts", "planned_drift"]

_SHOWN = 10
NO_REFERENCE = "nothing was held against a reference, so no limit was looked at"
"""Of a run of which no value was measured."""


def planned_drift(settings: DriftSettings, order: SketchOrder | None = None) -> Facts:
    """Which columns will be measured, and against what; without a plan as far as the config says."""
    against = [str(name) for name in settings.reference]
    against += [f"baseline {settings.baseline}"] if settings.baseline is not None else []
    named = settings.columns if order is None else [column.name for column in order.columns]
    columns = ", ".join(named) if named is not None else "what models publish, and the input fields that they read"
    return [("drift", f"{columns}; against {', '.join(against) or 'nothing'}")]


def drift_facts(record: RunRecord) -> Facts:
    """How many values are beyond a limit, the worst of them, and what could not be compared."""
    drift = record.drift
    if drift is None:
        return []
    facts: Facts = []
    if drift.cost is not None:
        told = f"{len(drift.beyond):,} of {counted(drift.measured, 'value is', 'values are')} beyond the limits"
        told = told if drift.measured else NO_REFERENCE
        facts.append(("drift", f"{told}; took {drift.cost.worker_share:.1%} of the workers' time"))
    facts += [(f"drift, {found.verdict}", str(found)) for found in drift.beyond[:_SHOWN]]
    if len(drift.beyond) > _SHOWN:
        facts.append(("drift", f"and {len(drift.beyond) - _SHOWN:,} more; see `batchscore drift`"))
    return [*facts, *(("drift", note) for note in drift.notes)]
