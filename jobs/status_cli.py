"""`batchscore status`: how far a run is, asked from any machine that reaches its store."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from jobs.displays import display_for
from jobs.errors import ExitCode
from jobs.history import find_run, look_at
from jobs.monitoring.status import ENDED, load_status
from jobs.plan import load_last_try
from jobs.progress import PHASES, ReceiptWatch
from jobs.record import RunState
from jobs.summary import Screen, duration_text, when_text

if TYPE_CHECKING:
    from jobs.destination import Target
    from jobs.history import RunView
    from jobs.monitoring.status import RunStatus
    from jobs.progress import Tally
    from jobs.summary import Facts

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
        self.view: RunView = look_at(target)
        self.status: RunStatus | None = load_status(target)
        last = load_last_try(target)
        record = self.view.record
        # A record from before the last try is of another one, which has ended.
        self.has_ended = record is not None and (last is None or record.recorded_at >= last.claimed_at)
        self.watch = watch or (ReceiptWatch(target, self.view.plan) if self.view.plan is not None else None)
        self.tally: Tally | None = self.watch.look() if self.watch is not None else None

    @property
    def phase(self) -> str:
        """As the driver told it last."""
        return self.status.phase if self.status is not None else ""

    @property
    def state(self) -> str:
        """The record's where the run has ended."""
        return self.view.state if self.has_ended else "UNFINISHED"

    def document(self) -> dict[str, object]:
        """For programs."""
        told = self.status.model_dump(mode="json") if self.status is not None else None
        return {
            "run_id": self.view.target.layout.run_id,
            "state": self.state,
            "has_ended": self.has_ended,
            "splits": self.tally.splits if self.tally is not None else None,
            "splits_done": self.tally.splits_done if self.tally is not None else None,
            "driver": told,
        }

    def facts(self) -> Facts:
        """For people."""
        facts: Facts = [("state", self.state), ("run", self.view.target.layout.run_id)]
        if self.tally is not None:
            facts.append(("splits", f"{self.tally.splits_done:,} of {self.tally.splits:,} are scored"))
        if self.status is not None and not self.has_ended:
            facts += _driver(self.status)
        if self.view.record is not None and self.has_ended:
            facts.append(("took", duration_text(self.view.record.seconds)))
        return facts


def _driver(status: RunStatus) -> Facts:
    ago = (datetime.now(UTC) - status.told_at).total_seconds()
    facts: Facts = [("phase", f"{PHASES.get(status.phase, status.phase)}, since {when_text(status.phase_began_at)}")]
    if status.rows_per_second is not None and status.seconds_left is not None:
        facts.append(("pace", f"{status.rows_per_second:,.0f} rows/s, {duration_text(status.seconds_left)} left"))
    if status.quarantined_share is not None:
        facts.append(("set aside", f"{status.quarantined_share:.2%} of the rows that were looked at"))
    silent = "; it may have died: the same command goes on" if ago > _SILENT else ""
    return [*facts, ("last sign", f"{duration_text(max(0.0, ago))} ago{silent}")]


def _follow(target: Target, *, as_json: bool) -> int:
    console = Console(stderr=True, highlight=False)
    display, waiting = display_for(console, "json" if as_json else "text"), threading.Event()
    watch: ReceiptWatch | None = None
    phase = ""
    try:
        while True:
            began = datetime.now(UTC)
            look = _Look(target, watch)
            watch = look.watch
            if look.has_ended:
                break
            if look.phase not in {phase, ENDED}:
                phase = look.phase
                display.phase(phase)
            if look.tally is not None and phase in {"", "score"}:
                display.tally(look.tally)
            waiting.wait(max(_PAUSE, _LOOKING_SHARE * (datetime.now(UTC) - began).total_seconds()))
    finally:
        display.close()
    if as_json:
        typer.echo(json.dumps(look.document()))
    else:
        Screen(Console(highlight=False)).facts(look.facts())
    record = look.view.record
    assert record is not None  # noqa: S101  it has ended
    if record.state.is_published:
        return ExitCode.PUBLISHED
    return _CODES.get(record.state, ExitCode.NOT_PUBLISHED)
