"""Rows that were set aside: by reason, as a file, and scored again after a fix."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from pyarrow import csv
from typer.testing import CliRunner

from jobs import cli
from jobs.results import open_results
from tests.jobs.outputs import run_job, write_input, write_job
from tests.lookup_job import write_lookup_job
from tests.numbers_job import WEIGHTS, published_scores

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession
    from typer.testing import Result

FILES, ROWS, GROUP = 3, 6000, 1000
BAD = [row for row in range(FILES * ROWS) if row % 5000 in {7, 8, 9}]
"""Ids of the rows that are set aside."""
FIXED = [row for row in BAD if row % 5000 == 8]
"""Those whose f0 is beyond its range, which a fix of the files can mend."""


def invoke(*words: object) -> Result:
    """A command line."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def job(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job whose run `first` set rows aside for three reasons, and is published."""
    folder = tmp_path_factory.mktemp("quarantine")
    path = write_lookup_job(folder, logistic_onnx, files=FILES, rows=ROWS, row_group=GROUP)
    run_job(path, "first")
    return path


def changed(job: Path, **sections: Any) -> Path:
    """The same job with other sections, in a file beside it."""
    document = {**yaml.safe_load(job.read_text()), **sections}
    path = job.with_name("changed.yaml")
    path.write_text(yaml.safe_dump(document))
    return path


def test_reasons_are_counted_with_samples(job: Path) -> None:
    """Each reason has the number of its rows and the first of them, where plain pyarrow finds their values."""
    lines = [json.loads(line) for line in invoke("quarantine", job, "first", "--json").output.splitlines()]
    rests = {
        ("contract", "MISSING", "f0"): 7,
        ("contract", "OUT_OF_RANGE", "f0"): 8,
        ("transform", "NO_MATCH", "word"): 9,
    }
    assert {(line["stage"], line["code"], line["column"]): line["rows"] for line in lines} == {
        key: sum(row % 5000 == rest for row in BAD) for key, rest in rests.items()
    }
    for line in lines:
        rest = rests[line["stage"], line["code"], line["column"]]
        assert [sample["values"]["id"] for sample in line["samples"]] == [rest, 5000 + rest, 10_000 + rest]
        for sample in line["samples"]:
            assert pq.read_table(sample["file"]).slice(sample["row"], 1).to_pylist() == [sample["values"]]


def test_people_see_reasons_and_the_ways_on(job: Path) -> None:
    """The text has a line for each reason, and commands that can be copied."""
    text = invoke("quarantine", job, "first").output
    assert f"run first set {len(BAD):,} rows aside" in text
    assert "f0 is above 100.0" in text
    assert f"batchscore replay {job} first --at {job.parent}/in/part-0.parquet:7" in text
    assert invoke("replay", job, "first", "--at", f"{job.parent}/in/part-0.parquet:7").exit_code == 0


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow"])
def test_all_of_them_as_a_file(job: Path, tmp_path: Path, ending: str) -> None:
    """The file has every row once, with its place, its reason and its values."""
    path = tmp_path / f"bad.{ending}"
    assert f"{len(BAD)} rows" in invoke("quarantine", job, "first", "--export", path).output
    readers = {"csv": csv.read_csv, "parquet": pq.read_table, "arrow": lambda file: pa.ipc.open_file(file).read_all()}
    found = readers[ending](str(path))
    assert sorted(found.column("preview.id").to_pylist()) == BAD
    assert pc.all(pc.equal(pc.add(found.column("row"), _first_row(found)), found.column("preview.id"))).as_py()


def _first_row(found: pa.Table) -> pa.Array:
    """Id of the first row of each row's file."""
    return pa.array([int(path[-9]) * ROWS for path in found.column("file").to_pylist()])


def test_mended_rows_are_scored_again(spark: SparkSession, logistic_onnx: Path, tmp_path: Path) -> None:
    """After a fix of files the new run publishes just the rows that were missing; the others are set aside again."""
    job = write_lookup_job(tmp_path / "job", logistic_onnx, files=FILES, rows=ROWS, row_group=GROUP)
    run_job(job, "first")
    before = published_scores(tmp_path / "job" / "out" / "run_id=first")
    for path in (tmp_path / "job" / "in").iterdir():
        table = pq.read_table(path)
        f0 = [1.0 if value == 200 else value for value in table.column("f0").to_pylist()]
        pq.write_table(table.set_column(1, "f0", pa.array(f0, pa.float32())), path, row_group_size=GROUP)
    # The budgets are shares of a whole input; of these rows alone they would allow none.
    allowing = changed(job, budgets={"contract": {"max_rows": 10}, "transform": {"max_rows": 10}})
    done = invoke("quarantine", allowing, "first", "--resubmit", "--run-id", "again")
    assert done.exit_code == 0, done.output
    after = published_scores(tmp_path / "job" / "out" / "run_id=again")
    assert sorted(after) == FIXED
    for path in (tmp_path / "job" / "in").iterdir():
        for row in pq.read_table(path).to_pylist():
            if row["id"] in after:
                f1 = 0.5 if row["f1"] is None else row["f1"]
                z = [1.0, f1, (row["f2"] - 1) / 2, row["id"] % 10 / 4] @ WEIGHTS.astype(float)[:, 0]
                assert after[row["id"]] == pytest.approx(1 / (1 + 2.718281828459045**-z), abs=1e-6)
    assert open_results(str(job)).rows == len(before) + len(after)
    assert not before.keys() & after.keys()
    assert f"{len(FIXED)} rows are published now, and {len(BAD) - len(FIXED)} are set aside again" in done.output
    assert open_results(str(job)).quarantine("again").num_rows == len(BAD) - len(FIXED)
    assert invoke("replay", job, "again", "--row", FIXED[0]).exit_code == 0


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"output": {"mode": "overwrite"}}, "these rows alone would take the place of what is published"),
        ({"output": {"passthrough": []}}, "name one of output.passthrough by --key"),
        ({"output": {"uri": "elsewhere"}}, "there is no run 'first'"),
        ({"input": {"sql": "select 1"}}, "other rows decide what a row is told"),
    ],
)
def test_what_would_publish_something_else_is_refused(job: Path, sections: dict[str, Any], message: str) -> None:
    """Another mode, no key, another place, a table: exit code 2 with the reason, and nothing is claimed."""
    document = yaml.safe_load(job.read_text())
    merged = {key: part if "sql" in part else {**document[key], **part} for key, part in sections.items()}
    done = invoke("quarantine", changed(job, **merged), "first", "--resubmit", "--run-id", "refused")
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())
    assert not (job.parent / "out" / "_batchscore" / "runs" / "refused").exists()


def test_there_must_be_something_to_score_again(spark: SparkSession, logistic_onnx: Path, tmp_path: Path) -> None:
    """A run without such rows, one that is held back, and a URI in place of a config are refused with the way on."""
    write_input(tmp_path)
    job = write_job(tmp_path, logistic_onnx)
    run_job(job, "good")
    refused = invoke("quarantine", job, "good", "--resubmit")
    assert (refused.exit_code, "has set no row aside" in refused.output) == (2, True)
    refused = invoke("quarantine", tmp_path / "out", "good", "--resubmit")
    assert (refused.exit_code, "takes the job's YAML file" in refused.output) == (2, True)
    path = tmp_path / "in" / "part-0.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "f0", pa.array([None, *table.column("f0").to_pylist()[1:]], pa.float32())), path)
    run_job(job, "held")
    refused = invoke("quarantine", job, "held", "--resubmit")
    assert (refused.exit_code, "(HELD_BACK) is not in the newest version" in refused.output) == (2, True)
