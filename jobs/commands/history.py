"""`batchscore history`: what runs took, one beside the other."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from etl.printable import counted
from jobs.display.history import history_sheet, trend_sheet
from jobs.display.summary import Screen
from jobs.errors import Refused
from jobs.history.local_files import export_batches
from jobs.history.runs import history
from jobs.monitoring.trend import history_table, trends

__all__ = ["list_history"]


def list_history(
    where: Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")],
    *,
    job: Annotated[str | None, typer.Option(metavar="NAME", help="The runs of one job.")] = None,
    last: Annotated[int, typer.Option(min=1, metavar="N", help="How many.")] = 20,
    export: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write them to a .parquet, .csv or .arrow file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List runs, newest first, and how what they took has changed.

    Those of an output; with a config that has metrics.uri, also those of its job that were collected there. WHERE may
    be such a folder of collected records, too.
    """
    found = history(where, job)
    lines, screen = found[:last], Screen(Console(highlight=False))
    if as_json:
        for row in history_table(lines).to_pylist():
            typer.echo(json.dumps(row, default=str))
        return
    if not lines:
        raise Refused(f"{where}: there is no run here.")
    if export is not None:
        table = history_table(lines)
        export_batches(export, table.schema, table.to_batches())
        screen.line(f"{counted(table.num_rows, 'run')} written to {export}")
        return
    screen.sheet(history_sheet(lines))
    if len(found) > last:
        screen.line(f"{len(found) - last:,} older runs are not shown; see --last.", "dim")
    for name in dict.fromkeys(line.job for line in lines):
        shown = trends([line for line in lines if line.job == name])
        if shown and len(shown[0].values) > 1:
            screen.line()
            screen.sheet(trend_sheet(name, shown))
