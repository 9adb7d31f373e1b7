"""How long a run will take, what it will cost, and what a deadline needs, by the runs before it.

With a night that took f seconds outside of scoring, and s seconds to score B bytes on c cores, b bytes on k cores take

    f + s · b/B · c/min(k, splits)

seconds: scoring is taken to be linear in bytes and in cores, and the rest to be as it was. Each night gives a number;
they are told as a range from the 10th to the 90th hundredth of nights, and a deadline is to hold in 90 of 100.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import Field

from etl.documents import Strict
from etl.printable import counted
from jobs.monitoring.cost import Used, amount_of
from jobs.record import RunState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobs.monitoring.limit_settings import Cost
    from jobs.record import RunRecord

__all__ = ["Estimate", "Night", "Range", "Sizing", "Work", "night_of_sample", "nights_of", "size"]

_MANY = 30
_SHARES = (0.1, 0.5, 0.9)
_ALWAYS = ("load", "read")
"""Phases of workers that a sample does whole: models are loaded, and all rows are read to choose among them."""
_WHOLE = frozenset({RunState.SUCCEEDED, RunState.PARTIALLY_SUCCEEDED, RunState.HELD_BACK})


class Night(NamedTuple):
    """What is known of a run that scored all of its splits."""

    bytes: int
    """Of the input."""
    rows: int
    cores: int
    """Tasks that ran at once."""
    fixed: float
    """Seconds outside of scoring."""
    scoring: float
    """Seconds."""
    alone: float = 0.0
    """Seconds in which there were no executors, before Spark had started."""

    def seconds(self, work: Work, cores: int) -> float:
        """What that work would have taken that night on so many cores."""
        return self.fixed + self.scoring * work.bytes / self.bytes * self.cores / min(cores, max(1, work.splits))


class Work(NamedTuple):
    """What is to be done, and on what."""

    bytes: int
    splits: int
    cores: int | None
    """Tasks that run at once; None where nobody knows."""
    executor_cores: int | None
    """Of one executor; None with a `local` master, where the driver is the only one."""


class Range(Strict):
    """A number of many nights."""

    low: float = Field(description="10 of 100 nights are below.")
    median: float
    high: float = Field(description="10 of 100 nights are above.")

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """By linear interpolation between the values."""
        low, median, high = np.quantile(np.asarray(values, np.float64), _SHARES).tolist()
        return cls(low=low, median=median, high=high)


class Estimate(Strict):
    """A run on so many cores."""

    cores: int
    executors: int | None = Field(description="None with a `local` master.")
    seconds: Range
    amount: Range | None = Field(description="Money; None without a table of prices.")


class Sizing(Strict):
    """What is to be expected of a run."""

    nights: int = Field(description="Runs that this comes from.")
    is_sample: bool = Field(default=False, description="Whether it comes from a trial of a share of the rows.")
    as_large_as: str | None = Field(
        default=None,
        description="The run whose input this one's is taken to be as large as, where nobody knows before.",
    )
    bytes: int
    rows: int = Field(description="As many as the nights had for so many bytes, in the median.")
    rows_per_core_second: Range
    fixed_seconds: Range = Field(description="Outside of scoring.")
    currency: str | None = None
    present: Estimate | None = Field(description="On the cores of the config, or of the newest night.")
    deadline_seconds: float | None = None
    needed: Estimate | None = Field(default=None, description="The fewest executors that keep the deadline.")
    problem: str | None = Field(default=None, description="Why none do.")


def nights_of(records: Iterable[RunRecord], *, model: str | None = None) -> list[Night]:
    """Nights of a job's records, the newest first: the last 30, of the model `name:version` where it has any."""
    whole = [(record, night) for record in records if (night := _night(record)) is not None]
    same = [one for one in whole if one[0].model and f"{one[0].model.name}:{one[0].model.version}" == model]
    return [night for _, night in (same or whole)[:_MANY]]


