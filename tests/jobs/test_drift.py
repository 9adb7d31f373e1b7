"""Drift of runs: planted and found, held back where that is asked for, and never in the way of scoring."""

from __future__ import annotations

import json
import math
import re
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from scipy.stats import ks_2samp  # type: ignore[import-untyped]  # it has no types
from typer.testing import CliRunner

from etl.errors import StorageError
from etl.learning.fitting import fit
from etl.spec import read_spec
from jobs import cli
from jobs.errors import Refused
from jobs.history.runs import find_run
from jobs.monitoring.drift_settings import DriftSettings
from jobs.record import RunRecord, RunState
from jobs.results import open_results
from jobs.settling import drifting
from jobs.settling.decisions import discard_run, publish_run
from jobs.settling.drifting import load_report
from scoring.bundles.create import create_bundle
from tests.jobs.outputs import run_job, write_job
from tests.scoring.workshop import STORE, P, logistic_model, parts_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from etl.runs.storage import Storage
    from etl.sketches.sketch import Sketch
    from jobs.monitoring.drift import DriftReport, DriftValue

ROWS = 2000
FILES = 4
RECIPE: dict[str, Any] = {
    "format": "scorespec/1",
    "spec_id": "moving",
    "input": {
        "fields": [
            {"name": "id", "type": "int64", "role": "id"},
            {"name": "who", "type": "string", "pii": True},
            {"name": "word", "type": "string"},
            *({"name": f"f{n}", "type": "float32"} for n in range(4)),
        ]
    },
    "steps": [
        *({"id": f"s{n}", "op": "standardize", "in": [f"f{n}"], "out": [f"scaled{n}"]} for n in range(4)),
        {"id": "i", "op": "impute", "in": ["scaled1"], "out": ["filled1"], "params": {"strategy": "mean"}},
    ],
    "outputs": {"tensors": [{"tensor": "X", "from": ["scaled0", "filled1", "scaled2", "scaled3"]}]},
}  # fmt: skip


def rows_of(seed: int, **moved: Any) -> pa.Table:
    """Rows of a day, with other columns in the place of some."""
    rng = np.random.default_rng(seed)
    words = ["a", "b", "c"]
    columns: dict[str, Any] = {
        "id": np.arange(ROWS),
        "who": [f"person {row}" for row in range(ROWS)],
        "word": [words[at] for at in rng.integers(0, 3, ROWS)],
        **{f"f{n}": rng.normal(size=ROWS).astype(np.float32) for n in range(4)},
    }
    columns |= {name: change(columns[name]) for name, change in moved.items()}
    return pa.table(columns)


TRAINING = rows_of(1)
USUAL = rows_of(2)
MOVED = rows_of(
    3,
    f0=lambda x: x + np.float32(0.8),
    f1=lambda x: np.where(np.arange(x.size) % 5 == 0, np.float32(np.nan), x),
    word=lambda words: [word if row % 4 else "zebra" for row, word in enumerate(words)],
)
PLANTED = {("f0", "psi"), ("f1", "null_rate"), ("word", "psi"), ("word", "out_of_vocabulary")}


def write_rows(folder: Path, table: pa.Table) -> None:
    """As FILES files."""
    (folder / "in").mkdir(exist_ok=True)
    each = table.num_rows // FILES
    for number in range(FILES):
        pq.write_table(table.slice(number * each, each), folder / "in" / f"{number}.parquet", row_group_size=200)


def bundle_of(folder: Path) -> Path:
    """A bundle that was fitted to TRAINING."""
    bundle = folder / "bundle"
    if not bundle.exists():
        spec = fit(read_spec(json.dumps(RECIPE), "recipe", fitted=False), TRAINING.to_batches, {})
        parts = parts_of(spec.to_bytes().decode(), logistic_model(), TRAINING.slice(0, 3), [P])
        create_bundle(STORE, str(bundle), parts)
    return bundle


