"""Runs side by side: what is shown, and exported, of them is what their records say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from typer.testing import CliRunner

from jobs.cli import app
from jobs.monitoring.collected import collect
from jobs.monitoring.trend import RunLine, history_table, sparkline, trends
from tests.jobs.nights import PHASES, night

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = [night(number, rows=1_000_000 * (number + 1), seconds=100.0, quarantined=number) for number in range(3)]


def test_bars_grow_with_their_values() -> None:
    """The least value has the lowest bar, the largest the highest; gaps stay gaps, and noise is flat."""
    assert sparkline([1, 2, 8]) == "▁▂█"
    assert sparkline([8, None, 1]) == "█ ▁"
    assert sparkline([100.0, 100.5, 100.2]) == "▁▁▁"
    assert sparkline([5.0]) == "▁"
    assert not sparkline([])


def test_trends_are_those_of_the_records() -> None:
    """Seconds for a million rows of each phase are the worker's, whatever the order in which runs are given."""
    found = {trend.name: trend for trend in trends([RunLine.of_record(record) for record in reversed(RECORDS)])}
    assert list(found["rows"].values) == [1_000_000, 2_000_000, 3_000_000]
    assert list(found["s/Mrow"].values) == pytest.approx([100.0, 50.0, 100 / 3])
    assert found["s/Mrow"].last == pytest.approx(100 / 3)
    assert found["s/Mrow"].median == pytest.approx(50.0)
    for phase, seconds in PHASES.items():
        assert list(found[f"{phase} s/Mrow"].values) == pytest.approx([seconds] * 3)


def test_what_is_exported_are_the_records(tmp_path: Path) -> None:
    """As Parquet and as CSV history has a line a run, the newest first, with the numbers of its record."""
    for record in RECORDS:
        collect(str(tmp_path / "all"), record)
    for name, read in (("h.parquet", pq.read_table), ("h.csv", csv.read_csv)):
        done = CliRunner().invoke(app, ["history", str(tmp_path / "all"), "--export", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        rows = read(tmp_path / name).to_pylist()
        assert [row["run_id"] for row in rows] == [record.run_id for record in reversed(RECORDS)]
        for row, record in zip(rows, reversed(RECORDS), strict=True):
            assert row["quarantined"] == record.account.quarantined.rows
            assert row["scored"] == record.account.scored.rows
            assert row["seconds"] == record.seconds
            assert row["rows_per_second"] == record.account.rows_in.rows / record.seconds
            assert row["wall_score_seconds"] == record.wall_seconds["score"]
            assert row["worker_infer_seconds"] == record.worker_seconds["infer"]
            assert row["worker_infer_seconds_per_million"] == pytest.approx(PHASES["infer"])
            assert row["model"] == "late-flights:2026-11-01"


def test_a_run_without_a_record_is_a_line() -> None:
    """Of a run that has left no record what is known stands there, and the rest is empty."""
    line = RunLine("lost", "flights", "UNFINISHED", RECORDS[0].started_at)
    [row] = history_table([line]).to_pylist()
    assert (row["run_id"], row["state"], row["seconds"], row["scored"]) == ("lost", "UNFINISHED", None, None)
