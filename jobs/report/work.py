"""When the rows of a run were scored, and which splits took longest: one pass over the receipts."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from etl.runs.receipt import Receipt, Written

__all__ = ["Pace", "Quarantined", "Slow", "Work", "pace_of", "work_of"]

_BUCKETS = 60
_SLOWEST = 10
_LOOK_EVERY = 256
"""Receipts between two looks at the clock."""


class Pace(NamedTuple):
    """Throughput over time: rows of a split are spread evenly over the time in which it was worked on."""

    began: datetime
    """Of the first split."""
    width: float
    """Seconds of one bucket."""
    rows_per_second: tuple[float, ...]
    """By bucket; their sum times the width is the number of rows."""
    at_work: tuple[float, ...]
    """Splits that were worked on at a time, in the mean of each bucket."""

    @property
    def seconds(self) -> float:
        """From the first split's beginning to the last one's end."""
        return self.width * len(self.rows_per_second)


class Slow(NamedTuple):
    """A split, as its receipt tells."""

    split: int
    host: str
    rows: int
    seconds: float
    """From its beginning to its end."""
    phase: str
    """In which most of its work was, but loading models; empty where none was told."""
    phase_seconds: float
    task_try: int
    """How often Spark had tried the task before."""


class Quarantined(NamedTuple):
    """A file of rows that were set aside."""

    path: str
    reasons: dict[str, int]
    """Its rows by `stage/CODE`."""


class Work(NamedTuple):
    """What the receipts tell beside what the record sums up."""

    pace: Pace | None
    """None where this try scored nothing, or all in no time."""
    slowest: tuple[Slow, ...]
    """The slowest first."""
    median_seconds: float
    """Of the splits of this try; 0 where there are none."""
    earlier: int
    """Splits that were scored by earlier tries; they are in neither of the above."""
    predictions: tuple[Written, ...]
    """Files of predictions, in the order of the splits."""
    quarantine: tuple[Quarantined, ...]
    is_whole: bool
    """Whether there was time for all receipts."""


def work_of(receipts: Iterable[Receipt], began: datetime | None, *, until: float) -> Work:
    """Of the receipts of a run whose last try began then; None where there was no other try.

    Stops at the time `until`, of `time.monotonic`.
    """
    spans: list[tuple[float, float, int]] = []
    slow: list[Slow] = []
    predictions: list[Written] = []
    quarantine: list[Quarantined] = []
    earlier, is_whole = 0, True
    for number, receipt in enumerate(receipts):
        if number % _LOOK_EVERY == 0 and time.monotonic() > until:
            is_whole = False
            break
        predictions += receipt.predictions
        if receipt.quarantine is not None:
            quarantine.append(Quarantined(receipt.quarantine.pending.path, receipt.reasons))
        if began is not None and receipt.started_at < began:
            earlier += 1
            continue
        one = _slow(receipt)
        spans.append((receipt.started_at.timestamp(), receipt.ended_at.timestamp(), one.rows))
        slow.append(one)
        if len(slow) > 2 * _SLOWEST:
            slow = _slowest(slow)
    table = np.array(spans, dtype=np.float64).reshape(-1, 3)
    return Work(
        pace=pace_of(table) if is_whole else None,
        slowest=tuple(_slowest(slow)),
        median_seconds=float(np.median(table[:, 1] - table[:, 0])) if spans else 0.0,
        earlier=earlier,
        predictions=tuple(predictions),
        quarantine=tuple(quarantine),
        is_whole=is_whole,
    )


def pace_of(spans: npt.NDArray[np.float64]) -> Pace | None:
    """Throughput of splits, float64[splits, 3]: beginning and end in seconds since the epoch, and rows."""
    if not len(spans):
        return None
    first, last = float(spans[:, 0].min()), float(spans[:, 1].max())
    width = (last - first) / _BUCKETS
    edges = first + width * np.arange(_BUCKETS + 1)
    if not (np.diff(edges) > 0).all():
        return None
    edges[-1] = last
    rows = np.array([_done(spans, spans[:, 2], edge) for edge in edges])
    worked = np.array([_done(spans, spans[:, 1] - spans[:, 0], edge) for edge in edges])
    rows[0] = 0.0  # a split that took no time counts in the first bucket, not before it
    return Pace(
        began=datetime.fromtimestamp(first, UTC),
        width=width,
        rows_per_second=tuple((np.diff(rows) / width).tolist()),
        at_work=tuple((np.diff(worked) / width).tolist()),
    )


def _done(spans: npt.NDArray[np.float64], amounts: npt.NDArray[np.float64], now: float) -> float:
    """How much of the splits' amounts was done by a time; of a split that took no time all at its beginning."""
    lengths = spans[:, 1] - spans[:, 0]
    passed = now - spans[:, 0]
    shares = np.where(lengths > 0, passed / np.where(lengths > 0, lengths, 1.0), passed >= 0)
    return float(amounts @ np.clip(shares, 0.0, 1.0))


def _slow(receipt: Receipt) -> Slow:
    # Models are loaded before the first split of a task begins.
    phases = [(name, seconds) for name, seconds in receipt.seconds.items() if name != "load"]
    phase, seconds = max(phases, key=lambda one: one[1], default=("", 0.0))
    return Slow(
        split=receipt.split,
        host=receipt.worker.host,
        rows=receipt.account.rows_in.rows,
        seconds=(receipt.ended_at - receipt.started_at).total_seconds(),
        phase=phase,
        phase_seconds=seconds,
        task_try=receipt.worker.task_try,
    )


def _slowest(found: Sequence[Slow]) -> list[Slow]:
    return sorted(found, key=lambda one: (-one.seconds, one.split))[:_SLOWEST]
