"""The command line."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from etl.errors import BatchscoreError
from jobs.config import read_config
from jobs.errors import exit_code
from jobs.run import RunRequest, new_run_id, run as run_job

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Distributed batch scoring on Spark whose counts always add up."""


@app.command()
def run(
    config: str,
    set_: Annotated[list[str] | None, typer.Option("--set")] = None,
    run_id: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Score a job's input and publish the predictions."""
    job = read_config(config, tuple(set_ or ()))
    record = run_job(RunRequest(config=job, run_id=run_id or new_run_id(job.name)), lambda phase: print(phase, flush=True))
    print(record.model_dump_json(indent=1))
    raise typer.Exit(4 if record.state == "HELD_BACK" else 0)


def main() -> None:
    """Entry of the console script: run the command line, and turn errors into messages and exit codes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except BatchscoreError as error:
        print(error, file=sys.stderr)
        sys.exit(exit_code(error))
