"""Answer what a run will take and cost, from the runs before it or from a trial, in words and as a document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import typer
from pydantic import TypeAdapter, ValidationError

from etl.errors import BatchscoreError
from etl.printable import counted
from jobs.display.summary import duration_text
from jobs.errors import Refused
from jobs.history.runs import history
from jobs.identity import new_run_id
from jobs.monitoring.cost import money_text
from jobs.monitoring.durations import Duration
from jobs.monitoring.sizing import Work, night_of_sample, nights_of, size
from jobs.planning.preview import cores_of
from jobs.request import RunRequest
from jobs.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.config.job import JobConfig
    from jobs.monitoring.sizing import Estimate, Night, Range, Sizing
    from jobs.planning.preview import Preview
    from jobs.record import RunRecord

__all__ = ["Question", "answer", "duration_option", "plan_text", "sizing_facts"]

_FEW = 5
_DURATION = TypeAdapter(Duration)


class Question(NamedTuple):
    """What is asked beside the plan."""

    where: str
    """A config, or the URI of an output, whose history is looked at."""
    deadline: float | None = None
    """Seconds that the run may take."""
    measure: float | None = None
    """The share of the rows to be scored in a trial; None to look at history."""


def answer(asked: RunRequest, shown: Preview | None, question: Question) -> Sizing | str:
    """What the run will take, or why nobody knows. Without a plan its input is taken to be that of the newest run.

    Raises:
        Refused: it was asked for, and nothing tells it.
        BatchscoreError: the trial failed.
    """
    config = asked.config
    if asked.is_scratch:
        return "it is a trial, of which nothing is reckoned"
    if question.measure is not None:
        request = RunRequest(config=config, run_id=new_run_id(config.name), sample=question.measure)
        record = run(request)
        night = night_of_sample(record)
        if night is None:
            raise Refused(f"the trial {record.run_id} scored no row; give a larger share to --measure.")
        found = _sized(shown, [night], [record], config=config, deadline=question.deadline)
        return found.model_copy(update={"is_sample": True})
    try:
        records = [line.record for line in history(question.where, config.name) if line.record is not None]
    except BatchscoreError as error:
        if question.deadline is not None:
            raise
        return f"the runs before cannot be read: {error}"
    whole = [record for record in records if nights_of([record])]
    model = shown.plan.model if shown is not None else next((record.model for record in whole), None)
    nights = nights_of(whole, model=f"{model.name}:{model.version}" if model is not None else None)
    if not nights:
        why = "no run of this job has scored all of its input in one try"
        if question.deadline is not None:
            raise Refused(f"nothing tells how long it takes: {why}. Score a share of the rows with --measure 1%.")
        return f"not known: {why}; --measure 1% finds out with a trial"
    return _sized(shown, nights, whole, config=config, deadline=question.deadline)


def _sized(
    shown: Preview | None,
    nights: list[Night],
    records: list[RunRecord],
    *,
    config: JobConfig,
    deadline: float | None,
) -> Sizing:
    """`records` are those of runs that scored all of their input, the newest first."""
    newest = next((record.cost for record in records if record.cost is not None and record.cost.cores), None)
    is_local = config.spark.master.startswith("local") and not config.spark.master.startswith("local-cluster")
    cores = config.spark.conf.get("spark.executor.cores", "")
    each: int | None = int(cores) if cores.isdigit() and int(cores) else 1
    if newest is not None and newest.executors and not cores:
        # Under spark-submit its options decide, of which the config knows nothing.
        is_local, each = newest.is_local, max(1, newest.cores // newest.executors)
    known = newest.cores if newest is not None else None
    like = records[0]
    work = Work(
        bytes=shown.plan.bytes_in if shown is not None else nights[0].bytes,
        splits=len(shown.plan.splits) if shown is not None else like.splits,
        cores=cores_of(config.spark) if is_local or known is None else known,
        executor_cores=None if is_local else each,
    )
    found = size(nights, work, prices=config.cost, deadline=deadline)
    return found if shown is not None else found.model_copy(update={"as_large_as": like.run_id})


def duration_option(text: str) -> float:
    """Seconds of an option.

    Raises:
        typer.BadParameter: it is no length of time.
    """
    try:
        return _DURATION.validate_python(float(text) if text.replace(".", "", 1).isdecimal() else text)
    except ValidationError as error:
        raise typer.BadParameter(error.errors()[0]["msg"]) from error


def plan_text(shown: Preview | str, found: Sizing | str) -> str:
    """The plan, or why there is none, as JSON, with `sizing` beside what is stored of it: None where nobody knows."""
    document = {"no_plan": shown} if isinstance(shown, str) else shown.plan.model_dump(mode="json", by_alias=True)
    sizing = None if isinstance(found, str) else found.model_dump(mode="json")
    return json.dumps({**document, "sizing": sizing}, indent=1)


def sizing_facts(found: Sizing | str) -> list[tuple[str, str]]:
    """Lines beside the plan."""
    if isinstance(found, str):
        return [("takes", found)]
    facts = []
    if found.present is not None:
        facts.append(("takes", _told(found.present, found)))
    if found.needed is not None and found.deadline_seconds is not None:
        facts.append((f"for {duration_text(found.deadline_seconds)}", _told(found.needed, found)))
    if found.problem is not None and found.deadline_seconds is not None:
        facts.append((f"for {duration_text(found.deadline_seconds)}", f"cannot be: {found.problem}"))
    pace, fixed = found.rows_per_core_second, found.fixed_seconds
    source = "a trial" if found.is_sample else counted(found.nights, "run before", "runs before")
    like = f", if the input is as large as that of run {found.as_large_as}" if found.as_large_as is not None else ""
    few = ", which is not much" if not found.is_sample and found.nights < _FEW else ""
    told = (
        f"about {counted(found.rows, 'row')} at {pace.median:,.0f} rows/s a core, and {duration_text(fixed.median)} "
        f"outside of scoring, by {source}{few}{like}; scoring is taken to be linear in bytes and in cores"
    )
    return [*facts, ("reckoned", told)]


def _told(one: Estimate, found: Sizing) -> str:
    where = counted(one.cores, "core")
    if one.executors is not None:
        where = f"{counted(one.executors, 'executor')}, {where}"
    times = _range(one.seconds, found, duration_text)
    if one.amount is None:
        return f"{times} on {where}"
    return f"{times} and {_range(one.amount, found, money_text)} {found.currency} on {where}"


def _range(values: Range, found: Sizing, text: Callable[[float | None], str]) -> str:
    if found.nights == 1:
        return text(values.median)
    return f"{text(values.median)} ({text(values.low)} to {text(values.high)})"
