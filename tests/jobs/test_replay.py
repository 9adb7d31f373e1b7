"""One row of a run again: every intermediate, and whether the run published what comes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from jobs import cli
from jobs.errors import Refused
from jobs.history.replaying import replay_row
from jobs.history.row_places import ByKey, ByPlace
from scoring.bundles.create import create_bundle
from tests.jobs.outputs import run_job
from tests.lookup_job import WORDS, write_lookup_job
from tests.numbers_job import FEATURES, WEIGHTS
from tests.scoring.workshop import LOGISTIC_SPEC, STORE, P, logistic_model, numbers, parts_of, with_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession
    from typer.testing import Result

    from jobs.history.replaying import Replay

FILES, ROWS, GROUP = 2, 6000, 1000


def invoke(*words: object) -> Result:
    """A command line."""
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(spark: SparkSession, logistic_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job with a reference table, three steps and bad rows, whose run `first` is published; its folder."""
    folder = tmp_path_factory.mktemp("replay")
    run_job(write_lookup_job(folder, logistic_onnx, files=FILES, rows=ROWS, row_group=GROUP), "first")
    return folder


@pytest.fixture
def job(made: Path) -> Iterator[Path]:
    """The job's config; a test may change what lies beside it, which is put right afterwards."""
    whole = made.with_name(f"{made.name}-whole")
    shutil.copytree(made, whole)
    yield made / "out.yaml"
    shutil.rmtree(made)
    whole.rename(made)


def steps_of(found: Replay) -> dict[str, dict[str, Any]]:
    """What each step made, of a job of one model."""
    [model] = found.trace.models
    return {made.step: {value.name: value.value for value in made.columns} for made in model.steps}


@pytest.mark.parametrize("row_id", [0, 11, 999, 1000, 6017, 11_998])
def test_every_intermediate_is_the_oracle_s(job: Path, logistic_onnx: Path, row_id: int) -> None:
    """Raw row, steps, tensor, output and column are those of plain pyarrow, numpy and onnxruntime."""
    raw = pq.read_table(job.parent / "in" / f"part-{row_id // ROWS}.parquet").slice(row_id % ROWS, 1).to_pylist()[0]
    found = replay_row(str(job), "first", ByKey(str(row_id)))
    assert found.raw == raw
    assert (Path(found.file).name, found.row) == (f"part-{row_id // ROWS}.parquet", row_id % ROWS)
    steps = steps_of(found)
    assert list(steps) == ["contract", "weigh", "fill", "z", "bound"]
    weight, full = row_id % WORDS / 4, 0.5 if raw["f1"] is None else raw["f1"]
    assert steps["contract"] == raw
    assert steps["weigh"] == {"weight": weight}
    assert steps["fill"] == {"f1_full": full}
    assert steps["z"] == {"f2_z": pytest.approx((raw["f2"] - 1.0) / 2.0, abs=1e-12)}
    assert steps["bound"] == {"f0_low": min(raw["f0"], 1.5)}
    features = np.array([[min(raw["f0"], 1.5), full, (raw["f2"] - 1.0) / 2.0, weight]], np.float32)
    [model] = found.trace.models
    assert [tensor.value for tensor in model.tensors] == [features[0].tolist()]
    session = ort.InferenceSession(logistic_onnx, providers=["CPUExecutionProvider"])
    expected = session.run(["p"], {"X": features})[0][0, 0].item()
    assert [output.value for output in model.outputs] == [[pytest.approx(expected, abs=1e-7)]]
    assert found.columns == ({"id": row_id, "p": pytest.approx(expected, abs=1e-7)},)
    assert found.agrees is True
    published = {one.column: one.published for one in found.compared}
    assert published == {"id": row_id, "p": pytest.approx(expected, abs=1e-6)}


