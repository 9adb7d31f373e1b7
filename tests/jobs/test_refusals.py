"""What is refused before any work because it could not end well, and what the commands say that look ahead."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.config.job import read_config
from jobs.errors import ExitCode, Refused
from jobs.planning.plan import target_of
from jobs.planning.resolving import list_inputs, make_plan
from jobs.run import RunRequest
from tests.jobs.outputs import write_input, write_job

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def job(tmp_path: Path, logistic_onnx: Path) -> Path:
    """A job over two good files."""
    write_input(tmp_path)
    return write_job(tmp_path, logistic_onnx)


def batchscore(*words: object) -> tuple[int, str, str]:
    """Exit code and both streams of a command in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def refused(job: Path) -> str:
    """What planning says when it refuses; the empty text when it does not."""
    config = read_config(str(job))
    try:
        target = target_of(config, "r", scratch=False)
        make_plan(target, config, list_inputs(config.input.patterns), latest=None)
    except Refused as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("pattern", "output", "is_refused"),
    [
        ("in", "in", True),
        ("in", "in/scores", True),
        ("in", "in/_scores", False),
        ("in", ".", True),
        ("in/*.parquet", "in/scores", False),
        ("in/*", "in/scores", True),
        ("in/**/*.parquet", "in/scores", True),
        ("in/part-0.parquet", "in/scores", False),
        ("in", "in-scores", False),
    ],
)
def test_an_output_is_no_input(
    tmp_path: Path, job: Path, logistic_onnx: Path, *, pattern: str, output: str, is_refused: bool
) -> None:
    """An output that holds input, or that the same patterns would read next time, is refused."""
    place = tmp_path / output if output != "." else tmp_path
    write_job(tmp_path, logistic_onnx, input={"files": str(tmp_path / pattern)}, output={"uri": str(place)})
    assert refused(job).startswith(f"output.uri {place} ") == is_refused, refused(job)


def test_columns_of_equal_names_are_refused(tmp_path: Path, job: Path) -> None:
    """A file with two columns of one name is refused with the file and the name."""
    path = tmp_path / "in" / "part-0.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("f1", table.column("f2")), path)
    assert refused(job) == f"{path}: has columns of equal names: f1. Write it with a name for each column."


def test_columns_that_spark_takes_for_one_are_refused(tmp_path: Path, job: Path, logistic_onnx: Path) -> None:
    """Published names that differ by case only are refused, since plain Spark could not read them."""
    path = tmp_path / "in" / "part-0.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("P", pa.nulls(table.num_rows, pa.float32())), path)
    write_job(tmp_path, logistic_onnx, output={"uri": str(tmp_path / "out"), "passthrough": ["P"]})
    assert refused(job).startswith("output columns collide: P, p would be published under one name.")


def test_two_trials_at_once_are_refused(job: Path) -> None:
    """A limit and a sample together are refused: which came first would decide what is scored."""
    with pytest.raises(Refused, match="limit and sample are two kinds of trial; give one"):
        RunRequest(config=read_config(str(job)), run_id="r", limit=3, sample=0.5)


def test_a_place_where_no_folder_can_be_is_told(job: Path) -> None:
    """An output under a file system that takes no folders ends with its path and without a traceback."""
    code, _, errors = batchscore("run", job, "--set", "output.uri=/proc/x")
    assert (code, "unexpected" in errors) == (ExitCode.REFUSED, False)
    assert "no folder can be made here. Choose another place." in errors


def test_validate_looks_at_every_file(tmp_path: Path, job: Path) -> None:
    """A fault of the second file is found without scoring, by its path."""
    path = tmp_path / "in" / "part-1.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["f2"]), path)
    code, output, _ = batchscore("validate", job)
    assert code == ExitCode.REFUSED
    assert f"{path}: breaks the input contract: column 'f2' is not there." in " ".join(output.split())


def test_validate_loads_a_bare_model_without_its_table(tmp_path: Path, job: Path, logistic_onnx: Path) -> None:
    """Over a query, which Spark has not opened yet, a model that is not there is a failed check all the same."""
    write_job(tmp_path, logistic_onnx, input={"sql": "select 1"})
    code, output, _ = batchscore("validate", job)
    assert (code, "it loads; its inputs (X" in " ".join(output.split())) == (0, True)
    write_job(tmp_path, tmp_path / "none.onnx", input={"sql": "select 1"})
    code, output, _ = batchscore("validate", job)
    assert (code, "none.onnx: no model is there" in " ".join(output.split())) == (ExitCode.REFUSED, True)


def test_a_fit_over_a_file_that_lacks_a_column_is_refused(tmp_path: Path, job: Path) -> None:
    """`fit` names the file and what the file has, before it reads any row."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "format: scorespec/1\nspec_id: r\ninput: {fields: [{name: f7, type: float64}]}\n"
        "steps: [{id: z, op: standardize, in: [f7], out: [z]}]\n"
        "outputs: {tensors: [{tensor: X, from: [z]}]}\n",
        encoding="utf-8",
    )
    code, _, errors = batchscore("fit", recipe, "--data", tmp_path / "in", "--out", tmp_path / "spec.json")
    assert code == ExitCode.REFUSED
    path = tmp_path / "in" / "part-0.parquet"
    assert f"{path}: breaks the input contract: column 'f7' is not there. There is: f0, f1, f2, f3, id." in errors
    assert not (tmp_path / "spec.json").exists()


def test_an_override_is_the_place_of_the_key_that_it_made(job: Path) -> None:
    """An unknown key that only `--set` gave is told with that, not with a line of the file."""
    code, _, errors = batchscore("plan", job, "--set", "modl.onnx=x")
    assert code == ExitCode.REFUSED
    assert 'error: --set modl.onnx=x: /modl: unknown key "modl". Did you mean "model"?' in errors


def test_a_run_that_died_can_be_taken_up(tmp_path: Path, job: Path) -> None:
    """`show` of a run that left no record says how to go on with it."""
    claim = tmp_path / "out" / "_batchscore" / "runs" / "died" / "claim.json"
    claim.parent.mkdir(parents=True)
    claim.write_text(
        '{"format":"batchscore.claim/1","run_id":"died","job":"numbers","claimed_at":"2026-11-21T00:00:00Z",'
        '"claimed_by":"a@b"}',
        encoding="utf-8",
    )
    code, output, _ = batchscore("show", job, "died")
    assert code == 0
    assert "run it again as it was begun, with --run-id died" in output


@pytest.mark.spark
def test_a_spark_that_does_not_start_is_told(job: Path) -> None:
    """A master that Spark does not know ends with that setting's name, not as something unexpected."""
    words = [sys.executable, "-m", "jobs.main", "run", str(job), "--set", "spark.master=foo"]
    environment = {**os.environ, "TMPDIR": str(job.parent)}
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=REPOSITORY, env=environment)
    assert done.returncode == ExitCode.FAILED
    assert "error: Spark did not start with spark.master 'foo': " in done.stderr
    assert ".." not in done.stderr.partition("error: ")[2].partition("\n")[0]


def test_the_version_is_the_packages() -> None:
    """`batchscore --version` prints the installed version."""
    assert batchscore("--version") == (0, f"batchscore {version('batchscore')}\n", "")
