"""What people see of a backfill: what it would do, how far it is, what each date came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.text import Text

from etl.printable import counted, printable
from jobs.config.variables import date_text
from jobs.display.summary import Column, Sheet, count_text, duration_text
from jobs.scheduling.drivers import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.status import Status

    from jobs.scheduling.drivers import Ending
    from jobs.scheduling.errands import Errand
    from jobs.scheduling.rescoring import Touched

__all__ = ["Board", "endings_sheet", "plan_sheet", "touched_sheet", "why"]

_GOOD = {Outcome.PUBLISHED, Outcome.BEFORE}
_SHOWN_AT_WORK = 4


class Board:
    """A line as each date ends; on a terminal also which dates are at work."""

    def __init__(self, console: Console, dates: int) -> None:
        """Nothing is shown yet."""
        self._console, self._dates, self._ended = console, dates, 0
        self._status: Status | None = console.status("") if console.is_terminal else None

    def __enter__(self) -> Self:
        """Itself."""
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal clean."""
        if self._status is not None:
            self._status.stop()

    def tell(self, ending: Ending | None, at_work: list[str]) -> None:
        """A date ended, or others are at work than before."""
        if ending is not None:
            self._ended += 1
        # On a terminal the table that follows tells of the others, and nothing has scrolled away by then.
        if ending is not None and (self._status is None or ending.outcome not in _GOOD):
            parts = [date_text(ending.errand.date), f"{ending.outcome:<16}"]
            parts += [counted(ending.rows, "row")] if ending.rows is not None else []
            parts += [duration_text(ending.seconds)] if ending.seconds is not None else []
            self._console.print(Text(printable("  ".join(parts).rstrip())), soft_wrap=True)
        if self._status is not None:
            more = f" and {len(at_work) - _SHOWN_AT_WORK} more" if len(at_work) > _SHOWN_AT_WORK else ""
            told = f"{', '.join(at_work[:_SHOWN_AT_WORK])}{more}" if at_work else "nothing"
            self._status.update(Text(f"{self._ended} of {counted(self._dates, 'date')} done; at work: {told}"))


def endings_sheet(endings: Sequence[Ending]) -> Sheet:
    """A line a date."""
    columns = (
        Column("date"),
        Column("outcome"),
        Column("rows", "right"),
        Column("took", "right"),
        Column("run", rank=1),
    )
    return Sheet(columns, [_row(ending) for ending in endings])


def _row(ending: Ending) -> tuple[str, ...]:
    took = duration_text(ending.seconds) if ending.seconds is not None else "-"
    rows = count_text(ending.rows) if ending.rows is not None else "-"
    return (date_text(ending.errand.date), str(ending.outcome), rows, took, ending.errand.run_id)


def why(endings: Sequence[Ending]) -> list[str]:
    """A line for each date that is not published, the same reason once."""
    found = []
    for ending in endings:
        if ending.outcome in _GOOD or ending.outcome is Outcome.NOT_STARTED:
            continue
        kept = f" Its log: {ending.log}" if ending.log else ""
        found.append(f"{date_text(ending.errand.date)} {ending.outcome}: {ending.told}{kept}")
    return found


def plan_sheet(planned: Sequence[tuple[Errand, Ending | None]]) -> Sheet:
    """What would be run."""
    columns = (Column("date"), Column("would be"), Column("run"))
    return Sheet(columns, [_planned(errand, known) for errand, known in planned])


def _planned(errand: Errand, known: Ending | None) -> tuple[str, ...]:
    would = "run" if known is None else "left: published" if known.outcome is Outcome.BEFORE else str(known.outcome)
    return (date_text(errand.date), would, errand.run_id)


def touched_sheet(touched: Sequence[Touched]) -> Sheet:
    """What a bad model has left, a line a run."""
    columns = (
        Column("date"),
        Column("run"),
        Column("rows", "right"),
        Column("folders", "fold"),
        Column("scored by", rank=1),
    )
    return Sheet(columns, [_touched(one) for one in touched])


def _touched(one: Touched) -> tuple[str, ...]:
    first = one.folders[0] if one.folders else ""
    folders = first if len(one.folders) == 1 else f"{first} and {len(one.folders) - 1} more"
    date = date_text(one.date) if one.date is not None else "-"
    return (date, one.run_id, count_text(one.rows), folders, one.models)