def job_of(folder: Path, table: pa.Table | None, **drift: Any) -> Path:
    """A job over these rows, or those that are there."""
    if table is not None:
        write_rows(folder, table)
    return write_job(folder, folder, model={"bundle": str(bundle_of(folder))}, drift=drift)


def report_of(job: Path, run_id: str) -> DriftReport:
    """What was measured."""
    found = load_report(find_run(str(job), run_id))
    assert found is not None
    return found


def beyond(record: RunRecord, reference: str) -> set[tuple[str, str]]:
    """Columns and measures beyond a limit."""
    assert record.drift is not None
    return {(found.column, found.measure) for found in record.drift.beyond if found.reference == reference}


def value(report: DriftReport, column: str, measure: str, reference: str) -> DriftValue:
    """One of them."""
    [found] = [one for one in report.values if (one.column, one.measure, one.reference) == (column, measure, reference)]
    return found


def test_planted_drift_is_found_against_training_and_the_run_before(spark: SparkSession, tmp_path: Path) -> None:
    """A shifted column, one that is missing more often, and a new text are named, and nothing else; on a usual day
    nothing is. Every row is in the sample, so that the values are those of scipy.
    """  # noqa: D205  one sentence
    usual = run_job(job_of(tmp_path, USUAL), "monday")
    assert usual.state is RunState.SUCCEEDED
    assert usual.drift is not None
    assert usual.drift.beyond == ()
    assert usual.drift.notes == ("previous: no run of this job is published yet",)
    job = job_of(tmp_path, MOVED)
    record = run_job(job, "tuesday")
    assert record.state is RunState.SUCCEEDED
    assert beyond(record, "training") == beyond(record, "previous") == PLANTED

    report = report_of(job, "tuesday")
    assert report.references == {"training": "the rows that the model's spec was fitted to", "previous": "run monday"}
    assert (report.rows, report.sampled, record.drift) == (ROWS, ROWS, report.facts)
    found = value(report, "f0", "ks", "previous")
    assert found.value == pytest.approx(ks_2samp(MOVED["f0"], USUAL["f0"]).statistic, abs=1e-9)
    assert (found.error, found.verdict) == (0, "ok")
    assert value(report, "f1", "null_rate", "training").value == pytest.approx(0.2)
    zebras = value(report, "word", "out_of_vocabulary", "training")
    assert zebras.value == pytest.approx(0.25)
    assert (zebras.limit, zebras.verdict) == (0.05, "warn")
    published = open_results(str(tmp_path / "out"), "tuesday").arrow()["p"].to_numpy()
    facts = report.columns["p"]
    assert (facts.rows, facts.missing, facts.least) == (ROWS, 0, published.min())
    assert facts.quantiles["0.5"] == pytest.approx(np.quantile(published, 0.5, method="inverted_cdf"))
    assert set(report.columns) == {"p", "word", "f0", "f1", "f2", "f3"}, "no ids, no personal data"
    assert report.columns["word"].top[0] == ("zebra", 0.25) or report.columns["word"].top[0][1] > 0.25

    spent = record.worker_seconds
    assert spent["sketch"] > 0
    assert report.cost.worker_share == pytest.approx(spent["sketch"] / sum(spent.values()), abs=0.02)
    assert not STORE.names(find_run(str(job), "tuesday").layout.sketches)


