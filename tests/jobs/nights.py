"""Runs of a job, night by night, as their records tell of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from etl.runs.receipt import RowTally, SplitAccount
from jobs.planning.models import ModelFacts
from jobs.record import RunRecord, RunState

__all__ = ["FIRST", "night"]

FIRST = datetime(2026, 10, 1, 2, 0, tzinfo=UTC)
"""When the first night's run began."""


def night(
    number: int = 0,
    *,
    rows: int = 1_000_000,
    seconds: float = 100.0,
    quarantined: int = 0,
    worker_seconds: dict[str, float] | None = None,
    **facts: Any,
) -> RunRecord:
    """The record of a night's run, whose workers' seconds are those of a million rows where none are given."""
    began = FIRST + timedelta(days=number)
    ended = began + timedelta(seconds=seconds)
    tally = [RowTally.of(count, 7 * count) for count in (rows, rows - quarantined, quarantined)]
    phases = worker_seconds or {name: share * rows / 1e6 for name, share in PHASES.items()}
    told: dict[str, Any] = {
        "run_id": f"night-{number:02}",
        "job": "flights",
        "state": RunState.PARTIALLY_SUCCEEDED if quarantined else RunState.SUCCEEDED,
        "who": "me@here",
        "started_at": began,
        "ended_at": ended,
        "recorded_at": ended,
        "resumed": False,
        "code": "0" * 12,
        "config": "0" * 64,
        "output": "/out",
        "splits": 8,
        "splits_scored_now": 8,
        "account": SplitAccount(rows_in=tally[0], scored=tally[1], quarantined=tally[2]),
        "model": ModelFacts(
            name="late-flights", version="2026-11-01", bundle_sha256="b" * 64, spec_digest="5" * 64, facts={}
        ),
        "worker_seconds": phases,
        "wall_seconds": {"plan": 2.0, "start_spark": 5.0, "score": seconds - 10.0, "publish": 3.0},
        "bytes_read": 30 * rows,
        "bytes_written": 20 * rows,
    }
    return RunRecord(**(told | facts))


PHASES = {"read": 20.0, "transform": 60.0, "infer": 80.0, "write": 10.0}
"""Worker-seconds of a million rows."""
