"""`batchscore drift`: how far the columns of a run have moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from jobs.display.drift import NO_REFERENCE
from jobs.display.summary import Column, Screen, Sheet
from jobs.errors import Refused
from jobs.history.runs import find_run
from jobs.record import load_record
from jobs.settling.drifting import load_report

if TYPE_CHECKING:
    from jobs.monitoring.drift import ColumnFacts, DriftFacts, DriftReport

__all__ = ["drift"]


def drift(
    where: Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")],
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show what each column looks like, how far it has moved, and what that took to find out."""
    target = find_run(where, run_id)
    report = load_report(target)
    if report is None:
        record = load_record(target.storage, target.layout.record)
        raise Refused(f"run {run_id}: {_why_not(record.drift if record is not None else None)}")
    if as_json:
        typer.echo(report.to_bytes().decode())
        return
    screen = Screen(Console(highlight=False))
    screen.line(f"{report.rows:,} published rows, {report.sampled:,} of them in the sample")
    for name, told in report.references.items():
        screen.line(f"{name}: {told}")
    for note in report.notes:
        screen.line(f"note: {note}")
    screen.line()
    if report.values:
        screen.sheet(_values(report))
    else:
        # Where one was asked for and not found, a note says why.
        advice = "" if report.notes else " Name one under drift.reference or drift.baseline."
        screen.line(f"{NO_REFERENCE}.{advice}")
    screen.line()
    screen.sheet(_columns(report))
    cost = report.cost
    screen.line()
    screen.line(
        f"sketches took {cost.worker_seconds:.2f} s, {cost.worker_share:.1%} of the workers' time; merging and "
        f"comparing {cost.driver_seconds:.2f} s of the driver's"
    )


def _why_not(facts: DriftFacts | None) -> str:
    if facts is not None and facts.notes:
        return f"its drift: {'; '.join(facts.notes)}."
    return (
        "its drift was not measured. The job had no section `drift`, or the run is a trial, is of late rows alone, or "
        "ended before all was scored."
    )


def _values(report: DriftReport) -> Sheet:
    columns = (
        Column("column"),
        Column("measure"),
        Column("against"),
        Column("value", "right"),
        Column("±", "right", rank=1),
        Column("limit", "right"),
        Column("verdict"),
    )
    return Sheet(
        columns,
        [
            (
                found.column,
                found.measure,
                found.reference,
                f"{found.value:.4f}",
                f"{found.error:.2g}" if found.error else "exact",
                "" if found.limit is None else f"{found.limit:g}",
                found.verdict,
            )
            for found in report.worst_first
        ],
    )


def _columns(report: DriftReport) -> Sheet:
    columns = (
        Column("column"),
        Column("missing", "right"),
        Column("least", "right", rank=1),
        Column("median", "right"),
        Column("most", "right", rank=1),
        Column("most frequent", "fold", rank=2),
    )
    return Sheet(columns, [(name, *_cells(facts)) for name, facts in report.columns.items()])


def _cells(facts: ColumnFacts) -> tuple[str, str, str, str, str]:
    numbers = (facts.least, facts.quantiles.get("0.5"), facts.most)
    least, median, most = ("" if number is None else f"{number:.6g}" for number in numbers)
    missing = f"{facts.missing / facts.rows:.2%}" if facts.rows else ""
    return missing, least, median, most, ", ".join(f"{text} {share:.1%}" for text, share in facts.top[:3])
