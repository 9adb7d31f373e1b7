"""Runs, and how they changed, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.display.summary import Column, Sheet, count_text, duration_text
from jobs.monitoring.cost import money_text
from jobs.monitoring.trend import sparkline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.monitoring.trend import RunLine, Trend

__all__ = ["history_sheet", "trend_sheet"]


def history_sheet(lines: Sequence[RunLine]) -> Sheet:
    """Runs, one a line."""
    currencies = sorted({line.currency for line in lines if line.currency})
    unit = f" {currencies[0]}" if len(currencies) == 1 else ""
    money = (Column(f"cost{unit}", "right", rank=3), Column("cost/Mrow", "right", rank=6)) if currencies else ()
    columns = (
        Column("run"),
        Column("state"),
        Column("started", rank=1),
        Column("took", "right", rank=2),
        Column("rows", "right", rank=3),
        Column("set aside", "right", rank=4),
        Column("s/Mrow", "right", rank=5),
        Column("model", rank=6),
        Column("rows/s", "right", rank=7),
        Column("etl", rank=8),
        *money,
    )
    rows = [
        (
            line.run_id,
            line.state,
            f"{line.started_at:%Y-%m-%d %H:%M}",
            duration_text(line.seconds),
            count_text(line.rows),
            count_text(line.quarantined),
            "-" if line.seconds_per_million is None else f"{line.seconds_per_million:,.1f}",
            line.model,
            count_text(None if line.rows_per_second is None else round(line.rows_per_second)),
            line.spec[:12],
            *((money_text(line.cost), money_text(line.cost_per_million)) if money else ()),
        )
        for line in lines
    ]
    return Sheet(columns, rows)


def trend_sheet(job: str, trends: Sequence[Trend]) -> Sheet:
    """Numbers of a job's runs, one a line, the oldest run to the left."""
    columns = (
        Column(job),
        Column("oldest → newest"),
        Column("newest", "right"),
        Column("median", "right", rank=1),
        Column("change", "right", rank=2),
    )
    rows = [
        (trend.name, sparkline(trend.values), _number(trend.last), _number(trend.median), _change(trend))
        for trend in trends
    ]
    return Sheet(columns, rows)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"  # noqa: PLR2004  three digits


def _change(trend: Trend) -> str:
    """Of the newest against the median."""
    return f"{trend.last / trend.median - 1:+.0%}" if trend.last is not None and trend.median else "-"
