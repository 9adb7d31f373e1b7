"""What a run cost, and the limits that it passed, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.printable import counted
from jobs.monitoring.cost import money_text

if TYPE_CHECKING:
    from jobs.record import RunRecord

__all__ = ["cost_facts_of"]


def cost_facts_of(record: RunRecord) -> list[tuple[str, str]]:
    """Lines of a run's summary; none where no prices are known and no limit was passed."""
    facts = []
    cost = record.cost
    if cost is not None and cost.total is not None:
        parts = [money_text(cost.total, cost.currency)]
        if cost.per_million_rows is not None:
            parts.append(f"{money_text(cost.per_million_rows)} a million rows")
        if cost.earlier:
            parts.append(f"{money_text(cost.earlier)} of it for earlier tries")
        hours = f"{cost.driver_hours:,.2f} h of the driver"
        if not cost.is_local:
            hours += f", {cost.executor_hours:,.2f} h of up to {counted(cost.executors, 'executor')}"
        if cost.gpu_hours:
            hours += f", {cost.gpu_hours:,.2f} GPU-hours"
        facts.append(("cost", f"{', '.join(parts)}: {hours}"))
    facts += [("expected too much" if one.is_projected else "over the limit", str(one)) for one in record.breaches]
    return facts
