"""How a run ended, for people: where its rows are, the row account, sample rows, and what to try next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rich.console import Console

from etl.runs.layout import scratch_folder
from etl.runs.manifest import latest_manifest
from jobs.display import summary
from jobs.history import runs
from jobs.record import RunState
from jobs.results import open_results

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.record import RunRecord
    from jobs.settling.decisions import Decision

__all__ = ["next_steps", "print_record"]

_SAMPLE_ROWS = 3


def print_record(record: RunRecord, where: str, decision: Decision | None = None) -> None:
    """Where the predictions are, the row account, seconds by phase, sample rows, and what to try next."""
    screen = summary.Screen(Console(highlight=False))
    screen.facts(summary.record_facts(record, decision))
    if record.state.is_published:
        screen.line()
        if not _print_sample(screen, where, record.run_id):
            screen.next_steps([("see what followed", _line("versions", where))])
            return
    screen.next_steps(next_steps(record, where))


def _print_sample(screen: summary.Screen, where: str, run_id: str) -> bool:
    """Some rows of a published run; False where the newest version holds it no more, which is told."""
    target = runs.find_run(where, run_id)
    newest = latest_manifest(target.storage, target.layout.root)
    if newest is not None and run_id not in newest.run_ids:
        made = f"{newest.operation} by {newest.committed_by}, {summary.when_text(newest.committed_at)}"
        screen.line(f"The newest version, {newest.seq} ({made}), does not hold this run.", "yellow")
        return False
    found = open_results(where, run_id)
    screen.sheet(summary.rows_sheet(found.head(_SAMPLE_ROWS), found.scores))
    return True


def next_steps(record: RunRecord, where: str) -> Iterator[tuple[str, str]]:
    """Commands that make sense after a run, each with what it is good for."""
    run_id = record.run_id
    is_held, quarantined = record.state is RunState.HELD_BACK, record.account.quarantined.rows
    if not is_held and not record.state.is_published:
        return
    if not is_held:
        yield "look at predictions", _line("results", where, run_id)
    if quarantined:
        yield "see the rows that were set aside", _line("results", where, run_id, "--quarantine")
    if record.drift is not None and record.drift.beyond:
        yield "see how far columns have moved", _line("drift", where, run_id)
    if is_held:
        accept = ("--accept-errors", str(quarantined))
        yield "publish all the same", _line("publish", where, run_id, *accept) + " --reason TEXT"
        yield "or throw it away", _line("discard", where, run_id) + " --reason TEXT"
    elif scratch_folder("") not in record.output:
        yield "see all runs", _line("history", where)


def _line(*words: str) -> str:
    return shlex.join(["batchscore", *words])
