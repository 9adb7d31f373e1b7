"""`batchscore status`: how far a run is, asked from any machine that reaches its store."""

from __future__ import annotations

import contextlib
import json
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from etl.errors import DocumentError
from jobs.display.progress import display_for, json_line
from jobs.display.summary import Screen, duration_text, when_text
from jobs.errors import ExitCode
from jobs.history.runs import UNFINISHED, find_run, record_of
from jobs.monitoring.status import ENDED, load_status
from jobs.planning.plan import load_last_try, load_plan
from jobs.progress import PHASES, ReceiptWatch
from jobs.record import RunState

if TYPE_CHECKING:
    from jobs.display.summary import Facts
    from jobs.monitoring.status import RunStatus
    from jobs.planning.destination import Target
    from jobs.progress import Tally
    from jobs.record import RunRecord

__all__ = ["commands"]

commands = typer.Typer()
_PAUSE = 2.0
"""Seconds between two looks, and no less than ten times what a look takes."""
_LOOKING_SHARE = 10
_SILENT = 60.0
"""Seconds after which a driver that tells nothing may be dead; by two clocks, so it is a hint and no more."""
_CODES = {RunState.FAILED: ExitCode.FAILED, RunState.CANCELLED: ExitCode.FAILED}


@commands.command("status")
def show_status(
    where: Annotated[str, typer.Argument(metavar="WHERE", help="The job's YAML file, or the URI of its output.")],
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="A run id; without it, the newest run.")] = None,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs; one line a look.")] = False,
) -> None:
    """Say how far a run is; with --follow until it has ended, with its exit code.

    Nothing is asked of its driver: what is told is what lies in storage.
    """
    target = find_run(where, run_id)
    if follow:
        raise typer.Exit(_follow(target, as_json=as_json))
    look = _Look(target)
    if as_json:
        typer.echo(json.dumps(look.document()))
        return
    Screen(Console(highlight=False)).facts(look.facts())


class _Look:
    """What storage tells now."""

    def __init__(self, target: Target, watch: ReceiptWatch | None = None) -> None:
        self.run_id = target.layout.run_id
        self.status: RunStatus | None = None
        # It is a hint: record and receipts tell more, where it is damaged or of another release.
        with contextlib.suppress(DocumentError):
            self.status = load_status(target)
        last, record = load_last_try(target), record_of(target)
        # A record from before the last try is of another one, which has ended.
        self.record = record if record and (last is None or record.recorded_at >= last.claimed_at) else None
        # A plan of many splits is large, and stays as it is.
        plan = load_plan(target) if watch is None else None
        self.watch = ReceiptWatch(target, plan) if plan is not None else watch
        self.tally: Tally | None = self.watch.look() if self.watch is not None else None

    @property
    def phase(self) -> str:
        """As the driver told it last."""
        return self.status.phase if self.status is not None else ""

    @property
    def silence(self) -> float:
        """Seconds since the driver's last sign, by two clocks; nought where it never gave one."""
        return (datetime.now(UTC) - self.status.told_at).total_seconds() if self.status is not None else 0.0

    @property
    def state(self) -> str:
        """The record's where the run has ended."""
        return str(self.record.state) if self.record is not None else UNFINISHED

    def document(self) -> dict[str, object]:
        """For programs."""
        told = self.status.model_dump(mode="json") if self.status is not None else None
        return {
            "run_id": self.run_id,
            "state": self.state,
            "has_ended": self.record is not None,
            "splits": self.tally.splits if self.tally is not None else None,
            "splits_done": self.tally.splits_done if self.tally is not None else None,
            "driver": told,
        }

    def facts(self) -> Facts:
        """For people."""
        facts: Facts = [("state", self.state), ("run", self.run_id)]
        if self.tally is not None:
            facts.append(("splits", f"{self.tally.splits_done:,} of {self.tally.splits:,} are scored"))
        if self.record is not None:
            facts.append(("took", duration_text(self.record.seconds)))
        elif self.status is not None:
            facts += _driver(self.status, self.silence)
        return facts


def _driver(status: RunStatus, silence: float) -> Facts:
    facts: Facts = [("phase", f"{PHASES.get(status.phase, status.phase)}, since {when_text(status.phase_began_at)}")]
    if status.rows_per_second is not None and status.seconds_left is not None:
        facts.append(("pace", f"{status.rows_per_second:,.0f} rows/s, {duration_text(status.seconds_left)} left"))
    if status.quarantined_share is not None:
        facts.append(("set aside", f"{status.quarantined_share:.2%} of the rows that were looked at"))
    dead = "; it may have died: the same command goes on" if silence > _SILENT else ""
    return [*facts, ("last sign", f"{duration_text(max(0.0, silence))} ago{dead}")]


def _tell_of_silence(console: Console, look: _Look, *, as_json: bool) -> None:
    if as_json:
        console.out(json_line({"event": "silent", "seconds": round(look.silence, 3)}), highlight=False)
        return
    console.print(
        f"{look.run_id}: no sign of its driver for {duration_text(look.silence)}. It may have died: the same `run` "
        "command goes on.",
        soft_wrap=True,
    )


def _follow(target: Target, *, as_json: bool) -> int:
    console = Console(stderr=True, highlight=False)
    display, waiting = display_for(console, "json" if as_json else "text"), threading.Event()
    watch: ReceiptWatch | None = None
    phase, was_silent = "", False
    try:
        while True:
            began = datetime.now(UTC)
            look = _Look(target, watch)
            watch = look.watch
            if look.record is not None:
                display.close()
                return _ended(look, look.record, as_json=as_json)
            if look.silence > _SILENT and not was_silent:
                _tell_of_silence(console, look, as_json=as_json)
            was_silent = look.silence > _SILENT
            if look.phase not in {phase, ENDED}:
                phase = look.phase
                display.phase(phase)
            if look.tally is not None and phase in {"", "score"}:
                display.tally(look.tally)
            waiting.wait(max(_PAUSE, _LOOKING_SHARE * (datetime.now(UTC) - began).total_seconds()))
    finally:
        display.close()


def _ended(look: _Look, record: RunRecord, *, as_json: bool) -> int:
    if as_json:
        typer.echo(json.dumps(look.document()))
    else:
        Screen(Console(highlight=False)).facts(look.facts())
    if record.state.is_published:
        return ExitCode.PUBLISHED
    return _CODES.get(record.state, ExitCode.NOT_PUBLISHED)
