"""The command line: parses, calls a function of another module, and prints. Exit codes are those of `jobs.errors`."""

from __future__ import annotations

import json
import os
import shlex
import sys
import warnings
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from etl.errors import BatchscoreError
from etl.format.files import save_spec
from etl.format.json_schema import spec_schema
from etl.printable import counted, printable
from jobs.authoring.fitting import check_out, fit_files
from jobs.authoring.specs import read_spec_file
from jobs.commands.audit import audits
from jobs.commands.backfill import backfill
from jobs.commands.bundle import bundles
from jobs.commands.compare import compare
from jobs.commands.doctor import doctor
from jobs.commands.drift import drift
from jobs.commands.etl import named_uris, specs
from jobs.commands.evaluate import evaluate
from jobs.commands.explain import explain_duration
from jobs.commands.export import exports
from jobs.commands.history import list_history
from jobs.commands.init import init
from jobs.commands.options import AsJson, ConfigFile, Limit, LogicalDate, MissingKeys, RunId, Sample, Sets  # noqa: TC001  typer reads them
from jobs.commands.outcome import next_steps, print_record
from jobs.commands.pack import pack
from jobs.commands.plan import plan
from jobs.commands.process import Interruption, spark_log
from jobs.commands.quarantine import quarantined
from jobs.commands.replay import replays
from jobs.commands.report import report
from jobs.commands.status import commands as status_commands
from jobs.commands.submit import submit
from jobs.commands.version import gc, roll_back
from jobs.commands.version import versions as list_versions
from jobs.config.job import JobConfig, read_config
from jobs.config.variables import date_text
from jobs.display import summary
from jobs.display.messages import Messages
from jobs.display.progress import Displays, LogFormat, display_for
from jobs.errors import ConfigError, ExitCode, InputUnfit, NotOurTurn, Refused, exit_code
from jobs.history import runs
from jobs.identity import name_of_run
from jobs.monitoring.status import StatusFile
from jobs.planning.plan import target_of
from jobs.planning.preview import validate as check_job
from jobs.progress import Observer
from jobs.record import RunRecord, RunState, versions
from jobs.request import RunRequest
from jobs.results import open_results
from jobs.run import run as run_job
from jobs.scheduling.turns import Turn
from jobs.session import session_scope
from jobs.settling import decisions
from scoring.bundles.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from etl.documents import Strict

__all__ = ["app", "main"]

_UNFIT = "This run is bound to its input as it is. Mend the input, or leave it out, under a new --run-id."
_messages = Messages()
_interruption = Interruption(_messages.note)


class _Commands(TyperGroup):
    """Turns errors into messages and exit codes, for whatever command; `--debug` may stand anywhere on the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` out, so that no command needs to know it."""
        ctx.obj = "--debug" in args
        _messages.log_format = "text"
        return super().parse_args(ctx, [arg for arg in args if arg != "--debug"])

    def invoke(self, ctx: Any) -> Any:
        """Run a command; every ending that is none of typer's own becomes a message on standard error."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            _messages.error("stopped by a signal.", error, debug=ctx.obj)
            raise typer.Exit(ExitCode.FAILED) from error
        except BatchscoreError as error:
            _messages.error(str(error), error, debug=ctx.obj)
            raise typer.Exit(exit_code(error)) from error
        except Exception as error:
            # typer's own endings know their code, and a reader that went away is no fault of ours.
            if hasattr(error, "exit_code") or isinstance(error, BrokenPipeError):
                raise
            first = next(iter(str(error).splitlines()), "").rstrip(".")
            hint = "" if ctx.obj else " Run with --debug for the traceback."
            _messages.error(f"unexpected {type(error).__name__}: {first}.{hint}", error, debug=ctx.obj)
            raise typer.Exit(ExitCode.FAILED) from error


app = typer.Typer(
    name="batchscore",
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(specs, name="etl")
app.add_typer(bundles, name="bundle")
app.command()(init)
app.command()(backfill)
app.command("history")(list_history)
app.command("audit")(audits)
app.command()(explain_duration)
app.command()(compare)
app.command()(drift)
app.command()(evaluate)
app.add_typer(status_commands)
app.command()(plan)
app.command()(doctor)
app.command()(pack)
app.command(hidden=True)(submit)
app.command()(report)
app.command("versions")(list_versions)
app.command("rollback")(roll_back)
app.command()(gc)
app.add_typer(replays)
app.add_typer(quarantined)
app.add_typer(exports, name="export")


def _print_version(asked: bool) -> None:  # noqa: FBT001  typer's way
    if asked:
        typer.echo(f"batchscore {versions()['batchscore']}")
        raise typer.Exit


_Where = Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")]
_Run = Annotated[str | None, typer.Argument(metavar="RUN", help="A run id; without it, the newest run.")]
_TheRun = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run that is held back.")]
_Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with the run.")]
_LogFormat = Annotated[
    LogFormat, typer.Option(metavar="text|json", help="How progress is told: for people, or a JSON document a line.")
]


@app.callback()
def _root(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="With any command: show tracebacks and Spark's log.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distributed batch scoring on Spark whose counts always add up.

    Exit codes: 0 published, 1 failed, 2 refused before work, 3 outcome unknown, 4 finished but not published.
    `compare`: 4 a limit does not hold. `etl diff` alone: 5 the model has to be trained again, 6 it cannot be fed.
    """