def test_what_is_printed(spark: SparkSession, tmp_path: Path) -> None:
    """`plan` tells what will be measured, `show` what moved and what it took, `drift` has each value, and as JSON the
    document that is stored.
    """  # noqa: D205  one sentence
    job = job_of(tmp_path, MOVED, columns=["f0", "scaled1", "p"], reference=["training"])
    assert "drift: f0, scaled1, p; against training\n" in CliRunner().invoke(cli.app, ["plan", str(job)]).stdout
    run_job(job, "r")
    shown = CliRunner().invoke(cli.app, ["show", str(job), "r"]).stdout
    [told] = [line for line in shown.splitlines() if line.startswith("drift, warn: ")]
    assert told.startswith("drift, warn: drift of 'f0': psi is ")
    assert told.endswith(" against training, above 0.2")
    assert "drift: 1 of 4 values are beyond the limits; took " in shown
    lines = CliRunner().invoke(cli.app, ["drift", str(job), "r"]).stdout.splitlines()
    assert lines[0] == f"{ROWS:,} published rows, {ROWS:,} of them in the sample"
    assert lines[1] == "training: the rows that the model's spec was fitted to"
    rows = [line.split() for line in lines]
    assert next(row[:3] for row in rows if row[-1:] == ["warn"]) == ["f0", "psi", "training"]
    assert any(row[:2] == ["scaled1", "20.00%"] for row in rows)
    assert lines[-1].startswith("sketches took ")
    as_json = CliRunner().invoke(cli.app, ["drift", str(job), "r", "--json"]).stdout
    assert json.loads(as_json) == report_of(job, "r").model_dump(mode="json")
    plain = write_job(tmp_path, tmp_path, model={"bundle": str(tmp_path / "bundle")})
    assert "drift: " not in CliRunner().invoke(cli.app, ["plan", str(plain)]).stdout
    without = run_job(plain, "plain")
    assert without.drift is None
    asked = CliRunner().invoke(cli.app, ["drift", str(plain), "plain"])
    assert (asked.exit_code, "was not measured. The job had no section `drift`" in asked.stderr) == (2, True)


def test_what_a_sample_may_put_a_value_off_by_is_shown_everywhere(spark: SparkSession, tmp_path: Path) -> None:
    """On a terminal of 80 columns no column of the values is left out, and the page has it beside the value."""
    job = job_of(tmp_path, MOVED, columns=["scaled1", "word"], reference=["training"], rows=1000)
    run_job(job, "r")
    found = value(report_of(job, "r"), "word", "out_of_vocabulary", "training")
    assert found.error > 0
    terminal = {"TTY_COMPATIBLE": "1", "COLUMNS": "80", "TERM": "dumb"}
    lines = CliRunner().invoke(cli.app, ["drift", str(job), "r"], env=terminal).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert ["column", "measure", "against", "value", "±", "limit", "verdict"] in [line.split() for line in lines]
    told = [f"{found.value:.4f}", f"{found.error:.2g}", "0.05", "warn"]
    assert ["word", "out_of_vocabulary", "training", *told] in [line.split() for line in lines]
    page = STORE.read_bytes(find_run(str(job), "r").layout.report)
    assert page is not None
    assert f"{found.value:.4g} ± {found.error:.2g}</td>" in page.decode()


def test_a_narrow_terminal_keeps_the_limit(spark: SparkSession, tmp_path: Path) -> None:
    """Of a table that is too wide the error is left out, and said to be; a limit that holds the run back stays."""
    usual = USUAL.rename_columns([f"a_long_name_{name}" if name == "f3" else name for name in USUAL.column_names])
    write_rows(tmp_path, usual)
    (tmp_path / "model.onnx").write_bytes(logistic_model())
    names = ["f0", "f1", "f2", "a_long_name_f3"]
    sections: dict[str, Any] = {
        "model": {"onnx": str(tmp_path / "model.onnx"), "inputs": {"X": names}},
        "output": {"uri": str(tmp_path / "out"), "passthrough": ["word", "a_long_name_f3"]},
    }
    limits = {"reference": ["previous"], "columns": ["word", "a_long_name_f3"], "rows": 1000}
    run_job(write_job(tmp_path, tmp_path, **sections, drift=limits), "monday")
    write_rows(tmp_path, usual.set_column(2, "word", pa.array(["zebra"] * ROWS)))
    failing = {**limits, "fail": {"out_of_vocabulary": 0.05}}
    job = write_job(tmp_path, tmp_path, **sections, drift=failing)
    assert run_job(job, "tuesday").state is RunState.HELD_BACK
    terminal = {"TTY_COMPATIBLE": "1", "COLUMNS": "80", "TERM": "dumb"}
    lines = CliRunner().invoke(cli.app, ["drift", str(job), "tuesday"], env=terminal).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert ["column", "measure", "against", "value", "limit", "verdict"] in [line.split() for line in lines]
    found = value(report_of(job, "tuesday"), "word", "out_of_vocabulary", "previous")
    told = ["word", "out_of_vocabulary", "previous", f"{found.value:.4f}", "0.05", "fail"]
    assert told in [line.split() for line in lines]
    assert "left out for want of width: ±" in lines


