"""The drift of a run as rows of its page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.errors import BatchscoreError
from jobs.report.gathered import DriftRow
from jobs.settling.drifting import load_report

if TYPE_CHECKING:
    from jobs.planning.destination import Target

__all__ = ["drift_rows"]


def drift_rows(target: Target) -> tuple[DriftRow, ...]:
    """What was measured, beyond limits first; none where nothing was, one that says so where it cannot be read."""
    try:
        report = load_report(target)
    except (BatchscoreError, OSError) as error:
        return (DriftRow("drift.json", f"cannot be read: {error}", None, None, "warn"),)
    if report is None:
        return ()
    return tuple(
        DriftRow(
            column=found.column,
            measure=f"{found.measure} against {found.reference}",
            value=found.value,
            threshold=found.limit,
            verdict=found.verdict,
            error=found.error,
        )
        for found in report.worst_first
    )
