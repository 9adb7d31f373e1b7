"""`batchscore doctor`: whether a job can run here, and on its cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from jobs.commands.options import ConfigFile, LogicalDate, Sets  # noqa: TC001  typer reads them
from jobs.commands.process import spark_log
from jobs.config.job import read_config
from jobs.deploying.doctor import examine
from jobs.display.summary import Column, Screen, Sheet
from jobs.errors import ExitCode
from jobs.session import session_scope

if TYPE_CHECKING:
    from jobs.deploying.doctor import Examined

__all__ = ["doctor", "sheet_of"]


def doctor(
    ctx: typer.Context,
    config: ConfigFile,
    *,
    sets: Sets = None,
    logical_date: LogicalDate = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Ask every worker, too: starts a session.")] = False,
) -> None:
    """Look at Python, Java, packages, stores, devices and clocks before a job needs them; exits 2 on a fault.

    Scores nothing. In the output's store a name is created and removed.
    """
    job = read_config(config, tuple(sets or ()), date=logical_date)
    with spark_log(ctx.find_root().obj), session_scope():
        screen = Screen(Console(highlight=False))
        examined = examine(job, cluster=cluster)
        found = [next(examined)]
        screen.sheet(sheet_of(found))
        # Workers are told of once a session is there, which takes its time, or hangs.
        workers = list(examined)
        if workers:
            screen.sheet(sheet_of(workers))
    if any(check.state == "failed" for one in (*found, *workers) for check in one.checks):
        raise typer.Exit(ExitCode.REFUSED)


def _short(place: str) -> str:
    """A host without its domain: the findings need the width."""
    return place if place.replace(".", "").isdigit() else place.partition(".")[0]


def sheet_of(found: list[Examined]) -> Sheet:
    """What was found, a check a row."""
    columns = (Column("where"), Column("check"), Column("state"), Column("found", "fold"))
    return Sheet(
        columns, [(_short(one.place), check.name, check.state, check.detail) for one in found for check in one.checks]
    )
