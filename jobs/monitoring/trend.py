"""Runs side by side: what each took, whole and for a million rows, so that nights with other amounts compare."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from jobs.record import RunRecord

__all__ = ["Measure", "RunLine", "Trend", "history_table", "per_million", "sparkline", "trends"]

_FEW_ROWS = 10_000
"""Below, seconds for a million rows would say more about Spark's start than about the job."""
_BARS = "▁▂▃▄▅▆▇█"
_FLAT = 0.01
"""A smaller difference, as a share, is noise, and bars of it would look like a change."""


class RunLine(NamedTuple):
    """A run in a table of many."""

    run_id: str
    job: str
    state: str
    started_at: datetime
    record: RunRecord | None = None
    """None while it is at work, where it died, or where its record cannot be read."""

    @classmethod
    def of_record(cls, record: RunRecord) -> RunLine:
        """The line of a run that ended."""
        return cls(record.run_id, record.job, str(record.state), record.started_at, record)

    @property
    def seconds(self) -> float | None:
        """Wall clock of the last try; None while nobody knows."""
        return self.record.seconds if self.record is not None else None

    @property
    def rows(self) -> int | None:
        """Rows in."""
        return self.record.account.rows_in.rows if self.record is not None else None

    @property
    def quarantined(self) -> int | None:
        """Rows that were set aside."""
        return self.record.account.quarantined.rows if self.record is not None else None

    @property
    def model(self) -> str:
        """`name:version`."""
        model = self.record.model if self.record is not None else None
        return f"{model.name}:{model.version}" if model is not None else ""

    @property
    def spec(self) -> str:
        """Digest of the ETL spec."""
        model = self.record.model if self.record is not None else None
        return model.spec_digest if model is not None else ""

    @property
    def seconds_per_million(self) -> float | None:
        """Seconds a million rows, by the wall clock."""
        return per_million(self.seconds, self.rows)

    @property
    def cost(self) -> float | None:
        """Of all tries, in the currency of its record; None without a table of prices."""
        return self.record.cost.total if self.record is not None and self.record.cost is not None else None

    @property
    def currency(self) -> str:
        """Of the cost; empty where there is none."""
        cost = self.record.cost if self.record is not None else None
        return cost.currency or "" if cost is not None else ""

    @property
    def cost_per_million(self) -> float | None:
        """Of a million rows."""
        return self.record.cost.per_million_rows if self.record is not None and self.record.cost is not None else None

    @property
    def rows_per_second(self) -> float | None:
        """By the wall clock of a run that scored all of its splits itself."""
        if self.record is None or not self.rows or self.record.splits_scored_now < self.record.splits:
            return None
        return self.rows / self.record.seconds if self.record.seconds else None


def per_million(seconds: float | None, rows: int | None) -> float | None:
    """Seconds for a million rows; None for a run so small that it would say more about Spark's start."""
    if seconds is None or rows is None or rows < _FEW_ROWS:
        return None
    return seconds / rows * 1e6


Measure = Callable[[RunLine], float | None]
"""A number of a run."""


class Trend(NamedTuple):
    """A number of several runs, the oldest first."""

    name: str
    values: tuple[float | None, ...]

    @property
    def last(self) -> float | None:
        """Of the newest run that has it."""
        return next((value for value in reversed(self.values) if value is not None), None)

    @property
    def median(self) -> float | None:
        """Of all runs that have it."""
        known = [value for value in self.values if value is not None]
        return median(known) if known else None


def trends(lines: Sequence[RunLine]) -> list[Trend]:
    """How long, how much, and how long a phase took for a million rows, over runs in the order of their beginnings.

    Runs of rows that were not published yet are left out: they read all rows and score a few.
    """
    nights = [line for line in lines if line.record is None or line.record.missing_keys is None]
    ordered = sorted(nights, key=lambda line: line.started_at)
    measures: dict[str, Measure] = {
        "seconds": lambda line: line.seconds,
        "rows": lambda line: line.rows,
        "s/Mrow": lambda line: line.seconds_per_million,
        "cost": lambda line: line.cost,
        "cost/Mrow": lambda line: line.cost_per_million,
    }
    measures |= {f"{phase} s/Mrow": _phase(phase) for phase in _phases(ordered)}
    found = [Trend(name, tuple(map(measure, ordered))) for name, measure in measures.items()]
    return [trend for trend in found if trend.last is not None]


def _phase(phase: str) -> Measure:
    def measure(line: RunLine) -> float | None:
        return per_million(line.record.worker_seconds.get(phase), line.rows) if line.record is not None else None

    return measure


