"""`batchscore backfill`: the runs of many dates, or again those that a bad model has scored."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from etl.printable import counted
from jobs.commands.options import ConfigFile, Limit, Sample, Sets  # noqa: TC001  typer reads them
from jobs.config.variables import date_text
from jobs.display.backfill import Board, endings_sheet, plan_sheet, touched_sheet, why
from jobs.display.summary import Screen
from jobs.errors import Cancelled, ExitCode, Refused
from jobs.scheduling.dates import bounds, dates_between, step_of
from jobs.scheduling.drivers import HERE, Drivers, Outcome, look, worst
from jobs.scheduling.errands import Asked, errands_of
from jobs.scheduling.rescoring import errands_with, look_back, new_model, touched_by

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobs.scheduling.drivers import Ending
    from jobs.scheduling.errands import Errand
    from jobs.scheduling.rescoring import Touched

__all__ = ["backfill"]

_Command = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="-- COMMAND",
        help="What runs each date in the place of `batchscore run`, e.g. -- ./spark-submit.sh --target yarn.",
        show_default=False,
    ),
]
_First = Annotated[str | None, typer.Option("--from", metavar="DATE", help="The first logical date.")]
_Last = Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last one; without a time its whole day.")]
_Every = Annotated[str, typer.Option(metavar="1d|6h", help="From one date to the next.")]
_RescoreWith = Annotated[
    str | None, typer.Option(metavar="MODEL", help="A bundle or model that scores again what --touched-by did.")
]
_TouchedBy = Annotated[
    str | None,
    typer.Option(metavar="NAME[:VERSION]|DIGEST", help="The model whose published scores are replaced."),
]
_Parallel = Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Drivers at a time.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be run, and run nothing.")]


def backfill(  # noqa: PLR0913  each option is a part of what is asked for
    ctx: typer.Context,
    config: ConfigFile,
    command: _Command = None,
    *,
    first: _First = None,
    last: _Last = None,
    every: _Every = "1d",
    rescore_with: _RescoreWith = None,
    touched_by: _TouchedBy = None,
    parallel: _Parallel = 1,
    sets: Sets = None,
    limit: Limit = None,
    sample: Sample = None,
    dry_run: _DryRun = False,
) -> None:
    """Run a job for each date of a range, or score again what a bad model has scored.

    A date is the run that `run --logical-date` makes: one that is published is left as it is, one that failed goes on.
    A date that fails keeps no other from being run. Exit codes: the worst of the runs', 3 before 1, 2, 4 and 0.
    """
    if command and shutil.which(command[0]) is None:
        raise Refused(f"{command[0]} cannot be started: there is no such program, or you may not execute it.")
    asked = Asked(config, tuple(sets or ()), limit, sample)
    screen = Screen(Console(highlight=False))
    outcomes: set[Outcome] = set()
    if rescore_with is None and touched_by is None:
        errands = _of_dates(asked, first, last, every=every)
    else:
        errands, touched = _of_a_model(asked, rescore_with, touched_by, between=(first, last))
        _show_touched(screen, errands, touched)
        outcomes |= {Outcome.REFUSED for one in touched if one.problem}
    if errands and dry_run:
        outcomes |= _show(screen, errands)
    elif errands:
        words = (*(command or HERE), *(("--debug",) if ctx.find_root().obj else ()))
        outcomes |= _run(screen, errands, words, parallel=parallel)
    if worst(outcomes) != ExitCode.PUBLISHED:
        raise typer.Exit(worst(outcomes))


def _of_dates(asked: Asked, first: str | None, last: str | None, *, every: str) -> tuple[Errand, ...]:
    if first is None or last is None:
        raise Refused("which dates? Give --from and --to, both of them included: --from 2026-11-01 --to 2026-11-30.")
    step = step_of(every)
    return errands_of(asked, dates_between(*bounds(first, last), step), step)


def _of_a_model(
    asked: Asked, good: str | None, bad: str | None, *, between: tuple[str | None, str | None]
) -> tuple[tuple[Errand, ...], tuple[Touched, ...]]:
    """The runs that score again, and all that the bad model has left, those included that cannot be."""
    if good is None or bad is None:
        raise Refused(
            "--rescore-with MODEL scores again, and --touched-by MODEL says whose scores are replaced: give both, or "
            "neither. `batchscore audit` tells which model scored what."
        )
    if asked.limit is not None or asked.sample is not None:
        raise Refused("--limit and --sample are trials, which replace nothing. Leave them out, or --rescore-with.")
    first, last = bounds(*between)
    config = look_back(asked)
    new = new_model(config, good)
    found = touched_by(asked, config, bad, new=new)
    touched = tuple(one for one in found if one.date is None or first <= one.date <= last)
    return errands_with(asked, new, touched), touched


def _show_touched(screen: Screen, errands: Sequence[Errand], touched: Sequence[Touched]) -> None:
    if not touched:
        screen.line("The newest version holds nothing of these dates that this model scored: there is nothing to do.")
        return
    screen.sheet(touched_sheet(touched))
    for one in touched:
        if one.problem:
            screen.line(f"run {one.run_id} cannot be scored again: {one.problem}.", "bold yellow")
    if errands:
        screen.line("The config still names the model of dates to come: change it there, too.", "dim")
    screen.line()


def _show(screen: Screen, errands: Sequence[Errand]) -> set[Outcome]:
    planned: list[tuple[Errand, Ending | None]] = []
    with Console(stderr=True, highlight=False).status("") as status:
        for errand in errands:
            status.update(f"looked at {len(planned):,} of {counted(len(errands), 'date')}")
            planned.append((errand, look(errand)))
    screen.sheet(plan_sheet(planned))
    known = [ending for _, ending in planned if ending is not None]
    for line in why(known):
        screen.line(line, "bold yellow")
    screen.line("nothing was run (--dry-run)", "dim")
    first = next((errand for errand, ending in planned if ending is None), None)
    if first is not None:
        screen.next_steps([("run one of them by itself", shlex.join(["batchscore", "run", *first.words]))])
    return {ending.outcome for ending in known}


def _run(screen: Screen, errands: Sequence[Errand], words: Sequence[str], *, parallel: int) -> set[Outcome]:
    with Board(Console(stderr=True, highlight=False), len(errands)) as board:
        drivers = Drivers(words, parallel=parallel, tell=board.tell)
        endings = drivers.run(errands)
    screen.sheet(endings_sheet(endings))
    for line in why(endings):
        screen.line(line, "bold yellow")
    if drivers.stopped_by is not None:
        date = date_text(drivers.stopped_by.errand.date)
        screen.line(f"What refused {date} has to do with no date, so no more were started.", "bold yellow")
    if drivers.is_interrupted:
        raise Cancelled("stopped by a signal. The same command goes on; what is published stays.")
    return {ending.outcome for ending in endings}