@pytest.mark.parametrize(
    ("row_id", "stage", "code", "column"),
    [
        (5007, "contract", "MISSING", "f0"),
        (5008, "contract", "OUT_OF_RANGE", "f0"),
        (10_009, "transform", "NO_MATCH", "word"),
    ],
)
def test_a_row_that_was_set_aside_is_set_aside_again(
    job: Path, row_id: int, stage: str, code: str, column: str
) -> None:
    """Named by its file and index, it meets the rule that the run says, no model is asked, and both agree."""
    found = replay_row(str(job), "first", ByPlace(f"part-{row_id // ROWS}.parquet", row_id % ROWS))
    assert found.raw["id"] == row_id
    assert found.trace.outcome == found.recorded.outcome == "quarantined"
    assert (found.here["stage"], found.here["code"], found.here["column"]) == (stage, code, column)
    assert found.here == found.recorded.reason
    assert found.agrees is True
    assert not found.trace.models[0].tensors
    assert not found.columns


def test_another_etag_is_an_error(job: Path) -> None:
    """Of a file that was replaced, nothing is shown, and it is told; the rows of the other file can be looked at."""
    path = job.parent / "in" / "part-0.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "f0", pa.array(np.zeros(ROWS, np.float32))), path, row_group_size=GROUP)
    with pytest.raises(Refused, match=r"part-0\.parquet: was replaced .* after the run was planned"):
        replay_row(str(job), "first", ByPlace("part-0.parquet", 17))
    assert replay_row(str(job), "first", ByPlace("part-1.parquet", 17)).agrees is True


def test_other_predictions_are_found(job: Path) -> None:
    """Where what is published of a row was changed, its column is named, and the command ends with 1."""
    for path in (job.parent / "out" / "run_id=first").glob("*.parquet"):
        table = pq.read_table(path)
        p = [score + 0.01 if row == 17 else score for row, score in zip(*table.to_pydict().values(), strict=True)]
        pq.write_table(table.set_column(1, "p", pa.array(p, pa.float32())), path)
    assert replay_row(str(job), "first", ByKey("18")).agrees is True
    found = replay_row(str(job), "first", ByKey("17"))
    assert (found.agrees, found.why) == (False, "Other values in p.")
    done = invoke("replay", job, "first", "--row", 17)
    assert done.exit_code == 1
    assert "Other values in p." in done.output


def test_the_run_s_own_copy_of_the_model_scores(job: Path) -> None:
    """What becomes of the job's bundle, reference table and config after the run changes nothing."""
    shutil.rmtree(job.parent / "bundle")
    (job.parent / "words.parquet").unlink()
    assert replay_row(str(job.parent / "out"), "first", ByKey("17")).agrees is True


def test_it_needs_no_spark(job: Path) -> None:
    """Where pyspark cannot be imported, the command works all the same."""
    program = "import sys; sys.modules['pyspark'] = None; from jobs.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "replay", str(job), "first", "--row", "17", "--json"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert json.loads(done.stdout)["agrees"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--row", "12000"], "no row of the run's 2 input files has id = 12000"),
        (["--row", "word 3", "--key", "word"], "1,200 rows have word = word 3: .*--at"),
        (["--row", "x"], "column 'id' of .* is of type int64, and 'x' is none"),
        (["--row", "1", "--key", "ids"], "there is no column 'ids'. Did you mean \"id\""),
        (["--at", "part-0.parquet:6000"], "there is no row 6000 .* of the file it has 6,000 rows"),
        (["--at", "part-7.parquet:0"], "part-7.parquet is none of the 2 files"),
        (["--at", "part-0.parquet"], "give FILE:ROW"),
        (["--row", "1", "--at", "part-0.parquet:1"], "name the row by --row VALUE"),
        ([], "name the row by --row VALUE"),
    ],
)
def test_a_row_that_is_not_one_is_refused(made: Path, words: list[str], message: str) -> None:
    """Who names no row, several, or one that is not there, is told what is wrong, with exit code 2."""
    done = invoke("replay", made / "out.yaml", "first", *words)
    assert done.exit_code == 2
    assert re.search(message, " ".join(done.output.split())), done.output


