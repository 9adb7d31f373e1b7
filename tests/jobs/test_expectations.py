"""Expectations of a job: counted by its workers, added up, told, and held against it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from etl.checks import check
from etl.runs.receipt import Tally
from etl.spec import read_spec
from jobs import cli
from jobs.config.job import read_config
from jobs.display.summary import record_facts
from jobs.errors import Refused, SplitsFailed
from jobs.history.runs import find_run, quarantined_rows
from jobs.planning.plan import Plan
from jobs.planning.preview import preview
from jobs.record import RunState
from jobs.results import open_results
from jobs.run import RunRequest
from jobs.settling.decisions import publish_run
from scoring.bundles.create import create_bundle
from tests.jobs.outputs import run_job, write_job
from tests.scoring.workshop import STORE, P, Work, logistic_model, numbers, parts_of

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from etl.runs.receipt import Receipt
    from scoring.bundles.bundle import AuditedBundle

ROWS = 1000
WORDS = ["a", "b", "zebra", None]

SPEC: dict[str, Any] = {
    "format": "scorespec/1",
    "spec_id": "expecting",
    "input": {
        "fields": [
            *({"name": f"f{n}", "type": "float32", "on_missing": "reject"} for n in range(4)),
            {"name": "id", "type": "int64", "role": "id"},
            {"name": "word", "type": "string"},
        ]
    },
    "relational": [{"id": "some", "op": "filter", "params": {"keep": {"cmp": ["id", "!=", 7]}}}],
    "steps": [
        {
            "id": "i", "op": "string_index", "in": ["word"], "out": ["wid"],
            "state": {"vocab": ["a", "b"], "counts": [2, 1]},
        }
    ],
    "outputs": {"tensors": [{"tensor": "X", "from": ["f0", "f1", "f2", "f3"]}]},
}  # fmt: skip
POSITIVE = {"cmp": ["f1", ">", -1]}


def rows_in() -> pa.Table:
    """Rows, a few of which lack f0."""
    table = numbers(ROWS)
    f0 = [None if row % 97 == 0 else value for row, value in enumerate(table.column("f0").to_pylist())]
    table = table.set_column(table.schema.get_field_index("f0"), "f0", pa.array(f0, pa.float32()))
    return table.append_column("word", pa.array([WORDS[row % 4] for row in range(ROWS)]))


def spec_of(*expectations: dict[str, Any]) -> dict[str, Any]:
    """SPEC with these expectations, named e0, e1 and so on."""
    return {**SPEC, "expectations": [{"id": f"e{number}", **e} for number, e in enumerate(expectations)]}


def bundle(folder: Path, *expectations: dict[str, Any]) -> AuditedBundle:
    """A bundle of SPEC in front of the logistic model."""
    golden = pa.table({**{f"f{n}": pa.array([0.0], pa.float32()) for n in range(4)}, "id": [1], "word": ["a"]})
    spec = json.dumps(spec_of(*expectations))
    return create_bundle(STORE, str(folder), parts_of(spec, logistic_model(), golden, [P]))


def job_of(folder: Path, *expectations: dict[str, Any], table: pa.Table | None = None, **sections: Any) -> Path:
    """A job over ROWS rows in four files."""
    (folder / "in").mkdir()
    table = rows_in() if table is None else table
    for start in range(0, ROWS, 250):
        pq.write_table(table.slice(start, 250), folder / "in" / f"{start:04}.parquet", row_group_size=100)
    bundle(folder / "bundle", *expectations)
    budgets = {"contract": {"max_rows": 11}, **sections.pop("budgets", {})}
    return write_job(folder, folder, model={"bundle": str(folder / "bundle")}, budgets=budgets, **sections)


EXPECTATIONS: list[dict[str, Any]] = [
    {"batch": {"null_share": ["word", "<=", 0.3]}, "severity": "fail"},
    {"batch": {"in_set_share": ["word", ["a", "b"], ">=", 0.9]}, "severity": "warn"},
    {"batch": {"oov_share": ["wid", "<=", 0.2]}, "severity": "warn"},
    {"batch": {"row_share": [{"not": POSITIVE}, "<=", 0.5]}, "severity": "fail"},
    {"row": POSITIVE, "severity": "warn"},
]


def by_hand() -> dict[str, Tally]:
    """Tallies of EXPECTATIONS, row by row."""
    rows = [row for row in rows_in().to_pylist() if row["f0"] is not None and row["id"] != 7]
    negative = sum(not row["f1"] > -1 for row in rows)
    words = Counter(row["word"] for row in rows)
    hits = [words[None], words["a"] + words["b"], words["zebra"], negative, negative]
    return {f"e{number}": Tally(hits=count, rows=len(rows)) for number, count in enumerate(hits)}


def added(receipts: list[Receipt]) -> dict[str, Tally]:
    """Tallies of all receipts together."""
    total: dict[str, Tally] = {}
    for receipt in receipts:
        for name, tally in receipt.expectations.items():
            total[name] = total.get(name, Tally()) + tally
    return total


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("batch_rows", [1, 64, 10_000])
def test_receipts_add_up_to_counts_by_hand(tmp_path: Path, pieces: int, batch_rows: int) -> None:
    """However the rows are cut into splits and batches, their tallies add up to those by hand and of a table check."""
    work = Work(tmp_path, rows_in(), lambda folder: bundle(folder, *EXPECTATIONS), pieces=pieces)
    receipts = work.score(batch_rows=batch_rows)
    assert added(receipts) == by_hand()
    spec = read_spec(json.dumps(spec_of(*EXPECTATIONS)), "spec")
    assert {c.id: Tally(hits=c.hits, rows=c.rows) for c in check(spec, rows_in())} == by_hand()


def test_a_warning_is_told_and_holds_nothing_back(spark: SparkSession, tmp_path: Path) -> None:
    """A run with a broken warning is published; its record and its summary say what was found, and what should be."""
    job = job_of(tmp_path, *EXPECTATIONS)
    record = run_job(job, "r")
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    found = {c.id: Tally(hits=c.hits, rows=c.rows) for c in record.expectations}
    assert found == by_hand()
    assert [c.holds for c in record.expectations] == [True, False, False, True, False]
    rows = by_hand()["e0"].rows
    share, hits = by_hand()["e1"].hits / rows, by_hand()["e1"].hits
    told = record_facts(record)
    assert ("expectations", "2 of 5 are met") in told
    sentence = f"expectation 'e1': in_set_share of word is {share:.6g} ({hits} of {rows}), not >= 0.9"
    assert ("not met, warn", sentence) in told
    assert ("not met, warn", f"expectation 'e4': {by_hand()['e4'].hits} of {rows} rows do not meet it") in told
    assert f"not met, warn: {sentence}" in CliRunner().invoke(cli.app, ["show", str(job), "r"]).stdout.splitlines()


def test_a_broken_bound_holds_the_run_back_until_a_person_publishes_it(spark: SparkSession, tmp_path: Path) -> None:
    """A run short of an expectation is scored, not published, ends with 4 beside its budget or alone, and may be
    accepted.
    """  # noqa: D205  one sentence
    share = {"batch": {"null_share": ["word", "<=", 0.2]}, "severity": "fail"}
    opposite = {"batch": {"null_share": ["word", ">", 0.2]}, "severity": "fail"}
    job = job_of(tmp_path, share, opposite, budgets={"contract": {"max_rows": 1}})
    first = run_job(job, "r")
    tally = by_hand()["e0"]
    found = f"null_share of word is {tally.hits / tally.rows:.6g} ({tally.hits} of {tally.rows})"
    assert (first.state, first.error and first.error.kind) == (RunState.HELD_BACK, "HeldBack")
    assert first.error is not None
    over, broken = first.error.message.split("; ")
    assert over.startswith("11 rows were quarantined by stage contract")
    assert broken == f"expectation 'e0': {found}, not <= 0.2"
    with pytest.raises(Refused):
        open_results(str(tmp_path / "out"))

    override = ["--set", "budgets.contract.max_rows=11"]
    again = CliRunner().invoke(cli.app, ["run", str(job), "--run-id", "r", *override])
    assert again.exit_code == 4
    assert f"held back: expectation 'e0': {found}, not <= 0.2" in again.stdout.splitlines()

    record = publish_run(find_run(str(job), "r"), accept_errors=11, reason="a known gap")
    assert (record.state, record.error) == (RunState.PARTIALLY_SUCCEEDED, None)
    assert [c.holds for c in record.expectations] == [False, True]
    assert open_results(str(tmp_path / "out")).rows == tally.rows


def test_a_row_may_be_set_aside_for_an_expectation(spark: SparkSession, tmp_path: Path) -> None:
    """Rows that break an expectation of severity quarantine are set aside by the transform stage, within its budget."""
    job = job_of(tmp_path, {"row": POSITIVE, "severity": "quarantine"}, budgets={"transform": {"max_ratio": 0.5}})
    record = run_job(job, "r")
    assert record.state is RunState.PARTIALLY_SUCCEEDED
    broken = by_hand()["e4"].hits
    assert record.reasons["transform/EXPECTATION"] == broken > 0
    table = quarantined_rows(find_run(str(job), "r"))
    chosen = [row for row in table.to_pylist() if row["code"] == "EXPECTATION"]
    assert {(row["stage"], row["rule"], row["column"], row["message"]) for row in chosen} == {
        ("transform", "/expectations/0", "f1", "expectation 'e0' is not met")
    }
    assert all(row["preview"]["f1"] <= -1 for row in chosen)
    assert len(chosen) == broken
    published = open_results(str(tmp_path / "out")).arrow()
    assert published.num_rows == by_hand()["e4"].rows - broken


def test_a_row_that_may_not_be_there_fails_the_run_with_its_place(spark: SparkSession, tmp_path: Path) -> None:
    """An expectation of severity fail on rows ends the run, and names the file, the row, how many and the rule."""
    job = job_of(tmp_path, {"row": {"cmp": ["id", "!=", 260]}, "severity": "fail"})
    with pytest.raises(SplitsFailed) as caught:
        run_job(job, "r")
    place = f"{tmp_path}/in/0250.parquet, row 10: /expectations/0: expectation 'e0' is not met"
    assert f"TransformError: {place} in 1 row of the batch, the first at 10; the spec says fail." in str(caught.value)
    assert "1 of 4 splits cannot be scored" in str(caught.value)


UNIQUE: list[dict[str, Any]] = [
    {"batch": {"unique": ["id"]}, "severity": "fail"},
    {"batch": {"unique": ["wid", "word"]}, "severity": "warn"},
    {"batch": {"unique": ["f1", "id"]}, "severity": "fail"},
    {"row": POSITIVE, "severity": "quarantine"},
]


def twins(table: pa.Table) -> pa.Table:
    """The rows with some ids of the first file in the others again: of good rows, of rows without f0, and of row 7."""
    ids = table.column("id").to_pylist()
    for there, again in ((3, 300), (4, 301), (5, 302), (97, 500), (7, 600), (11, 970), (3, 999)):
        ids[again] = ids[there]
    return table.set_column(table.schema.get_field_index("id"), "id", pa.array(ids))


def repeats(table: pa.Table) -> dict[str, Tally]:
    """Tallies of UNIQUE, row by row."""
    rows = table.to_pylist()
    rows = [row for row in rows if row["f0"] is not None and row["id"] != 7 and row["f1"] > -1]
    return {
        name: Tally(hits=len(rows) - len({tuple(row[column] for column in columns) for row in rows}), rows=len(rows))
        for name, columns in {"e0": ["id"], "e1": ["word"], "e2": ["id", "f1"]}.items()
    }


def test_rows_that_repeat_others_hold_a_run_back(spark: SparkSession, tmp_path: Path) -> None:
    """Rows of other splits that repeat a key are counted exactly. Severity warn is told, in a trial too; fail holds the
    run back with a query that finds the rows. The digests are gone once they are counted, and nothing counts twice.
    """  # noqa: D205  one sentence each
    table = twins(rows_in())
    job = job_of(tmp_path, *UNIQUE, table=table, budgets={"transform": {"max_ratio": 0.5}})
    trial = run_job(job, "trial", limit=280)
    assert trial.state is RunState.PARTIALLY_SUCCEEDED
    assert {c.id: Tally(hits=c.hits, rows=c.rows) for c in trial.expectations[:3]} == repeats(table.slice(0, 280))
    assert [c.holds for c in trial.expectations] == [True, False, True, False]

    record = run_job(job, "r")
    found = repeats(table)
    assert {c.id: Tally(hits=c.hits, rows=c.rows) for c in record.expectations[:3]} == found
    assert found["e0"].hits > 0 == found["e2"].hits
    query = "SELECT id, count(*) FROM input GROUP BY id HAVING count(*) > 1"
    broken = f"expectation 'e0': {found['e0'].hits} of {found['e0'].rows} rows repeat id of another"
    assert record.error is not None
    assert (record.state, record.error.message) == (RunState.HELD_BACK, f"{broken} (to list them: {query})")
    assert not [path for path in tmp_path.rglob("keys/*") if path.is_file()]
    again = run_job(job, "r")
    assert (again.state, again.splits_scored_now, again.expectations) == (record.state, 0, record.expectations)
    assert publish_run(find_run(str(job), "r"), accept_errors=1000, reason="known").expectations == record.expectations


def test_keys_that_are_lost_are_made_again(spark: SparkSession, tmp_path: Path) -> None:
    """A split whose digests are lost between scoring and counting is scored again; all rows are counted, once each."""
    table = twins(rows_in())
    job = job_of(tmp_path, *UNIQUE, table=table, budgets={"transform": {"max_ratio": 0.5}})
    lost: list[Path] = []

    def lose(phase: str) -> None:
        if phase == "count" and not lost:
            lost.append(min(tmp_path.rglob("keys/e1-000002-*.arrow")))
            lost[0].unlink()

    record = run_job(job, "r", lose)
    assert (record.state, record.void_receipts) == (RunState.HELD_BACK, 1)
    assert {c.id: Tally(hits=c.hits, rows=c.rows) for c in record.expectations[:3]} == repeats(table)
    assert not [path for path in tmp_path.rglob("keys/*") if path.is_file()]


def test_a_plan_keeps_its_expectations(tmp_path: Path) -> None:
    """A plan that is written and read again has the spec's expectations, nested conditions too."""
    condition = {"all": [{"not": {"any": [{"in": ["word", ["a"]]}, {"is_null": "word"}]}}, POSITIVE]}
    expectation = {"batch": {"row_share": [condition, "<", 1]}, "severity": "warn"}
    config = read_config(str(job_of(tmp_path, expectation, *EXPECTATIONS)))
    plan = preview(RunRequest(config=config, run_id="r")).plan
    assert len(plan.expectations) == 6
    assert plan.expectations == read_spec(json.dumps(spec_of(expectation, *EXPECTATIONS)), "spec").expectations
    assert Plan.from_bytes(plan.to_bytes(), where="plan") == plan