def test_without_a_reference_no_limit_is_said_to_hold(spark: SparkSession, tmp_path: Path) -> None:
    """Where nothing is compared, neither `show` nor `drift` tells of values that keep to a limit."""
    job = job_of(tmp_path, MOVED, columns=["f0"], reference=[], fail={"psi": 0.01})
    assert run_job(job, "r").state is RunState.SUCCEEDED
    told = "nothing was held against a reference, so no limit was looked at"
    shown = CliRunner().invoke(cli.app, ["show", str(job), "r"]).stdout
    assert f"drift: {told}; took " in shown
    assert "beyond the limits" not in shown
    lines = CliRunner().invoke(cli.app, ["drift", str(job), "r"]).stdout.splitlines()
    assert f"{told}. Name one under drift.reference or drift.baseline." in lines
    assert not [line for line in lines if "verdict" in line]


def test_a_limit_of_fail_holds_the_run_back_until_a_person_decides(spark: SparkSession, tmp_path: Path) -> None:
    """A limit of one column; where it is raised the same run is published without scoring, or a person accepts it, or
    throws it away. Sketches of splits are kept until then, and no longer.
    """  # noqa: D205  one sentence
    limits = {"by_column": {"f1": {"fail": {"null_rate": 0.1}}}, "reference": ["training"]}
    job = job_of(tmp_path, MOVED, **limits)
    record = run_job(job, "r")
    told = "drift of 'f1': null_rate is 0.2 against training, above 0.1"
    assert (record.state, record.error and record.error.message) == (RunState.HELD_BACK, told)
    shown = CliRunner().invoke(cli.app, ["show", str(job), "r"]).stdout.splitlines()
    steps = [line for line in shown if line.startswith("next: ")]
    assert [step.split()[2] for step in steps] == ["drift", "publish", "discard"]
    page = STORE.read_bytes(find_run(str(job), "r").layout.report)
    assert page is not None
    assert re.findall(r"batchscore (\w+) \S+ r\b", page.decode()) == ["drift", "publish", "discard"]
    with pytest.raises(Refused):
        open_results(str(tmp_path / "out"))
    for run_id in ("other", "third"):
        assert run_job(job, run_id).state is RunState.HELD_BACK
        assert len(STORE.names(find_run(str(job), run_id).layout.sketches)) == FILES
    discarded = find_run(str(job), "third")
    assert discard_run(discarded, reason="half of it is missing").state is RunState.DISCARDED
    assert not STORE.names(discarded.layout.sketches)
    accepted = publish_run(find_run(str(job), "other"), accept_errors=0, reason="a known gap")
    assert not STORE.names(find_run(str(job), "other").layout.sketches)
    assert accepted.state is RunState.SUCCEEDED
    assert accepted.drift is not None
    assert accepted.drift.failures == (told,)

    limits["by_column"]["f1"]["fail"]["null_rate"] = 0.3  # type: ignore[index]  # of the two it is the mapping
    again = run_job(job_of(tmp_path, None, **limits), "r")
    assert (again.state, again.splits_scored_now, again.error) == (RunState.SUCCEEDED, 0, None)


