"""`batchscore quarantine`: the rows that a run set aside, by reason, and the way to score them again."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from etl.printable import counted
from jobs.commands.process import spark_log
from jobs.display import summary
from jobs.display.progress import Displays, display_for
from jobs.display.summary import Column, Screen, Sheet
from jobs.errors import ExitCode, Refused
from jobs.history.local_files import export_batches
from jobs.history.quarantine import flat, groups_of, private_of, resubmission
from jobs.history.replaying import MASK
from jobs.history.runs import find_run, quarantined_rows
from jobs.identity import new_run_id
from jobs.monitoring.status import StatusFile
from jobs.planning.plan import target_of
from jobs.progress import Observer
from jobs.record import RunState
from jobs.run import run
from jobs.session import session_scope

if TYPE_CHECKING:
    from jobs.history.quarantine import Group, SetAside

__all__ = ["quarantined"]

_SAMPLES = 3
"""Rows that are shown of each reason."""

quarantined = typer.Typer()


@quarantined.command()
def quarantine(
    ctx: typer.Context,
    where: Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")],
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="A run id; without it, the newest run.")] = None,
    *,
    export: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write all of them to a .parquet, .csv or .arrow file.")
    ] = None,
    resubmit: Annotated[bool, typer.Option("--resubmit", help="Score them again, as the config says now.")] = False,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --resubmit: the key. Default: the first passthrough.")
    ] = None,
    as_run: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="With --resubmit: the id of the new run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show the rows that a run set aside, by reason; with --resubmit score them again and publish them beside.

    A new run reads the files in which they lie, as they are now, and takes the rows whose key is not published.
    """
    if resubmit and (export is not None or as_json):
        raise Refused("--resubmit scores; --export and --json only show. Give one of them.")
    if not resubmit and (key, as_run) != (None, None):
        raise Refused("--key and --run-id go with --resubmit.")
    if resubmit:
        _resubmit(where, run_id, key, as_run=as_run, debug=bool(ctx.find_root().obj))
        return
    _show(where, run_id, export=export, as_json=as_json)


def _show(where: str, run_id: str | None, *, export: str | None, as_json: bool) -> None:
    target = find_run(where, run_id)
    found, screen = quarantined_rows(target), Screen(Console(highlight=False))
    name = target.layout.run_id
    if export is not None:
        table = flat(found)
        export_batches(export, table.schema, table.to_batches())
        screen.line(f"{counted(table.num_rows, 'row')} that run {name} set aside written to {export}")
        return
    private, groups = private_of(target), groups_of(found, _SAMPLES)
    if as_json:
        for group in groups:
            rows = [one._replace(values=_masked(one, private))._asdict() for one in group.samples]
            typer.echo(json.dumps({"run": name, **group._asdict(), "samples": rows}, default=str))
        return
    if groups:
        screen.sheet(summary.reasons_sheet(found))
    for group in groups:
        screen.line()
        screen.line(f"{counted(group.rows, 'row')}: {group.stage}/{group.code} {group.column}".rstrip(), "bold")
        screen.sheet(_samples(group, private))
    screen.line(f"run {name} set {counted(found.num_rows, 'row')} aside", "dim")
    if groups:
        first = groups[0].samples[0]
        at = f"{first.file}:{first.row}"
        screen.next_steps(
            [
                ("see what becomes of one", shlex.join(["batchscore", "replay", where, name, "--at", at])),
                ("score them again, once what is wrong is mended", _again(where, name)),
            ]
        )


def _again(where: str, run_id: str, *more: str) -> str:
    return shlex.join(["batchscore", "quarantine", where, run_id, "--resubmit", *more])


def _masked(one: SetAside, private: frozenset[str]) -> dict[str, Any]:
    return {name: MASK if name in private else value for name, value in one.values.items()}


def _samples(group: Group, private: frozenset[str]) -> Sheet:
    """The first rows of a reason, as their contract read them."""
    names = list(group.samples[0].values)
    head = (Column("file", "fold"), Column("row", "right"))
    columns = (
        *head,
        *(Column(name, rank=2 if name == group.column else number + 3) for number, name in enumerate(names)),
    )
    rows = [
        (one.file, str(one.row), *("·" if value is None else str(value) for value in _masked(one, private).values()))
        for one in group.samples
    ]
    return Sheet(columns, rows)


def _resubmit(where: str, run_id: str | None, key: str | None, *, as_run: str | None, debug: bool) -> None:
    source = find_run(where, run_id)
    request = resubmission(where, source.layout.run_id, key, as_run=as_run or new_run_id("again"))
    console = Console(stderr=True, highlight=False)
    console.print(f"run {request.run_id}", style="dim", soft_wrap=True)
    target = target_of(request.config, request.run_id, scratch=False)
    with (
        spark_log(debug),
        session_scope(),
        Observer(target, Displays(display_for(console), StatusFile(target))) as observer,
    ):
        try:
            record = run(request, observer)
        except Exception as error:
            if observer.phases and not isinstance(error, Refused):
                words = ("--run-id", request.run_id, *(("--key", key) if key is not None else ()))
                error.add_note(f"Go on with: {_again(where, source.layout.run_id, *words)}")
            raise
    screen = Screen(Console(highlight=False))
    screen.facts(summary.record_facts(record))
    before, account = quarantined_rows(source).num_rows, record.account
    good = counted(account.scored.rows, "row is", "rows are")
    screen.line(
        f"run {source.layout.run_id} had set {counted(before, 'row')} aside; of those files {good} "
        f"published now, and {account.quarantined.rows:,} are set aside again"
    )
    if record.state is RunState.HELD_BACK:
        raise typer.Exit(ExitCode.NOT_PUBLISHED)