def test_a_run_that_published_nothing_has_nothing_to_compare(spark: SparkSession, made: Path) -> None:
    """A row of a run that is held back is scored, and nobody says that it agrees; one that it set aside agrees."""
    job = yaml.safe_load((made / "out.yaml").read_text())
    job |= {"budgets": {}, "output": {"uri": str(made / "held"), "passthrough": ["id"]}}
    (made / "held.yaml").write_text(yaml.safe_dump(job))
    run_job(made / "held.yaml", "held")
    found = replay_row(str(made / "held.yaml"), "held", ByKey("17"))
    assert (found.trace.outcome, found.recorded.outcome, found.agrees) == ("scored", "unknown", None)
    assert "HELD_BACK" in found.why
    assert replay_row(str(made / "held.yaml"), "held", ByKey("5007")).agrees is True


def test_personal_data_is_masked_unless_it_is_asked_for(spark: SparkSession, tmp_path: Path) -> None:
    """No value of a column that the contract calls personal is printed, in text or JSON, without `--show-pii`."""
    (tmp_path / "in").mkdir()
    table = with_values(numbers(40), "f2", {7: 200})
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    parts = parts_of(LOGISTIC_SPEC, logistic_model(), numbers(5), [P])
    create_bundle(STORE, str(tmp_path / "bundle"), parts)
    job = {
        "api_version": "batchscore/1",
        "name": "people",
        "input": {"files": str(tmp_path / "in")},
        "model": {"bundle": str(tmp_path / "bundle")},
        "output": {"uri": str(tmp_path / "out"), "passthrough": ["id", "name"]},
        "budgets": {"contract": {"max_rows": 1}},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    run_job(tmp_path / "job.yaml", "r")
    for row in (3, 7):
        for form in ([], ["--json"]):
            words = ("replay", tmp_path / "job.yaml", "r", "--row", row, *form)
            hidden, shown = invoke(*words), invoke(*words, "--show-pii")
            assert (hidden.exit_code, shown.exit_code) == (0, 0), hidden.output
            assert f"person {row}" not in hidden.output
            assert f"person {row}" in shown.output
            assert ("OUT_OF_RANGE" in hidden.output) == (row == 7)


@pytest.mark.parametrize("combine", [{}, {"assign_by": ["id"], "shares": {"champion": 0.5, "challenger": 0.5}}])
def test_each_model_of_a_job_is_shown(spark: SparkSession, tmp_path: Path, combine: dict[str, Any]) -> None:
    """Of several models, side by side or each with its share, those are shown that scored the row, and they agree."""
    (tmp_path / "in").mkdir()
    table = numbers(60)
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    models = {"champion": WEIGHTS, "challenger": -3 * WEIGHTS}
    for name, weights in models.items():
        (tmp_path / f"{name}.onnx").write_bytes(logistic_model(weights))
    job = {
        "api_version": "batchscore/1",
        "name": "two",
        "input": {"files": str(tmp_path / "in")},
        "models": [
            {"name": name, "onnx": str(tmp_path / f"{name}.onnx"), "inputs": {"X": list(FEATURES)}} for name in models
        ],
        "output": {"uri": str(tmp_path / "out"), "passthrough": ["id"]},
        "combine": combine,
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    run_job(tmp_path / "job.yaml", "r")
    seen = set()
    for row in range(0, 60, 7):
        found = replay_row(str(tmp_path / "job.yaml"), "r", ByKey(str(row)))
        assert found.agrees is True
        features = np.array([[table.column(name)[row].as_py() for name in FEATURES]], np.float32)
        for model in found.trace.models:
            session = ort.InferenceSession(logistic_model(models[model.name]), providers=["CPUExecutionProvider"])
            expected = session.run(["p"], {"X": features})[0][0].tolist()
            assert model.outputs[0].value == pytest.approx(expected, abs=1e-7)
        names = {model.name for model in found.trace.models}
        assert names == ({found.columns[0]["variant"]} if combine else set(models))
        seen |= names
    assert seen == set(models)