def test_what_is_missing_is_told_and_stops_nothing(spark: SparkSession, tmp_path: Path) -> None:
    """Without a training profile, a baseline or the sketch of a split, and with damaged ones, the run is published;
    each is warned of and noted.
    """  # noqa: D205  one sentence
    write_rows(tmp_path, USUAL)
    (tmp_path / "m.onnx").write_bytes(logistic_model())
    model = {"onnx": str(tmp_path / "m.onnx"), "inputs": {"X": ["f0", "f1", "f2", "f3"]}}
    (tmp_path / "damaged.arrow").write_bytes(b"nonsense")
    job = write_job(tmp_path, tmp_path, model=model, drift={"baseline": str(tmp_path / "damaged.arrow")})

    def lose_one(phase: str) -> None:
        if phase == "settle":
            layout = find_run(str(job), "r").layout
            STORE.delete(f"{layout.sketches}/{min(STORE.names(layout.sketches))}")

    with pytest.warns(UserWarning, match="drift: ") as caught:
        record = run_job(job, "r", lose_one)
    assert record.state is RunState.SUCCEEDED
    assert record.drift is not None
    lost, training, previous, baseline = record.drift.notes
    assert lost == "1 of 4 splits have no sketch, and their rows are not counted here"
    assert training.startswith("training: the model's spec has no profile")
    assert previous == "previous: no run of this job is published yet"
    assert baseline.startswith(f"baseline: {tmp_path}/damaged.arrow: not a sketch")
    told = [str(one.message) for one in caught if one.category is UserWarning]
    assert told == [f"drift: {note}" for note in (lost, training, baseline)]
    assert report_of(job, "r").rows == ROWS - ROWS // FILES

    (tmp_path / "out" / "_batchscore" / "runs" / "r" / "sketch.arrow").write_bytes(b"nonsense")
    job = write_job(tmp_path, tmp_path, model=model, drift={"reference": ["previous"], "baseline": "nobody"})
    with pytest.warns(UserWarning, match="drift: "):
        record = run_job(job, "s")
    assert record.state is RunState.SUCCEEDED
    assert record.drift is not None
    assert [note.partition(":")[0] for note in record.drift.notes] == ["previous", "baseline"]

    def lose_all(phase: str) -> None:
        if phase == "settle":
            STORE.remove(find_run(str(job), "t").layout.sketches)

    with pytest.warns(
        UserWarning,
        match="drift is not measured: ValueError: there is no sketch to merge .4 of 4 splits have no sketch.$",
    ):
        record = run_job(job, "t", lose_all)
    assert (record.state, record.drift and record.drift.measured) == (RunState.SUCCEEDED, 0)