@app.command()
def run(  # noqa: PLR0913  each option is a part of the request
    ctx: typer.Context,
    config: ConfigFile,
    *,
    sets: Sets = None,
    run_id: RunId = None,
    logical_date: LogicalDate = None,
    limit: Limit = None,
    sample: Sample = None,
    missing_keys: MissingKeys = None,
    log_format: _LogFormat = "text",
) -> None:
    """Score a job's input and publish the predictions."""
    _messages.log_format = log_format
    job = read_config(config, tuple(sets or ()), date=logical_date)
    name = name_of_run(job.name, run_id, logical_date)
    request = RunRequest(
        config=job, run_id=name, limit=limit, sample=sample, missing_keys=missing_keys, logical_date=logical_date
    )
    again = _line_again(config, sets, request)
    # Other commands read the file without the overrides, so they are told the place itself.
    where = job.output.uri if sets else config
    with spark_log(ctx.find_root().obj), session_scope():
        record = _run_watched(request, again, log_format)
        print_record(record, where)
    if record.state is RunState.HELD_BACK:
        raise typer.Exit(ExitCode.NOT_PUBLISHED)


@app.command()
def validate(config: ConfigFile, *, sets: Sets = None, logical_date: LogicalDate = None) -> None:
    """Check all that can be checked without scoring; exits 2 on a fault.

    Config, input, model, contract against the first file, references, golden rows on the device, plan.
    """
    checks = check_job(read_config(config, tuple(sets or ()), date=logical_date))
    _screen().sheet(summary.checks_sheet(checks))
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(ExitCode.REFUSED)


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="An ETL recipe, YAML or JSON.")],
    *,
    data: Annotated[list[str], typer.Option(metavar="URI", help="Training rows: folder, file or glob. Repeatable.")],
    reference: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URI", help="A reference table that the recipe joins. Repeatable.")
    ] = None,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the fitted spec goes; large state lies beside it.")],
    workers: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Threads that read row groups side by side.")
    ] = 1,
) -> None:
    """Learn what an ETL recipe's steps learn; writes the fitted spec, the same bytes for any number of workers."""
    references = named_uris(reference)
    spec = read_spec_file(recipe)
    check_out(out, recipe, data, references=references, spec=spec)
    console = Console(stderr=True)
    with console.status("reading") as status:
        fitted = fit_files(
            spec,
            tuple(data),
            references,
            on_piece=lambda path: status.update(Text(f"reading {printable(path)}")),
            workers=workers,
        )
    written = save_spec(fitted, out)
    screen = _screen()
    screen.facts([*summary.fit_facts(spec, fitted), ("written", ", ".join(written))])
    screen.next_steps(
        [
            ("see what each step makes and costs", _line("etl", "explain", out)),
            ("make a bundle of it", _line("bundle", "create", "--spec", out) + " --model ONNX --rows URI …"),
        ]
    )


@app.command()
def show(where: _Where, run_id: _Run = None, *, as_json: AsJson = False) -> None:
    """Show what happened in a run, or how far it is."""
    view = runs.look_at(runs.find_run(where, run_id))
    if as_json and view.record is None:
        raise Refused(f"run {view.target.layout.run_id} has left no record yet.")
    if as_json and view.record is not None:
        typer.echo(view.record.model_dump_json(indent=1))
        return
    screen = _screen()
    screen.facts(summary.view_facts(view))
    if view.record is not None:
        screen.next_steps(next_steps(view.record, where))
    else:
        screen.next_steps([("if it died", f"run it again as it was begun, with --run-id {view.target.layout.run_id}")])


@app.command()
def results(
    where: _Where,
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run id; without it, the whole version.")
    ] = None,
    *,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, metavar="N", help="How many rows to print.")] = 10,
    version: Annotated[int | None, typer.Option(min=1, metavar="N", help="An older version of the output.")] = None,
    export: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write all rows to a .parquet, .csv or .arrow file.")
    ] = None,
    path: Annotated[bool, typer.Option("--path", help="Print the folder of each run, and nothing else.")] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Show the rows that a run set aside, by reason.")
    ] = False,
) -> None:
    """Print or export predictions, or show the rows that were set aside."""
    if sum((export is not None, path, quarantine)) > 1:
        message = "--export, --path and --quarantine are three different questions; ask one."
        raise typer.BadParameter(message)
    screen = _screen()
    if quarantine:
        _print_quarantine(screen, where, run_id)
        return
    found = open_results(where, run_id, version)
    if path:
        for folder in found.folders:
            typer.echo(folder)
    elif export is not None:
        screen.line(f"{counted(found.export(export), 'row')} of version {found.seq} written to {export}")
    else:
        screen.sheet(summary.rows_sheet(found.head(rows), found.scores))
        screen.line(f"{min(rows, found.rows):,} of {counted(found.rows, 'row')} of version {found.seq}", "dim")


