"""`batchscore explain-duration`: why a run took longer than another one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from etl.printable import counted
from jobs.display.summary import Column, Screen, Sheet, duration_text
from jobs.history.explaining import explain_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.history.explaining import Explanation
    from jobs.monitoring.explain import Part

__all__ = ["explain_duration"]

_LEAST = 0.05
"""Seconds that are not `0.0 s` where they are printed."""


def explain_duration(
    where: Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")],
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run to explain.")],
    *,
    against: Annotated[
        str, typer.Option(metavar="RUN|median", help="The run to compare with; the usual one of the job.")
    ] = "median",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Split the difference between two runs' durations into its causes."""
    found = explain_run(where, run_id, against)
    if as_json:
        typer.echo(json.dumps(_document(found)))
        return
    screen = Screen(Console(highlight=False))
    before, now = found.before.record, found.now.record
    more = "longer" if found.change >= 0 else "less"
    usual = f", the median of {counted(found.median_of, 'run')}" if found.median_of is not None else ""
    screen.line(
        f"{now.run_id} took {duration_text(now.seconds)}, {duration_text(abs(found.change))} {more} than "
        f"{before.run_id}{usual} ({duration_text(before.seconds)})"
    )
    shown = [part for part in found.parts if part.name == "unexplained" or abs(part.change) >= _LEAST]
    screen.sheet(_sheet(found, shown))
    small = len(found.parts) - len(shown)
    if small:
        told = counted(small, "cause is", "causes are")
        screen.line(f"{told} below {_LEAST:g} s and not shown; --json has all.", "dim")


def _sheet(found: Explanation, shown: Sequence[Part]) -> Sheet:
    columns = (
        Column("cause"),
        Column("change", "right"),
        Column("before", "right", rank=2),
        Column("now", "right", rank=1),
        Column("what is known", "fold", rank=3),
    )
    rows: list[tuple[str, ...]] = [
        (
            part.cause,
            f"{part.change:+,.1f} s",
            "" if part.before is None else f"{part.before:,.1f} s",
            "" if part.now is None else f"{part.now:,.1f} s",
            found.notes.get(part.name, ""),
        )
        for part in shown
    ]
    rows.append(("in all", f"{found.change:+,.1f} s", *(f"{side.record.seconds:,.1f} s" for side in found[:2]), ""))
    return Sheet(columns, rows)


def _document(found: Explanation) -> dict[str, object]:
    return {
        "run": found.now.record.run_id,
        "against": found.before.record.run_id,
        "median_of": found.median_of,
        "seconds": found.now.record.seconds,
        "seconds_before": found.before.record.seconds,
        "change": found.change,
        "parts": [part._asdict() | {"note": found.notes.get(part.name)} for part in found.parts],
    }
