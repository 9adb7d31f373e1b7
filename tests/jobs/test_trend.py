"""Runs side by side: what is shown, and exported, of them is what their records say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from typer.testing import CliRunner

from jobs.cli import app
from jobs.monitoring.collected import collect
from jobs.monitoring.cost import CostFacts
from jobs.monitoring.limits import Breach
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


def test_runs_of_missing_keys_are_no_part_of_trends() -> None:
    """Runs of `--missing-keys`, and so of `--resubmit`, give no trend a value."""
    few = night(7, rows=1_000_000, seconds=1.0, missing_keys="id")
    lines = [RunLine.of_record(record) for record in RECORDS]
    assert trends([*lines, RunLine.of_record(few)]) == trends(lines)


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


def test_what_runs_cost_is_shown_where_prices_are_known(tmp_path: Path) -> None:
    """Cost, its price a million rows, hours and passed limits are those of the record; else there are none."""
    cost = CostFacts(
        driver_hours=0.5,
        executor_hours=4.0,
        gpu_hours=4.0,
        amount=6.25,
        earlier=0.5,
        currency="EUR",
        per_million_rows=3.375,
    )
    at = RECORDS[1].ended_at
    late = Breach(limit="sla.max_duration", allowed=60, value=100, unit="s", at=at, is_projected=False)
    dear = Breach(limit="cost.budget.run", allowed=6, value=7, unit="EUR", at=at, is_projected=True)
    priced = RECORDS[1].model_copy(update={"cost": cost, "breaches": (late, dear)})
    lines = [RunLine.of_record(record) for record in (RECORDS[0], priced)]
    rows = history_table(lines).to_pylist()
    assert rows[0]["cost"] is None
    assert {name: rows[1][name] for name in ("cost", "cost_per_million_rows", "currency", "driver_hours")} == {
        "cost": 6.75,
        "cost_per_million_rows": 3.375,
        "currency": "EUR",
        "driver_hours": 0.5,
    }
    assert (rows[1]["executor_hours"], rows[1]["gpu_hours"], rows[1]["breaches"]) == (4.0, 4.0, "sla.max_duration")
    assert "cost" not in history_table(lines[:1]).column_names
    assert {trend.name: trend.values for trend in trends(lines)}["cost"] == (None, 6.75)
    for number, record in enumerate((RECORDS[0], priced)):
        collect(str(tmp_path / f"{number}"), record)
    shown = [CliRunner().invoke(app, ["history", str(tmp_path / f"{number}")]).output for number in range(2)]
    assert "cost" not in shown[0]
    assert "cost EUR" in shown[1]
    assert "6.75" in shown[1]


def test_a_run_without_a_record_is_a_line() -> None:
    """Of a run that has left no record what is known stands there, and the rest is empty."""
    line = RunLine("lost", "flights", "UNFINISHED", RECORDS[0].started_at)
    [row] = history_table([line]).to_pylist()
    assert (row["run_id"], row["state"], row["seconds"], row["scored"]) == ("lost", "UNFINISHED", None, None)