def _phases(lines: Sequence[RunLine]) -> list[str]:
    """Those of the workers, in the order in which records name them."""
    return list(dict.fromkeys(phase for line in lines if line.record for phase in line.record.worker_seconds))


def sparkline(values: Sequence[float | None]) -> str:
    """A bar a value, from the least to the largest; a gap where there is none. A difference below 1 % is flat."""
    known = [value for value in values if value is not None]
    least, largest = min(known, default=0.0), max(known, default=0.0)
    span = largest - least if largest - least > _FLAT * max(abs(least), abs(largest)) else float("inf")
    return "".join(" " if one is None else _BARS[round((one - least) / span * (len(_BARS) - 1))] for one in values)


def history_table(lines: Sequence[RunLine]) -> pa.Table:
    """Runs as a table, a line each, for notebooks and spreadsheets; seconds and seconds for a million rows by phase."""
    rows = [_row(line) for line in lines]
    wall = dict.fromkeys(phase for line in lines if line.record for phase in line.record.wall_seconds)
    numbers = [
        *(f"wall_{phase}_seconds" for phase in wall),
        *(f"worker_{phase}_seconds{suffix}" for phase in _phases(lines) for suffix in ("", "_per_million")),
    ]
    priced = _COST if any(line.record is not None and line.record.cost is not None for line in lines) else ()
    schema = pa.schema([*_COLUMNS, *priced, *(pa.field(name, pa.float64()) for name in numbers)])
    return pa.Table.from_pylist(rows, schema)


_COLUMNS = pa.schema(
    [
        pa.field("run_id", pa.string()),
        pa.field("job", pa.string()),
        pa.field("state", pa.string()),
        pa.field("started_at", pa.timestamp("us", "UTC")),
        pa.field("ended_at", pa.timestamp("us", "UTC")),
        pa.field("resumed", pa.bool_()),
        pa.field("seconds", pa.float64()),
        pa.field("rows_in", pa.int64()),
        pa.field("scored", pa.int64()),
        pa.field("quarantined", pa.int64()),
        pa.field("filtered", pa.int64()),
        pa.field("rows_per_second", pa.float64()),
        pa.field("seconds_per_million", pa.float64()),
        pa.field("bytes_in", pa.int64()),
        pa.field("bytes_read", pa.int64()),
        pa.field("bytes_written", pa.int64()),
        pa.field("splits", pa.int64()),
        pa.field("workers", pa.int64()),
        pa.field("provider", pa.string()),
        pa.field("model", pa.string()),
        pa.field("model_sha256", pa.string()),
        pa.field("spec_digest", pa.string()),
        pa.field("error", pa.string()),
    ]
)


_COST = (
    pa.field("cost", pa.float64()),
    pa.field("cost_per_million_rows", pa.float64()),
    pa.field("currency", pa.string()),
    pa.field("driver_hours", pa.float64()),
    pa.field("executor_hours", pa.float64()),
    pa.field("gpu_hours", pa.float64()),
    pa.field("breaches", pa.string()),
)
"""Only where a run tells of them. `breaches` are the places of the limits in the config, with commas between."""


def _cost_row(line: RunLine) -> dict[str, Any]:
    record = line.record
    if record is None or record.cost is None:
        return {}
    return {
        "cost": line.cost,
        "cost_per_million_rows": line.cost_per_million,
        **{name: getattr(record.cost, name) for name in ("currency", "driver_hours", "executor_hours", "gpu_hours")},
        "breaches": ", ".join(one.limit for one in record.breaches if not one.is_projected),
    }


def _row(line: RunLine) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_id": line.run_id,
        "job": line.job,
        "state": line.state,
        "started_at": line.started_at,
        "model": line.model,
        "spec_digest": line.spec,
        "seconds": line.seconds,
        "rows_in": line.rows,
        "rows_per_second": line.rows_per_second,
        "seconds_per_million": line.seconds_per_million,
    }
    record = line.record
    if record is None:
        return row
    for name in ("ended_at", "resumed", "bytes_read", "bytes_written", "splits", "workers", "provider"):
        row[name] = getattr(record, name)
    for name in ("scored", "quarantined", "filtered"):
        row[name] = getattr(record.account, name).rows
    row["bytes_in"] = record.snapshot.bytes if record.snapshot else None
    row["model_sha256"] = record.model.bundle_sha256 if record.model else None
    row["error"] = record.error.message if record.error else None
    row |= _cost_row(line)
    row |= {f"wall_{phase}_seconds": seconds for phase, seconds in record.wall_seconds.items()}
    for phase, seconds in record.worker_seconds.items():
        row[f"worker_{phase}_seconds"] = seconds
        row[f"worker_{phase}_seconds_per_million"] = per_million(seconds, line.rows)
    return row