def _night(record: RunRecord) -> Night | None:
    scoring = record.wall_seconds.get("score", 0.0)
    cores = record.cost.cores if record.cost is not None and record.cost.cores else record.workers
    is_whole = record.state in _WHOLE and record.splits_scored_now == record.splits > 0
    is_whole = is_whole and record.missing_keys is None
    if not is_whole or record.snapshot is None or not record.snapshot.bytes or not cores or scoring <= 0:
        return None
    rows = record.account.rows_in.rows
    cost, alone = record.cost, 0.0
    if cost is not None and cost.executors:
        alone = max(0.0, record.seconds - cost.executor_hours * 3600 / cost.executors)
    return Night(record.snapshot.bytes, rows, cores, max(0.0, record.seconds - scoring), scoring, alone)


def night_of_sample(record: RunRecord) -> Night | None:
    """What a trial of a share of the rows tells of all of them; None where it scored no row.

    Whatever workers did with the rows of the sample is multiplied, and added at the pace of all cores; their phases
    are added up as though none ran beside another, so this is rather too long than too short.
    """
    night = _night(record)
    account = record.account
    chosen = account.scored.rows + account.quarantined.rows
    if night is None or not chosen:
        return None
    times = account.rows_in.rows / chosen
    grows = sum(seconds for phase, seconds in record.worker_seconds.items() if phase not in _ALWAYS)
    return night._replace(scoring=night.scoring + (times - 1) * grows / night.cores)


def size(nights: Sequence[Night], work: Work, *, prices: Cost | None = None, deadline: float | None = None) -> Sizing:
    """What a run will take; `nights` is not empty, and `deadline` is in seconds."""
    ratio = np.median([night.rows / night.bytes for night in nights])
    pace = Range.of([night.rows / (night.scoring * night.cores) for night in nights])
    cores = work.cores or nights[0].cores
    sizing = Sizing(
        nights=len(nights),
        bytes=work.bytes,
        rows=round(float(ratio) * work.bytes),
        rows_per_core_second=pace,
        fixed_seconds=Range.of([night.fixed for night in nights]),
        currency=prices.currency if prices is not None else None,
        present=_estimate(nights, work, cores, prices=prices),
        deadline_seconds=deadline,
    )
    if deadline is None:
        return sizing
    return sizing.model_copy(update=_for_deadline(nights, work, deadline, prices=prices))


def _for_deadline(nights: Sequence[Night], work: Work, deadline: float, *, prices: Cost | None) -> dict[str, object]:
    each = work.executor_cores or 1
    most = math.ceil(max(1, work.splits) / each)

    def high(executors: int) -> float:
        return Range.of([night.seconds(work, executors * each) for night in nights]).high

    if high(most) > deadline:
        fixed = Range.of([night.fixed for night in nights]).high
        if fixed >= deadline:
            return {"problem": f"{fixed:,.0f} s pass outside of scoring, which no executor makes less"}
        there = "is 1 split" if work.splits == 1 else f"are {work.splits:,} splits"
        why = f"there {there}, and so no use for more than {counted(most * each, 'core')}"
        return {"problem": f"{why}, on which it takes {high(most):,.0f} s; lower splits.target_bytes"}
    fewest, enough = 0, most
    while enough - fewest > 1:
        middle = (fewest + enough) // 2
        fewest, enough = (fewest, middle) if high(middle) <= deadline else (middle, enough)
    return {"needed": _estimate(nights, work, enough * each, prices=prices)}


def _estimate(nights: Sequence[Night], work: Work, cores: int, *, prices: Cost | None) -> Estimate:
    seconds = [night.seconds(work, cores) for night in nights]
    executors = math.ceil(cores / work.executor_cores) if work.executor_cores is not None else None
    amounts = None
    if prices is not None:
        alive = [max(0.0, one - night.alone) for night, one in zip(nights, seconds, strict=True)]
        used = [
            Used(one, (executors or 1) * of_them, is_local=executors is None)
            for one, of_them in zip(seconds, alive, strict=True)
        ]
        amounts = Range.of([amount_of(prices, one) for one in used])
    return Estimate(cores=cores, executors=executors, seconds=Range.of(seconds), amount=amounts)
