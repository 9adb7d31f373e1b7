"""`batchscore submit`: send a job to a cluster, wait for it, and end as it ended. spark-submit.sh calls it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path  # noqa: TC003  typer reads it
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from etl.errors import BatchscoreError, OutcomeUnknown
from etl.runs.store_settings import configure
from jobs.commands.options import ConfigFile, Limit, LogicalDate, RunId, Sample, Sets  # noqa: TC001  typer reads them
from jobs.commands.outcome import print_record
from jobs.config.job import read_config, variables_of
from jobs.config.variables import date_text
from jobs.deploying.commands import command_of, staged
from jobs.deploying.ending import code_of, record_of
from jobs.deploying.options import check_options
from jobs.deploying.submission import Driver, Files, Resources, Submission, Target, local_places, places_of
from jobs.deploying.submitting import stage
from jobs.deploying.submitting import submit as send
from jobs.deploying.variables import check_variables
from jobs.errors import ExitCode, Refused, refusing
from jobs.identity import name_of_run
from jobs.request import RunRequest
from jobs.run import published_before

if TYPE_CHECKING:
    from collections.abc import Generator

    from jobs.config.job import JobConfig
    from jobs.deploying.submitting import Ended
    from jobs.record import RunRecord

__all__ = ["submit"]

Mode = Literal["client", "cluster"]
Verb = Literal["run", "doctor"]
Text = str | None
Texts = list[str] | None

_SPARK_IS_TOLD = ("PYTHONSAFEPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "SPARK_HOME", "SPARK_SUBMIT_OPTS")
"""Variables by which spark-submit.sh speaks to Spark; its own dry run, of client mode, prints the same."""


class Show(StrEnum):
    """What is printed of the command that would be executed."""

    COMMAND = "command"
    """For people, a line an option."""
    WORDS = "words"
    """For programs: NUL ends a word."""


def _option(metavar: str, told: str) -> typer.models.OptionInfo:
    info: typer.models.OptionInfo = typer.Option(metavar=metavar, help=told)
    return info


def submit(  # noqa: PLR0913  each option is one of spark-submit.sh
    config: ConfigFile,
    *,
    target: Annotated[Target, typer.Option(help="What runs the job.")],
    home: Annotated[Path, _option("FOLDER", "Where jobs/main.py and conf/ are.")],
    code: Annotated[str, _option("ZIP", "The packages etl, scoring and jobs.")],
    deploy_mode: Annotated[Mode, typer.Option(help="Where the driver runs.")] = "cluster",
    master: Annotated[Text, _option("MASTER", "Spark's own name of the target.")] = None,
    environment: Annotated[Text, _option("ARCHIVE", "What `batchscore pack` made, here or in a store.")] = None,
    gpus: Annotated[int, typer.Option(min=0, metavar="N", help="GPUs of an executor, a task on each.")] = 0,
    profile: Annotated[Texts, _option("NAME", "Of conf/spark/profiles. Repeatable; later ones win.")] = None,
    conf: Annotated[Texts, _option("KEY=VALUE", "A Spark setting; wins. Repeatable.")] = None,
    place: Annotated[Texts, _option("KEY=VALUE", "Of a service: stage, cluster, role … Repeatable.")] = None,
    sets: Sets = None,
    run_id: RunId = None,
    logical_date: LogicalDate = None,
    limit: Limit = None,
    sample: Sample = None,
    word: Annotated[Texts, _option("WORD", "One more for the job. Repeatable.")] = None,
    verb: Annotated[Verb, typer.Option(help="What the job is told to do.")] = "run",
    show: Annotated[Show | None, typer.Option(help="Print the command and do nothing.")] = None,
) -> None:
    """Send a job to a cluster and wait until it has ended; what its record says is the exit code.

    Exit codes: those of `run`; 3 where the job left no record, so that nobody knows, and where a signal ended the
    waiting: the job goes on.
    """
    job = read_config(config, tuple(sets or ()), date=logical_date)
    name = name_of_run(job.name, run_id, logical_date)
    request = RunRequest(config=job, run_id=name, limit=limit, sample=sample, logical_date=logical_date)
    words = (*_job_options(request, sets), *(word or ()))
    driver, files = Driver(deploy_mode, master), Files(config, code, home, environment)
    resources = Resources(gpus, tuple(conf or ()), tuple(profile or ()))
    asked = Submission(target, driver, name, words, files=files, resources=resources, places=places_of(place or ()))
    # Other commands read the file without the overrides, so they are told the place itself.
    asked = replace(asked, verb=verb, where=job.output.uri if sets else config)
    check_options(asked)
    if asked.is_remote:
        check_variables(asked, variables_of(config, tuple(sets or ())))
    _go(asked, request, show)


def _go(asked: Submission, request: RunRequest, show: Show | None) -> None:
    command = command_of(asked)
    if asked.is_remote:
        _check_places(request.config)
    if show is Show.WORDS:
        sys.stdout.write("".join(f"{word}\0" for word in command))
    elif show is Show.COMMAND:
        _print(asked, command)
    else:
        raise typer.Exit(_send(asked, request, command))


def _job_options(asked: RunRequest, sets: list[str] | None) -> tuple[str, ...]:
    words = [word for value in sets or () for word in ("--set", value)]
    words += ["--logical-date", date_text(asked.logical_date)] if asked.logical_date is not None else []
    words += ["--limit", str(asked.limit)] if asked.limit is not None else []
    words += ["--sample", str(asked.sample)] if asked.sample is not None else []
    return tuple(words)


def _check_places(job: JobConfig) -> None:
    """A driver on another machine starts in an empty folder."""
    found = local_places(job)
    if found:
        told = "\n".join(f"  {pointer}: {place}" for pointer, place in found)
        raise Refused(
            f"the driver would run on the cluster, where these relative paths are nowhere:\n{told}\nPut them into a "
            "store (s3://, hdfs://, gs://), or name a folder that all machines mount by its whole path."
        )


def _print(asked: Submission, command: list[str]) -> None:
    for here, there in staged(asked).items():
        typer.echo(f"# {here} is put at {there}")
    plain = next(number for number, word in enumerate(command) if word.startswith("-"))
    lines = [" ".join(command[:plain])]
    if not asked.target.is_cloud:
        # Spark's own program, and what spark-submit.sh tells it beside its options.
        lines[0] = shlex.quote(shutil.which(command[0]) or command[0])
        told = [f"{name}={shlex.quote(os.environ[name])}" for name in _SPARK_IS_TOLD if os.environ.get(name)]
        lines = [*told, *lines]
    for word in command[plain:]:
        if lines[-1].startswith("  --") and " " not in lines[-1].strip() and not word.startswith("--"):
            lines[-1] += f" {shlex.quote(word)}"
        else:
            lines.append(f"  {shlex.quote(word)}")
    typer.echo(" \\\n".join(lines))


def _send(asked: Submission, request: RunRequest, command: list[str]) -> int:
    configure(request.config.storage)
    with _before_submission():
        before = record_of(request.config, asked.run_id, scratch=request.is_scratch)
        published = published_before(request)
        if published is None:
            stage(asked)
    if published is not None:
        _tell("it was published before; nothing was done")
        print_record(published, asked.where)
        return ExitCode.PUBLISHED
    ended = send(asked, command, _tell)
    after = _record_after(asked, request, ended)
    code = code_of(before, after)
    if code == ExitCode.UNKNOWN:
        sys.stderr.write(f"error: {ended.state}, and run {asked.run_id} left no record of this try. {ended.hint}\n")
    elif after is not None:
        sys.stderr.write(f"run {asked.run_id}: {after.state}\n")
    return code


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@contextlib.contextmanager
def _before_submission() -> Generator[None]:
    """Nothing is submitted yet, so that whatever goes wrong is a refusal."""
    with refusing():
        try:
            yield
        except OSError as error:
            raise Refused(f"nothing was submitted, since a store does not answer: {error}") from error


def _record_after(asked: Submission, request: RunRequest, ended: Ended) -> RunRecord | None:
    """The record that the job left; it ran, so where that cannot be read nobody knows how it ended."""
    try:
        return record_of(request.config, asked.run_id, scratch=request.is_scratch)
    except (BatchscoreError, OSError) as error:
        again = shlex.join(["batchscore", "show", asked.where, asked.run_id])
        raise OutcomeUnknown(
            f"{ended.state}, and the record of run {asked.run_id}, which says how it ended, cannot be read: {error}\n"
            f"{ended.hint} Ask again: {again}"
        ) from error
