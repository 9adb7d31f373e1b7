"""`batchscore versions`, `rollback` and `gc`: what was published when, the way back, and what nobody needs any more."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from etl.errors import OutcomeUnknown, PublishError
from etl.printable import counted
from etl.runs.layout import runs_folder
from etl.runs.manifest import all_manifests, latest_manifest
from etl.runs.retention import rollback
from etl.runs.storage import storage_for
from jobs.config.output import Gc
from jobs.display.summary import Screen
from jobs.display.version import garbage_sheet, versions_sheet
from jobs.errors import Refused, refusing
from jobs.history.runs import config_of, output_root
from jobs.identity import whoami
from jobs.settling.garbage import Keeping, Root, collect, find_garbage
from jobs.settling.upkeep import after_commit

if TYPE_CHECKING:
    from jobs.config.job import JobConfig

__all__ = ["gc", "roll_back", "versions"]

_Where = Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")]
_DAY = timedelta(days=1)


def versions(
    where: _Where,
    *,
    last: Annotated[int, typer.Option(min=1, metavar="N", help="How many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the versions of an output, newest first: what each holds, who committed it, how."""
    storage, root = output_root(where)
    found = all_manifests(storage, root)[::-1]
    if not found:
        raise Refused(f"{root}: nothing is published here.")
    if as_json:
        for manifest in found[:last]:
            typer.echo(json.dumps(manifest.model_dump(mode="json", by_alias=True)))
        return
    screen = Screen(Console(highlight=False))
    screen.sheet(versions_sheet(found[:last], kept_from=found[0].kept_from))
    if len(found) > last:
        screen.line(f"{len(found) - last:,} older versions are not shown; see --last.", "dim")


def roll_back(
    where: _Where,
    *,
    to: Annotated[int, typer.Option(min=1, metavar="SEQ", help="The version to go back to.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept with the version.")],
) -> None:
    """Commit a version that holds what an older one held.

    Runs that it does not hold stay readable in the versions between; incremental jobs score their input again. Where
    the newest version holds that already, nothing is committed.
    """
    if not reason.strip():
        raise Refused("give a reason; it is kept with the version.")
    storage, root = output_root(where)
    before = latest_manifest(storage, root)
    try:
        made = rollback(storage, root, to=to, who=whoami(), reason=reason.strip())
    except OutcomeUnknown:
        raise
    except PublishError as error:
        raise Refused(str(error)) from error
    after_commit(storage, root)
    screen = Screen(Console(highlight=False))
    rows = sum(run.rows for run in made.runs)
    runs = counted(len(made.runs), "run")
    has_already = before is not None and before.seq == made.seq
    told = "holds already, so nothing was committed," if has_already else "holds"
    screen.line(f"version {made.seq} {told} what version {to} held: {counted(rows, 'row')} of {runs}")
    if any(not run.folder.startswith("_") for run in made.runs):
        screen.line(
            "Who lists the folder instead of asking for a version still finds the runs that were rolled back.", "yellow"
        )


def gc(
    where: _Where,
    *,
    keep: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Versions to keep. Default: output.keep_versions, or all.")
    ] = None,
    min_age: Annotated[
        float | None,
        typer.Option(
            min=0, max=36_500, metavar="DAYS", help="Leave unfinished runs and trials younger than this. Default: 7."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove what nobody needs: files of older versions, and what runs that never ended, and trials, left.

    Records, plans, receipts and quarantined rows stay.
    """
    config = config_of(where)
    storage, root = output_root(where)
    keeping = _keeping(config, root, keep=keep, min_age=min_age)
    if not storage.names(runs_folder(root)) and latest_manifest(storage, root) is None:
        raise Refused(f"{root}: there is no run here.")
    place = Root(storage, root)
    found = (find_garbage if dry_run else collect)(place, keeping, datetime.now(UTC))
    garbage = list(found)
    screen = Screen(Console(highlight=False))
    if not garbage:
        screen.line("there is nothing to remove")
        return
    screen.sheet(garbage_sheet(garbage, root))
    screen.line("nothing was removed (--dry-run)" if dry_run else "all of this was removed", "dim")


def _keeping(config: JobConfig | None, root: str, *, keep: int | None, min_age: float | None) -> Keeping:
    told = config.gc if config is not None else Gc()
    scratch = (config.scratch if config is not None else None) or f"{root}.scratch"
    with refusing():
        _, folder = storage_for(scratch)
    versions = keep or (config.output.keep_versions if config is not None else None)
    return Keeping(
        versions=versions,
        min_age=told.min_age if min_age is None else min_age * _DAY,
        scratch=folder,
    )
