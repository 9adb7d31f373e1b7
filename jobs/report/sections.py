"""The parts of the page that are worked out: shares, positions, words. What is shown as it is, the template takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from etl.printable import counted
from jobs.display.summary import duration_text
from jobs.progress import PHASES
from jobs.record import RunState
from jobs.report.charts import Bar, Steps, bars, percent, steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.record import RunRecord
    from jobs.report.distributions import Distribution, Histogram, Labels
    from jobs.report.gathered import Gathered
    from jobs.report.work import Pace, Work

__all__ = [
    "Part",
    "PhaseLine",
    "Plotted",
    "Shown",
    "WorkerLine",
    "account_parts",
    "driver_lines",
    "headline",
    "next_steps",
    "plotted",
    "rows_per_second",
    "shown_scores",
    "worker_lines",
]

_OTHER = "other"
_FLOW = ("load", "read", "transform", "infer", "write")
"""Phases of the workers in the order in which rows meet them."""
_DAY = 86_400.0


class Part(NamedTuple):
    """One of the places to which rows went."""

    name: str
    rows: int
    percent: float
    """Of the rows that came in."""


class PhaseLine(NamedTuple):
    """A phase of the driver."""

    name: str
    """As in the record."""
    words: str
    seconds: float
    pieces: tuple[tuple[float, float], ...]
    """When it was at work: beginning and length, in percent of the run."""


class WorkerLine(NamedTuple):
    """A phase of the workers, over all of them."""

    name: str
    seconds: float
    """Of work."""
    waiting: float
    """Seconds in which it waited for another phase."""
    work_percent: float
    """Of the longest line."""
    waiting_percent: float


class Plotted(NamedTuple):
    """A chart over time."""

    pace: Pace
    rows: Steps
    splits: Steps
    peak: float
    """Rows/s in the best bucket."""
    mean: float
    """Rows/s from the first split's beginning to the last one's end."""


class Shown(NamedTuple):
    """A score with its chart."""

    found: Distribution
    numbers: Histogram | None
    bars: tuple[Bar, ...]
    labels: Labels | None
    is_constant: bool
    """Whether every finite number is the same."""


def headline(gathered: Gathered) -> str:
    """What became of the run, in one sentence."""
    record, account = gathered.record, gathered.record.account
    took = duration_text(record.seconds)
    scored = counted(account.scored.rows, "row was", "rows were")
    if record.state.is_published:
        aside = f"; {account.quarantined.rows:,} were set aside" if account.quarantined.rows else ""
        where = "in a place of its own, for it is a trial" if gathered.is_trial else f"as version {record.manifest}"
        return f"{scored} scored and published {where}, in {took}{aside}."
    if record.state is RunState.HELD_BACK:
        return f"{scored} scored in {took}, and a person has to decide on the run: nothing is published."
    if record.state is RunState.DISCARDED:
        return "A person threw the predictions away; nothing is published."
    kept = f" {account.scored.rows:,} scored rows are kept for it." if account.scored.rows else ""
    ended = "was stopped by a signal" if record.state is RunState.CANCELLED else "failed"
    return f"It {ended} after {took}; nothing is published. The same run id goes on with it.{kept}"


def next_steps(gathered: Gathered) -> tuple[tuple[str, str], ...]:
    """Commands that make sense now, each with what it is good for."""
    record, root = gathered.record, gathered.root
    if gathered.is_trial:
        return ()
    name = record.run_id
    aside = ("See the rows that were set aside", f"batchscore quarantine {root} {name}")
    if record.state is RunState.HELD_BACK:
        accepted = record.account.quarantined.rows
        has_moved = record.drift is not None and record.drift.beyond
        moved = ("See how far columns have moved", f"batchscore drift {root} {name}")
        return (
            *((aside,) if accepted else ()),
            *((moved,) if has_moved else ()),
            ("Publish all the same", f"batchscore publish {root} {name} --accept-errors {accepted} --reason TEXT"),
            ("Or throw it away", f"batchscore discard {root} {name} --reason TEXT"),
        )
    if record.state.is_published and record.account.quarantined.rows:
        return (aside,)
    return ()


def account_parts(record: RunRecord) -> tuple[Part, ...]:
    """Where the rows went."""
    account = record.account
    places = {"scored": account.scored, "quarantined": account.quarantined, "filtered": account.filtered}
    return tuple(Part(name, one.rows, percent(one.rows, account.rows_in.rows)) for name, one in places.items())


def driver_lines(record: RunRecord) -> tuple[PhaseLine, ...]:
    """Phases in the order in which they began; what no phase tells is `other`."""
    return tuple(_driver_lines(record))


def _driver_lines(record: RunRecord) -> Iterator[PhaseLine]:
    # In a stored record phases are in the order of their names: fsum does not mind, nor does the order of `PHASES`.
    known = math.fsum(record.wall_seconds.values())
    total, reached = max(record.seconds, known), 0.0
    pieces: dict[str, list[tuple[float, float]]] = {}
    for one in record.timeline:
        begin = (one.started_at - record.started_at).total_seconds()
        pieces.setdefault(one.phase, []).append((percent(begin, total), percent(one.seconds, total)))
    usual = {name: at for at, name in enumerate(PHASES)}
    begun = {name: min(found)[0] for name, found in pieces.items()}
    for name in sorted(record.wall_seconds, key=lambda name: (begun.get(name, 0.0), usual.get(name, 0), name)):
        seconds = record.wall_seconds[name]
        # Older records have no timeline; there phases followed one another.
        where = pieces.get(name) or [(percent(reached, total), percent(seconds, total))]
        reached += seconds
        yield PhaseLine(name, PHASES.get(name, name), seconds, tuple(where))
    rest = record.seconds - known
    if record.wall_seconds and rest > 0:
        yield PhaseLine(_OTHER, "between the phases", rest, ())


def worker_lines(record: RunRecord) -> tuple[WorkerLine, ...]:
    """Phases of the workers in the order in which rows meet them, then others by name."""
    waiting = record.engine.waiting
    known = {*record.worker_seconds, *waiting}
    names = [*(name for name in _FLOW if name in known), *sorted(known.difference(_FLOW))]
    spent = {name: (record.worker_seconds.get(name, 0.0), waiting.get(name, 0.0)) for name in names}
    longest = max((sum(pair) for pair in spent.values()), default=0.0)
    return tuple(
        WorkerLine(name, work, idle, percent(work, longest), percent(idle, longest))
        for name, (work, idle) in spent.items()
    )


def rows_per_second(record: RunRecord) -> float | None:
    """Over the time of scoring, the start of workers included; None where an earlier try had scored some of them."""
    scoring = record.wall_seconds.get("score", 0.0)
    if not scoring or record.splits_scored_now != record.splits:
        return None
    return record.account.rows_in.rows / scoring


def plotted(work: Work) -> Plotted | None:
    """The chart over time; None where there is nothing to show."""
    pace = work.pace
    if pace is None or pace.seconds > 10_000 * _DAY:
        return None
    rows = sum(pace.rows_per_second) * pace.width
    return Plotted(
        pace, steps(pace.rows_per_second), steps(pace.at_work), max(pace.rows_per_second), rows / pace.seconds
    )


def shown_scores(gathered: Gathered) -> tuple[Shown, ...]:
    """Scores with their charts."""
    return tuple(_shown(one) for one in gathered.scores.columns)


def _shown(found: Distribution) -> Shown:
    numbers = found.numbers
    is_constant = numbers is not None and numbers.quantiles[0] == numbers.quantiles[-1]
    chart = bars(numbers.edges, numbers.counts) if numbers is not None and not is_constant else []
    return Shown(found, numbers, tuple(chart), found.labels, is_constant)
