"""Whoever tells of a run tells the same: record, receipts, tables, page, metrics, events, commands, and the files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from jobs.cli import app
from jobs.history.runs import find_run
from jobs.monitoring.collected import Collected
from jobs.record import RunRecord, RunState, load_record
from tests.jobs.outputs import ROWS, run_job, write_bad_input, write_job
from tests.jobs.pages import Page

if TYPE_CHECKING:
    from jobs.planning.destination import Target

OUTCOMES = ("rows_in", "scored", "quarantined", "filtered")


class Told(NamedTuple):
    """A run, and where everybody tells of it."""

    folder: Path
    job: Path
    target: Target
    record: RunRecord

    def command(self, *words: str) -> Any:
        """The last line that a command prints as JSON."""
        done = CliRunner().invoke(app, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.splitlines()[-1])

    def receipts(self) -> list[dict[str, Any]]:
        """As they lie there, read by nothing of ours."""
        folder = Path(self.target.layout.receipts)
        return [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]


@pytest.fixture(scope="module")
def told(spark: object, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A run with rows that were set aside, and everybody who can be told of it without a server."""
    folder = tmp_path_factory.mktemp("agreement")
    write_bad_input(folder)
    sinks = {
        "prometheus": {"textfile": str(folder / "run.prom")},
        "openlineage": {"file": str(folder / "events.jsonl")},
    }
    job = write_job(
        folder,
        logistic_onnx,
        budgets={"contract": {"max_rows": 10}},
        metrics={"uri": str(folder / "metrics")},
        cost={"prices": {"m": 2.0}, "driver": {"instance": "m"}, "executors": {"instance": "m"}},
        sinks=sinks,
    )
    assert run_job(job, "r").state is RunState.PARTIALLY_SUCCEEDED
    target = find_run(str(job), "r")
    record = load_record(target.storage, target.layout.record)
    assert record is not None
    return Told(folder, job, target, record)


def rows_of(record: RunRecord) -> dict[str, int]:
    """By what became of them."""
    return {name: getattr(record.account, name).rows for name in OUTCOMES}


def samples(told: Told) -> dict[tuple[str, ...], float]:
    """What Prometheus reads, by name and the values of the labels that are not of all."""
    found = {}
    for family in text_string_to_metric_families((told.folder / "run.prom").read_text()):
        for sample in family.samples:
            rest = [value for label, value in sorted(sample.labels.items()) if label not in {"job", "model"}]
            found[(sample.name, *rest)] = sample.value
    return found


def test_rows_are_the_same_wherever_they_are_told(told: Told) -> None:
    """The record, the receipts, the table of tasks, the page, Prometheus, OpenLineage, history and the files agree."""
    rows = rows_of(told.record)
    assert rows == {"rows_in": 2 * ROWS, "scored": 2 * ROWS - 4, "quarantined": 4, "filtered": 0}
    receipts = [receipt["account"] for receipt in told.receipts()]
    assert {name: sum(one[name]["rows"] for one in receipts) for name in OUTCOMES} == rows
    tasks = Collected.at(str(told.folder / "metrics")).tasks("numbers", "r")
    assert tasks is not None
    assert {name: sum(tasks[name].to_pylist()) for name in OUTCOMES} == rows
    page = Page(Path(told.target.layout.report).read_text(encoding="utf-8"))
    assert {name: page.number(f"account.{name}") for name in OUTCOMES} == rows
    metrics = samples(told)
    named = {"ok": "scored", "failed": "quarantined", "filtered": "filtered"}
    assert {named[name]: metrics["scoring_rows_total", name] for name in named} == {
        name: rows[name] for name in named.values()
    }
    end = json.loads((told.folder / "events.jsonl").read_text().splitlines()[-1])
    counted = [one["inputFacets"].get("inputStatistics", {}).get("rowCount") for one in end["inputs"]]
    assert [count for count in counted if count is not None] == [rows["rows_in"]]
    assert end["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == rows["scored"]
    line = told.command("history", str(told.job))
    assert {name: line[name] for name in OUTCOMES} == rows
    published = ds.dataset(told.target.layout.data, format="parquet").count_rows()
    files = Path(told.target.layout.state, "quarantine").iterdir()
    set_aside = sum(pa.ipc.open_file(pa.memory_map(str(path))).read_all().num_rows for path in files)
    assert (published, set_aside) == (rows["scored"], rows["quarantined"])


def test_seconds_are_the_same_wherever_they_are_told(told: Told) -> None:
    """Seconds by phase and of the whole run agree to the last digit; sums over splits but for the order of adding."""
    record = told.record
    page = Page(Path(told.target.layout.report).read_text(encoding="utf-8"))
    metrics, line = samples(told), told.command("history", str(told.job))
    assert record.seconds == page.number("seconds") == metrics["scoring_job_duration_seconds",] == line["seconds"]
    for where, kind, seconds in (("driver", "wall", record.wall_seconds), ("worker", "worker", record.worker_seconds)):
        assert seconds
        for phase, spent in seconds.items():
            assert page.number(f"{kind}.{phase}") == spent
            assert metrics["scoring_phase_seconds", phase, where] == spent
            assert line[f"{kind}_{phase}_seconds"] == spent
    tasks = Collected.at(str(told.folder / "metrics")).tasks("numbers", "r")
    assert tasks is not None
    for phase, spent in record.worker_seconds.items():
        by_receipt = [receipt["seconds"].get(phase, 0.0) for receipt in told.receipts()]
        by_task = [dict(seconds).get(phase, 0.0) for seconds in tasks["seconds"].to_pylist()]
        assert sorted(by_task) == sorted(by_receipt)
        # A record has milliseconds.
        assert spent == pytest.approx(math.fsum(by_receipt), abs=0.5e-3 + 1e-9)


def test_costs_are_the_same_wherever_they_are_told(told: Told) -> None:
    """What the run cost is the price times the hours of its record, of one machine here; so say all."""
    cost = told.record.cost
    assert cost is not None
    assert cost.currency == "USD"
    assert cost.total == pytest.approx(2.0 * cost.driver_hours)
    metrics, line = samples(told), told.command("history", str(told.job))
    assert metrics["scoring_cost", cost.currency] == line["cost"] == cost.total
    assert metrics["scoring_machine_hours", "driver"] == cost.driver_hours


def test_the_record_is_the_same_in_both_places(told: Told) -> None:
    """What is collected is the record beside the run, byte for byte."""
    [collected] = (told.folder / "metrics" / "numbers" / "records").iterdir()
    assert collected.read_bytes() == Path(told.target.layout.record).read_bytes()
