"""The notebook on a job's history shows what records tell, and names what was planted in them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from jobs.monitoring.collected import collect
from jobs.monitoring.tasks import TASKS
from jobs.record import RunState
from tests.jobs.nights import PHASES, night
from tests.jobs.notebooks import charts, data_of, executed, printed

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.record import RunRecord

NIGHTS = 12
FAILED = 4
"""The night whose run failed."""
NEW_MODEL = 6
"""The first night of another model."""
DIRTY = 8
"""The night with ten times as many bad rows."""
SLOW = 10
"""From this night on reading takes three times as long."""
SPLITS = 8
SLOWEST_SPLIT = 5
WAIT = 3.0
"""Seconds by which the last run's slowest split took longer."""


def record_of(number: int) -> RunRecord:
    """A night's record, with what was planted."""
    rows = 1_000_000 + 50_000 * (number % 3)
    work = {name: seconds * rows / 1e6 for name, seconds in PHASES.items()}
    if number >= SLOW:
        work["read"] *= 3
    facts: dict[str, Any] = {}
    if number == FAILED:
        facts = {"state": RunState.FAILED, "wall_seconds": {"plan": 2.0, "start_spark": 5.0, "score": 93.0}}
    if number >= NEW_MODEL:
        model = night().model
        assert model is not None
        facts["model"] = model.model_copy(update={"version": "2026-11-07", "bundle_sha256": "c" * 64})
    bad = 0 if number == FAILED else 4000 if number == DIRTY else 400
    seconds = 100.0 if number == FAILED else 10 + sum(work.values()) / 2
    return night(number, rows=rows, seconds=seconds, quarantined=bad, worker_seconds=work, **facts)