def test_a_reference_that_does_not_answer_holds_nothing_up(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A baseline in a store that hangs costs a bounded time; the run is published, and compared with the others."""
    let_go = threading.Event()

    def hang(uri: str) -> None:
        let_go.wait(60)
        raise StorageError(uri)

    monkeypatch.setattr(drifting, "storage_for", hang)
    monkeypatch.setattr(drifting, "_PATIENCE", 2.0)
    job = job_of(tmp_path, USUAL, baseline="s3://hangs/sketch.arrow")
    with pytest.warns(UserWarning, match="drift: baseline: it was not read within 2 s"):
        record = run_job(job, "r")
    let_go.set()
    assert record.state is RunState.SUCCEEDED
    assert record.wall_seconds["drift"] < 30
    assert set(report_of(job, "r").references) == {"training"}


def test_splits_whose_sketches_are_not_read_hold_nothing_up(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sketch that a store does not give costs a bounded time, and those of other splits are measured; without any
    nothing is, and no limit of `fail` holds the run back. Both are noted.
    """  # noqa: D205  one sentence
    let_go, stored = threading.Event(), drifting._stored
    hung = "/000001-"

    def hang(storage: Storage, path: str | None) -> Sketch | None:
        if path is not None and hung in path:
            let_go.wait(60)
        return stored(storage, path)

    monkeypatch.setattr(drifting, "_stored", hang)
    monkeypatch.setattr(drifting, "_PATIENCE", 2.0)
    job = job_of(tmp_path, MOVED, reference=["training"], fail={"psi": 0.01})
    told = "1 of 4 splits have a sketch that was not read within 2 s, and their rows are not counted here"
    with pytest.warns(UserWarning, match=f"drift: {told}"):
        record = run_job(job, "one")
    assert record.drift is not None
    assert record.drift.notes == (told,)
    assert report_of(job, "one").rows == ROWS - ROWS // FILES
    assert record.state is RunState.HELD_BACK, "what was measured is beyond its limit"
    hung = "/sketches/"
    with pytest.warns(UserWarning, match="drift is not measured: ValueError"):
        record = run_job(job, "all")
    let_go.set()
    told = "there is no sketch to merge (4 of 4 splits have a sketch that was not read within 2 s)"
    assert record.drift is not None
    assert record.drift.notes == (f"not measured: ValueError: {told}",)
    assert record.state is RunState.SUCCEEDED
    assert record.wall_seconds["drift"] < 30
    asked = CliRunner().invoke(cli.app, ["drift", str(job), "all"])
    assert (asked.exit_code, f"run all: its drift: not measured: ValueError: {told}." in asked.stderr) == (2, True)


def test_a_resumed_run_has_the_sketch_of_an_uninterrupted_one(spark: SparkSession, tmp_path: Path) -> None:
    """A driver that died after scoring, and a split that has to be scored again: each row is counted once, to the byte
    of the sketch; and what was measured of a published run stands.
    """  # noqa: D205  one sentence
    job = job_of(tmp_path, MOVED, rows=1000, reference=["training"])

    def die(phase: str) -> None:
        if phase == "settle":
            raise KeyboardInterrupt

    with pytest.raises(BaseException, match="stopped by a signal"):
        run_job(job, "r", die)
    layout = find_run(str(job), "r").layout
    assert len(STORE.names(layout.sketches)) == FILES
    STORE.delete(layout.receipt("000001"))
    resumed = run_job(job, "r")
    assert (resumed.resumed, resumed.splits_scored_now) == (True, 1)
    whole = run_job(job, "whole")
    sketches = [STORE.read_bytes(find_run(str(job), run).layout.run_sketch) for run in ("r", "whole")]
    assert sketches[0] == sketches[1] is not None
    assert report_of(job, "r").values == report_of(job, "whole").values
    assert report_of(job, "r").sampled == pytest.approx(900, abs=101)
    assert resumed.drift is not None
    assert whole.drift is not None
    assert resumed.drift.beyond == whole.drift.beyond != ()
    STORE.delete(layout.success)
    assert run_job(job, "r").drift == resumed.drift


def test_trials_and_runs_of_nothing_are_not_measured(spark: SparkSession, tmp_path: Path) -> None:
    """Neither a trial nor an incremental run that finds no new file has a report, nor is it warned of."""
    write_rows(tmp_path, USUAL)
    (tmp_path / "m.onnx").write_bytes(logistic_model())
    model = {"onnx": str(tmp_path / "m.onnx"), "inputs": {"X": ["f0", "f1", "f2", "f3"]}}
    source = {"files": str(tmp_path / "in"), "incremental": True}
    job = write_job(tmp_path, tmp_path, model=model, input=source, drift={"reference": ["previous"]})
    assert run_job(job, "trial", limit=10).drift is None
    assert run_job(job, "first").drift is not None
    nothing = run_job(job, "second")
    assert nothing.drift is not None
    assert nothing.drift.notes == ("no row was read",)


def test_late_rows_are_no_night(spark: SparkSession, tmp_path: Path) -> None:
    """A run of the few rows that were not published yet is not measured, and is not what the next night is held to."""
    drift = {"reference": ["previous"]}
    assert run_job(job_of(tmp_path, USUAL, **drift), "monday").drift is not None
    late = MOVED.slice(0, 8).set_column(0, "id", pa.array(range(ROWS, ROWS + 8), pa.int64()))
    record = run_job(job_of(tmp_path, pa.concat_tables([USUAL, late]), **drift), "late", missing_keys="id")
    assert (record.account.scored.rows, record.drift, record.missing_keys) == (8, None, "id")
    tuesday = run_job(job_of(tmp_path, USUAL, **drift), "tuesday")
    assert tuesday.drift is not None
    assert tuesday.drift.beyond == ()
    assert report_of(tmp_path / "job.yaml", "tuesday").references == {"previous": "run monday"}


def test_several_models_are_sketched_side_by_side_and_by_variant(spark: SparkSession, tmp_path: Path) -> None:
    """Inputs that both read are sketched once, and what each publishes; where each row goes to one model, what is
    published is, and a column of one model is refused.
    """  # noqa: D205  one sentence
    write_rows(tmp_path, USUAL)
    models = []
    for name, sign in (("champion", 1), ("challenger", -1)):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(logistic_model(np.array([[sign], [0], [0], [0]], np.float32)))
        models.append({"name": name, "onnx": str(path), "inputs": {"X": ["f0", "f1", "f2", "f3"]}})
    mean = {"ensembles": [{"column": "mean", "of": ["champion_p", "challenger_p"], "how": "mean"}]}
    drift, named = {"reference": ["previous"]}, {"columns": ["champion.f0"]}
    job = write_job(tmp_path, tmp_path, model=None, models=models, combine=mean, drift=drift)
    run_job(job, "r")
    columns = report_of(job, "r").columns
    assert set(columns) == {"champion_p", "challenger_p", "mean", "f0", "f1", "f2", "f3"}
    f0 = USUAL["f0"].to_numpy()
    assert columns["f0"].most == f0.max()
    assert columns["challenger_p"].least == pytest.approx(1 / (1 + math.exp(f0.max())), rel=1e-5)
    assert columns["mean"].quantiles["0.5"] == pytest.approx(0.5)

    combine = {"assign_by": ["id"], "shares": {"champion": 0.7, "challenger": 0.3}}
    folder = tmp_path / "variants"
    folder.mkdir()
    write_rows(folder, USUAL)
    job = write_job(folder, folder, model=None, models=models, combine=combine, drift=drift)
    run_job(job, "v")
    assert set(report_of(job, "v").columns) == {"p"}
    assert report_of(job, "v").columns["p"].rows == ROWS
    with pytest.raises(Refused, match=r"'champion\.f0' is a column of one model"):
        run_job(write_job(folder, folder, model=None, models=models, combine=combine, drift=named), "w")


def test_a_column_that_is_only_passed_through_is_measured_where_it_is_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    """What no model reads is published all the same: of a bare model, and of variants, where a row is one model's. An
    input that models read is the one that is published. A column of no type that is sketched is refused.
    """  # noqa: D205  one sentence
    dated = USUAL.append_column("day", pa.array([0] * ROWS, pa.date32()))
    write_rows(tmp_path, dated)
    (tmp_path / "model.onnx").write_bytes(logistic_model(np.array([[1], [0], [0], [0]], np.float32)))
    bare: dict[str, Any] = {"onnx": str(tmp_path / "model.onnx"), "inputs": {"X": ["f0", "f1", "f2", "f3"]}}
    output = {"uri": str(tmp_path / "out"), "passthrough": ["id", "word", "f1", "day"]}
    drift = {"columns": ["word", "id"], "reference": ["previous"]}
    job = write_job(tmp_path, tmp_path, model=bare, output=output, drift=drift)
    run_job(job, "bare")
    found = report_of(job, "bare").columns
    words = USUAL["word"].to_pylist()
    assert dict(found["word"].top) == {word: words.count(word) / ROWS for word in set(words)}
    assert (found["word"].rows, found["id"].least, found["id"].most) == (ROWS, 0, ROWS - 1)
    with pytest.raises(Refused, match="'day' is of type date32"):
        run_job(write_job(tmp_path, tmp_path, model=bare, output=output, drift={"columns": ["day"]}), "day")
    with pytest.raises(Refused, match=r"nothing is called 'wort'\. Did you mean \"word\"\?"):
        run_job(write_job(tmp_path, tmp_path, model=bare, output=output, drift={"columns": ["wort"]}), "wort")

    models = [{"name": name, **bare, "inputs": {"X": ["f0", "f1", "f2", "f3"]}} for name in ("champion", "challenger")]
    combine = {"assign_by": ["id"], "shares": {"champion": 0.7, "challenger": 0.3}}
    drift = {"columns": ["word", "f1"], "reference": ["previous"]}
    sections = {"model": None, "models": models, "combine": combine, "drift": drift}
    variants = {"uri": str(tmp_path / "variants"), "passthrough": ["id", "word", "f1"]}
    job = write_job(tmp_path, tmp_path, output=variants, **sections)
    run_job(job, "v")
    found = report_of(job, "v").columns
    assert dict(found["word"].top) == {word: words.count(word) / ROWS for word in set(words)}
    assert found["f1"].least == USUAL["f1"].to_numpy().min()


@pytest.mark.parametrize(
    ("drift", "message"),
    [
        (
            {"columns": ["f9"]},
            "drift.columns: nothing is called 'f9'. There is: f0, f1, f2, f3, filled1, id, p",
        ),
        ({"columns": ["words"]}, "drift.columns: nothing is called 'words'. Did you mean \"word\"?"),
        ({"columns": ["who"]}, "drift.columns: 'who' is personal data"),
        ({"by_column": {"ff0": {"warn": {"psi": 1}}}}, "drift.by_column: 'ff0' is not sketched. Did you mean \"f0\"?"),
        (
            {"by_column": {"p": {"fail": {"out_of_vocabulary": 0.1}}}},
            "drift.by_column: 'p' has a limit of out_of_vocabulary, which is of texts only. It is a column of",
        ),
        (
            {"by_column": {"word": {"warn": {"ks": 0.1}}}},
            "drift.by_column: 'word' has a limit of ks, which is of numbers only. It is a column of texts.",
        ),
    ],
)
def test_columns_that_cannot_be_sketched_are_refused(
    spark: SparkSession, tmp_path: Path, drift: dict[str, Any], message: str
) -> None:
    """Before any work, with the nearest name that there is."""
    with pytest.raises(Refused) as caught:
        run_job(job_of(tmp_path, USUAL, **drift), "r")
    assert message in str(caught.value)


def test_limits_are_the_columns_own_where_it_has_them() -> None:
    """A limit of a column takes the place of that of all, also where it is none."""
    drift = {"warn": {"psi": 0.3}, "by_column": {"f0": {"warn": {"psi": None, "ks": 0.1}}}}
    settings = DriftSettings.model_validate(drift)
    assert settings.limit("warn", "f0", "psi") is None
    assert settings.limit("warn", "f0", "ks") == 0.1
    assert settings.limit("warn", "f1", "psi") == 0.3
    assert settings.limit("fail", "f0", "psi") is None
    assert DriftSettings().limit("warn", "f0", "psi") == 0.2


@pytest.mark.parametrize("measure", ["jensen_shannon", "ks", "null_rate", "out_of_vocabulary"])
def test_a_share_has_no_limit_in_percent(measure: str) -> None:
    """What is never above 1 has no limit above it; `psi` may be anything."""
    DriftSettings.model_validate({"fail": {measure: 1, "psi": 5}})
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        DriftSettings.model_validate({"fail": {measure: 5}})