@app.command()
def publish(
    where: _Where,
    run_id: _TheRun,
    *,
    accept_errors: Annotated[int, typer.Option(min=0, metavar="N", help="Quarantined rows that you accept.")],
    reason: _Reason,
) -> None:
    """Publish a run that is held back over its budget; scores nothing."""
    target = runs.find_run(where, run_id)
    with Observer(target, display_for(Console(stderr=True))) as observer:
        record = decisions.publish_run(target, accept_errors=accept_errors, reason=reason, on_step=observer)
    print_record(record, where, decisions.load_decision(target))


@app.command()
def discard(where: _Where, run_id: _TheRun, *, reason: _Reason) -> None:
    """Throw away the predictions of a run that is held back.

    Its record and its quarantined rows stay. Its id is used up.
    """
    target = runs.find_run(where, run_id)
    record = decisions.discard_run(target, reason=reason)
    _screen().facts(summary.record_facts(record, decisions.load_decision(target)))


class _Document(StrEnum):
    """A document that has a schema."""

    JOB = "job"
    ETL = "etl"
    BUNDLE = "bundle"
    RECORD = "record"


@app.command()
def schema(document: Annotated[_Document, typer.Argument(help="Which document.")]) -> None:
    """Print the JSON Schema of a document, for editors and programs."""
    typer.echo(json.dumps(json_schema(document.value), indent=1))


def json_schema(document: str) -> dict[str, Any]:
    """JSON Schema of `job`, `etl`, `bundle` or `record`, e.g. for an editor that completes and checks YAML."""
    models: dict[str, type[Strict]] = {"job": JobConfig, "bundle": Bundle, "record": RunRecord}
    made = spec_schema() if document == "etl" else models[document].model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": f"batchscore {document}"}


def _run_watched(request: RunRequest, again: str, log_format: LogFormat) -> RunRecord:
    """Run with progress on standard error, and beside the run; an error carries the way to go on."""
    target = target_of(request.config, request.run_id, scratch=request.is_scratch)
    console = Console(stderr=True, highlight=False)
    if log_format == "text":
        console.print(f"run {request.run_id}", style="dim", soft_wrap=True)
    displays = Displays(display_for(console, log_format), StatusFile(target))
    with Turn(target, _messages.note) as turn, Observer(target, displays) as observer:

        def on_phase(name: str) -> None:
            _interruption.listen_again()
            if name == "claim":
                turn.take()
            if name in {"commit", "record"}:
                _interruption.hold()
            observer(name)

        try:
            record = _in_turn(turn, lambda: run_job(request, on_phase))
        except Exception as error:
            if observer.phases and not isinstance(error, Refused | ConfigError):
                error.add_note(_UNFIT if isinstance(error, InputUnfit) else f"Go on with: {again}")
            raise
        finally:
            _interruption.hold()
    if not observer.phases and log_format == "text":
        console.print("it was published before; nothing was done", soft_wrap=True)
    return record


def _in_turn(turn: Turn, work: Callable[[], RunRecord]) -> RunRecord:
    """Do the work when nobody else does: by then another driver may have done it."""
    while True:
        try:
            return work()
        except NotOurTurn:
            turn.wait()


def _print_quarantine(screen: summary.Screen, where: str, run_id: str | None) -> None:
    target = runs.find_run(where, run_id)
    found = runs.quarantined_rows(target)
    if found.num_rows:
        screen.sheet(summary.reasons_sheet(found))
    screen.line(f"run {target.layout.run_id} set {counted(found.num_rows, 'row')} aside", "dim")


def _line(*words: str) -> str:
    return shlex.join(["batchscore", *words])


def _line_again(config: str, sets: list[str] | None, request: RunRequest) -> str:
    """The command line that goes on with a run, as it was begun: spark-submit.sh tells its own, Spark's options too."""
    submitted = os.environ.get("BATCHSCORE_COMMAND", "")
    if submitted:
        is_named = any(option in submitted for option in (" --run-id", " --logical-date"))
        named = "" if is_named else f" --run-id {request.run_id}"
        return f"{submitted.strip()}{named}"
    options = [word for override in sets or () for word in ("--set", override)]
    options += ["--limit", str(request.limit)] if request.limit is not None else []
    options += ["--sample", str(request.sample)] if request.sample is not None else []
    options += ["--missing-keys", request.missing_keys] if request.missing_keys is not None else []
    if request.logical_date is not None:
        options += ["--logical-date", date_text(request.logical_date)]
    if request.run_id != name_of_run(request.config.name, None, request.logical_date):
        options += ["--run-id", request.run_id]
    return shlex.join(["batchscore", "run", config, *options])


def _screen() -> summary.Screen:
    return summary.Screen(Console(highlight=False))


def main() -> None:
    """Entry of the console script, and of what spark-submit starts."""
    _interruption.listen()
    if not sys.warnoptions:
        warnings.showwarning = _messages.warning
    try:
        app(prog_name="batchscore")
    finally:
        _interruption.end()