def tasks_of(record: RunRecord) -> pa.Table:
    """Splits of one size, two at a time; one of them takes longer."""
    rows, took = record.account.rows_in.rows // SPLITS, (record.seconds - 10) / (SPLITS / 2)
    began = record.started_at + timedelta(seconds=7)
    return pa.Table.from_pylist(
        [
            {
                "run_id": record.run_id,
                "split": split,
                "attempt": "a",
                "files": [f"/in/part-{split}.parquet"],
                "host": f"host-{split % 2}",
                "pid": split % 2,
                "provider": "CPUExecutionProvider",
                "task_try": 0,
                "started_at": began + timedelta(seconds=took * (split // 2)),
                "ended_at": began
                + timedelta(seconds=took * (split // 2 + 1) + (WAIT if split == SLOWEST_SPLIT else 0.0)),
                "rows_in": rows,
                "scored": rows,
                **dict.fromkeys(("quarantined", "filtered", "bytes_read", "bytes_written", "peak_rss_bytes"), 0),
                "seconds": [(name, seconds / SPLITS) for name, seconds in record.worker_seconds.items()],
                "waiting": [],
            }
            for split in range(SPLITS)
        ],
        TASKS,
    )


RECORDS = [record_of(number) for number in range(NIGHTS)]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Cells of the notebook, executed on the records."""
    folder: Path = tmp_path_factory.mktemp("metrics")
    for record in RECORDS:
        collect(str(folder), record, tasks_of(record))
    return executed("job_history", {"HISTORY_WHERE": str(folder)})


def test_phases_add_up_to_the_run(shown: list[Any]) -> None:
    """The bars of each run are its phases, which add up to its seconds, and the run that failed has a cross."""
    rows = data_of(charts(shown)[0], having="phase")
    for record in RECORDS:
        found = {row["phase"]: row["seconds"] for row in rows if row["run_id"] == record.run_id}
        assert found == record.wall_seconds
        assert sum(found.values()) == pytest.approx(record.seconds)
    [cross] = data_of(charts(shown)[0], having="state")
    assert (cross["run_id"], cross["state"]) == (RECORDS[FAILED].run_id, "FAILED")


def test_nights_of_any_size_compare(shown: list[Any]) -> None:
    """Seconds for a million rows are those of the phases, whatever the rows, and rise for reading alone."""
    rows = data_of(charts(shown)[1], having="phase")
    assert RECORDS[FAILED].run_id not in {row["run_id"] for row in rows}
    for row in rows:
        slower = 3 if row["phase"] == "read" and row["run_id"] >= RECORDS[SLOW].run_id else 1
        assert row["seconds"] == pytest.approx(slower * PHASES[row["phase"]])
    assert len(rows) == (NIGHTS - 1) * len(PHASES)


def test_the_wall_clock_of_a_million_rows_is_told(shown: list[Any]) -> None:
    """The upper line is the run's seconds over its rows in millions."""
    rows = data_of(charts(shown)[1], having="seconds_per_million")
    told = [record for number, record in enumerate(RECORDS) if number != FAILED]
    assert {row["run_id"]: row["seconds_per_million"] for row in rows} == {
        record.run_id: pytest.approx(record.seconds / record.account.rows_in.rows * 1e6) for record in told
    }


def test_another_model_is_marked_once(shown: list[Any]) -> None:
    """The line that marks another model stands at its first run."""
    marks = data_of(charts(shown)[1], having="model")
    assert marks == [{"run_id": RECORDS[NEW_MODEL].run_id, "model": "late-flights:2026-11-07"}]


def test_rows_and_bad_rows_are_those_of_the_accounts(shown: list[Any]) -> None:
    """Rows in and the share that was set aside are those of the records; the dirty night is the largest share."""
    amounts = {row["run_id"]: row["rows_in"] for row in data_of(charts(shown)[2], having="rows_in")}
    shares = {row["run_id"]: row["set_aside"] for row in data_of(charts(shown)[2], having="set_aside")}
    told = [record for number, record in enumerate(RECORDS) if number != FAILED]
    assert amounts == {record.run_id: record.account.rows_in.rows for record in told}
    assert shares == {
        record.run_id: pytest.approx(record.account.quarantined.rows / record.account.rows_in.rows) for record in told
    }
    assert max(shares, key=shares.__getitem__) == RECORDS[DIRTY].run_id


def test_the_slowest_split_comes_first(shown: list[Any]) -> None:
    """The split that took longer is the first of the newest run's, with its file and the seconds of its phases."""
    chart = charts(shown)[3]
    ticks = data_of(chart, having="took")
    took = (RECORDS[-1].seconds - 10) / (SPLITS / 2)
    assert ticks[0]["split"] == SLOWEST_SPLIT
    assert ticks[0]["took"] == pytest.approx(took + WAIT, abs=1e-5)
    assert [tick["took"] for tick in ticks[1:]] == pytest.approx([took] * (SPLITS - 1), abs=1e-5)
    pieces = [row for row in data_of(chart, having="phase") if row["split"] == SLOWEST_SPLIT]
    assert {row["file"] for row in pieces} == {f"part-{SLOWEST_SPLIT}.parquet"}
    assert {row["phase"]: row["seconds"] for row in pieces} == pytest.approx(
        {name: seconds / SPLITS for name, seconds in RECORDS[-1].worker_seconds.items()}
    )


def test_the_planted_cause_is_named_first(shown: list[Any]) -> None:
    """The newest run is held against the usual one; what it took longer is put down to reading first of all."""
    causes = data_of(charts(shown)[4], having="cause")
    told = [record for number, record in enumerate(RECORDS[:-1]) if number != FAILED]
    usual = sorted(record.seconds for record in told)[(len(told) - 1) // 2]
    change = RECORDS[-1].seconds - usual
    assert causes[0]["cause"] == "slower read"
    assert sum(row["change"] for row in causes) == pytest.approx(change, abs=0.02 * change)
    assert f"{RECORDS[-1].run_id} took {RECORDS[-1].seconds:,.1f} s, {change:+,.1f} s against" in printed(shown)


def test_no_cost_is_made_up(shown: list[Any]) -> None:
    """Runs that were told no prices have no cost."""
    assert "No run here has a price." in printed(shown)
