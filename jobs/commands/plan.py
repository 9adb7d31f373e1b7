"""`batchscore plan`: what a run would do, take and cost."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer
from rich.console import Console

from jobs.commands.options import (
    AsJson,
    ConfigFile,
    Limit,
    LogicalDate,
    MissingKeys,
    RunId,
    Sample,
    Sets,
    share_option,
)
from jobs.commands.process import spark_log
from jobs.config.job import read_config
from jobs.display.drift import planned_drift
from jobs.display.summary import Screen, preview_facts
from jobs.errors import NoPlanYet
from jobs.history.sizing import Question, answer, duration_option, plan_text, sizing_facts
from jobs.identity import name_of_run
from jobs.planning.preview import Preview, preview
from jobs.request import RunRequest
from jobs.session import session_scope

__all__ = ["plan"]

Deadline = Annotated[
    float | None,
    typer.Option(parser=duration_option, metavar="2h", help="Say how many executors keep to so long a time."),
]
Measure = Annotated[
    float | None,
    typer.Option(parser=share_option, metavar="1%", help="Score this share in a trial to say what the run will take."),
]


def plan(  # noqa: PLR0913  each option is a part of the question
    ctx: typer.Context,
    config: ConfigFile,
    *,
    sets: Sets = None,
    run_id: RunId = None,
    logical_date: LogicalDate = None,
    limit: Limit = None,
    sample: Sample = None,
    missing_keys: MissingKeys = None,
    deadline: Deadline = None,
    measure: Measure = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run would do, take and cost; starts nothing and writes nothing, unless --measure does a trial.

    Shows what would be read, split, scored and written, and the projected memory of a worker. For a run id that was
    tried before, also how much of it is done. What it takes is reckoned from the runs before. Of a table or a query,
    which Spark freezes when a run begins, that is all that is known.
    """
    job = read_config(config, tuple(sets or ()), date=logical_date)
    name = name_of_run(job.name, run_id, logical_date)
    request = RunRequest(config=job, run_id=name, limit=limit, sample=sample, missing_keys=missing_keys)
    shown: Preview | None = None
    without = ""
    try:
        shown = preview(request)
    except NoPlanYet as error:
        without = str(error)
    with contextlib.ExitStack() as stack:
        if measure is not None:
            stack.enter_context(spark_log(ctx.find_root().obj))
            stack.enter_context(session_scope())
        sizing = answer(request, shown, Question(job.output.uri if sets else config, deadline, measure))
    if as_json:
        typer.echo(plan_text(shown or without, sizing))
        return
    facts = preview_facts(shown) if shown is not None else [("run", name), ("plan", without)]
    if shown is None and job.drift is not None and request.part.is_all:
        facts += planned_drift(job.drift)
    Screen(Console(highlight=False)).facts([*facts, *sizing_facts(sizing)])
