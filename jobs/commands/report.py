"""`batchscore report`: the page of a run, made anew from what is stored."""

from __future__ import annotations

import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jobs.display.summary import Screen
from jobs.errors import Refused
from jobs.history.runs import find_run
from jobs.report.leaving import make_report

__all__ = ["report"]


def report(
    where: Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")],
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="A run id; without it, the newest run.")] = None,
    *,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write this file, and nothing beside the run.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the report of a run as one HTML file, from what is stored: beside the run, or where --out says."""
    target = find_run(where, run_id)
    made = make_report(target)
    if out is not None:
        _write(made, out)
    else:
        target.storage.replace(target.layout.report, made.encode())
    Screen(Console(highlight=False)).line(f"report of run {target.layout.run_id}: {out or target.layout.report}")
    if show:
        found = out or target.storage.local_path(target.layout.report)
        if found is None:
            with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".html", delete=False) as file:
                file.write(made)
            found = file.name
        webbrowser.open(Path(found).absolute().as_uri())


def _write(made: str, out: str) -> None:
    path = Path(out)
    if path.is_dir():
        raise Refused(f"--out {out}: it is a folder. Name a file, as {path / 'report.html'}.")
    if not path.absolute().parent.is_dir():
        raise Refused(f"--out {out}: there is no folder {path.absolute().parent}. Make it, or name another place.")
    try:
        path.write_text(made, encoding="utf-8")
    except OSError as error:
        raise Refused(f"--out {out}: it cannot be written: {error.strerror}. Name another place.") from error
